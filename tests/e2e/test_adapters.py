"""Adapters from the manifest to the answer: chosen by name, verified, and edited while others are served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from support.hubs import Local, local_hub
from support.lora import BASE, Lora, lora_of, write
from support.rig import Rig, until
from support.tinymodel import model


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, env={"OFFGRIDD_STORE_ROOTS": str(tmp_path)})
    write(tmp_path / "base.gguf", model(spec=BASE))
    for number, name in enumerate("ab"):
        write(tmp_path / f"{name}.gguf", lora_of(BASE, seed=number).bytes())
    declare(made, "a", "b")
    made.start()
    try:
        until(made.is_ready)
        yield made
    finally:
        assert made.stop() == 0
    made.api.close()


def declare(rig: Rig, *names: str) -> None:
    adapters = "".join(f"      {name}: {{source: {{file: {rig.folder}/{name}.gguf}}}}\n" for name in names)
    text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]}}
models:
  tiny:
    source: {{file: {rig.folder}/base.gguf}}
    context: 256
    threads: 1
    adapters:
{adapters}"""
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)


def said(rig: Rig, name: str) -> Any:
    made = rig.api.chat.completions.create(
        model=name, messages=[{"role": "user", "content": "the sea"}], temperature=0, max_tokens=16
    )
    assert made.model == name
    return made.choices[0].message.content


def condition(rig: Rig, kind: str) -> tuple[str, str, str]:
    found = next(c for c in rig.status()["models"][0]["conditions"] if c["type"] == kind)
    return found["status"], found["reason"], found["message"]


def test_each_request_chooses_and_an_edit_loads_the_model_again(rig: Rig) -> None:
    assert [one.id for one in rig.api.models.list()] == ["tiny", "tiny+a", "tiny+b"]
    assert rig.api.models.retrieve("tiny+a").model_dump()["parent"] == "tiny"
    answers = {name: said(rig, name) for name in ("tiny", "tiny+a", "tiny+b", "tiny+a+b")}
    assert len(set(answers.values())) == 4
    with pytest.raises(openai.NotFoundError, match="it has a, b"):
        said(rig, "tiny+c")
    with pytest.raises(openai.NotFoundError):
        said(rig, "nobody+a")

    before = rig.pids()
    declare(rig, "a")
    until(lambda: rig.pids() not in ([], before) and len(rig.pids()) == 1)
    assert said(rig, "tiny+a") == answers["tiny+a"]
    with pytest.raises(openai.NotFoundError, match="it has a"):
        said(rig, "tiny+b")

    before = rig.pids()
    write(rig.folder / "new", lora_of(BASE, seed=1).bytes()).rename(rig.folder / "a.gguf")  # other bytes, same name
    rig.admin.json("POST", "/v1/reconcile")
    until(lambda: rig.pids() not in ([], before) and len(rig.pids()) == 1)
    assert said(rig, "tiny+a") == answers["tiny+b"]


def test_what_is_no_adapter_or_is_not_there_leaves_what_serves(rig: Rig) -> None:
    answer, before = said(rig, "tiny+a"), rig.pids()
    write(rig.folder / "c.gguf", model(spec=BASE))
    declare(rig, "a", "c")
    until(lambda: condition(rig, "Verified")[1] == "InvalidModel")
    assert "adapter c" in condition(rig, "Verified")[2]
    declare(rig, "a", "gone")
    until(lambda: "adapter gone" in "".join(condition(rig, kind)[2] for kind in ("Resolved", "Verified")))
    assert rig.pids() == before
    assert said(rig, "tiny+a") == answer
    with pytest.raises(openai.InternalServerError, match="is not loaded with it"):
        said(rig, "tiny+gone")
    write(rig.folder / "other.gguf", Lora({"blk.9.attn_q.weight": (64, 64)}).bytes())
    declare(rig, "a", "other")
    until(lambda: condition(rig, "Loaded")[1] == "AdapterInvalid")
    declare(rig, "a", "b")
    until(lambda: condition(rig, "Ready")[0] == "True")
    assert rig.pids() == before, "what was declared before is there already"
    assert said(rig, "tiny+a") == answer


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Local]:
    with local_hub(tmp_path / "hub") as made:
        made.put("acme/Base-GGUF", {"base-F32.gguf": model(spec=BASE), "README.md": b"# Base\n"})
        yield made


def test_a_model_of_a_hub_waits_for_an_adapter_of_this_host_and_is_updated_with_it(hub: Local, tmp_path: Path) -> None:
    made = Rig(tmp_path, env={"OFFGRIDD_STORE_ROOTS": str(tmp_path)})
    made.manifest.write_text(f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{made.port}"]}}
store: {{min_free: 0}}
models:
  tiny: {{source: {{hf: acme/Base-GGUF}}, endpoint: "{hub.url()}", context: 256, threads: 1, updates: auto,
    check_every: 1s, adapters: {{a: {{source: {{file: {tmp_path}/a.gguf}}}}}}}}
""")
    made.start()
    try:
        until(lambda: "adapter a: cannot find a.gguf" in str(made.status()["models"][0]["conditions"]))
        assert made.pids() == []
        write(tmp_path / "new", lora_of(BASE, seed=0).bytes()).rename(tmp_path / "a.gguf")
        made.admin.json("POST", "/v1/reconcile")
        until(made.is_ready)
        assert said(made, "tiny+a") != said(made, "tiny")
        sha256 = made.status()["models"][0]["file"]["sha256"]
        hub.put("acme/Base-GGUF", {"base-F32.gguf": model(spec=BASE) + bytes(64)})
        until(lambda: (f := made.status()["models"][0]["file"]) and f["sha256"] != sha256)
        until(lambda: made.is_ready() and len(made.pids()) == 1)
        assert said(made, "tiny+a") != said(made, "tiny")
        assert "UpdateRejected" not in str(made.status()["models"][0]["conditions"])
    finally:
        assert made.stop() == 0
        made.api.close()

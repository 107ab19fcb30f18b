"""Adapters of a hub and of the web: fetched, pinned, updated, locked and bundled as models are."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.hubs import Local, local_hub
from support.lora import BASE, lora_of, write
from support.rig import Rig, until
from support.tinymodel import model

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
REPO, FILE = "acme/Pirate-LoRA", "pirate-f32.gguf"
OLD, NEW, OTHER = (lora_of(BASE, seed=number).bytes() for number in range(3))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Local]:
    with local_hub(tmp_path / "hub") as made:
        made.put("acme/Base-GGUF", {"base-F32.gguf": model(spec=BASE)})
        made.put(REPO, {FILE: OLD, "terse-f32.gguf": OTHER, "README.md": b"# Pirate\n"})
        yield made


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[Callable[[str], Rig]]:
    made: list[Rig] = []

    def make(name: str) -> Rig:
        (tmp_path / name).mkdir()
        write(tmp_path / "base.gguf", model(spec=BASE))
        made.append(Rig(tmp_path / name, env={"OFFGRIDD_STORE_ROOTS": str(tmp_path)}))
        return made[-1]

    yield make
    for rig in made:
        if rig.process is not None:
            assert rig.stop() == 0
        rig.api.close()


def declare(rig: Rig, endpoint: str, source: str = "", more: str = "", server: str = "") -> None:
    """`source` of the model; without one it is this host's."""
    text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]{server}}}
store: {{min_free: 0}}
models:
  tiny:
    source: {{{source or f"file: {rig.folder.parent}/base.gguf"}}}
    endpoint: "{endpoint}"
    context: 256
    threads: 1
    adapters:
      pirate: {{source: {{hf: {REPO}, file: {FILE}}}}}
{more}"""
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)


def said(rig: Rig, name: str = "tiny+pirate") -> Any:
    made = rig.api.chat.completions.create(
        model=name, messages=[{"role": "user", "content": "the sea"}], temperature=0, max_tokens=16
    )
    return made.choices[0].message.content


def offgrid(rig: Rig, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([OFFGRID, "--host", str(rig.socket), *args], capture_output=True, text=True, timeout=60)


def condition(rig: Rig, kind: str) -> tuple[str, str, str]:
    found = next(c for c in rig.status()["models"][0]["conditions"] if c["type"] == kind)
    return found["status"], found["reason"], found["message"]


def pinned(rig: Rig) -> Any:
    return rig.status()["models"][0]["declared"]["adapters"][0]["source"]["pinned"]


def test_it_is_fetched_once_and_replaced_when_that_is_asked(rigs: Callable[[str], Rig], hub: Local) -> None:
    rig = rigs("one")
    declare(rig, hub.url(), more="    updates: auto\n    check_every: 1s\n")
    rig.start()
    until(rig.is_ready)
    old = said(rig)
    assert old != said(rig, "tiny")
    assert (pinned(rig)["files"], pinned(rig)["size"]) == ([FILE], len(OLD))
    assert "tiny+pirate" in offgrid(rig, "list").stdout

    hub.put(REPO, {FILE: NEW})
    until(lambda: condition(rig, "UpToDate")[:2] == ("False", "UpdateAvailable"))
    assert condition(rig, "UpToDate")[2].startswith("adapter pirate: ")
    assert said(rig) == old, "it is never taken by itself"
    assert "tiny+pirate" in offgrid(rig, "outdated").stdout
    before = rig.pids()
    done = offgrid(rig, "update", "tiny+pirate")
    assert done.returncode == 0, done.stderr
    until(lambda: rig.pids() not in ([], before) and len(rig.pids()) == 1 and rig.is_ready())
    new = said(rig)
    assert new != old

    assert rig.stop() == 0
    declare(rig, "http://127.0.0.1:9", server=", offline: true")
    rig.start()
    until(rig.is_ready)
    assert said(rig) == new, "what was fetched once works without a hub"
    (found,) = (v for v in json.loads(offgrid(rig, "gc", "--json").stdout).values() if isinstance(v, list))
    judged = {one["name"]: one["reason"] for one in found}
    assert judged[hashlib.sha256(NEW).hexdigest()] == "Declared"
    assert '"good": true' in offgrid(rig, "verify", "tiny", "--deep", "--json").stdout


def test_what_the_hub_does_not_have_is_said_and_an_edit_mends_it(rigs: Callable[[str], Rig], hub: Local) -> None:
    rig = rigs("one")
    declare(rig, hub.url(), more=f"      lost: {{source: {{hf: {REPO}, file: lost.gguf}}}}\n")
    rig.start()
    until(lambda: condition(rig, "Resolved")[:2] == ("False", "FileNotInRepo"))
    assert condition(rig, "Resolved")[2].startswith("adapter lost: cannot find lost.gguf in acme/Pirate-LoRA")
    assert rig.pids() == []
    hub.put(REPO, {FILE: OLD, "base-F32.gguf": model(spec=BASE)})
    declare(rig, hub.url(), more=f"      base: {{source: {{hf: {REPO}, file: base-F32.gguf}}}}\n")
    until(lambda: condition(rig, "Verified")[:2] == ("False", "InvalidModel"))
    wanted = "adapter base: cannot use the file as an adapter: it is a model for llama; "
    assert condition(rig, "Verified")[2].startswith(wanted)
    sha256 = hashlib.sha256(OTHER).hexdigest()
    declare(rig, hub.url(), more=f"      base: {{source: {{hf: {REPO}, file: {FILE}}}, sha256: {sha256}}}\n")
    until(lambda: condition(rig, "Verified")[:2] == ("False", "DigestMismatch"))
    declare(rig, hub.url())
    until(rig.is_ready)
    assert said(rig) != said(rig, "tiny")


def test_a_lock_and_a_bundle_carry_it(rigs: Callable[[str], Rig], hub: Local, tmp_path: Path) -> None:
    rig = rigs("one")
    declare(rig, hub.url(), "hf: acme/Base-GGUF")
    rig.start()
    until(rig.is_ready)
    done = offgrid(rig, "lock", str(rig.manifest))
    assert done.returncode == 0, done.stderr
    assert "added tiny+pirate: pirate-f32.gguf" in done.stdout
    assert offgrid(rig, "lock", str(rig.manifest), "--check").returncode == 0
    until(lambda: condition(rig, "Resolved")[1] == "Locked" and rig.is_ready())
    answer = said(rig)

    hub.put(REPO, {FILE: NEW})
    declare(rig, hub.url(), "hf: acme/Base-GGUF", f"      terse: {{source: {{hf: {REPO}, file: {FILE}}}}}\n")
    until(lambda: condition(rig, "Resolved")[:2] == ("False", "NotLocked"))
    assert condition(rig, "Resolved")[2].startswith("adapter terse: cannot use tiny+terse: offgridd.lock")
    assert said(rig) == answer, "what was declared before goes on"
    assert offgrid(rig, "lock", str(rig.manifest), "--check").returncode == 1
    declare(rig, hub.url(), "hf: acme/Base-GGUF")
    until(rig.is_ready)
    assert said(rig) == answer, "the lock says which file it is"
    bundle = tmp_path / "b.tar"
    done = offgrid(rig, "bundle", "export", str(bundle), "tiny")
    assert done.returncode == 0, done.stderr
    assert "tiny, tiny+pirate" in done.stdout
    done = offgrid(rig, "lock", str(rig.manifest), "--update", "tiny")
    assert "updated tiny+pirate" in done.stdout, done.stderr
    until(lambda: said(rig) != answer)

    other = rigs("other")
    declare(other, "http://127.0.0.1:9", "hf: acme/Base-GGUF", server=", offline: true")
    other.start()
    until(lambda: condition(other, "Resolved")[0] == "False")
    done = offgrid(other, "bundle", "import", str(bundle))
    assert done.returncode == 0, done.stderr
    until(other.is_ready)
    assert said(other) == answer


def test_one_that_is_replaced_before_the_load_is_looked_at_again_and_not_loaded_in_a_loop(
    rigs: Callable[[str], Rig],
) -> None:
    rig = rigs("one")
    path = rig.folder.parent / "a.gguf"
    path.write_bytes(OLD)
    text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]}}
models:
  tiny: {{source: {{file: {rig.folder.parent}/base.gguf}}, context: 256, threads: 1,
    adapters: {{a: {{source: {{file: {path}}}}}}}}}
"""
    rig.manifest.write_text(text)
    rig.start()
    until(rig.is_ready)
    old = said(rig, "tiny+a")
    (pid,) = rig.pids()
    path.write_bytes(NEW)  # in place, as cp does
    new = rig.manifest.with_suffix(".new")
    new.write_text(text.replace("context: 256", "context: 128"))
    new.rename(rig.manifest)
    seen = {pid}

    def loaded() -> bool:
        model = rig.status()["models"][0]
        seen.update(worker["pid"] for worker in model["workers"])
        return bool(rig.is_ready() and model["effective"]["context"] == 128)

    until(loaded)
    assert said(rig, "tiny+a") != old
    assert len(seen) <= 4


def test_an_update_of_one_whose_model_is_removed_meanwhile_fails_for_that_alone(
    rigs: Callable[[str], Rig], hub: Local
) -> None:
    rig = rigs("one")
    hub.put("acme/Other", {"other-F32.gguf": model(spec=BASE)})

    def both(rate: int | None, *, tiny: bool) -> None:
        url = hub.url(crawl=rate) if rate else hub.url()
        other = f'  other: {{source: {{hf: acme/Other}}, endpoint: "{url}", context: 256, threads: 1}}\n'
        declare(rig, hub.url(), more=other)
        if not tiny:
            text = rig.manifest.read_text()
            rig.manifest.write_text(text[: text.index("  tiny:")] + other)

    both(None, tiny=True)
    rig.start()
    until(rig.is_ready)
    newer = model(spec=replace(BASE, name="newer"))
    hub.put("acme/Other", {"other-F32.gguf": newer})
    hub.put(REPO, {FILE: NEW})
    both(len(newer) // 3, tiny=True)
    rig.admin.json("POST", "/v1/reload")
    argv = [OFFGRID, "--host", str(rig.socket), "update"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as update:
        until(lambda: any(job["size"] for job in rig.admin.json("GET", "/v1/jobs")["jobs"]))  # the first one comes
        both(len(newer) // 3, tiny=False)
        until(lambda: [m["name"] for m in rig.status()["models"]] == ["other"])
        said, _ = update.communicate(timeout=60)
    assert "tiny+pirate" in said
    until(rig.is_ready)


def test_a_model_stands_for_its_adapters_where_it_is_updated_and_verified(
    rigs: Callable[[str], Rig], hub: Local
) -> None:
    rig = rigs("one")
    declare(rig, hub.url())
    rig.start()
    until(rig.is_ready)
    assert "tiny+pirate" in offgrid(rig, "outdated", "tiny").stdout, "the model's own file is this host's"
    files = json.loads(offgrid(rig, "verify", "tiny", "--json").stdout)["result"]["files"]
    assert [one["models"] for one in files] == [["tiny"], ["tiny+pirate"]]
    alone = json.loads(offgrid(rig, "verify", "tiny+pirate", "--json").stdout)["result"]["files"]
    assert [one["models"] for one in alone] == [["tiny+pirate"]]
    text = offgrid(rig, "config", str(rig.manifest)).stdout
    assert hub.url() in text


def test_ready_waits_for_no_bytes_that_another_model_fetches(rigs: Callable[[str], Rig], hub: Local) -> None:
    rig = rigs("one")
    url = hub.url(crawl=len(OLD) // 60)  # a minute
    one = f"""source: {{file: {rig.folder.parent}/base.gguf}}, endpoint: "{url}", context: 256, threads: 1,
    adapters: {{p: {{source: {{hf: {REPO}, file: {FILE}}}}}}}"""
    rig.manifest.write_text(f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]}}
store: {{min_free: 0}}
models:
  a: {{{one}}}
  b: {{{one}}}
""")
    rig.launch()
    until(rig.ready)
    until(lambda: any(model["download"] for model in rig.status()["models"]))
    rig.kill()  # what they are is known now, and half of it is here
    rig.launch()
    until(rig.ready, 20)
    assert rig.pids() == []

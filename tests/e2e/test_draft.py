"""A model with a draft, from its declaration to its answers."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.rig import Rig, until
from support.tinymodel import Spec, model

SMALL = Spec(embedding=256, heads=4, feed_forward=512)
LARGE = Spec(embedding=256, heads=4, feed_forward=512, layers=25, idle=24)  # says what the small one says


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("draft")
    made = Rig(folder, env={"OFFGRIDD_STORE_ROOTS": str(folder)})
    for name, spec in (("small", SMALL), ("large", LARGE), ("other", Spec(special=()))):
        (made.folder / f"{name}.gguf").write_bytes(model(spec=spec))
    write(made, "large: {speculative: {draft: small}}", "small: {preload: false}")
    made.start()
    until(made.is_ready)
    yield made
    assert made.stop() == 0
    made.api.close()


def write(rig: Rig, *models: str) -> None:
    lines = []
    for name, fields in (line.split(": ", 1) for line in models):
        source = f"source: {{file: {rig.folder}/{name}.gguf}}, context: 512, threads: 1"
        lines.append(f"  {name}: {{{source}, {fields.removeprefix('{')}\n")
    head = f'apiVersion: offgridd/v1\nserver: {{listen: ["127.0.0.1:{rig.port}"]}}\nmodels:\n'
    new = rig.manifest.with_suffix(".new")
    new.write_text(head + "".join(lines))
    new.rename(rig.manifest)
    if rig.process is not None:
        generation = rig.admin.json("POST", "/v1/reload")["generation"]
        until(lambda: rig.status()["observedGeneration"] >= generation)


def said(rig: Rig) -> str:
    asked: Any = [{"role": "user", "content": "hello"}]
    ends = {str(token): -100 for token in (2, 288, 289)}
    got = rig.api.chat.completions.create(
        model="large", messages=asked, max_tokens=120, temperature=0, logit_bias=ends  # type: ignore[arg-type]
    )  # fmt: skip
    assert got.usage is not None
    assert got.usage.completion_tokens == 120
    return str(got.choices[0].message.content)


def held(rig: Rig) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{rig.port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = [line for line in lines if line.startswith("offgridd_guessed_tokens_total{") and '"held"' in line]
    return sum(int(float(line.split()[-1])) for line in found)


def loaded(rig: Rig, name: str = "large") -> dict[str, Any]:
    (found,) = (m for m in rig.status()["models"] if m["name"] == name)
    return next(c for c in found["conditions"] if c["type"] == "Loaded")


def test_it_guesses_and_the_answer_is_the_model_s_own(rig: Rig) -> None:
    assert loaded(rig, "small")["reason"] == "OnDemand", "its file is all that is needed"
    found = said(rig)
    until(lambda: held(rig) > 20)
    (pid,) = rig.pids()
    write(rig, "large: {aliases: [big]}", "small: {preload: false}")
    until(lambda: loaded(rig)["reason"] == "Serving" and rig.pids() not in ([pid], []))
    assert said(rig) == found
    write(rig, "large: {speculative: {draft: small}}", "small: {preload: false}")


def test_a_draft_that_is_none_leaves_what_serves(rig: Rig) -> None:
    until(lambda: rig.is_ready() and loaded(rig)["reason"] == "Serving" and len(rig.pids()) == 1)
    pids = rig.pids()
    write(rig, "large: {speculative: {draft: other}}", "other: {preload: false}")
    found = until(lambda: loaded(rig) if loaded(rig)["reason"] == "DraftUnsuitable" else None)
    assert "cannot guess with the draft" in found["message"]
    assert rig.pids() == pids
    write(rig, "large: {speculative: {draft: nobody}}")
    refused = until(lambda: [c for c in rig.status()["conditions"] if c["reason"] == "InvalidValue"])
    assert "declares no model of that name" in refused[0]["message"]
    write(rig, "large: {speculative: {draft: small}}", "small: {preload: false}")
    until(rig.is_ready)
    assert rig.pids() == pids


def test_another_file_of_the_draft_is_another_worker(rig: Rig) -> None:
    until(lambda: rig.is_ready() and len(rig.pids()) == 1)
    pids, path = rig.pids(), rig.folder / "small.gguf"
    Path(f"{path}.new").write_bytes(path.read_bytes() + b"\0" * 32)
    os.rename(f"{path}.new", path)
    rig.admin.json("POST", "/v1/reconcile")
    until(lambda: rig.is_ready() and rig.pids() not in (pids, []))
    assert said(rig)

"""Edits by the hundred: few passes, nothing restarted for nothing, and the last one wins."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rig import Rig, until


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("edits"), "fake")
    made.write()
    made.start()
    yield made
    assert made.stop() == 0
    made.api.close()


def worker_ids(rig: Rig) -> list[int]:
    return [w["id"] for m in rig.status()["models"] for w in m["workers"] if w["ready"] and not w["stopping"]]


def converged(rig: Rig, context: int) -> bool:
    status = rig.status()
    model = status["models"][0]
    same = status["generation"] == status["observedGeneration"] and model["declared"]["context"] == context
    return same and model["effective"] and model["effective"]["context"] == context and len(model["workers"]) == 1


def test_a_hundred_edits_in_five_seconds_are_a_few_workers_and_the_last_one_wins(rig: Rig) -> None:
    until(lambda: worker_ids(rig))
    (before,) = worker_ids(rig)
    began = time.monotonic()
    for number in range(100):
        rig.write(context=1024 + number)
    assert time.monotonic() - began < 5
    until(lambda: converged(rig, 1123))
    assert worker_ids(rig)[0] - before <= 20, "most of them were folded into one"


def test_there_and_back_leaves_the_worker_alone(rig: Rig) -> None:
    rig.write(context=700)
    until(lambda: converged(rig, 700))
    pids = rig.pids()
    generation = rig.status()["generation"]
    rig.write(context=701)
    rig.write(context=700)
    until(lambda: converged(rig, 700))
    rig.write(context=700, alias="other")
    until(lambda: rig.status()["models"][0]["aliases"] == ["other"])
    rig.write(context=700)
    until(lambda: rig.status()["models"][0]["aliases"] == ["one"])
    assert rig.pids() == pids
    assert rig.status()["generation"] > generation


def test_comments_and_order_are_no_edit(rig: Rig) -> None:
    status = rig.status()
    text = rig.manifest.read_text()
    new = Path(str(rig.manifest) + ".new")
    new.write_text(f"# a comment\n{text}\n")
    new.rename(rig.manifest)
    rig.admin.json("POST", "/v1/reload")
    after = rig.status()
    assert (after["generation"], after["digest"]) == (status["generation"], status["digest"])

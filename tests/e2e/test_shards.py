"""Models in several files: from the hub, kept, damaged, killed half-way; and served by the real engine."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hubs import Local, local_hub
from support.rig import Rig, until
from support.tinymodel import DEFAULT, model_shards, shard_name

REPO, STEM = "acme/Big-GGUF", "big-Q4_K_M"
SHARDS = [data + bytes(3 << 20) for data in model_shards(3, DEFAULT)]
NAMES = [f"Q4_K_M/{shard_name(STEM, number, 3)}" for number in range(3)]
DIGESTS = [hashlib.sha256(data).hexdigest() for data in SHARDS]
SIZE = sum(map(len, SHARDS))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Local]:
    with local_hub(tmp_path / "hub") as made:
        made.put(REPO, dict(zip(NAMES, SHARDS, strict=True)))
        yield made


@pytest.fixture
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = Rig(tmp_path, getattr(request, "param", "fake"))
    yield made
    if made.process is not None:
        assert made.stop() == 0
    made.api.close()


def declare(
    rig: Rig, endpoint: str, store: str = "min_free: 0", models: str = f"tiny: {{source: {{hf: {REPO}}}}}"
) -> None:
    new = rig.manifest.with_suffix(".new")
    new.write_text(f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]}}
defaults: {{endpoint: "{endpoint}", context: 64, threads: 1}}
store: {{{store}}}
models: {{{models}}}
""")
    new.rename(rig.manifest)


def tiny(rig: Rig) -> dict[str, Any]:
    found: dict[str, Any] = rig.status()["models"][0]
    return found


def blobs(rig: Rig) -> set[str]:
    return {p.name[7:] for p in (rig.folder / "state/blobs").iterdir() if p.suffix != ".json"}


def chat(rig: Rig, name: str) -> str:
    answer = rig.api.chat.completions.create(model=name, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
    return str(answer.model)


@pytest.mark.parametrize("rig", ["llama"], indirect=True)
def test_the_shards_of_a_hub_are_one_model(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base)
    rig.start()
    until(rig.is_ready)
    assert chat(rig, "tiny") == "tiny"
    assert blobs(rig) == set(DIGESTS)
    assert hub.seen.sent[""] == SIZE
    found = tiny(rig)
    assert found["source"]["pinned"]["files"] == NAMES
    assert found["file"] == {"sha256": DIGESTS[0], "files": 3, "size": SIZE}


def test_progress_is_that_of_all_shards(rig: Rig, tmp_path: Path) -> None:
    with local_hub(tmp_path / "slow", rate=8 << 20) as slow:
        slow.put(REPO, dict(zip(NAMES, SHARDS, strict=True)))
        declare(rig, slow.base)
        rig.start()
        until(lambda: (tiny(rig)["download"] or {"bytes": 0})["bytes"] > len(SHARDS[0]) + len(SHARDS[1]))
        assert tiny(rig)["download"]["size"] == SIZE
        rig.kill()
        rig.start()
        until(rig.is_ready)
        assert blobs(rig) == set(DIGESTS)
        assert os.listdir(rig.folder / "state/partial") == []


def test_only_the_shard_that_was_damaged_is_fetched_again(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base)
    rig.start()
    until(rig.is_ready)
    worker = rig.pids()
    hub.seen.sent.clear()
    (rig.folder / "state/blobs" / f"sha256-{DIGESTS[1]}").write_bytes(SHARDS[1][:-1] + b"x")
    rig.admin.json("POST", "/v1/reconcile")
    until(lambda: hub.seen.sent[""] and rig.is_ready())
    assert (blobs(rig), hub.seen.sent[""], rig.pids()) == (set(DIGESTS), len(SHARDS[1]), worker)


def test_room_is_asked_for_all_of_them_before_the_first_byte(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base, f"min_free: 0, max_total: {SIZE - 1}")
    rig.start()
    until(lambda: any(c["reason"] == "StoreFull" for c in tiny(rig)["conditions"]))
    assert hub.seen.sent[""] == 0
    declare(rig, hub.base, f"min_free: 0, max_total: {SIZE}")
    rig.admin.json("POST", "/v1/reconcile")
    until(rig.is_ready)


def test_kept_shards_are_one_file_of_the_first_ones_name_and_survive_a_lost_state(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base, models="")
    rig.start()
    job = rig.admin.json("POST", "/v1/pull", json.dumps({"repo": REPO}).encode())
    until(lambda: rig.admin.json("GET", f"/v1/jobs/{job['id']}")["state"] == "done")
    assert rig.stop() == 0
    for file in (rig.folder / "state").glob("state.db*"):
        file.unlink()
    rig.start()
    assert chat(rig, NAMES[0].rpartition("/")[2]) == NAMES[0].rpartition("/")[2]
    (listed,) = rig.admin.json("GET", "/v1/list")["files"]
    assert (listed["files"], listed["size"], listed["here"]) == (NAMES, SIZE, True)
    rig.admin.json("POST", "/v1/rm", json.dumps({"model": NAMES[0].rpartition("/")[2]}).encode())
    assert blobs(rig) == set()

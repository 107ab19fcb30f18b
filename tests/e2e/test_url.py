"""`url:` and a sha256 are enough, whatever server the file comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hubs import Local, local_hub
from support.rig import Rig, until
from support.tinymodel import CONTROL, model

REPO, FILE = "acme/Tiny-GGUF", "tiny-Q8_0.gguf"
DATA = model(spec=CONTROL) + bytes(3 << 20)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Local]:
    with local_hub(tmp_path / "hub") as made:
        made.put(REPO, {FILE: DATA})
        yield made


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, "fake")
    yield made
    if made.process is not None:
        assert made.stop() == 0
    made.api.close()


def declare(rig: Rig, url: str, more: str = "", server: str = "", sha256: str = SHA) -> None:
    new = rig.manifest.with_suffix(".new")
    new.write_text(f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]{server}}}
store: {{min_free: 0}}
models: {{tiny: {{source: {{url: "{url}"}}, sha256: {sha256}, context: 64{more}}}}}
""")
    new.rename(rig.manifest)


def conditions(rig: Rig) -> dict[str, tuple[str, str]]:
    found: dict[str, Any] = rig.status()["models"][0]
    return {c["type"]: (c["status"], c["reason"]) for c in found["conditions"]}


def web(hub: Local, **faults: int) -> str:
    return f"{hub.url(**faults)}/{REPO}/resolve/main/{FILE}?token=s3cret"


def test_it_is_fetched_verified_and_served_and_asked_for_by_its_name(rig: Rig, hub: Local) -> None:
    declare(rig, web(hub, drop=700_000))
    rig.start()
    until(rig.is_ready)
    answer = rig.api.chat.completions.create(model=FILE, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
    assert answer.choices[0].message.content
    assert conditions(rig)["Resolved"] == ("True", "Pinned")
    assert conditions(rig)["UpToDate"] == ("True", "Local")
    assert "s3cret" not in str(rig.status())
    assert "s3cret" not in (rig.folder / "log").read_text()


def test_another_address_of_the_same_bytes_asks_nobody(rig: Rig, hub: Local) -> None:
    declare(rig, web(hub))
    rig.start()
    until(rig.is_ready)
    worker = rig.pids()
    hub.seen.requests.clear()
    declare(rig, "https://nowhere.invalid/moved.gguf", server=", offline: true")
    until(lambda: rig.status()["models"][0]["source"]["url"].endswith("moved.gguf"))
    until(rig.is_ready)
    assert (rig.pids(), hub.seen.requests) == (worker, [])


def test_other_bytes_are_never_loaded(rig: Rig, hub: Local) -> None:
    declare(rig, web(hub), sha256="0" * 64)
    rig.start()
    until(lambda: conditions(rig)["Verified"] == ("False", "DigestMismatch"))
    assert rig.pids() == []


def test_what_is_too_large_or_gone_costs_no_byte(rig: Rig, hub: Local) -> None:
    declare(rig, web(hub), ", max_size: 1MB")
    rig.start()
    until(lambda: conditions(rig)["Resolved"] == ("False", "TooLarge"))
    declare(rig, web(hub).replace(FILE, "none.gguf"))
    until(lambda: conditions(rig)["Resolved"] == ("False", "UrlRefused"))
    assert hub.seen.sent[""] <= 2

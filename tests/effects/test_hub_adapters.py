"""A model of a hub with an adapter that can not be used: that is said, and the blobs are not read again for it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from support import tinymodel

from offgridd.core.actions import Verify
from offgridd.core.desired import AdapterSpec, FileSource, HubSource
from offgridd.core.errors import ActionFailed
from offgridd.core.hub import HubFile, Pin
from offgridd.core.observed import Identity
from offgridd.effects import files
from offgridd.effects.files import Files, identity_of
from offgridd.effects.holds import Holds
from offgridd.effects.hubfiles import HubFiles
from offgridd.effects.store import Store


async def test_blobs_are_not_read_again_because_of_an_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tinymodel.model()
    sha256 = hashlib.sha256(data).hexdigest()
    store = Store(tmp_path)
    blob = store.blob(sha256)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(data)
    known: dict[Identity, str] = {identity_of(os.stat(blob)): sha256}
    never: Any = None
    hub = HubFiles(store, Holds(), Files((tmp_path,), known), never, never, never, never, never)
    pin = Pin("key", "acme/tiny", "c" * 40, (HubFile("m.gguf", len(data), sha256),), None, "asked")
    missing = AdapterSpec("pirate", FileSource(str(tmp_path / "gone.gguf")), None, 1.0)
    action = Verify("m", HubSource("acme/tiny"), None, "all", pin, (missing,), "key")

    def read(_fd: int) -> str:
        raise AssertionError("it was read again")

    monkeypatch.setattr(files, "_sha256", read)
    with pytest.raises(ActionFailed, match=r"adapter pirate: cannot find gone\.gguf"):
        await hub.get(action, lambda _here, _size: None)

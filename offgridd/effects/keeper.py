"""Files that were pulled and are not declared: kept until somebody removes them.

A kept file is a pin like any other, under a name that no manifest can have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping
from dataclasses import replace
from typing import Any

import anyio.to_thread

from offgridd.core.actions import Verify
from offgridd.core.desired import HubSource, ModelSpec
from offgridd.core.errors import ActionFailed, Failure
from offgridd.core.keys import source_key
from offgridd.core.observed import Pin
from offgridd.effects.hubfiles import HubFiles
from offgridd.effects.store import Store

KEPT = "kept/"  # how their names begin


class Keeper:
    """`pins` are those of all models; other names than ours are only looked at."""

    def __init__(self, hub: HubFiles, store: Store, pins: MutableMapping[str, Pin]) -> None:
        self._hub, self._store, self._pins = hub, store, pins
        self._kept = {name: _spec(name, pin) for name, pin in pins.items() if name.startswith(KEPT)}

    @property
    def kept(self) -> Mapping[str, ModelSpec]:
        return self._kept

    async def pull(self, source: HubSource, report: Callable[[int, int], None]) -> ModelSpec:
        """Finds, fetches and verifies what `source` means, and keeps it. Raises ActionFailed."""
        pin = await anyio.to_thread.run_sync(self._hub.ask, source, "", abandon_on_cancel=True)
        name = f"{KEPT}{pin.repo}/{pin.files[0].path}"
        spec = _spec(name, pin)
        pin = replace(pin, key=source_key(spec))
        asked = replace(source, repo=pin.repo, file=pin.files[0].path, revision=pin.commit)
        await self._hub.fetch(Verify(name, asked, None, pin.key, pin), report)
        await anyio.to_thread.run_sync(self._pins.__setitem__, name, pin)
        self._kept[name] = spec
        return spec

    async def remove(self, name: str, declared: Collection[str]) -> int:
        """Keeps a file no more; gives the bytes that became free. `declared`: names of models. Raises ActionFailed."""
        pin = self._pins[name]
        others = {f.sha256 for n in declared if (p := self._pins.get(n)) is not None for f in p.files}
        others |= {f.sha256 for n in self._kept if n != name for f in self._pins[n].files}
        del self._kept[name]
        await anyio.to_thread.run_sync(self._pins.__delitem__, name)
        gone = [f.sha256 for f in pin.files if f.sha256 and f.sha256 not in others]
        try:
            return sum([await anyio.to_thread.run_sync(self._store.remove, sha256) for sha256 in gone])
        except OSError as error:
            text = f"cannot remove {pin.files[0].path}: {error.strerror}"
            raise ActionFailed(Failure("Downloaded", "Unwritable", text)) from error

    async def listing(self, declared: Collection[str]) -> list[dict[str, Any]]:
        """The files that are in the store for a declared model, and those that are kept."""
        return await anyio.to_thread.run_sync(self._listing, frozenset(declared))

    def _listing(self, declared: Collection[str]) -> list[dict[str, Any]]:
        found = []
        for name, pin in sorted(self._pins.items()):
            kept = name.startswith(KEPT)
            if not kept and name not in declared:
                continue
            there = all(f.sha256 and self._store.has(f.sha256, f.size) for f in pin.files)
            found.append({"model": None if kept else name, "repo": pin.repo, "commit": pin.commit,
                          "files": [f.path for f in pin.files], "quant": pin.quant, "size": pin.size,
                          "sha256": [f.sha256 for f in pin.files], "kept": kept, "here": there})  # fmt: skip
        return found


def _spec(name: str, pin: Pin) -> ModelSpec:
    quants = (pin.quant,) if pin.quant else ()
    return ModelSpec(name, HubSource(pin.repo, pin.files[0].path, pin.commit, quants), preload=False)

"""Files that were pulled and are not declared: kept until somebody removes them.

A kept file is a pin like any other, under a name that no manifest can have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import anyio.to_thread

from offgridd.core.actions import Verify
from offgridd.core.adopting import kept_name, kept_spec, web_pin
from offgridd.core.desired import HubSource, ModelSpec, UrlSource
from offgridd.core.errors import ActionFailed, Failure
from offgridd.core.garbage import KEPT
from offgridd.core.hub import Pin
from offgridd.core.keys import source_key
from offgridd.core.naming import url_name
from offgridd.core.pinning import Question
from offgridd.effects.getting import told
from offgridd.effects.holds import Holds
from offgridd.effects.hubfiles import HubFiles, PinsPort
from offgridd.effects.store import Store
from offgridd.failpoints import failpoint


class AllPinsPort(PinsPort, Protocol):
    def all(self) -> dict[str, Pin]: ...
    def drop(self, model: str) -> None: ...


class Keeper:
    """`pins` are those of all models; other names than ours are only looked at. Lost ones are made of blobs' notes."""

    def __init__(self, hub: HubFiles, holds: Holds, store: Store, pins: AllPinsPort) -> None:
        self._hub, self._holds, self._store, self._pins = hub, holds, store, pins
        known = pins.all()
        for pin, note in store.pins():
            name = note.get("kept")
            if isinstance(name, str) and name.startswith(KEPT) and name not in known:
                known[name] = replace(pin, key=source_key(kept_spec(name, pin)))
                pins.keep(name, known[name])
        self._kept = {name: kept_spec(name, pin) for name, pin in known.items() if name.startswith(KEPT)}

    @property
    def kept(self) -> Mapping[str, ModelSpec]:
        return self._kept

    async def pull(self, source: HubSource, report: Callable[[int, int], None]) -> ModelSpec:
        """Finds, fetches and verifies what `source` means, and keeps it. Raises ActionFailed."""
        pin = await anyio.to_thread.run_sync(self._hub.ask, Question(source), abandon_on_cancel=True)
        name = kept_name(pin)
        spec = kept_spec(name, pin)
        pin = replace(pin, key=source_key(spec))
        asked = replace(source, repo=pin.repo, file=pin.files[0].path, revision=pin.commit)
        await self._hub.get(Verify(name, asked, None, pin.key, pin), report)
        async with self._holds.alone(f.digest for f in pin.files):
            await self.keep(name, spec, pin)
        return spec

    async def pull_web(self, source: UrlSource, sha256: str, report: Callable[[int, int], None]) -> ModelSpec:
        """Fetches a file of the web and keeps it. Once it is gone nobody asks its server again. Raises ActionFailed."""
        asked = Question(source, sha256=sha256)
        pin = web_pin(source, await anyio.to_thread.run_sync(self._hub.ask, asked, abandon_on_cancel=True))
        if pin is None:
            text = f"cannot keep {url_name(source.url)!r}: it has no name of a GGUF file"
            raise ActionFailed(Failure("Resolved", "BadName", text))
        name = kept_name(pin)
        await self._hub.get(Verify(name, source, sha256, pin.key, pin), report)
        async with self._holds.alone([sha256]):
            await self.keep(name, kept_spec(name, pin), pin)
        return self._kept[name]

    async def keep(self, name: str, spec: ModelSpec, pin: Pin) -> None:
        """Its files are in the store and verified: from now on they stay. Raises ActionFailed.

        For who is alone with them: whoever verifies them writes the same notes.
        """
        await anyio.to_thread.run_sync(told, partial(self._keep, name, pin))
        self._kept[name] = spec

    def _keep(self, name: str, pin: Pin) -> None:
        before = self._pins.get(name)
        for file in pin.files:
            self._store.mark_kept(file.digest, name)
        failpoint("keeper.before-pin")
        if not self._pins.keep(name, pin):
            text = f"cannot keep {pin.files[0].path}: the state directory takes nothing; make room and try again"
            raise ActionFailed(Failure("Downloaded", "StateNotWritable", text))
        for file in set(before.files if before else ()) - set(pin.files):  # what had this name is kept no more
            self._let_go(file.digest, self._pins.all())

    def pin(self, name: str) -> Pin | None:
        """What is kept by that name. Blocking."""
        return self._pins.get(name)

    async def preview(self, source: HubSource) -> tuple[Pin, frozenset[str | None]]:
        """What a pull would keep, and the sha256s of those of its files that are here. Raises ActionFailed."""
        return await anyio.to_thread.run_sync(self._preview, source, abandon_on_cancel=True)

    def _preview(self, source: HubSource) -> tuple[Pin, frozenset[str | None]]:
        pin = self._hub.ask(Question(source))
        return pin, frozenset(f.sha256 for f in pin.files if f.sha256 and self._store.has(f.sha256, f.size))

    async def remove(self, name: str, declared: Collection[str]) -> int:
        """Keeps a file no more; gives the bytes that became free. `declared`: names of models. Raises ActionFailed."""
        pin = await anyio.to_thread.run_sync(self._pins.get, name)
        async with self._holds.alone(f.digest for f in pin.files if f.sha256) if pin else nullcontext():
            self._kept.pop(name, None)
            return await anyio.to_thread.run_sync(self._remove, name, frozenset(declared))

    def _remove(self, name: str, declared: Collection[str]) -> int:
        pins = self._pins.all()
        pin = pins.pop(name, None)
        self._pins.drop(name)
        if pin is None:
            return 0
        others = {f.sha256 for n, p in pins.items() if n in declared or n in self._kept for f in p.files}
        freed = 0
        try:
            for sha256 in (f.sha256 for f in pin.files if f.sha256):
                if sha256 in others:
                    self._let_go(sha256, pins)
                else:
                    freed += self._store.remove(sha256)
        except OSError as error:
            text = f"cannot remove {pin.files[0].path}: {error.strerror}"
            raise ActionFailed(Failure("Downloaded", "Unwritable", text)) from error
        return freed

    def _let_go(self, sha256: str, pins: Mapping[str, Pin]) -> None:
        """One of the names under which a blob is kept is gone; it may have another. Raises OSError."""
        kept = (n for n, p in pins.items() if n in self._kept and any(f.sha256 == sha256 for f in p.files))
        if (name := next(kept, None)) is not None:
            self._store.mark_kept(sha256, name)
        else:
            self._store.forget_kept(sha256)

    async def listing(self, declared: Collection[str]) -> list[dict[str, Any]]:
        """The files that are in the store for a declared model, and those that are kept."""
        return await anyio.to_thread.run_sync(self._listing, frozenset(declared))

    def _listing(self, declared: Collection[str]) -> list[dict[str, Any]]:
        found = []
        for name, pin in sorted(self._pins.all().items()):
            kept = name.startswith(KEPT)
            if not kept and name not in declared:
                continue
            there = all(f.sha256 and self._store.has(f.sha256, f.size) for f in pin.files)
            found.append({"model": None if kept else name, "repo": pin.repo, "commit": pin.commit,
                          "files": [f.path for f in pin.files], "quant": pin.quant, "size": pin.size,
                          "sha256": [f.sha256 for f in pin.files], "kept": kept, "here": there})  # fmt: skip
        return found

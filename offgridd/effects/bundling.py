"""Makes bundles of what is declared here, and takes what a bundle brings into the store."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

import anyio

from offgridd.core.adapters import with_adapters_of
from offgridd.core.bundle import BUNDLED, Bundle, BundleError, beside, may_pin
from offgridd.core.desired import Desired, HubSource, ModelSpec, UrlSource
from offgridd.core.errors import ManifestError
from offgridd.core.gitsource import of_repository
from offgridd.core.hub import HubFile, Pin
from offgridd.core.keys import question_key
from offgridd.core.locking import entry_of
from offgridd.core.sizes import show_size
from offgridd.effects.bundles import PIECE, BundleReader, Member, Opened, file_member, tar_members, write_tar
from offgridd.effects.catalog import Catalog
from offgridd.effects.files import Files
from offgridd.effects.getting import Heard, refused, told
from offgridd.effects.handover import BadMessage, Handover
from offgridd.effects.holds import Holds
from offgridd.effects.store import Store
from offgridd.effects.threads import interruptible
from offgridd.effects.transfer.pace import Stopped
from offgridd.effects.transfer.part import PartInUse
from offgridd.manifest import accept_files, is_lock, write_lock

T = TypeVar("T")
Texts = Iterable[tuple[str, bytes]]
HandedFiles = list[tuple[str, int]]  # names in a folder, "" of a tar, and descriptors


class PinsPort(Protocol):
    def keep(self, model: str, value: Pin) -> bool: ...


@dataclass(frozen=True, slots=True)
class Handed:
    """What a message hands over: files of a folder by their names, or, with none, one tar."""

    names: tuple[str, ...] = ()


@dataclass
class Run:
    """One export or import: what is handed over for it, what it tells, and whether it was stopped."""

    sock: socket.socket
    tell: Heard
    size: int = 0  # bytes of all blobs
    here: int = 0
    stopped: bool = field(default=False)

    def stop(self) -> None:
        """From another thread."""
        self.stopped = True

    def check(self) -> None:
        """Raises Stopped."""
        if self.stopped:
            raise Stopped

    def came(self, count: int) -> None:
        """Raises Stopped."""
        self.check()
        self.here += count
        self.tell(self.here, self.size)


class Bundling:
    """`desired` gives the present manifest."""

    def __init__(
        self, store: Store, files: Files, pins: PinsPort, catalog: Catalog, holds: Holds,
        desired: Callable[[], Desired],
    ) -> None:  # fmt: skip
        self._store, self._files, self._pins, self._catalog, self._holds = store, files, pins, catalog, holds
        self._desired = desired
        self._limiter = anyio.CapacityLimiter(1)

    async def export(self, run: Run, texts: Texts, models: Mapping[str, tuple[ModelSpec, Pin]]) -> None:
        """Writes a bundle of `models` and the manifest of `texts` to what is handed over. Raises ActionFailed."""
        async with AsyncExitStack() as stack:
            files = await _handed(run.sock, stack)
            await self._in_thread(partial(self._export, run, files, texts, models), run)

    async def take(self, run: Run) -> dict[str, Pin]:
        """Brings in what is handed over; gives what its models mean. Raises ActionFailed."""
        async with AsyncExitStack() as stack:
            reader = BundleReader(_members(await _handed(run.sock, stack), run.check))
            bundle = await self._in_thread(reader.head, run)
            pins = await self._in_thread(partial(_pins, bundle), run)
            run.size = sum(bundle.blobs.values())
            async with self._holds.alone(bundle.blobs):
                await self._in_thread(partial(self._take, run, reader, bundle, pins), run)
            return pins

    async def _in_thread(self, work: Callable[[], T], run: Run) -> T:
        try:
            return await interruptible(partial(told, partial(_as_failures, work)), run.stop, self._limiter)
        except Stopped:
            raise RuntimeError("it was stopped and not cancelled") from None

    def _export(self, run: Run, out: HandedFiles, texts: Texts, models: Mapping[str, tuple[ModelSpec, Pin]]) -> None:
        if len(out) != 1:
            raise BundleError("cannot write the bundle: one file is to be handed over for it")
        texts = of_repository(texts) or texts  # a bundle stands alone: it asks no repository
        files = tuple((beside(name, i), text.decode()) for i, (name, text) in enumerate(texts))
        of_hub = {n: entry_of(s.source, p) for n, (s, p) in models.items() if isinstance(s.source, HubSource)}
        blobs = {f.digest: f.size for _, pin in models.values() for f in pin.files}
        known = self._catalog.extract(sorted({entry.asked.repo for entry in of_hub.values()}))
        run.size = sum(blobs.values())
        bundle = Bundle(files, write_lock(of_hub), blobs, known)
        write_tar(Opened(out[0][1], run.check), bundle, self._store.blob, run.came)

    def _take(self, run: Run, reader: BundleReader, bundle: Bundle, pins: Mapping[str, Pin]) -> None:
        missing = {sha256: size for sha256, size in bundle.blobs.items() if not self._store.has(sha256, size)}
        self._check_room(sum(missing.values()))
        with self._announced(missing):
            for sha256, member in reader.blobs(bundle):
                if self._store.has(sha256, member.size):
                    run.came(member.size)
                    continue
                self._put(run, sha256, member, pins)
        models = with_adapters_of(self._desired().models)  # only now: all of that may have taken an hour
        for name, pin in pins.items():
            for file in pin.files:
                self._store.note(file.digest, _note(pin, file))
            if may_pin(models.get(name), pin):
                self._pins.keep(name, pin)
        self._catalog.take(bundle.catalogue)

    @contextmanager
    def _announced(self, missing: Mapping[str, int]) -> Iterator[None]:
        """While it lasts, whoever looks for room knows of these bytes."""
        self._holds.coming.update(missing)
        try:
            yield
        finally:
            for sha256 in missing:
                self._holds.coming.pop(sha256, None)

    def _put(self, run: Run, sha256: str, member: Member, pins: Mapping[str, Pin]) -> None:
        """One blob, whole and hashed, or none."""
        pin, file = next((p, f) for p in pins.values() for f in p.files if f.sha256 == sha256)
        try:
            part = self._store.part(sha256, member.size)
        except PartInUse:
            raise refused("Downloaded", "InUse", f"cannot bring in {file.path}: another process fetches it") from None
        try:
            at, digest = 0, hashlib.sha256()
            while data := member.file.read(PIECE):
                part.write(data, at)
                digest.update(data)
                at += len(data)
                self._holds.coming[sha256] = max(0, member.size - at)
                run.came(len(data))
            if digest.hexdigest() != sha256 or at != member.size:
                raise BundleError(f"cannot use the bundle: {member.name} is not what its name says; it is damaged")
            path = self._store.keep(part, sha256, _note(pin, file))
        except BaseException:
            part.path.unlink(missing_ok=True)  # half a blob of a bundle is of no use: nobody goes on with it
            part.forget_map()
            raise
        finally:
            part.close()
        self._files.learn(path, sha256)

    def _check_room(self, missing: int) -> None:
        """For so many bytes, before the first of them. Raises ActionFailed."""
        spec, others = self._desired().store, self._holds.others("")
        if missing + others + spec.min_free > self._store.free():
            text = (
                f"cannot bring in the bundle: it needs {show_size(missing)}, {show_size(spec.min_free + others)} are to"
            )
            text += f" stay free of {show_size(self._store.free())}; free some, or lower store.min_free"
            raise refused("Downloaded", "InsufficientDisk", text)
        if spec.max_total is not None and (total := self._store.total() + others + missing) > spec.max_total:
            text = f"cannot bring in the bundle: the store would hold {show_size(total)}, store.max_total is "
            raise refused("Downloaded", "StoreFull", text + show_size(spec.max_total))


def _as_failures(work: Callable[[], T]) -> T:
    try:
        return work()
    except BundleError as error:
        raise refused("Downloaded", "BadBundle", str(error)) from error


async def _handed(sock: socket.socket, stack: AsyncExitStack) -> HandedFiles:
    """All that is handed over, open until `stack` is left. Raises ActionFailed."""
    handover, found = Handover(sock, Handed), list[tuple[str, int]]()
    try:
        while (message := await stack.enter_async_context(handover.next())) is not None:
            if message.offer is None or len(message.descriptors) != max(1, len(message.offer.names)):
                raise BadMessage(message.why or "it is not one file for each name")
            found += zip(message.offer.names or ("",), message.descriptors, strict=True)
    except BadMessage as bad:
        raise refused("Downloaded", "BadHandover", f"cannot take what is handed over: {bad}") from bad
    return found


def _members(files: HandedFiles, check: Callable[[], None]) -> Iterator[Member]:
    """Of a tar that was handed over as one file, or of a folder file by file."""
    for name, fd in files:
        if name:
            yield file_member(name, fd)
        else:
            yield from tar_members(Opened(fd, check))


def _pins(bundle: Bundle) -> dict[str, Pin]:
    """What the bundle's models mean, of those whose blobs it has. Raises BundleError."""
    texts = [(name, text.encode()) for name, text in bundle.files if not is_lock(name)]
    try:
        models = with_adapters_of(accept_files([*texts, ("offgridd.lock", bundle.lock.encode())]).desired.models)
    except ManifestError as error:
        raise BundleError(f"cannot use the bundle's manifest: {error}") from error
    found: dict[str, Pin] = {}
    for name, spec in models.items():
        pin = spec.lock if isinstance(spec.lock, Pin) else _web_pin(spec, bundle)
        if pin is not None and all(bundle.blobs.get(f.digest) == f.size for f in pin.files):
            found[name] = replace(pin, why=BUNDLED)
    unused = set(bundle.blobs) - {f.sha256 for pin in found.values() for f in pin.files}
    if unused:
        raise BundleError(f"cannot use the bundle: no model of its manifest means {len(unused)} of its blobs")
    return found


def _web_pin(spec: ModelSpec, bundle: Bundle) -> Pin | None:
    from offgridd.effects.origins import pin_web

    if not isinstance(spec.source, UrlSource) or spec.sha256 not in bundle.blobs:
        return None
    made = pin_web(spec.source, bundle.blobs[spec.sha256], question_key(spec), spec.sha256)
    return made if isinstance(made, Pin) else None


def _note(pin: Pin, file: HubFile) -> dict[str, object]:
    return {**asdict(pin), **asdict(file), "fetched": int(time.time())}

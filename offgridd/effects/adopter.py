"""Takes over files that somebody hands over open: into the store, hashed, and kept from then on."""

from __future__ import annotations

import errno
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from offgridd.core.adopting import Offer, answers, kept_name, kept_spec, pin_of, why_refused
from offgridd.core.desired import StoreSpec
from offgridd.core.errors import ActionFailed
from offgridd.core.hub import HubFile, Pin
from offgridd.core.sizes import show_size
from offgridd.effects.files import Files
from offgridd.effects.getting import refused, told
from offgridd.effects.gguf import GgufError, read_model
from offgridd.effects.handover import BadMessage, Handover, size_of
from offgridd.effects.holds import Holds
from offgridd.effects.keeper import Keeper
from offgridd.effects.staging import Changing, NoWay, Staged, Stager
from offgridd.effects.store import Store
from offgridd.effects.threads import interruptible
from offgridd.effects.transfer.pace import Stopped

Report = Callable[[int, int], None]


class Adopter:
    """`spec` gives the manifest's present limits of the store."""

    def __init__(self, store: Store, holds: Holds, keeper: Keeper, files: Files, spec: Callable[[], StoreSpec]) -> None:
        self._store, self._holds, self._keeper, self._files, self._spec = store, holds, keeper, files, spec
        self._one = anyio.CapacityLimiter(1)  # of several at once each would only be slower

    async def serve(self, sock: socket.socket, report: Report, *, copy: bool) -> dict[str, Any]:
        """Takes what comes, one model after the other, until the other side ends. Raises ActionFailed."""
        adopted: list[str] = []
        failed: list[str] = []
        handover, done = Handover(sock, Offer), 0

        def tell(read: int, size: int) -> None:
            report(done + read, done + size)

        try:
            while True:
                async with handover.next() as message:
                    if message is None:
                        return {"adopted": adopted, "failed": failed}
                    if message.offer is None:
                        raise BadMessage(message.why)
                    answer = await self._answer(message.offer, message.descriptors, tell, copy)
                    done += answer["size"]
                    (failed if answer["error"] else adopted).append(answer["file"])
                    await handover.answer(answer)
        except BadMessage as bad:
            raise refused("Downloaded", "BadHandover", f"cannot adopt any more: {bad}") from bad

    async def _answer(self, offer: Offer, descriptors: list[int], tell: Report, copy: bool) -> dict[str, Any]:
        """What came of one model; a failure is an answer, too."""
        title = offer.files[0].path[:256] if offer.files else ""
        found: dict[str, Any] = {"file": title, "name": None, "how": None, "named": False, "sha256": [], "size": 0}
        try:
            if why := why_refused(offer, len(descriptors)):
                raise refused("Downloaded", "BadOffer", f"cannot adopt {title!r}: {why}")
            sizes = await anyio.to_thread.run_sync(_sizes, descriptors)
            if sizes is None:
                raise refused("Verified", "NotARegularFile", f"cannot adopt {title}: it is no file")
            pin, how = await self._adopt(offer, [*zip(descriptors, sizes, strict=True)], tell, copy)
        except ActionFailed as failed:
            return found | {"error": {"code": failed.failure.reason, "message": failed.failure.message}}
        named = all(f.sha256 for f in offer.files)
        return found | {"name": kept_name(pin), "how": how, "named": named, "size": pin.size, "error": None,
                        "sha256": [f.sha256 for f in pin.files]}  # fmt: skip

    async def _adopt(self, offer: Offer, files: list[tuple[int, int]], tell: Report, copy: bool) -> tuple[Pin, str]:
        """What it is kept as, and how it came. `files`: descriptor and size of each. Raises ActionFailed."""
        sizes = [size for _, size in files]
        if all(f.sha256 and self._store.has(f.sha256, size) for f, size in zip(offer.files, sizes, strict=True)):
            pin = pin_of(offer, {f.path: f.digest for f in offer.files}, dict(zip(_paths(offer), sizes, strict=True)))
            return pin, await self._placed(offer, [], pin)
        names = [f"adopt-{secrets.token_hex(8)}" for _ in files]
        room = partial(self._check_room, names[0], offer, sum(sizes))
        stager = Stager(room, lambda read: tell(read, sum(sizes)), copy)
        staged: list[Staged] = []
        work = partial(told, partial(self._stage, offer, files, names, stager, staged))
        with ExitStack() as stack:
            for name in names:  # so that the collector leaves them alone
                stack.enter_context(self._holds.reserved(name))
            try:
                pin = await interruptible(work, stager.stop, self._one)
                return pin, await self._placed(offer, staged, pin)
            except Stopped:
                raise RuntimeError("an adoption was stopped and not cancelled") from None
            finally:
                self._holds.coming.pop(names[0], None)
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(_close, staged)

    def _stage(
        self, offer: Offer, files: list[tuple[int, int]], names: list[str], stager: Stager, staged: list[Staged]
    ) -> Pin:
        title = offer.files[0].path
        try:
            _check(files, title)  # before anything of it is copied
            for (fd, _), name in zip(files, names, strict=True):
                staged.append(stager.stage(fd, self._store.stage(name)))
        except NoWay:
            text = (
                f"cannot adopt {title} without a copy: it is on another file system, or others than the daemon's user"
            )
            raise refused("Downloaded", "NeedsCopy", text + " may write to it; use offgrid adopt --copy") from None
        except Changing:
            raise refused("Verified", "FileChanging", f"cannot adopt {title}: it changed while it was read") from None
        except OSError as error:
            reason = {errno.ENOSPC: "InsufficientDisk", errno.EDQUOT: "InsufficientDisk", errno.EROFS: "ReadOnly"}
            text = f"cannot adopt {title}: {error.strerror or error}"
            raise refused("Downloaded", reason.get(error.errno or 0, "Unreadable"), text) from error
        for said, one in zip(offer.files, staged, strict=True):
            if said.sha256 is not None and said.sha256 != one.sha256:
                text = f"cannot adopt {said.path}: its sha256 is {one.sha256}, its name says {said.sha256}"
                raise refused("Verified", "DigestMismatch", text)
        _check([(one.fd, one.identity.size) for one in staged], title)
        digests = dict(zip(_paths(offer), (one.sha256 for one in staged), strict=True))
        return pin_of(offer, digests, dict(zip(_paths(offer), (one.identity.size for one in staged), strict=True)))

    def _check_room(self, name: str, offer: Offer, total: int, size: int) -> None:
        """Before a file of `size` bytes is copied, of a model of `total`. Raises ActionFailed."""
        spec, title, others = self._spec(), offer.files[0].path, self._holds.others(name)
        if spec.max_total is not None and (all_of_it := self._store.total() + others + total) > spec.max_total:
            text = f"cannot copy {title}: the store would hold {show_size(all_of_it)}, store.max_total is "
            raise refused("Downloaded", "StoreFull", text + show_size(spec.max_total))
        if size + others + spec.min_free > (free := self._store.free()):
            text = (
                f"cannot copy {title}: it needs {show_size(size)}, {show_size(spec.min_free + others)} are to stay free"
            )
            raise refused("Downloaded", "InsufficientDisk", f"{text}, and there are {show_size(free)}")
        self._holds.coming[name] = size

    async def _placed(self, offer: Offer, staged: list[Staged], pin: Pin) -> str:
        """Blobs of the staged files, kept; how they came. Raises ActionFailed."""
        name, digests = kept_name(pin), [f.digest for f in pin.files]
        async with self._holds.alone(digests):
            before = await anyio.to_thread.run_sync(self._keeper.pin, name)
            if before is not None and [f.sha256 for f in before.files] != digests:
                text = f"cannot adopt {pin.files[0].path}: another file is kept by that name; offgrid rm it first"
                raise refused("Downloaded", "NameTaken", text)
            ways: list[str] = []
            with anyio.CancelScope(shield=True):  # a blob that is there and not kept would have no owner
                ways.append(await anyio.to_thread.run_sync(told, partial(self._place, offer, staged, pin)))
                if before is None:
                    await self._keeper.keep(name, kept_spec(name, pin), pin)
            return ways[0]

    def _place(self, offer: Offer, staged: list[Staged], pin: Pin) -> str:
        made = {one.sha256: one for one in staged}
        ways: set[str] = set()
        for file in pin.files:
            if not self._store.has(file.digest, file.size):
                if file.digest not in made:  # it was here a moment ago
                    raise refused(
                        "Downloaded", "BlobGone", f"cannot adopt {file.path}: it was removed just now; try again"
                    )
                one = made[file.digest]
                self._store.place(one.path, file.digest, _note(offer, pin, file, one.how))
                self._files.remember(one.identity, file.digest)
                ways.add(one.how)
            elif not self._store.notes_of(self._store.blob(file.digest)).get("key"):
                self._store.note(file.digest, _note(offer, pin, file, "here"))
        return next((way for way in ("copy", "hardlink", "reflink") if way in ways), "here")


def _check(files: list[tuple[int, int]], title: str) -> None:
    try:
        read_model(files)
    except GgufError as error:
        raise refused("Verified", error.reason, f"cannot adopt {title}: {error.message}") from error


def _close(staged: list[Staged]) -> None:
    for one in staged:
        one.close()


def _sizes(descriptors: list[int]) -> list[int] | None:
    """None where one is no file. On a file system that hangs it waits."""
    found = [size_of(fd) for fd in descriptors]
    return [size for size in found if size is not None] if None not in found else None


def _paths(offer: Offer) -> list[str]:
    return [f.path for f in offer.files]


def _note(offer: Offer, pin: Pin, file: HubFile, how: str) -> dict[str, Any]:
    """From it the pin can be made again, and the questions that it is known to answer are found."""
    adopted = {"tool": offer.tool, "how": how, "named": all(f.sha256 for f in offer.files)}
    return {**asdict(pin), **asdict(file), "keys": [pin.key, *answers(offer, pin)], "kept": kept_name(pin),
            "adopted": adopted, "fetched": int(time.time())}  # fmt: skip

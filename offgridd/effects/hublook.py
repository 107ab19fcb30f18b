"""What a hub's source means and what its file says of itself, without fetching it. Blocking: call it in a thread."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from offgridd.core.choice import AUTO, Room
from offgridd.core.desired import HubSource, MemorySpec, Use
from offgridd.core.errors import ActionFailed, Failure
from offgridd.core.fit import declared, estimate
from offgridd.core.hub import HubError, HubFailure, Pin, RepoTree
from offgridd.core.looked import Looked
from offgridd.core.observed import ModelHeader
from offgridd.core.pinning import Host, pin
from offgridd.effects.cpu import features
from offgridd.effects.gguf import GgufError, open_regular, read_model
from offgridd.effects.hubaccess import HubAccess
from offgridd.effects.memory import total_memory
from offgridd.effects.store import Store

if TYPE_CHECKING:
    from offgridd.effects.hub import HubClient


def host_for(spec: MemorySpec | None, use: Use, client: HubClient, tree: RepoTree, source: HubSource) -> Host:
    """What bounds the choice of `auto`: the memory that the manifest declares, and what a variant takes of it.

    Keys, values and buffers are the same for all variants of a repository, so one header tells them.
    """
    found = declared(spec, total_memory()) if spec else None
    memory = found.all if found else None
    if memory is None or source.file or AUTO not in (source.quants or (AUTO,)):
        return Host(None, features())
    first = pin(source, tree, "", None)
    return Host(Room(memory, _rest(client, first, use) if isinstance(first, Pin) else None), features())


def _rest(client: HubClient, first: Pin, use: Use) -> int | None:
    """Bytes that it takes besides its files; None where that can not be known."""
    try:
        found = estimate(_remote(client, first), use.load, features(), use.cache)
    except (HubError, GgufError):
        return None
    return None if found is None else max(0, found.charge - first.size)


class HubLook:
    """For `offgrid inspect`."""

    def __init__(self, access: HubAccess, store: Store) -> None:
        self._access, self._store = access, store

    def look(self, source: HubSource, known: Pin | None, use: Use) -> Looked:
        """What `source` means, or meant when it was pinned. Raises HubError, GgufError, ActionFailed."""
        if known is not None and (header := self._stored(known)) is not None:
            return Looked(header, known.size, known)
        client = self._access.client(source.endpoint, source.token)
        found = known or self._pinned(client, source, use)
        return Looked(_remote(client, found), found.size, found, here=False)

    def _stored(self, known: Pin) -> ModelHeader | None:
        if not all(f.sha256 and self._store.has(f.sha256, f.size) for f in known.files):
            return None
        with ExitStack() as stack:
            opened = []
            try:
                for file in known.files:
                    opened.append((open_regular(self._store.blob(file.digest)), file.size))
                    stack.callback(os.close, opened[-1][0])
            except OSError as error:
                text = f"cannot read the store: {error.strerror}"
                raise ActionFailed(Failure("Downloaded", "Unreadable", text)) from error
            return read_model(opened)

    def _pinned(self, client: HubClient, source: HubSource, use: Use) -> Pin:
        tree = client.tree(source.repo, source.revision or "main")
        found = pin(source, tree, "", None, host_for(self._access.desired().server.memory, use, client, tree, source))
        if isinstance(found, Failure):
            raise ActionFailed(found)
        return found


def _remote(client: HubClient, found: Pin) -> ModelHeader:
    """Raises HubError, GgufError."""
    from offgridd.effects.hub.header import remote_header  # with it the hub's library comes: only where it is asked

    if not found.files:
        raise HubError(HubFailure("BadAnswer", f"cannot read a header of {found.repo}: it has no file"))
    return remote_header(client, found.repo, found.commit, [file.path for file in found.files])

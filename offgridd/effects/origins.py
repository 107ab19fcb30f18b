"""What a source that is fetched means, and where its bytes come from: a repository of a hub, or an address of the web.

Blocking: call it in a thread. The hub's library is loaded with the first question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from offgridd.core.desired import HubSource, RemoteSource, UrlSource
from offgridd.core.errors import Failure
from offgridd.core.hub import HubError, HubFailure, HubFile, Pin
from offgridd.core.naming import url_name
from offgridd.core.pinning import Question, pin
from offgridd.core.sizes import show_size
from offgridd.core.updates import has_moved, is_other
from offgridd.effects.hubaccess import HubAccess
from offgridd.effects.hublook import host_for

if TYPE_CHECKING:
    from offgridd.effects.transfer.server import Origin


class Origins:
    def __init__(self, access: HubAccess) -> None:
        self._access = access

    def ask(self, asked: Question) -> Pin | Failure:
        """What the source means now. Raises HubError."""
        match asked.source:
            case HubSource() as source:
                client = self._access.client(source.endpoint, source.token)
                tree = client.tree(source.repo, source.revision or "main")
                return pin(
                    source, tree, asked.key, asked.sha256, host_for(asked.memory, asked.use, client, tree, source)
                )
            case UrlSource() as source:
                return self._ask_web(source, asked.key, asked.sha256)

    def newer(self, asked: Question, pinned: Pin) -> tuple[str, Pin | Failure | None]:
        """The hub's commit now, and what the source means there if that is something else. Raises HubError."""
        source = asked.source
        assert isinstance(source, HubSource)
        client = self._access.client(source.endpoint, source.token)
        tree = client.tree(source.repo, source.revision or "main")
        if not has_moved(pinned, tree):
            return tree.commit, None
        host = host_for(asked.memory, asked.use, client, tree, source)
        found = pin(source, tree, asked.key, asked.sha256, host)
        return tree.commit, found if isinstance(found, Failure) or is_other(found, pinned) else None

    def origin(self, source: RemoteSource, pinned: Pin, file: HubFile) -> Origin:
        """Where a pinned file is fetched from. Raises HubError where the token can not be read."""
        from offgridd.effects.hub import find
        from offgridd.effects.transfer.server import Origin

        match source:
            case HubSource():
                client = self._access.client(source.endpoint, source.token)
                name = f"{source.endpoint}/{pinned.repo}"
                return Origin(
                    lambda: client.resolve(pinned.repo, pinned.commit, file.path), client.token, name, self._offline,
                    self._access.gate(source.endpoint),
                )  # fmt: skip
            case UrlSource(url):
                return Origin(lambda: find(url), None, url.partition("?")[0], self._offline)

    def _ask_web(self, source: UrlSource, key: str, sha256: str | None) -> Pin | Failure:
        from offgridd.effects.hub import find

        if self._offline():
            raise HubError(HubFailure("Offline", f"cannot look for {url_name(source.url)}: offline is declared"))
        return pin_web(source, find(source.url).size, key, sha256)

    def _offline(self) -> bool:
        return self._access.offline


def pin_web(source: UrlSource, size: int, key: str, sha256: str | None) -> Pin | Failure:
    """The one file of `source`, of `size` bytes."""
    name = url_name(source.url)
    if source.max_size is not None and size > source.max_size:
        text = f"cannot take {name}: it has {show_size(size)}, max_size is {show_size(source.max_size)}"
        return Failure("Resolved", "TooLarge", text, terminal=True)
    return Pin(key, "", "", (HubFile(name, size, sha256),), None, "the sha256 says which file it is")

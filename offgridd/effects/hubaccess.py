"""Which hub is asked, and with which token: one client for each pair, which remembers when its hub was down."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from offgridd.core.desired import Desired, Secret
from offgridd.core.hub import HubError, HubFailure
from offgridd.effects.secrets import SecretUnavailable, read_secret

if TYPE_CHECKING:  # it brings the hub's library with it, 20 MB: only where a hub is asked
    from offgridd.effects.hub import Gate, HubClient


class HubAccess:
    """`desired` gives the present manifest. For any thread."""

    def __init__(self, desired: Callable[[], Desired]) -> None:
        self.desired, self._lock = desired, threading.Lock()
        self._clients: dict[tuple[str, str | None], HubClient] = {}
        self._gates: dict[str, Gate] = {}

    @property
    def offline(self) -> bool:
        return self.desired().server.offline

    def client(self, endpoint: str, secret: Secret | None) -> HubClient:
        """Raises HubError where the token can not be read."""
        from offgridd.effects.hub import HubClient

        try:
            key = endpoint, read_secret(secret) if secret else None
        except SecretUnavailable as error:
            raise HubError(HubFailure("TokenUnavailable", str(error), passing=True)) from None
        with self._lock:
            if key not in self._clients:
                gate = self._gate(endpoint)
                self._clients[key] = HubClient(*key, offline=lambda: self.offline, gate=gate)
            return self._clients[key]

    def gate(self, endpoint: str) -> Gate:
        """What all who ask this hub wait at, whatever their token."""
        with self._lock:
            return self._gate(endpoint)

    def _gate(self, endpoint: str) -> Gate:
        from offgridd.effects.hub import Gate

        return self._gates.setdefault(endpoint, Gate())

    def searched(self) -> HubClient | None:
        """The hub that searches ask; None where none is to be asked. Raises HubError."""
        desired = self.desired()
        return None if desired.server.offline else self.client(desired.endpoint, desired.token)

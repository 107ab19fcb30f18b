"""The worker's end of the socketpair."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque

from offgridd.engine.wire import Frame, Splitter, encode


class Link:
    """Sending is for any thread, receiving for one."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._lock, self._splitter = sock, threading.Lock(), Splitter()
        self._bodies: deque[bytes] = deque()

    def send(self, frame: Frame) -> None:
        """To nobody, where the daemon is gone: whoever receives learns of that."""
        with self._lock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._sock.sendall(encode(frame))

    def receive(self) -> bytes | None:
        """The next frame's body; None is the end of the connection."""
        while not self._bodies:
            try:
                data = self._sock.recv(1 << 16)
            except ConnectionResetError:  # it went without reading all that we sent
                return None
            if not data:
                return None
            self._bodies += self._splitter.feed(data)
        return self._bodies.popleft()

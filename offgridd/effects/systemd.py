"""Tells systemd what state we are in. The only door to sdnotify, which wants Latin-1 and hides errors."""

from __future__ import annotations

import os
import time

import sdnotify

_LINE = 500  # characters of a line: systemd ignores messages of more than 4096 bytes


class Notifier:
    """Does nothing where NOTIFY_SOCKET is not set; a dead socket is no failure."""

    def __init__(self) -> None:
        self._notifier = _connect()
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6 if mine and self._notifier else 0.0  # seconds

    def send(self, *lines: str) -> None:
        if self._notifier is None:
            return
        text = "\n".join(line.replace("\n", " ")[:_LINE] for line in lines)
        try:
            # It encodes as Latin-1: giving it UTF-8 bytes as Latin-1 text sends them as they are. A file's name may
            # hold what is no UTF-8.
            self._notifier.notify(text.encode("utf-8", "replace").decode("latin-1"))
        except OSError:
            pass

    def reloading(self) -> None:
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def _connect() -> sdnotify.SystemdNotifier | None:
    try:
        return sdnotify.SystemdNotifier(debug=True) if os.environ.get("NOTIFY_SOCKET") else None
    except OSError:
        return None

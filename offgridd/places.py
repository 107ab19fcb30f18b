"""Where sockets and state lie, for the daemon and for the command line, which must not load the settings' library."""

from __future__ import annotations

import os
from pathlib import Path

SYSTEM_RUNTIME = Path("/run/offgridd")


def user_runtime() -> Path:
    """This user's own folder for sockets."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/offgridd-{os.geteuid()}") / "offgridd"


def runtime() -> Path:
    """Where the daemon puts its socket: systemd's RuntimeDirectory, the system's folder for root, else the user's."""
    given = os.environ.get("RUNTIME_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    return SYSTEM_RUNTIME if os.geteuid() == 0 else user_runtime()


def state() -> Path:
    """Where the daemon keeps its state: systemd's StateDirectory, the system's folder for root, else the user's."""
    given = os.environ.get("STATE_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    if os.geteuid() == 0:
        return Path("/var/lib/offgridd")
    return user_state()


def user_state() -> Path:
    """This user's own folder for state."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "offgridd"

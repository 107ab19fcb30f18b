"""Where sockets and state lie, for the daemon and for the command line, which must not load the settings' library."""

from __future__ import annotations

import os
import stat
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


def is_shared(folder: Path) -> bool:
    """Whether it lies below a folder in which everybody may make one, as /tmp is."""
    return _below_shared(folder) is not None


def why_unsafe(folder: Path) -> str:
    """Why `folder` may be in another user's hands; "" if it is not. Raises OSError where one may not even look.

    In /tmp anybody may make a folder first, of any name, so each one below it must be ours or root's.
    """
    for one in _below_shared(folder) or []:
        found = one.lstat()
        if not stat.S_ISDIR(found.st_mode):
            return f"{one} is a link or a file"
        if found.st_uid not in (0, os.geteuid()):
            return f"{one} belongs to another user"
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"others may write to {one}"
    return ""


def _below_shared(folder: Path) -> list[Path] | None:
    """Those of `folder` and its ancestors that lie below a shared one; None if there is no shared one."""
    below: list[Path] = []
    for one in (folder.absolute(), *folder.absolute().parents):
        try:
            mode = one.lstat().st_mode
        except FileNotFoundError:
            continue
        if mode & stat.S_ISVTX and mode & stat.S_IWOTH:
            return below
        below.append(one)
    return None

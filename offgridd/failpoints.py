"""Named places where a test may make the daemon fail: OFFGRIDD_FAILPOINTS="name=kill,other=sleep:2,third=eio@5".

What can be asked for: `kill` (SIGKILL to ourselves), `eio` and `enospc` (an OSError), `sleep:SECONDS`, `hang` (for
ever, also against SIGTERM); `@N` behind it means the N-th pass only. `drag:SHARE:KEY` makes each step of the worker
with that load key longer by that share. Without the variable a call costs one lookup in an empty map.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter


def _read(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {name: action for name, _, action in pairs}


_ASKED = _read(os.environ.get("OFFGRIDD_FAILPOINTS", ""))
_passed: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Does what was asked for at `name`. Raises OSError for `eio` and `enospc`, ValueError for what is unknown."""
    action = _ASKED.get(name)
    if action is None:
        return
    action, _, pass_ = action.partition("@")
    _passed[name] += 1
    if pass_ and _passed[name] != int(pass_):
        return
    kind, _, seconds = action.partition(":")
    match kind:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "eio":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        case "enospc":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        case "sleep":
            time.sleep(float(seconds))
        case "hang":
            while True:
                time.sleep(3600)
        case _:
            raise ValueError(f"cannot do {action!r} at failpoint {name}: use kill, eio, enospc, sleep:SECONDS or hang")


def drag(name: str, key: str, seconds: float) -> None:
    """Sleeps a share of `seconds`, where that was asked for at `name` and for this key."""
    kind, share, wanted = (*_ASKED.get(name, "").split(":"), "", "", "")[:3]
    if kind == "drag" and wanted == key:
        time.sleep(float(share) * seconds)

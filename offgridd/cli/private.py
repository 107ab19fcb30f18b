"""Starts a daemon for this user alone, where none runs: for commands that need one and nothing else."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

from offgridd import places
from offgridd.cli.client import NO_DAEMON, CliError

PATIENCE = 30.0  # seconds until it must answer


def start(path: Path) -> None:
    """Until something answers at `path`, its admin socket. It ends by itself. Raises CliError."""
    log = places.user_state() / "private.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with log.open("wb") as errors:
            argv = [sys.executable, "-m", "offgridd", "serve", "--private"]
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
            )
    except OSError as error:
        raise CliError(NO_DAEMON, f"cannot start a private daemon: {error.strerror}") from None
    until, ended = time.monotonic() + PATIENCE, False
    while time.monotonic() < until:
        if _answers(path):
            return
        if ended:  # another command may have been faster, and its daemon is what answers
            break
        ended = process.poll() is not None
        time.sleep(0.5 if ended else 0.05)
    why = log.read_text(errors="replace").strip().splitlines()
    raise CliError(NO_DAEMON, f"cannot start a private daemon: {why[-1] if why else 'it does not answer'} (see {log})")


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True

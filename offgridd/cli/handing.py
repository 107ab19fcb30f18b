"""Hands open files over to the daemon, which may not be allowed to open them itself."""

from __future__ import annotations

import array
import json
import socket
from collections.abc import Iterable
from typing import Any

from offgridd.cli.client import REFUSED, CliError


def hand_over(path: str, files: Iterable[tuple[dict[str, Any], int]]) -> None:
    """Each file is what it is and its descriptor, which stays open here. Raises CliError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(path)
            for about, fd in files:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
                sock.sendmsg([json.dumps(about).encode()], [rights])
    except OSError as error:
        raise CliError(REFUSED, f"cannot hand the file over to the daemon: {error.strerror or error}") from None

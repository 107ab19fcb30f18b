"""Secrets, read where the manifest says they are, when they are needed. They go nowhere but to who asked."""

from __future__ import annotations

import os
from pathlib import Path

from offgridd.core.desired import Secret

MOST = 4096  # bytes


class SecretUnavailable(Exception):
    """The text says why, and never what the secret is."""


def read_secret(secret: Secret) -> str:
    """Raises SecretUnavailable."""
    name = secret.name
    if secret.kind == "env":
        found = os.environ.get(name, "").strip()
        if not found:
            raise SecretUnavailable(
                f"cannot read the token: the variable {name} is not set in the daemon's environment"
            )
        return _plain(found, f"the variable {name}")
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if secret.kind == "credential" and not folder:
        raise SecretUnavailable(f"cannot read the credential {name}: the service was given none; see LoadCredential=")
    path = Path(folder or "", name) if secret.kind == "credential" else Path(name)
    try:
        # A FIFO that nobody writes is empty, and keeps nobody waiting.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            data = file.read(MOST + 1) or b""
        found = data.decode("ascii").strip()
    except OSError as error:
        raise SecretUnavailable(f"cannot read the token from {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        found = ""
    return _plain(found if len(data) <= MOST else "", str(path))


def _plain(found: str, place: str) -> str:
    """Raises SecretUnavailable for what could break out of a header."""
    if not found or not found.isascii() or not found.isprintable() or " " in found:
        raise SecretUnavailable(f"cannot read the token from {place}: it is not one line of text without blanks")
    return found

"""Asks the repository that the manifest names, through a process of its own: see effects/git/child."""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from offgridd.core.desired import GitSpec
from offgridd.core.gitsource import REMOTE, Fetched
from offgridd.effects.secrets import SecretUnavailable, read_secret

log = logging.getLogger("offgridd")
# Git's names are UTF-8 whatever the host's locale is.
PROGRAM: Final = (sys.executable, "-I", "-X", "utf8", "-m", "offgridd.effects.git.child")
FETCH, READ = 60, 20  # seconds: for a remote to send all that is new, and for our own copy to be read
_GRACE = 5.0  # seconds beyond those until the process is killed, where it does not end by itself
# What says how the world outside is reached. Nothing else of ours concerns that process.
_ENVIRONMENT: Final = (
    "PATH", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy",
    "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy",
)  # fmt: skip


class Repository:
    """`folder` holds our copy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def fetch(self, spec: GitSpec, accepted: str, *, rewind: bool = False) -> Fetched:
        """What the remote has now. `accepted`: the commit that it has to follow, unless `rewind` or "".

        Whatever goes wrong is a reason in the answer.
        """
        try:
            token = None
            if spec.token:
                token = await anyio.to_thread.run_sync(read_secret, spec.token, abandon_on_cancel=True)
        except SecretUnavailable as error:
            return Fetched(reason=REMOTE, message=str(error))
        return await self._ask(spec, FETCH, accepted=accepted, rewind=rewind, token=token)

    async def read(self, spec: GitSpec, commit: str) -> Fetched:
        """A commit that was fetched before, as `spec` wants it."""
        return await self._ask(spec, READ, commit=commit)

    async def _ask(self, spec: GitSpec, seconds: int, **more: Any) -> Fetched:
        asked = {
            "folder": str(self._folder), "url": spec.url, "ref": spec.ref or "", "path": spec.path,
            "signers": spec.signers, "seconds": seconds, "token": None, "commit": "", "accepted": "", "rewind": False,
        }  # fmt: skip
        env = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | {"HOME": str(self._folder)}
        try:
            with anyio.fail_after(seconds + _GRACE):
                ended = await anyio.run_process(
                    PROGRAM, input=json.dumps(asked | more).encode(), stderr=subprocess.PIPE, check=False, env=env
                )
        except (OSError, TimeoutError) as error:
            return Fetched(reason=REMOTE, message=f"cannot fetch from {spec.url}: {error or 'it took too long'}")
        if ended.returncode == 0:
            return await anyio.to_thread.run_sync(_answer, ended.stdout, spec.signers is not None)
        if ended.returncode == -signal.SIGALRM:
            text = f"cannot fetch from {spec.url}: it was not done in {seconds} s; is the repository too large?"
            return Fetched(reason=REMOTE, message=text)
        said = ended.stderr.decode(errors="replace")[-2000:]
        log.error("the process that asks %s ended with %d: %s", spec.url, ended.returncode, said)
        return Fetched(reason=REMOTE, message=f"cannot fetch from {spec.url}: what asks it has failed; see the log")


def _answer(text: bytes, signed: bool) -> Fetched:
    found: dict[str, Any] = json.loads(text)
    files = tuple((name, base64.b64decode(content)) for name, content in found.pop("files", ()))
    return Fetched(files=files, signed=signed and bool(files), **found)

"""Folders in which workers keep finished prefixes: one for all whose states are alike, gone a week after its use."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

log = logging.getLogger("offgridd")
GRACE: Final = 7 * 24 * 3600.0  # seconds without use
LOOK: Final = 3600.0  # seconds between two looks


class Shelves:
    """Below `root`, which is only for us to read: what is there is the text of requests in another form."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._taken: dict[int, str] = {}  # by worker

    async def take(self, worker: int, key: str) -> str:
        """The folder for a shelf key, which stays until the worker `leave`s it; empty where there can be none."""
        self._taken[worker] = key
        return await anyio.to_thread.run_sync(self._made, key)

    def leave(self, worker: int) -> None:
        self._taken.pop(worker, None)

    def _made(self, key: str) -> str:
        folder = self._root / key
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.is_symlink():
                raise NotADirectoryError(0, "it is a link")
            os.utime(folder)  # its use
        except OSError as error:
            log.warning("cannot keep prefixes in %s: %s", folder, error.strerror)
            return ""
        return str(folder)

    async def run(self) -> None:
        """For ever: what nobody uses goes. Not at once: after a long time off no worker asked for its folder yet."""
        while True:
            await anyio.sleep(LOOK)
            await anyio.to_thread.run_sync(self._sweep, set(self._taken.values()), time.time())

    def _sweep(self, used: set[str], at: float) -> None:
        try:
            folders = [folder for folder in self._root.iterdir() if folder.name not in used]
        except OSError:
            return
        for folder in folders:
            try:
                newest = max((one.stat().st_mtime for one in (folder, *folder.iterdir())), default=0.0)
                if at - newest > GRACE:
                    shutil.rmtree(folder)
                    log.info("prefixes in %s were not used for a week and are removed", folder.name)
            except OSError as error:
                log.warning("cannot remove %s: %s", folder, error.strerror)

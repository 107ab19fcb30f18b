"""Folders in which workers keep finished prefixes: one for each way to load a file, gone a week after its last use."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from offgridd.effects.updates import Now

log = logging.getLogger("offgridd")
GRACE: Final = 7 * 24 * 3600.0  # seconds without use
LOOK: Final = 3600.0  # seconds between two looks


class Shelves:
    """Below `root`, which is only for us to read: what is there is the text of requests in another form."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def of(self, key: str) -> str:
        """The folder for a load key; empty where there can be none."""
        return await anyio.to_thread.run_sync(self._made, key)

    def _made(self, key: str) -> str:
        folder = self._root / key
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.is_symlink():
                raise NotADirectoryError(0, "it is a link")
        except OSError as error:
            log.warning("cannot keep prefixes in %s: %s", folder, error.strerror)
            return ""
        return str(folder)

    async def run(self, now: Now) -> None:
        """For ever: what nobody uses goes. Not at once: after a long time off no worker asked for its folder yet."""
        while True:
            await anyio.sleep(LOOK)
            observed = now.observed()
            used = {worker.load_key for facts in observed.models.values() for worker in facts.workers}
            await anyio.to_thread.run_sync(self._sweep, used, time.time())

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

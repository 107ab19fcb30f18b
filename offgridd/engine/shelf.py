"""Finished prefixes on disk, so that they are there after a restart: `shelffile` is a file, `shelfindex` all of them.

Several workers may have one folder: a file that another one removed is no hit, one that it made is seen at the next
look. What is damaged is removed, and its tokens are computed as if nothing had been kept.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from offgridd.engine.shelffile import LEAST, PART, SUFFIX, DamagedError, Entry, Saved, head_of, read, write
from offgridd.engine.shelfindex import Index, Link

PENDING = 256 << 20  # bytes that may wait to be written; what comes then is not kept
FLUSH = 2.0  # seconds for what still waits when the worker ends
ABANDONED = 3600.0  # seconds after which nobody writes a part any more
LOOK = 600.0  # seconds after which somebody else may have changed much
TOUCH = 600.0  # seconds in which a use is noted once
Take = Callable[[list[Saved]], None]


class Shelf:
    """The files in `folder`, of states that `key` stands for; at most `budget` bytes of them.

    One thread asks and gives; one of its own reads, one writes. Nothing of it raises: what can not be kept is not.
    """

    def __init__(self, folder: Path, key: str, budget: int) -> None:
        self._folder, self._key, self._budget = folder, key.encode(), budget
        self._index = Index()
        self._jobs: deque[Callable[[], None]] = deque()  # of the writer
        self._pending, self._closing, self._told, self._looked = 0, False, False, 0.0
        self._more = threading.Condition()  # guards all of this
        self._look()
        self._wanted: queue.SimpleQueue[tuple[Sequence[Entry], Take, Callable[[], bool]]] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._work, daemon=True)
        self._writer.start()
        threading.Thread(target=self._read_all, daemon=True).start()

    @property
    def held(self) -> int:
        """Bytes of files."""
        return self._index.held

    def find(self, tokens: Sequence[int], have: int, *, whole: bool, room: int) -> list[Link]:
        """Files of `room` bytes at most that go on from the first `have` tokens, for LEAST more at least; to `fetch`.

        All that stand for the tokens count as used, also where they are not needed because somebody has them.
        """
        with self._more:
            chain = self._index.chain(array("I", tokens), whole=whole)
            now = time.time_ns()
            if any(now - link.entry.used > TOUCH * 1e9 for link in chain):
                self._do(partial(self._touch, self._used(chain, now), now))
        found, before = list[Link](), [have]
        for link in chain:
            room -= link.entry.size if link.reach > have else 0
            if room < 0:
                break
            if link.reach > have:
                found.append(link)
                before.append(link.reach)
        while found and before[-1] - before[len(found) - 1] < LEAST:
            found.pop()
        return found

    def fetch(self, links: Sequence[Link], take: Take, wanted: Callable[[], bool] = lambda: True) -> None:
        """Soon, on another thread: `take` gets what was found whole of them, up to the first that was not.

        What is not `wanted` any more is not read: others wait for the disk. That is asked on that thread, too.
        """
        self._wanted.put(([link.entry for link in links], take, wanted))

    def lacks(self, tokens: Sequence[int], *, whole: bool) -> int | None:
        """From which token on a state is worth keeping, so that it goes on from what is there. None: it is not."""
        with self._more:
            if self._closing or self._pending >= PENDING:
                return None
            reach = self._index.reach(array("I", tokens), whole=whole)
        if len(tokens) - reach < LEAST:
            return None
        return 0 if whole else reach

    def keep(self, tokens: Sequence[int], start: int, state: bytes) -> None:
        """Soon. `start` is what it `lacks`."""
        with self._more:
            if len(state) <= self._budget and self._pending + len(state) <= PENDING and not self._closing:
                self._pending += len(state)
                self._do(partial(self._write, Saved(list(tokens), start, state)))

    def resize(self, budget: int) -> None:
        with self._more:
            self._budget = budget
            self._do(self._shrink)

    def close(self) -> None:
        """Writes what waits, for a while."""
        with self._more:
            self._closing = True
            self._more.notify_all()
        self._writer.join(FLUSH)

    def _do(self, job: Callable[[], None]) -> None:
        self._jobs.append(job)
        self._more.notify_all()

    def _work(self) -> None:
        while True:
            with self._more:
                self._more.wait_for(lambda: self._jobs or self._closing)
                if not self._jobs:
                    return
                job = self._jobs.popleft()
            try:
                job()
            except OSError as error:
                self._tell(f"cannot keep prefixes in {self._folder}: {error.strerror}")

    def _read_all(self) -> None:
        while True:
            entries, take, wanted = self._wanted.get()
            found: list[Saved] = []
            for entry in entries:
                saved = self._read(entry) if wanted() else None
                if saved is None:
                    break
                found.append(saved)
            take(found)

    def _read(self, entry: Entry) -> Saved | None:
        try:
            return read(entry.path, self._key, entry.size)
        except FileNotFoundError:
            pass  # it has aged out, or somebody else has removed it
        except DamagedError as error:
            self._tell(f"cannot use what was kept in {entry.path.name}: {error}")
        except (OSError, MemoryError) as error:  # it may be as good as ever: the next look has it again
            self._tell(f"cannot read what was kept in {entry.path.name}: {error}")
            with self._more:
                self._index.remove(entry)
            return None
        self._remove(entry)
        return None

    def _write(self, saved: Saved) -> None:
        if time.monotonic() - self._looked > LOOK:
            self._look()
        before, now = array("I", saved.tokens[: saved.start]), time.time_ns()
        with self._more:
            self._pending -= len(saved.state)
            entries = self._used(self._index.chain(before, whole=False), now)
        self._touch(entries, now)  # it is of no less use than what goes on from it, and must not go first
        with self._more:
            if self._index.reach(before, whole=False) < saved.start:
                return  # it is gone since: nobody could use the rest
        try:
            made = write(self._folder, self._key, saved)
        except DamagedError:
            return  # somebody else's file in its place, which the next look removes
        with self._more:
            if all(entry.path != made.path for entry in self._index):
                self._index.add(made)
        made.used = now
        self._touch([made], now)
        self._shrink()

    def _used(self, chain: Sequence[Link], now: int) -> list[Entry]:
        for link in chain:
            link.entry.used = now
        return [link.entry for link in chain]

    def _touch(self, entries: Sequence[Entry], now: int) -> None:
        for entry in entries:
            try:
                os.utime(entry.path, ns=(now, now))
            except FileNotFoundError:
                self._remove(entry)
            except OSError:
                pass  # then it goes sooner

    def _shrink(self) -> None:
        with self._more:
            going = self._index.surplus(self._budget)
        for entry in going:
            self._remove(entry)

    def _remove(self, entry: Entry) -> None:
        with self._more:
            self._index.remove(entry)
        _unlink(entry.path)

    def _look(self) -> None:
        """What there is now, by whomever; of what is new, the heads are read."""
        self._looked = time.monotonic()
        with self._more:
            gone = {entry.path.name: entry for entry in self._index}
        try:
            paths = [Path(one.path) for one in os.scandir(self._folder) if one.is_file(follow_symlinks=False)]
        except OSError as error:
            self._tell(f"cannot read {self._folder}: {error.strerror}")
            return
        for path in paths:
            self._meet(path, gone.pop(path.name, None))
        with self._more:
            for entry in gone.values():
                self._index.remove(entry)
        self._shrink()

    def _meet(self, path: Path, known: Entry | None) -> None:
        try:
            if known is not None:
                known.used = max(known.used, path.stat().st_mtime_ns)
            elif path.suffix == PART and time.time() - path.stat().st_mtime > ABANDONED:
                _unlink(path)
            elif path.suffix == SUFFIX:
                entry = head_of(path)
                with self._more:
                    self._index.add(entry)
        except DamagedError:
            _unlink(path)
        except OSError:
            pass  # it is gone, or not for us to read

    def _tell(self, text: str) -> None:
        """Once: the same trouble comes again and again."""
        if not self._told:
            self._told = True
            print(text, file=sys.stderr, flush=True)


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        pass  # it is gone, or can not be removed: it is not used in any case

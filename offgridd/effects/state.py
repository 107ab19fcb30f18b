"""The state directory: one lock, one SQLite file, the last good manifest. Written by the lock's holder.

Everything in it can be made anew from the manifest and the files, so what is broken is moved aside, not an error.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from offgridd.core.gitsource import commit_of
from offgridd.core.hub import Pin
from offgridd.core.observed import Verdict
from offgridd.core.tuned import Tuning
from offgridd.core.updates import Look
from offgridd.effects.benchrecords import BenchmarkRecords
from offgridd.effects.database import StateTooNewError, open_database, os_error
from offgridd.effects.durable import private, replace_file
from offgridd.effects.records import Inventory, Records
from offgridd.failpoints import failpoint

log = logging.getLogger("offgridd")

EVENTS, HISTORY = 10_000, 10  # events and generations that are kept, the newest
_REMEMBER = """
    insert into history (number, digest, accepted, source) values (?, ?, ?, ?)
    on conflict (number) do update set digest = excluded.digest, source = excluded.source
"""


__all__ = ["State", "StateLockedError", "StateTooNewError"]


class StateLockedError(Exception):
    """Another daemon has this state directory; the text names its pid."""


class State:
    def __init__(self, folder: Path) -> None:
        """Takes the lock. Raises StateLockedError, StateTooNewError, or OSError where the folder can not be used."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _tighten(folder)
        self._folder = folder
        self._lock = _lock(folder)
        try:
            self._db = open_database(folder / "state.db")
            self._generation = _newest_generation(self._db)
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        self._db.close()
        os.close(self._lock)

    def generation_of(self, digest: str) -> int:
        """The generation of a manifest with this digest: the last one, or the next one when it differs."""
        number, last = self._generation
        if digest != last:
            self._generation = number + 1, digest
        return self._generation[0]

    def keep_last_good(self, texts: list[tuple[str, bytes]]) -> None:
        """Keeps the manifest and the newest generation. Raises OSError."""
        data = json.dumps([[name, text.decode("utf-8")] for name, text in texts]).encode()
        replace_file(self._folder / "last-good.json", data)
        failpoint("generation.before-write")
        number, digest = self._generation
        try:
            self._db.execute("insert or replace into generation values (1, ?, ?)", (number, digest))
            self._db.execute(_REMEMBER, (number, digest, time.time(), commit_of(texts)))
            self._db.execute("delete from history where number <= ?", (number - HISTORY,))
        except sqlite3.Error as error:
            raise os_error(error) from error
        failpoint("generation.after-write")

    def keep_held(self, held: Sequence[tuple[Sequence[str], Sequence[tuple[str, bytes]]]]) -> None:
        """Models that a suspension holds, and the texts of the manifest that they come from. Raises OSError."""
        found = [[[*names], [[name, text.decode("utf-8")] for name, text in files]] for names, files in held]
        replace_file(self._folder / "held.json", json.dumps(found).encode())

    def held(self) -> list[tuple[list[str], list[tuple[str, bytes]]]]:
        """As they were kept; none where that can not be read."""
        try:
            found = json.loads((self._folder / "held.json").read_bytes())
            return [([str(n) for n in names], [(str(n), text.encode()) for n, text in files]) for names, files in found]
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return []

    def history(self) -> list[tuple[int, str, float, str]]:
        """The newest generations that were accepted, the newest first.

        Number, digest, seconds since the epoch, and the newest commit that said so, "" where it was no repository.
        """
        query = "select number, digest, accepted, source from history order by number desc"
        try:
            found = self._db.execute(query).fetchall()
        except sqlite3.Error as error:
            log.warning("cannot read the history: %s", error)
            return []
        return [(int(number), str(digest), float(at), str(source)) for number, digest, at, source in found]

    def add_events(self, events: Sequence[tuple[int, str]]) -> None:
        """Keeps them, each with its number. Raises OSError.

        In one statement: no transaction is held open on a connection that other threads write with, too.
        """
        rows = "select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(?)"
        try:
            self._db.execute(f"insert or replace into events {rows}", (json.dumps(events),))
            self._db.execute("delete from events where number <= ?", (events[-1][0] - EVENTS,))
        except sqlite3.Error as error:
            raise os_error(error) from error

    def events(self) -> list[tuple[int, str]]:
        """Those that are kept, the oldest first."""
        try:
            query = "select number, event from events where json_valid(event) order by number"
            found = self._db.execute(query).fetchall()
        except sqlite3.Error as error:
            log.warning("cannot read earlier events: %s", error)
            return []
        return [(int(number), str(event)) for number, event in found]

    def last_good(self) -> list[tuple[str, bytes]] | None:
        """None where there is none, or none that can be read."""
        try:
            pairs = json.loads((self._folder / "last-good.json").read_bytes())
            return [(str(name), text.encode()) for name, text in pairs]
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return None

    @property
    def inventory(self) -> Inventory:
        return Inventory(self._db)

    @property
    def pins(self) -> Records[Pin]:
        return Records(self._db, "pins", Pin, "the pin")

    @property
    def looks(self) -> Records[Look]:
        return Records(self._db, "looks", Look, "the last look for something newer")

    @property
    def checked(self) -> Records[float]:
        """When a model's files were read whole last, in seconds since the epoch."""
        return Records(self._db, "checked", float, "when files were read last")

    @property
    def peaks(self) -> Records[dict[str, int]]:
        """By load key, the most bytes of its own that a worker of the model was seen to take."""
        return Records(self._db, "peaks", dict[str, int], "what workers take of the memory")

    @property
    def benchmarks(self) -> BenchmarkRecords:
        return BenchmarkRecords(self._db)

    @property
    def verdicts(self) -> Records[Verdict]:
        """What was decided of the newest change of a model that had to prove itself."""
        return Records(self._db, "verdicts", Verdict, "what was decided of a change")

    @property
    def tunings(self) -> Records[Tuning]:
        """How far the search for a model's fastest settings is, and what it found."""
        return Records(self._db, "tunings", Tuning, "what tuning found")

    @property
    def unreferenced(self) -> Records[dict[str, float]]:
        """One record, `blobs`: by sha256, seconds that nothing referred to it."""
        return Records(self._db, "unreferenced", dict[str, float], "how long nothing refers to files")


def _tighten(folder: Path) -> None:
    """Only we may enter. A folder that is open to others and holds other things than ours is not ours to change."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not mode & 0o077:
        return
    if any(folder.iterdir()) and not (folder / "lock").exists():
        raise PermissionError(
            errno.EPERM, "it is open to others and holds files that are not ours; name an empty folder"
        )
    folder.chmod(0o700)
    log.warning("closed %s to others: its mode was %o", folder, mode)


def _lock(folder: Path) -> int:
    lock = private(str(folder / "lock"), os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise StateLockedError(f"cannot use {folder}: the daemon with pid {pid} has it; stop that one") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _newest_generation(db: sqlite3.Connection) -> tuple[int, str]:
    try:
        number, digest = db.execute("select number, digest from generation").fetchone() or (0, "")
    except sqlite3.Error as error:
        db.close()
        raise os_error(error) from error
    return int(number), str(digest)

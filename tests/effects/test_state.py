"""The state directory: one holder, what survives a restart, what is broken, who may read it."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from support.limits import no_space

from offgridd.core.observed import Identity
from offgridd.effects.durable import replace_file
from offgridd.effects.state import EVENTS, HISTORY, State, StateLockedError, StateTooNewError

HOLD = """
import sys
from pathlib import Path
from offgridd.effects.state import State
state = State(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def reopened(folder: Path, use: Callable[[State], object]) -> object:
    state = State(folder)
    try:
        return use(state)
    finally:
        state.close()


def accept(digest: str, state: State) -> int:
    number = state.generation_of(digest)
    state.keep_last_good([])
    return number


def test_a_second_process_is_refused_and_told_which_one_has_it(folder: Path, holder: subprocess.Popen[str]) -> None:
    for _ in range(2):  # being refused changes nothing
        with pytest.raises(StateLockedError, match=f"the daemon with pid {holder.pid} has it; stop that one"):
            State(folder)


def test_a_killed_holder_blocks_nobody(folder: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    State(folder).close()
    assert (folder / "lock").read_text() == f"{os.getpid()}\n"


def test_the_generation_counts_other_digests_and_survives(folder: Path) -> None:
    assert [reopened(folder, partial(accept, digest)) for digest in "aabbab"] == [1, 1, 2, 2, 3, 4]


def test_a_generation_that_was_not_kept_is_given_again_after_a_restart(folder: Path) -> None:
    reopened(folder, partial(accept, "a"))
    assert reopened(folder, lambda state: [state.generation_of(d) for d in "bbc"]) == [2, 2, 3]
    assert reopened(folder, partial(accept, "d")) == 2


def test_the_last_good_manifest_comes_back_as_it_was(folder: Path) -> None:
    texts = [("m.yaml", "a: \u6a21 \u0085\n".encode()), (os.fsdecode(b"conf.d/\xff.yaml"), b"\xef\xbb\xbfb: 1\r\n")]
    assert reopened(folder, State.last_good) is None
    reopened(folder, lambda state: state.keep_last_good([("old", b"old")]))
    reopened(folder, lambda state: state.keep_last_good(texts))
    assert reopened(folder, State.last_good) == texts


@pytest.mark.parametrize(
    "text", [b"", b"[", b"1", b"null", b'{"a": "b"}', b'[["a", 1]]', b'[["a"]]', b"\xff", b"[" * 9999]
)
def test_a_last_good_manifest_that_can_not_be_read_is_none(text: bytes, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "last-good.json").write_bytes(text)
    assert reopened(folder, State.last_good) is None


def fill(folder: Path) -> None:
    def put(state: State) -> None:
        assert accept("a", state) == 1
        for number in range(400):
            state.inventory[Identity(1, number, 3, 4)] = "f" * 64

    reopened(folder, put)


BREAK: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "cut within a page": lambda data: data[:5000],
    "garbage": lambda data: b"garbage" * 1000,
    "garbage inside": lambda data: data[:4096] + b"\xff" * (len(data) - 4096),
    "a text": lambda data: b"{}\n",
}


@pytest.mark.parametrize("spoil", BREAK.values(), ids=BREAK)
def test_a_broken_database_is_moved_aside_and_begun_anew(
    spoil: Callable[[bytes], bytes], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(folder)
    database = folder / "state.db"
    spoiled = spoil(database.read_bytes())
    database.write_bytes(spoiled)
    assert reopened(folder, lambda state: (len(state.inventory), state.generation_of("b"))) == (0, 1)
    (aside,) = folder.glob("state.db.corrupt-*")
    assert aside.read_bytes() == spoiled
    assert aside.name in caplog.text


def test_an_empty_database_is_a_new_one(folder: Path) -> None:
    fill(folder)
    (folder / "state.db").write_bytes(b"")
    assert reopened(folder, lambda state: (len(state.inventory), state.generation_of("b"))) == (0, 1)


def test_what_can_not_be_opened_is_an_os_error_and_leaves_no_lock(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "state.db").mkdir()
    with pytest.raises(OSError, match=r"state\.db"):
        State(folder)
    (folder / "state.db").rmdir()
    State(folder).close()


def modes(folder: Path) -> dict[str, int]:
    return {p.name: stat.S_IMODE(p.lstat().st_mode) for p in (folder, *folder.iterdir())}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_we_may_read_whatever_the_umask(umask: int, folder: Path) -> None:
    before = os.umask(umask)
    try:
        state = State(folder)
        state.inventory[Identity(1, 2, 3, 4)] = "f"
        state.keep_last_good([("m", b"secret")])
    finally:
        os.umask(before)
    found = modes(folder)
    state.close()
    assert {"lock", "state.db", "state.db-wal", "state.db-shm", "last-good.json"} <= {*found}
    assert found.pop("state") == 0o700
    assert {*found.values()} == {0o600}


def test_a_folder_of_ours_that_is_open_is_closed_with_a_word(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o777)
    State(folder).close()
    assert f"closed {folder} to others" in caplog.text
    assert modes(folder)["state"] == 0o700
    assert modes(folder)["state.db"] == 0o600


def test_an_open_folder_of_somebody_else_is_refused_and_left_alone(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "other").touch()
    with pytest.raises(PermissionError, match="not ours"):
        State(folder)
    assert modes(folder)["state"] == 0o755


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    replace_file(path, b"old")
    with no_space(), pytest.raises(OSError, match="File too large"):
        replace_file(path, b"new" * 1000)
    assert path.read_bytes() == b"old"
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["f"]


def test_without_space_keeping_is_an_error_and_a_hash_is_forgotten(folder: Path) -> None:
    state, key = State(folder), Identity(1, 2, 3, 4)
    with no_space():
        state.inventory[key] = "f"
        with pytest.raises(OSError, match="File too large"):
            state.keep_last_good([("m", b"")])
    assert key not in state.inventory
    assert accept("a", state) == 1
    state.close()


OLD = """
create table generation (id integer primary key check (id = 1), number integer, digest text);
create table pins (model text primary key, pin text);
insert into generation values (1, 7, 'd');
"""


def old_state(folder: Path) -> Path:
    """A state directory of the version that had no number, with its last writes still in the log."""
    folder.mkdir(mode=0o700)
    path = folder / "state.db"
    script = f"import os, sqlite3; db = sqlite3.connect({str(path)!r}); db.execute('pragma journal_mode=wal'); "
    script += f"db.executescript({OLD!r}); os._exit(0)"  # as a kill would: nothing is closed
    subprocess.run([sys.executable, "-c", script], check=True)
    assert (folder / "state.db-wal").stat().st_size
    return path


def test_an_older_database_is_migrated_with_all_that_it_holds(folder: Path) -> None:
    old_state(folder)
    assert reopened(folder, lambda state: (state.generation_of("d"), state.history())) == (7, [])
    assert reopened(folder, partial(accept, "e")) == 8
    assert reopened(folder, lambda state: [number for number, *_ in state.history()]) == [8]
    assert {p.name for p in folder.iterdir()} <= {"lock", "state.db", "last-good.json"}


@pytest.mark.parametrize("point", ["migrate.after-copy", "migrate.before-rename", "migrate.after-rename"])
def test_a_kill_in_the_middle_of_a_migration_loses_nothing(folder: Path, point: str) -> None:
    old_state(folder)
    program = "import sys; from pathlib import Path; from offgridd.effects.state import State; State(Path(sys.argv[1]))"
    env = {**os.environ, "OFFGRIDD_FAILPOINTS": f"{point}=kill"}
    done = subprocess.run([sys.executable, "-c", program, str(folder)], env=env)
    assert done.returncode == -signal.SIGKILL
    assert reopened(folder, lambda state: state.generation_of("d")) == 7
    assert not list(folder.glob("state.db.new*"))


def test_the_database_of_a_newer_version_is_not_written_to(folder: Path) -> None:
    reopened(folder, partial(accept, "a"))
    db = sqlite3.connect(folder / "state.db")
    db.execute("pragma user_version=99")
    db.close()
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.name.startswith("state.db")}
    with pytest.raises(StateTooNewError, match="its version is 99"):
        State(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name.startswith("state.db")} == before


def test_the_newest_events_and_generations_are_kept(folder: Path) -> None:
    def put(state: State) -> None:
        state.add_events([(number, f'{{"n": "{number}"}}') for number in range(5)])
        state.add_events([(EVENTS + 2, '"later"')])
        for digest in range(HISTORY + 2):
            accept(str(digest), state)

    reopened(folder, put)
    kept = reopened(folder, State.events)
    assert kept == [(3, '{"n": "3"}'), (4, '{"n": "4"}'), (EVENTS + 2, '"later"')]
    found = reopened(folder, State.history)
    assert isinstance(found, list)
    assert [number for number, *_ in found] == list(range(HISTORY + 2, 2, -1))

"""The state directory: one holder, what survives a restart, what is broken, who may read it."""

from __future__ import annotations

import os
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
from offgridd.effects.state import State, StateLockedError

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

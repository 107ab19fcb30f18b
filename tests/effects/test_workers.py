"""Worker processes, good and bad ones: each outcome is an event, each request ends in exactly one end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from support.rig import FILE_PATH

from offgridd.core import events as ev
from offgridd.core.actions import StartWorker, StopWorker, Verify
from offgridd.core.desired import FileSource, LoadSpec
from offgridd.core.observed import VerifiedFile
from offgridd.effects import worker as worker_module
from offgridd.effects.cgroup import OomKills
from offgridd.effects.files import Files
from offgridd.effects.pulse import SILENT, STILL, Pulse, worked
from offgridd.effects.shelves import Shelves
from offgridd.effects.worker import WorkerProcess
from offgridd.effects.workers import Workers
from offgridd.engine import wire

FAKE = (sys.executable, "-I", "-m", "offgridd.engine.fake")


class Log:
    """The events so far, and a wait for one."""

    def __init__(self) -> None:
        self.events: list[ev.Event] = []
        self._news = anyio.Event()

    def add(self, event: ev.Event) -> None:
        self.events.append(event)
        self._news.set()

    async def first(self, kind: type[Any]) -> Any:
        with anyio.fail_after(20):
            while not (found := [e for e in self.events if isinstance(e, kind)]):
                self._news = anyio.Event()
                await self._news.wait()
        return found[0]


@asynccontextmanager
async def workers(
    program: tuple[str, ...] = FAKE, shelves: Shelves | None = None
) -> AsyncIterator[tuple[Workers, Log]]:
    log = Log()
    async with anyio.create_task_group() as group:
        made = Workers(group, log.add, program, shelves=shelves)
        yield made, log
        await made.drain(0)
        group.cancel_scope.cancel()


@pytest.fixture(scope="module")
def action() -> StartWorker:
    source = Verify("m", FileSource(str(FILE_PATH)), None, "key")
    file: VerifiedFile = anyio.run(Files((FILE_PATH.parent,), {}).verify, source)
    return StartWorker("m", file, LoadSpec(context=1024, threads=1), 1 << 20, "key")


@pytest.fixture
def bad(tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """A program that does `body` with the socket `sock`, after the Load has come."""

    def write(body: str) -> tuple[str, ...]:
        head = "import os, socket, sys, time, struct\nsock = socket.socket(fileno=int(sys.argv[1]))\nsock.recv(65536)\n"
        path = tmp_path / "bad.py"
        path.write_text(head + body)
        return (sys.executable, str(path))

    return write


def chat(number: int, most: int = 20) -> wire.Chat:
    return wire.Chat(number, "a", (wire.Message("user", "hello"),), wire.SamplingParams(), most)


async def answer(process: WorkerProcess, asked: wire.Chat) -> list[Any]:
    async with aclosing(process.stream([asked], 20)) as frames:
        return [frame async for frame in frames]


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_it_loads_answers_and_stops(action: StartWorker) -> None:
    async with workers() as (made, log):
        await made.start(action)
        ready = await log.first(ev.WorkerReady)
        assert ready.effective.context == 1024
        process = made.serving("m")
        assert process is not None
        first, *texts, last = await answer(process, chat(made.next_request()))
        assert isinstance(first, wire.Admitted)
        assert 0 < len(texts) <= 20
        assert "".join(t.items[0].text for t in texts)
        assert (last.reason, last.completion_tokens) == ("length", 20)
        made.stop(StopWorker("m", ready.worker, drain=5))
        assert made.serving("m") is None, "at once"
        assert (await log.first(ev.WorkerExited)).failure is None


async def test_a_measurement_holds_no_stop_up(action: StartWorker) -> None:
    """Its answer would take long, and nobody could do anything with it."""
    async with workers() as (made, log):
        await made.start(replace(action, load=LoadSpec(context=65536, threads=1)))
        process, worker = made.serving("m"), (await log.first(ev.WorkerReady)).worker
        assert process is not None
        found: list[Any] = []

        async def measure() -> None:
            found.append(await process.measure(wire.Bench(made.next_request(), 32000, 32000, 0, 4)))

        async with anyio.create_task_group() as group:
            group.start_soon(measure)
            while not process.open:
                await anyio.lowlevel.checkpoint()
            made.stop(StopWorker("m", worker, drain=60))
        assert (found[0].status, found[0].code) == (503, "worker_stopped")
        again = await process.measure(wire.Bench(made.next_request(), 10, 10))
        assert isinstance(again, wire.Refused)
        assert process.open == 0


async def test_its_environment_holds_nothing_it_does_not_need(
    action: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    async with workers() as (made, log):
        await made.start(action)
        pid = (await log.first(ev.WorkerStarted)).pid
        assert b"secret" not in environment(pid)
        assert os.getpgid(pid) == pid


async def test_a_kill_ends_each_open_request_with_one_error(action: StartWorker) -> None:
    async with workers() as (made, log):
        await made.start(action)
        process = made.serving("m")
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        results: list[list[Any]] = []

        async def ask() -> None:
            results.append(await answer(process, chat(made.next_request(), 1000)))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask)
            await anyio.lowlevel.checkpoint()
            os.kill(process.pid, signal.SIGKILL)
        assert [(len(r), r[-1].code) for r in results] == [(1, "worker_crashed")] * 5
        failure = (await log.first(ev.WorkerExited)).failure
        assert (failure.reason, "SIGKILL" in failure.message) == ("WorkerCrashed", True)


async def test_only_what_was_not_placed_may_be_asked_again(action: StartWorker) -> None:
    """One slot: the second request is admitted and waits behind the first."""
    load = replace(action.load, parallel=1)
    async with workers() as (made, _):
        await made.start(replace(action, load=load))
        process = made.serving("m")
        assert process is not None
        long, waits = chat(made.next_request(), 900), chat(made.next_request(), 5)
        async with aclosing(process.stream([long], 20)) as one, aclosing(process.stream([waits], 20)) as other:
            assert type(await anext(one)).__name__ == "Admitted"
            assert isinstance(await anext(one), wire.Tokens)
            assert type(await anext(other)).__name__ == "Admitted"
            os.kill(process.pid, signal.SIGKILL)
            *_, first = [frame async for frame in one]
            *_, second = [frame async for frame in other]
        assert [(end.code, end.waiting) for end in (first, second)] == [
            ("worker_crashed", False),
            ("worker_crashed", True),
        ]


async def test_leaving_a_stream_aborts_the_request(action: StartWorker) -> None:
    async with workers() as (made, _):
        await made.start(action)
        process = made.serving("m")
        assert process is not None
        for _ in range(20):
            async with aclosing(process.stream([chat(made.next_request(), 900)], 20)) as frames:
                await anext(frames)
        *_, last = await answer(process, chat(made.next_request()))
        assert last.reason == "length"


async def test_a_stop_waits_for_requests_and_then_refuses_what_is_left(action: StartWorker) -> None:
    async with workers() as (made, log):
        await made.start(action)
        process = made.serving("m")
        assert process is not None
        async with aclosing(process.stream([chat(made.next_request(), 900)], 20)) as frames:
            await anext(frames)
            os.kill(process.pid, signal.SIGSTOP)
            made.stop(StopWorker("m", process.id, drain=0.1))
            *_, last = [frame async for frame in frames]
        assert (last.status, last.code) == (503, "worker_stopped")
        await log.first(ev.WorkerExited)


SERVES = f"sock.sendall({wire.encode(wire.Loaded(1024, 1, 1024, 1, None))!r})\nsock.recv(65536)\n"


@pytest.mark.parametrize(
    ("body", "reason", "said"),
    [
        ("os.abort()", "WorkerCrashed", "SIGABRT"),
        ("os.kill(os.getpid(), 11)", "WorkerCrashed", "SIGSEGV"),
        ("os.kill(os.getpid(), 40)", "WorkerCrashed", "signal 40"),
        ("sys.exit(3)", "WorkerCrashed", "exit code 3"),
        ("sock.close(); time.sleep(60)", "WorkerCrashed", "was killed: it closed its socket and did not end"),
        (
            f"sock.sendall({wire.encode(wire.LoadFailed('LoadFailed', 'why' + chr(27)))!r}); time.sleep(9)",
            "LoadFailed",
            "why?",
        ),
        ("sys.exit('boom: the reason')", "WorkerCrashed", "boom: the reason"),
        ("sys.stderr.write('\\x1b[2J evil'); sys.exit(1)", "WorkerCrashed", "?[2J evil"),
        ("sock.sendall(b'\\xff' * 64); time.sleep(60)", "WorkerCrashed", "does not keep to the format"),
        ("sock.sendall(struct.pack('<I', 3) + b'abc'); time.sleep(60)", "WorkerCrashed", "does not keep to the format"),
        ("time.sleep(60)", "LoadTimeout", "longer than 2 s"),
        ("sys.stderr.buffer.write(b'x' * (64 << 20)); sys.exit(1)", "WorkerCrashed", "exit code 1: xxx"),
        ("os.write(2, os.urandom(1 << 20)); sys.exit(1)", "WorkerCrashed", "exit code 1"),
    ],
)
async def test_a_bad_start_is_a_failure_with_its_reason(
    body: str, reason: str, said: str,
    action: StartWorker, bad: Callable[[str], tuple[str, ...]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(worker_module, "LOAD_DEADLINE", 2.0)
    monkeypatch.setattr(worker_module, "LEAST_SPEED", 1e12)
    async with workers(bad(body)) as (made, log):
        await made.start(action)
        pid, failure = (await log.first(ev.WorkerStarted)).pid, (await log.first(ev.WorkerExited)).failure
        assert (failure.reason, said in failure.message) == (reason, True), failure.message
        assert failure.message.isprintable()
        assert gone(pid)


async def test_no_program_is_a_failure_too(action: StartWorker) -> None:
    async with workers(("/nowhere/python",)) as (made, log):
        await made.start(action)
        assert (await log.first(ev.StartFailed)).failure.reason == "SpawnFailed"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("sock.sendall(b'\\xff' * 64); time.sleep(60)", "keep to the format: cannot read a frame of 4294967295"),
        ("sock.sendall(struct.pack('<I', 1) + b'\\xc1'); time.sleep(60)", "was killed: it does not keep to the format"),
        ("sock.close(); time.sleep(60)", "was killed: it closed its socket and did not end"),
        ("sock.close(); time.sleep(0.2); sys.exit(7)", "ended with exit code 7"),
        ("sock.close(); time.sleep(0.2); os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
    ],
    ids=["a frame too long", "no msgpack", "a closed socket", "last words", "a crash on the way out"],
)
async def test_a_worker_that_goes_bad_is_replaced_and_its_request_ends(
    body: str, said: str, action: StartWorker, bad: Callable[[str], tuple[str, ...]]
) -> None:
    async with workers(bad(SERVES + body)) as (made, log):
        await made.start(action)
        process = made.serving("m")
        assert process is not None
        (last,) = await answer(process, chat(made.next_request()))
        assert last.code == "worker_crashed"
        failure = (await log.first(ev.WorkerExited)).failure
        assert (failure.reason, said in failure.message) == ("WorkerCrashed", True), failure.message
        assert made.serving("m") is None


async def test_a_cancelled_start_leaves_no_process(action: StartWorker, bad: Callable[[str], tuple[str, ...]]) -> None:
    async with workers(bad("time.sleep(60)")) as (made, log):
        async with anyio.create_task_group() as group:
            group.start_soon(made.start, action)
            pid = (await log.first(ev.WorkerStarted)).pid
            group.cancel_scope.cancel()
        assert (await log.first(ev.WorkerExited)).failure is None
        assert gone(pid)


async def test_one_that_is_stopped_while_it_loads_has_not_failed(
    action: StartWorker, bad: Callable[[str], tuple[str, ...]]
) -> None:
    async with workers(bad("time.sleep(60)")) as (made, log), anyio.create_task_group() as group:
        group.start_soon(made.start, action)
        await log.first(ev.WorkerStarted)
        await made.drain(0)
        assert (await log.first(ev.WorkerExited)).failure is None


async def test_one_that_still_loads_has_nothing_to_write_and_is_not_waited_for(
    action: StartWorker, bad: Callable[[str], tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "LEAVING", 60.0)
    kept = replace(action, shelf="key", cache_disk=1 << 20)
    async with (
        workers(bad("print('told', file=sys.stderr, flush=True)\ntime.sleep(60)"), Shelves(tmp_path / "prefixes")) as (
            made,
            log,
        ),
        anyio.create_task_group() as group,
    ):
        group.start_soon(made.start, kept)
        with anyio.fail_after(20):
            while "told" not in made.printed("m"):
                await anyio.lowlevel.checkpoint()
            await made.drain(0)
        assert (await log.first(ev.WorkerExited)).failure is None


async def test_a_file_that_was_touched_is_verified_again_and_counts_as_no_failure(action: StartWorker) -> None:
    touched = replace(action, file=replace(action.file, identity=replace(action.file.identity, mtime_ns=1)))
    async with workers() as (made, log):
        await made.start(touched)
        assert (await log.first(ev.FileSeen)) == ev.FileSeen("m", None)
        assert (await log.first(ev.WorkerExited)).failure is None


async def test_who_leaves_while_a_worker_does_not_read_breaks_no_frame(action: StartWorker) -> None:
    """The socket is full, the askers are cancelled one after the other; then it reads again."""
    async with workers() as (made, _):
        await made.start(action)
        process = made.serving("m")
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        large = wire.Message("user", "x" * 200_000)
        for _ in range(8):
            asked = replace_chat(chat(made.next_request()), (large,))
            with anyio.move_on_after(0.05):
                await answer(process, asked)
        os.kill(process.pid, signal.SIGCONT)
        with anyio.fail_after(20):
            *_, last = await answer(process, chat(made.next_request()))
        assert last.reason == "length"


def replace_chat(asked: wire.Chat, messages: tuple[wire.Message, ...]) -> wire.Chat:
    return wire.Chat(asked.id, asked.client, messages, asked.sampling, asked.max_tokens)


async def test_a_term_signal_to_the_whole_group_ends_no_worker(action: StartWorker) -> None:
    async with workers() as (made, _):
        await made.start(action)
        process = made.serving("m")
        assert process is not None
        os.killpg(process.pid, signal.SIGTERM)
        *_, last = await answer(process, chat(made.next_request()))
        assert last.reason == "length"


async def test_once_drained_nothing_starts(action: StartWorker) -> None:
    async with workers() as (made, log):
        await made.start(action)
        await made.drain(0)
        assert isinstance(log.events[-1], ev.WorkerExited)
        await made.start(action)
        assert isinstance(log.events[-1], ev.WorkerExited)
        assert made.serving("m") is None


async def test_one_that_hangs_is_ended_and_its_request_too(action: StartWorker) -> None:
    async with workers() as (made, log), anyio.create_task_group() as group:
        await made.start(action)
        process, pulse = made.serving("m"), Pulse(made.all_serving)
        assert process is not None
        pulse.look()  # nobody waits for it
        os.kill(process.pid, signal.SIGSTOP)
        got: list[Any] = []

        async def ask() -> None:
            got.extend(await answer(process, chat(made.next_request())))

        group.start_soon(ask)
        while not process.open:
            await anyio.lowlevel.checkpoint()
        for _ in range(STILL):
            pulse.look()
        assert not gone(process.pid), "the first look only begins to count"
        pulse.look()
        ended = await log.first(ev.WorkerExited)
        assert (ended.failure.reason, got[-1].code) == ("WorkerHung", "worker_crashed")
        assert "it did nothing for 60 s while requests waited" in ended.failure.message


async def test_one_that_works_or_speaks_does_not_hang() -> None:
    class Busy:
        id, pid, heard, open, told = 1, os.getpid(), 0, 1, ""

        def condemn(self, text: str) -> None:
            self.told = text

    busy = Busy()
    pulse = Pulse(lambda: [busy])
    for _ in range(STILL * 2):
        before = worked(busy.pid)
        while worked(busy.pid) == before:
            pass
        pulse.look()
    assert not busy.told
    for _ in range(SILENT):
        busy.heard += 1
        pulse.look()
    assert not busy.told


async def test_a_kill_for_memory_is_told_from_others(action: StartWorker, tmp_path: Path) -> None:
    events, member = tmp_path / "memory.events", tmp_path / "member"
    events.write_text("oom_kill 3\n")
    member.write_text("0::/\n")
    async with workers() as (made, log):
        made.ooms = OomKills(tmp_path, member)
        await made.start(action)
        process = made.serving("m")
        assert process is not None
        events.write_text("oom_kill 4\n")  # as the kernel would: there is no memory controller to make it do so
        os.kill(process.pid, signal.SIGKILL)
        ended = await log.first(ev.WorkerExited)
        assert ended.failure.reason == "OutOfMemory"
        log.events.clear()
        await made.start(action)
        process = made.serving("m")
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        ended = await log.first(ev.WorkerExited)
        assert ended.failure.reason == "WorkerCrashed"

"""One worker process: spawn, load, stream requests, tell how it ended. `effects.workers` keeps the set of them.

Spawned from the main thread only: the kernel's parent-death signal fires when the spawning thread ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import anyio
import anyio.abc
import msgspec

from offgridd.core.actions import StartWorker
from offgridd.core.errors import ActionFailed, Failure
from offgridd.core.observed import Effective
from offgridd.core.sizes import show_size
from offgridd.effects.channel import Channel, ChannelClosed, Mailbox
from offgridd.effects.frames import load_of
from offgridd.effects.printed import Printed, printable
from offgridd.effects.spawn import ending, spawn
from offgridd.engine import wire

FINAL = ("AdapterInvalid", "DraftUnsuitable")  # reasons that the same bytes give again and again
LOAD_DEADLINE, LEAST_SPEED = 120.0, 20e6  # seconds, and bytes a second from which a disk counts as working
LAST_WORDS = 1.0  # seconds that a worker may live after it has closed its socket
LEAVING = 3.0  # seconds in which a worker may write what it keeps

MEASURE = 3600.0  # seconds between two looks at a measurement
_STOPPED = "cannot go on measuring: the model's worker is being replaced or stopped; try again"

Answer = wire.Admitted | wire.Tokens | wire.Vectors | wire.Finish | wire.Refused
Measure = wire.Measured | wire.Scored | wire.Refused


class WorkerProcess:
    """`report` takes what the worker says of itself."""

    def __init__(
        self,
        worker: int,
        model: str,
        process: anyio.abc.Process,
        report: Callable[[str, int, wire.Stats], None],
        oom: Callable[[], bool] = lambda: False,
    ) -> None:
        self.id, self.model, self.ready, self.stopping = worker, model, False, False
        self._report = report
        self.heard = 0  # frames
        self._hung = ""  # why it was given up
        self._broken = ""  # how it did not keep to the format
        self._oom, self._peak = oom, 0
        self.idle = anyio.Event()  # set when it is stopping and its last request has ended
        self.ended = anyio.Event()  # set when its process is gone and nothing of it is left
        self._process = process
        self._requests: dict[int, Mailbox[Any]] = {}
        self._measuring: set[int] = set()  # of them, those that are measurements
        self._placed: set[int] = set()  # of them, those that do not wait any more
        self._first: asyncio.Future[wire.FromWorker | wire.WireError | None] = (
            asyncio.get_running_loop().create_future()
        )
        self._gone = anyio.Event()
        self._channel: Channel
        self._printed = Printed()
        self._writes = False  # finished prefixes, to disk
        self._began = anyio.current_time()
        self.load_seconds = 0.0  # from the start of its process until it could serve
        self.built = wire.Built()

    @classmethod
    async def spawn(
        cls, worker: int, model: str, program: Sequence[str], report: Callable[[str, int, wire.Stats], None],
        oom: Callable[[], bool] = lambda: False,
    ) -> WorkerProcess:  # fmt: skip
        """Starts `program` with its socket's descriptor and our pid as arguments. Raises ActionFailed."""
        try:
            process, sock = await spawn(program)
        except OSError as error:
            text = f"cannot start a worker: {error.strerror}"
            raise ActionFailed(Failure("Loaded", "SpawnFailed", text)) from error
        made = cls(worker, model, process, report, oom)
        try:
            made._channel = await Channel.open(sock, made._took, made._lost)
        except BaseException:
            made.kill()
            sock.close()
            raise
        return made

    @property
    def pid(self) -> int:
        return self._process.pid

    async def load_model(self, action: StartWorker, shelf: str = "") -> Effective:
        """Waits until it can serve. Raises ActionFailed; the caller then kills it."""
        self._writes = bool(shelf)
        with contextlib.suppress(ChannelClosed):  # then it is lost, which the wait below tells
            self._send(load_of(action, shelf))
        deadline = LOAD_DEADLINE + action.file.size / LEAST_SPEED
        try:
            with anyio.fail_after(deadline):
                frame = await self._first
        except TimeoutError:
            text = f"cannot load the model: it took longer than {deadline:.0f} s"
            raise ActionFailed(Failure("Loaded", "LoadTimeout", text)) from None
        match frame:
            case None:
                raise ActionFailed(await self.death())
            case wire.Loaded():
                self.ready, self.built = True, frame.built
                self.load_seconds = anyio.current_time() - self._began
                return Effective(**{n: v for n, v in msgspec.structs.asdict(frame).items() if n != "built"})
            case wire.LoadFailed():
                text = self._printed.behind(printable(frame.message))
                raise ActionFailed(Failure("Loaded", frame.reason, text, terminal=frame.reason in FINAL))
            case _:
                wrong = str(frame) if isinstance(frame, wire.WireError) else f"it began with {type(frame).__name__}"
                text = f"cannot load the model: its worker does not keep to the format: {wrong}"
                raise ActionFailed(Failure("Loaded", "WorkerCrashed", text))

    async def until_lost(self) -> None:
        """Until the worker has closed its socket, or broke the format."""
        await self._gone.wait()

    async def drain_stderr(self) -> None:
        assert self._process.stderr is not None
        await self._printed.drain(self._process.stderr)

    async def stream(self, chats: Sequence[wire.Request], quiet: float) -> AsyncGenerator[Answer | None, None]:
        """The frames of all of them as they come, each one's last a Finish or Refused; None after `quiet` seconds.

        A Refused is `waiting` where the worker ended before any of them was placed. The stream ends with the last one's
        end, or with the first Refused. Closing it early aborts what is left.
        """
        mailbox = Mailbox[Answer](quiet)
        left = {chat.id for chat in chats}
        self._requests.update((request, mailbox) for request in left)
        self._measuring.update(chat.id for chat in chats if chat.probe)
        try:
            for chat in chats:
                self._send(chat)
            while left:
                frame = await mailbox.take()
                if isinstance(frame, wire.Finish | wire.Refused):
                    left.discard(frame.id)
                if isinstance(frame, wire.Refused) and frame.waiting and self._placed.intersection(c.id for c in chats):
                    frame = msgspec.structs.replace(frame, waiting=False)
                yield frame
                if isinstance(frame, wire.Refused):
                    return
        except ChannelClosed:
            lost = "cannot answer: the model's worker process has ended or does not read; try again"
            yield self._ended(min(left), "worker_crashed", lost)
        finally:
            mailbox.close()
            for chat in chats:
                self._requests.pop(chat.id, None)
                self._placed.discard(chat.id)
                self._measuring.discard(chat.id)
            if self.stopping and not self._requests:
                self.idle.set()
            for request in left:
                with contextlib.suppress(ChannelClosed):
                    self._channel.send(wire.Abort(request), always=True)

    async def measure(self, asked: wire.Bench | wire.Score) -> Measure:
        """Until it is done, broken off or refused. Cancelled: it is broken off."""
        if self.stopping:
            return self._ended(asked.id, "worker_stopped", _STOPPED)
        mailbox, done = Mailbox[Measure](MEASURE), False
        self._requests[asked.id] = mailbox
        self._measuring.add(asked.id)
        try:
            self._send(asked)
            while (found := await mailbox.take()) is None:
                pass
            done = True
            return found
        except ChannelClosed:
            return self._ended(asked.id, "worker_crashed", "cannot measure: the model's worker process has ended")
        finally:
            mailbox.close()
            self._requests.pop(asked.id, None)
            self._measuring.discard(asked.id)
            if self.stopping and not self._requests:
                self.idle.set()
            if not done:
                with contextlib.suppress(ChannelClosed):
                    self._channel.send(wire.Abort(asked.id), always=True)

    def limit_cache(self, size: int, disk: int) -> None:
        with contextlib.suppress(ChannelClosed):
            self._send(wire.CacheLimit(size, disk))

    async def stop(self, drain: float) -> None:
        """Lets the open requests end within `drain` seconds, refuses what is left, ends the process.

        A measurement holds nothing up: the rest of it would be of another process.
        """
        self.stopping = True
        for request in self._measuring:
            self._dispatch(self._ended(request, "worker_stopped", _STOPPED))
        if not self._requests:
            self.idle.set()
        with anyio.move_on_after(drain):
            await self.idle.wait()
        text = "cannot finish the answer: the model's worker is being replaced or stopped; try again"
        for request in list(self._requests):
            self._dispatch(self._ended(request, "worker_stopped", text))
        if self._writes and self.ready:  # one that still loads has nothing, and would not hear it
            await self._leave()
        self.kill()

    async def _leave(self) -> None:
        """It writes what is to be kept, and ends by itself."""
        with contextlib.suppress(ChannelClosed):
            self._send(wire.Leave())
        with anyio.move_on_after(LEAVING):
            await self._gone.wait()

    def kill(self) -> None:
        if self._process.returncode is None:  # else its pid may be somebody else's by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    @property
    def open(self) -> int:
        """Requests that it has not ended yet."""
        return len(self._requests)

    def condemn(self, text: str) -> None:
        """It hangs."""
        self._hung = text
        self.kill()

    async def death(self) -> Failure:
        """Waits for its end, which must be near, and says how it came about."""
        with anyio.move_on_after(0 if self._broken else LAST_WORDS) as waiting:
            await self._process.wait()
        ours = waiting.cancelled_caught
        if ours:
            self.kill()
        reason, text = "WorkerCrashed", f"the worker process {ending(await self._process.wait())}"
        if self._hung:
            reason, text = "WorkerHung", f"the worker process was killed: {self._hung}"
        elif ours:
            text = f"the worker process was killed: {self._broken or 'it closed its socket and did not end'}"
        elif self._process.returncode == -signal.SIGKILL and self._oom():
            taken = f"; it had taken {show_size(self._peak)}" if self._peak else " while it loaded"
            reason, text = "OutOfMemory", f"the kernel killed the worker process for memory{taken}"
        return Failure("Loaded", reason, self._printed.behind(text))

    async def close(self) -> None:
        self.kill()
        await self._process.aclose()
        self._channel.close()
        self.ended.set()

    def printed(self) -> str:
        """The end of its stderr."""
        return self._printed.text

    def _took(self, frame: wire.FromWorker) -> None:
        self.heard += 1
        if not self._first.done():
            self._first.set_result(frame)
        elif isinstance(frame, wire.Stats):
            self._peak = frame.now.own_peak_bytes
            self._report(self.model, self.id, frame)
        else:
            self._dispatch(frame)

    def _lost(self, error: wire.WireError | None) -> None:
        """The connection has ended: so does each open request, with an error."""
        self.ready = False
        self._broken = f"it does not keep to the format: {error}" if error else ""
        if not self._first.done():
            self._first.set_result(error)
        lost = "cannot finish the answer: the model's worker process ended; try again"
        for request in list(self._requests):
            self._dispatch(self._ended(request, "worker_crashed", lost))
        self._gone.set()

    def _ended(self, request: int, code: str, text: str) -> wire.Refused:
        return wire.Refused(request, 503, code, text, retry_after=2, waiting=request not in self._placed)

    def _dispatch(self, frame: wire.FromWorker) -> None:
        match frame:
            case wire.Tokens(items):
                for item in items:
                    self._give(item.request, wire.Tokens((item,)))
            case wire.Placed(requests):
                self._placed.update(request for request in requests if request in self._requests)
            case wire.Refused(request):
                self._give(request, msgspec.structs.replace(frame, message=printable(frame.message)))
            case (
                wire.Admitted(request)
                | wire.Vectors(request)
                | wire.Finish(request)
                | wire.Measured(request)
                | wire.Scored(request)
            ):
                self._give(request, frame)

    def _give(self, request: int, frame: Answer | Measure) -> None:
        mailbox = self._requests.get(request)
        if mailbox is not None:  # else the client has gone; its Abort is on the way
            mailbox.put(frame)

    def _send(self, frame: wire.Frame) -> None:
        """Raises ChannelClosed."""
        self._channel.send(frame)

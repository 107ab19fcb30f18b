"""Runs benchmarks: one at a time on this host, each measurement in the model's own worker, beside no request.

What is disturbed is measured again; only a whole result is kept.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Protocol

import anyio
import anyio.to_thread
import msgspec

from offgridd.core.baseline import against_best, is_good
from offgridd.core.benchmark import FORMAT, BenchmarkSpec, Lane, Run, Workload, figures, label, summary
from offgridd.core.errors import RequestRefused
from offgridd.core.fit import Estimate
from offgridd.effects.benchrecords import Wanted
from offgridd.effects.environment import Others, host, load
from offgridd.effects.traffic import Traffic
from offgridd.engine import wire

TRIES: Final = 3  # of a measurement that is disturbed
BUSY: Final = 0.1  # the share of the machine that others may use
PATIENCE: Final = 60.0  # seconds for which the model may be busy with requests
LOOK: Final = 0.25  # seconds between two looks at whether it still is
EARLIER: Final = 200  # records of a model among which the best one is looked for
WARM: Final = (64, 8)  # tokens of prompt and answer that are computed first and not counted

Tell = Callable[[dict[str, Any]], None]
More = Callable[[], Awaitable[dict[str, Any]]]


class WorkerPort(Protocol):
    @property
    def pid(self) -> int: ...
    @property
    def load_seconds(self) -> float: ...
    @property
    def built(self) -> wire.Built: ...
    async def measure(self, asked: wire.Bench | wire.Score) -> wire.Measured | wire.Scored | wire.Refused: ...
    def stream(self, chats: Sequence[wire.Chat], quiet: float) -> AsyncGenerator[Any, None]: ...


class RecordsPort(Protocol):
    """Blocking. `keep` gives the record its number, or raises OSError."""

    def keep(self, model: str, record: dict[str, Any]) -> int: ...
    def listed(self, wanted: Wanted) -> list[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured. `worker` gives the one that serves now, loading it first; it raises RequestRefused."""

    name: str  # as it is shown
    load_key: str
    file: Mapping[str, Any]
    load: Mapping[str, Any]
    engine: str
    limits: BenchmarkSpec | None
    worker: Callable[[], Awaitable[WorkerPort]]
    idle: float = 0.0  # seconds without a request before each run
    patience: float = PATIENCE
    estimate: Estimate | None = None  # of its memory


@dataclass
class _Measuring:
    """The runs so far of one benchmark."""

    workload: Workload
    runs: list[Run] = field(default_factory=list)
    threads: int = 0
    peak: int = 0
    mapped: int = 0
    load_seconds: float = 0.0  # of the newest worker
    built: wire.Built = field(default_factory=wire.Built)


class Benchmarks:
    """`kept` hears of each record once it is."""

    def __init__(
        self, records: RecordsPort, next_request: Callable[[], int], traffic: Traffic,
        kept: Callable[[dict[str, Any]], None] = lambda _record: None,
    ) -> None:  # fmt: skip
        self._records, self._next, self._traffic, self._kept = records, next_request, traffic, kept
        self._running: str | None = None
        self._give_way: Callable[[], None] | None = None  # ends what runs, where that may be measured later
        self._over = anyio.Event()

    async def run(self, subject: Subject, workload: Workload, tell: Tell, more: More | None = None) -> dict[str, Any]:
        """The record, which is kept; with what `more` finds. Raises RequestRefused; cancelled, nothing is kept."""
        await self._displace()
        with self.alone(subject.name):
            return await self._run(subject, workload, tell, more)

    @contextmanager
    def alone(self, name: str, give_way: Callable[[], None] | None = None) -> Iterator[None]:
        """Nothing else is measured meanwhile. Raises RequestRefused where something is.

        `give_way` is called when somebody asks for a benchmark, and ends this soon.
        """
        if self._running is not None:
            text = f"cannot measure {name}: a benchmark of {self._running} is running; wait for its end"
            raise RequestRefused(409, "benchmark_running", text, retry_after=30)
        self._running, self._give_way, self._over = name, give_way, anyio.Event()
        try:
            yield
        finally:
            self._running, self._give_way = None, None
            self._over.set()

    async def _displace(self) -> None:
        """What is measured by itself and can as well be measured later makes room."""
        while self._give_way is not None:
            self._give_way()
            await self._over.wait()

    async def measure(self, worker: WorkerPort, asked: wire.Bench) -> wire.Measured | wire.Refused | None:
        """None where a request of any model came, or was there: those go first."""
        number = self._next()
        numbered = msgspec.structs.replace(asked, id=number, seed=number)
        found = await self._traffic.beside_none(lambda: worker.measure(numbered))
        assert not isinstance(found, wire.Scored)
        return found

    async def _run(self, subject: Subject, workload: Workload, tell: Tell, more: More | None) -> dict[str, Any]:
        began, before, made = time.time(), load(), _Measuring(workload)
        least = workload.prompt_tokens + min(workload.depth)  # what fits fits the smallest kind
        warm = wire.Bench(0, min(WARM[0], least), min(WARM[1], workload.output_tokens))
        await self._once(subject, made, warm, tell)
        made.peak = made.mapped = 0
        total = len(workload.kinds) * workload.iterations
        for iteration in range(workload.iterations):
            for kind in workload.kinds:
                await self._measure(subject, made, kind, tell)
                tell({"done": iteration * len(workload.kinds) + workload.kinds.index(kind) + 1, "of": total})
        found = await more() if more else {}
        record = _record(subject, made) | found | {"started": began, "seconds": time.time() - began}
        engine = {"engine": subject.engine, "features": made.built.features}
        record["environment"] = {**host(), **engine, "before": before, "after": load()}
        try:
            number = await anyio.to_thread.run_sync(self._keep, subject, record)
        except OSError as error:
            text = f"cannot keep the result: {error.strerror}; make room, then try again"
            raise RequestRefused(503, "not_kept", text) from None
        self._kept(record)
        return {"id": number, **record}

    def _keep(self, subject: Subject, record: dict[str, Any]) -> int:
        """Raises OSError."""
        record["baseline"] = against_best(record, self._records.listed(Wanted(subject.name, EARLIER, own=True)))
        record["good"] = is_good(record, subject.limits)
        return self._records.keep(subject.name, record)

    async def _measure(self, subject: Subject, made: _Measuring, kind: tuple[int, int], tell: Tell) -> None:
        """One run that counts, after up to TRIES that others disturbed; those are noted, too."""
        (count, depth), workload = kind, made.workload
        asked = wire.Bench(0, workload.prompt_tokens, workload.output_tokens, depth, count)
        for _ in range(TRIES):
            lanes, others = await self._once(subject, made, asked, tell)
            disturbed = f"others used {others:.0%} of the processors" if others > BUSY else ""
            found = figures(workload, [Lane(lane.prompt, lane.tokens) for lane in lanes])
            made.runs.append(Run(count, depth, found, disturbed))
            if not disturbed:
                return
            tell({"disturbed": disturbed})

    async def _once(
        self, subject: Subject, made: _Measuring, asked: wire.Bench, tell: Tell
    ) -> tuple[Sequence[wire.Lane], float]:
        """What came of it, and the share of the machine that others used. Waits while requests go first."""
        until = anyio.current_time() + subject.patience
        while True:
            with anyio.move_on_after(until - anyio.current_time()):
                await self._traffic.quiet(subject.idle)
            worker = await subject.worker()
            others = Others(worker.pid)
            found = await self.measure(worker, asked)
            if isinstance(found, wire.Measured) and not found.why:
                made.threads, made.peak = found.threads, max(made.peak, found.own_peak_bytes)
                made.mapped = max(made.mapped, found.mapped_bytes)
                made.load_seconds, made.built = worker.load_seconds, worker.built
                return found.lanes, others.share()
            _check(subject, found, late=anyio.current_time() > until)
            tell({"waits": "requests go first"})
            await anyio.sleep(LOOK)


def _check(subject: Subject, found: wire.Measured | wire.Refused | None, *, late: bool) -> None:
    """Raises RequestRefused where another try makes no sense."""
    if isinstance(found, wire.Refused) and found.code != "busy":
        raise RequestRefused(found.status, found.code, found.message, retry_after=found.retry_after)
    if isinstance(found, wire.Measured) and found.why == "out_of_cells":
        raise RequestRefused(
            400, "out_of_cells", f"cannot measure {subject.name}: its cells ran out; ask for fewer tokens"
        )
    if late:
        text = f"cannot measure {subject.name}: there were requests for {subject.patience:.0f} s; try again later"
        raise RequestRefused(409, "busy", text, retry_after=60)


def _record(subject: Subject, made: _Measuring) -> dict[str, Any]:
    """As it is kept: docs/benchmarks.md."""
    quiet, all_ = summary(made.runs), summary(replace(run, disturbed="") for run in made.runs)
    results = [
        {"label": label(made.workload, *kind), "concurrency": kind[0], "depth": kind[1], "disturbed": kind not in quiet,
         **{name: {"median": s.median, "low": s.low, "high": s.high, "runs": len(s.values)}
            for name, s in quiet.get(kind, by).items()}}
        for kind, by in all_.items()
    ]  # fmt: skip
    needs = subject.estimate
    return {
        "format": FORMAT, "uid": uuid.uuid4().hex, "model": subject.name, "load_key": subject.load_key,
        "file": dict(subject.file), "load": {**subject.load, "ubatch": made.built.ubatch},
        "load_seconds": made.load_seconds, "workload": asdict(made.workload), "threads": made.threads,
        "memory": {"own_peak_bytes": made.peak, "mapped_bytes": made.mapped, **_reserved(made.built),
                   "estimate": asdict(needs) | {"total": needs.total, "charge": needs.charge} if needs else None},
        "results": results, "runs": [asdict(run) for run in made.runs],
    }  # fmt: skip


def _reserved(built: wire.Built) -> dict[str, Any]:
    """What the library says that it has reserved, whole and of GPUs; those are null where it uses none."""
    buffers = [msgspec.structs.asdict(one) for one in built.buffers]
    gpu = [one.bytes for one in built.buffers if not one.device.startswith("CPU") and not one.device.endswith("_Host")]
    return {"reserved": buffers, "gpu_reserved_bytes": sum(gpu) if gpu else None}

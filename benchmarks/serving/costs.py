"""What ours adds to the library, measured on the engine's own modules: sampling, scheduling, wire, daemon and SSE."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import daemon
import numpy as np
from support.tinymodel import Spec, write_model

from offgridd.engine.batch import Batch, Decode
from offgridd.engine.batch import Sequence as Request
from offgridd.engine.llama import Llama, Settings
from offgridd.engine.port import Part
from offgridd.engine.sampling import Row, Sampler, logprob_of
from offgridd.engine.wire import Item, SamplingParams, Tokens, encode
from serving.client import Side, ask_all
from serving.lab import SENTENCE, Lab, declared
from serving.lab import daemon as lab_daemon
from serving.record import stated
from serving.streams import WIDE

STREAMS, STEPS, ROWS, DRAWS, EVENTS = 16, 64, 32, 320, 4000
SHARE = 0.03  # of a step, that scheduling and wire may take
LARGE = Spec(name="large", context_length=256, fillers=262_144 - 290)  # with its other tokens 262,144
USUAL = SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, repeat_penalty=1.1, seed=1)
CHAINS = {
    "greedy": SamplingParams(temperature=0.0),
    "temperature alone": SamplingParams(temperature=0.8, seed=1),
    "temperature and top_p": SamplingParams(temperature=0.8, top_p=0.95, seed=1),
    "penalties, top_k 40, top_p, min_p, temperature": USUAL,
}


class Step(NamedTuple):
    """Seconds of one step of all streams."""

    scheduling: float
    decode: float
    sampling: float
    wire: float

    @property
    def share(self) -> float:
        return (self.scheduling + self.wire) / sum(self)


async def costs(lab: Lab) -> None:
    model = Llama(str(lab.file.path), Settings(1024, 2, parallel=STREAMS))
    _note_steps(lab, list(steps(model)))
    _note_sampling(lab, model, real_rows(model))
    with large() as other:
        _note_sampling(lab, other, made_up_rows(other.vocab.size))
    await asyncio.to_thread(_note_daemon, lab)
    await _note_pace(lab)


def steps(model: Llama) -> Iterator[Step]:
    """Those of streams that are all in the middle of their answers."""
    batch, sampler = Batch(model.slots, model.cells, model.chunk), Sampler(USUAL, model.chain)
    for i in range(STREAMS):
        tokens = model.vocab.tokenize(f"{i} streams. {SENTENCE}")
        batch.waiting.put(Request(i, "client", tokens, len(tokens), STEPS))
    while batch.admit():
        pass
    while min(len(r.tokens) - r.prompt for r in batch.running) < STEPS:
        began = time.perf_counter()
        decodes = batch.next()
        planned = time.perf_counter() - began
        for decode in decodes:
            step = _step(model, batch, decode, sampler)
            if len(decode) == STREAMS and not decode.prompt:
                yield step._replace(scheduling=step.scheduling + planned)
    for request in batch.running:
        model.cut(request.slot, 0)


def _step(model: Llama, batch: Batch, decode: Decode, sampler: Sampler) -> Step:
    """One decode and what comes of it, as the engine's loop does it."""
    clock = time.perf_counter
    t0 = clock()
    parts = [Part(r.sequence.slot, r.start, r.tokens, r.sample) for r in decode.rows]
    t1 = clock()
    model.decode(parts)
    t2 = clock()
    batch.decoded(decode, t2 - t1)
    t3 = clock()
    items = []
    for part, r in enumerate(decode.rows):
        if r.sample:
            token = sampler.choose(model.logits(part))
            r.sequence.tokens.append(token)
            items.append(Item(r.sequence.id, model.vocab.piece(token).decode("utf-8", "replace")))
    t4 = clock()
    encode(Tokens(tuple(items)))
    return Step(t1 - t0 + t3 - t2, t2 - t1, t4 - t3, clock() - t4)


def _note_steps(lab: Lab, found: list[Step]) -> None:
    share = statistics.median(step.share for step in found)
    middle = Step(*(statistics.median(part) for part in zip(*found, strict=True)))
    parts = ", ".join(f"{name} {1e6 * value:,.0f} us" for name, value in zip(Step._fields, middle, strict=True))
    title = f"scheduling and wire at {STREAMS} streams, under {SHARE:.0%} of a step"
    lab.note(stated("step", title, f"{share:.2%}: {parts}", holds=share < SHARE))


def real_rows(model: Llama) -> list[Row]:
    """What the model says at the first tokens of a text."""
    tokens, rows = model.vocab.tokenize(SENTENCE * 4)[:ROWS], list[Row]()
    for at, token in enumerate(tokens):
        model.decode([Part(0, at, [token], True)])
        rows.append(model.logits(0).copy())
    model.cut(0, 0)
    return rows


def made_up_rows(size: int) -> list[Row]:
    """As steep as a model's: the probabilities fall with the 1.6th power of the rank."""
    falling = (-1.6 * np.log(np.arange(1, size + 1))).astype(np.float32)
    random = np.random.default_rng(4)
    return [random.permutation(falling) for _ in range(ROWS)]


@contextmanager
def large() -> Iterator[Llama]:
    """A tiny model with a vocabulary as large as there are."""
    with tempfile.TemporaryDirectory() as folder:
        yield Llama(str(write_model(Path(folder) / "large.gguf", LARGE)), Settings(256, 1))


def _note_sampling(lab: Lab, model: Llama, rows: list[Row]) -> None:
    found = []
    for name, params in CHAINS.items():
        sampler = Sampler(params, model.chain)
        copies = [rows[i % len(rows)].copy() for i in range(DRAWS)]  # a sampler may change its row
        found.append(f"{name} {_each(sampler.choose, copies):.0f} us")
        sampler.close()
    found.append(f"log-probabilities with the 5 best {_each(lambda row: logprob_of(row, 0, 5), rows):.0f} us more")
    size = model.vocab.size
    lab.note(stated(f"sampling-{size}", f"sampling a token of {size:,}", ", ".join(found)))


def _each(call: object, rows: list[Row]) -> float:
    """Median microseconds of a call."""
    assert callable(call)
    found = []
    for row in rows:
        began = time.perf_counter()
        call(row)
        found.append(time.perf_counter() - began)
    return 1e6 * statistics.median(found)


def _note_daemon(lab: Lab) -> None:
    """Workers without llama.cpp, so that what is measured is the daemon, as fast as it can."""
    with daemon.daemon() as rig:
        daemon.stream(rig, EVENTS)
        pid = daemon.pid_of(rig)
        before = daemon.cpu(pid)
        runs = [daemon.stream(rig, EVENTS) for _ in range(5)]
        used = (daemon.cpu(pid) - before) / (5 * EVENTS)
        rate = statistics.median(count / seconds for _, count, seconds in runs)
    text = f"{1e6 * used:.0f} us of its CPU time; one stream {rate:,.0f} events a second"
    lab.note(stated("daemon", "daemon and server-sent events, a token, at full speed", text))


async def _note_pace(lab: Lab) -> None:
    """At the model's own pace the daemon wakes for each token."""
    with lab_daemon(lab, {"smol": declared(WIDE)}) as rig:
        side, pid = Side("offgridd", rig.port), daemon.pid_of(rig)
        for streams in (1, STREAMS):
            before = daemon.cpu(pid)
            found = [await ask_all(side, [f"Pace {i}.{n}" for n in range(streams)], 128) for i in range(4)]
            used = (daemon.cpu(pid) - before) / sum(answer.tokens for answers in found for answer in answers)
            title = f"daemon and server-sent events, a token, at the pace of {streams} stream{'s' * (streams > 1)}"
            lab.note(stated(f"daemon-pace-{streams}", title, f"{1e6 * used:.0f} us of its CPU time"))

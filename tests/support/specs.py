"""A model on a machine, for tests of what is decided about it: declared, verified, with its worker."""

from __future__ import annotations

from typing import Any

from offgridd.core import events as ev
from offgridd.core.benchmark import BenchmarkSpec
from offgridd.core.desired import Desired, FileSource, LoadSpec, ModelSpec, ServerSpec
from offgridd.core.fold import fold
from offgridd.core.keys import load_key, source_key
from offgridd.core.observed import (
    Charge,
    Effective,
    HostFacts,
    Identity,
    ModelHeader,
    Observed,
    VerifiedFile,
)

HOLD = BenchmarkSpec(max_regression=0.1, on_fail="hold")
HEADER = ModelHeader("llama", "tiny", 0, 4096, 1, 32, 2, 288, 12, 1000, True)
EFFECTIVE = Effective(64, 4, 256, 1, None)
HOST = HostFacts(memory=8 << 30, kind="this one")


def spec(context: int = 64, **more: Any) -> ModelSpec:
    return ModelSpec("m", FileSource("/m.gguf"), load=LoadSpec(context=context), **{"benchmark": HOLD, **more})


def declared(one: ModelSpec, **server: Any) -> Desired:
    return Desired(1, "d", ServerSpec(**server), {"m": one})


def verified(one: ModelSpec, letter: str = "a") -> VerifiedFile:
    return VerifiedFile("/m.gguf", Identity(1, 2, 3, 4), "0" * 63 + letter, HEADER, source_key(one))


def started(observed: Observed, name: str, one: ModelSpec, worker: int) -> Observed:
    file = verified(one)
    key = load_key(one, file.key, observed.engine)
    happened: list[ev.Event] = [
        ev.Verified(name, file), ev.WorkerStarted(name, worker, worker, key, one.cache_ram, Charge(1 << 20)),
        ev.WorkerReady(name, worker, EFFECTIVE),
    ]  # fmt: skip
    return fold(observed, happened, 1.0)

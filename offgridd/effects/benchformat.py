"""The format of a benchmark's record, `offgridd.benchmark/v1`: what every reader may rely on.

Fields that are not named here are let through and kept: later versions of the same format may say more, never other
things. docs/benchmark.schema.json is made of these types.
"""

from __future__ import annotations

import json
import re
import sys
from itertools import product
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from offgridd.core.benchmark import FORMAT, MOST_ITERATIONS, MOST_KINDS, MOST_TOKENS

MOST_RUNS: Final = MOST_ITERATIONS * MOST_KINDS * 3  # each may be disturbed twice
# What GET adds to a record for those who read it: no part of it. `id` is that of one state.db.
ADDED: Final = frozenset({
    "id", "imported", "prompt_tokens_per_second", "generation_tokens_per_second", "time_to_first_token_seconds",
    "total_seconds", "memory_mb", "iterations",
})  # fmt: skip
_VERSION = re.compile(r"offgridd\.benchmark/v([0-9]{1,9})")

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Text = Annotated[str, Meta(max_length=4096)]
Said = Annotated[str, Meta(max_length=1 << 16)]  # by a model
Number = Annotated[float, Meta(ge=0, le=1e15)]
Bytes = Annotated[int, Meta(ge=0, le=1 << 60)]
Count = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]
AtOnce = Annotated[int, Meta(ge=1, le=255)]
Moment = Annotated[float, Meta(ge=0, lt=253402300800)]  # seconds since the epoch, before the year 10000


class File(Struct):
    """Of the model; of shards the first one's sha256 and the size of all."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
    size: Bytes


class WorkloadShape(Struct):
    """What was asked for."""

    prompt_tokens: Count
    output_tokens: Count
    iterations: Annotated[int, Meta(ge=1, le=MOST_ITERATIONS)]
    concurrency: Annotated[list[AtOnce], Meta(min_length=1, max_length=MOST_KINDS)]
    depth: Annotated[list[Count], Meta(min_length=1, max_length=MOST_KINDS)]


class Figure(Struct):
    """Of `runs` runs."""

    median: Number
    low: Number
    high: Number
    runs: Annotated[int, Meta(ge=1, le=MOST_RUNS)]


class Result(Struct):
    """Of one kind: so many sequences at once behind so many tokens. Rates are tokens a second, times seconds."""

    label: Name
    concurrency: AtOnce
    depth: Count
    disturbed: bool
    prompt_tps: Figure | UnsetType = UNSET
    generation_tps: Figure | UnsetType = UNSET
    ttft: Figure | UnsetType = UNSET
    itl_p50: Figure | UnsetType = UNSET
    itl_p95: Figure | UnsetType = UNSET
    total: Figure | UnsetType = UNSET


class OneRun(Struct):
    """`disturbed`: by what; "" where it counts."""

    concurrency: AtOnce
    depth: Count
    figures: Annotated[dict[Name, Number | None], Meta(max_length=64)]
    disturbed: Text


class Reserved(Struct):
    device: Name
    what: Name
    bytes: Bytes


class Memory(Struct):
    """Bytes. The first two were measured, those that are reserved are the library's word, the estimate is ours."""

    own_peak_bytes: Bytes
    mapped_bytes: Bytes
    reserved: Annotated[list[Reserved], Meta(max_length=1024)] | UnsetType = UNSET
    gpu_reserved_bytes: Bytes | UnsetType | None = UNSET
    estimate: dict[Name, Any] | UnsetType | None = UNSET


class Environment(Struct):
    """What makes two machines comparable or not. No name of a host or of a person."""

    cpu: Text | None
    cores: Annotated[int, Meta(ge=1, le=1 << 20)]
    machine: Text
    kernel: Text
    engine: Text
    offgridd: Text
    gpus: Annotated[list[Text], Meta(max_length=256)] | UnsetType = UNSET


class Ratio(Struct):
    """Of one rate of one kind to the baseline's, with its bounds."""

    label: Name
    figure: Name
    low: Number
    mid: Number
    high: Number


class Baseline(Struct):
    """The best comparable record that was there before; `id` is that of one state.db."""

    started: Moment
    ratios: Annotated[list[Ratio], Meta(max_length=1000)]
    id: int | UnsetType | None = UNSET


class CallGiven(Struct):
    """`arguments` as they were written: they need not be JSON."""

    name: Said
    arguments: Said


class AnswerGiven(Struct):
    """`calls`: of a question with tools."""

    question: Name
    answer: Said
    right: bool
    calls: Annotated[list[CallGiven], Meta(max_length=1000)] | UnsetType = UNSET


class Quality(Struct):
    """The perplexity of the bundled text with its standard error, unless `not_measured` says why there is none."""

    perplexity: Annotated[float, Meta(ge=0)] | None
    error: Annotated[float, Meta(ge=0)] | None
    tokens: Bytes
    n_ctx: Count
    tokens_sha256: Text | None
    not_measured: Text | None
    right: Count
    asked: Count
    json_valid: Count
    json_asked: Count
    not_asked: Text | None
    questions_sha256: Text
    answers: Annotated[list[AnswerGiven], Meta(max_length=1000)]
    tools_right: Count | UnsetType = UNSET  # these three came later
    tools_asked: Count | UnsetType = UNSET
    tools_not_asked: Text | UnsetType | None = UNSET


class Record(Struct):
    """One benchmark of one model on one machine."""

    format: Annotated[str, Meta(pattern=f"^{re.escape(FORMAT)}$", max_length=len(FORMAT))]
    uid: Annotated[str, Meta(pattern="^[0-9a-f]{32}$", max_length=32)]
    model: Name
    load_key: Annotated[str, Meta(pattern="^[0-9A-Za-z._-]+$", max_length=128)]
    file: File
    load: dict[Name, Any]
    workload: WorkloadShape
    threads: Annotated[int, Meta(ge=0, le=1 << 20)]
    memory: Memory
    results: Annotated[list[Result], Meta(min_length=1, max_length=MOST_KINDS)]
    runs: Annotated[list[OneRun], Meta(max_length=MOST_RUNS)]
    environment: Environment
    started: Moment
    seconds: Number
    load_seconds: Number | UnsetType = UNSET
    baseline: Baseline | UnsetType | None = UNSET  # where it was measured
    good: bool | UnsetType = UNSET
    quality: Quality | UnsetType | None = UNSET


def checked(given: dict[str, Any]) -> dict[str, Any]:
    """The record without what GET adds to it. Raises ValueError saying what is wrong with it."""
    version = _VERSION.fullmatch(text) if isinstance(text := given.get("format"), str) else None
    if version is None:
        raise ValueError(f"it is no benchmark's record: its format is not {FORMAT}")
    if text != FORMAT:
        raise ValueError(f"its format is version {version[1]}, this offgridd knows {FORMAT}; use one that knows it")
    record = {name: value for name, value in given.items() if name not in ADDED}
    try:
        found = msgspec.convert(record, Record)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(str(error)) from None
    asked = list(product(found.workload.concurrency, found.workload.depth))
    if [(one.concurrency, one.depth) for one in found.results] != asked:
        raise ValueError("its results are not those of its workload, each once and in order")
    probed = found.quality
    if probed and not probed.not_measured and (probed.perplexity is None or probed.error is None):
        raise ValueError("its quality has no perplexity, and does not say why")
    if not all(text.isprintable() for text in (found.model, *(one.label for one in found.results))):
        raise ValueError("a name in it has characters that can not be shown")
    return record


def schema() -> dict[str, Any]:
    """For those who write or read records: the same as JSON schema. What is not named in it is allowed."""
    found = msgspec.json.schema(Record)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": FORMAT, **found}


def schema_text() -> str:
    """As docs/benchmark.schema.json has it."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())

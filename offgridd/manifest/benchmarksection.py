"""The section `benchmark` of a model: when it is measured by itself, with what, and how fast it has to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from offgridd.core.benchmark import MOST_ITERATIONS, MOST_KINDS, MOST_TOKENS, BenchmarkSpec, Tune, Workload
from offgridd.manifest.fields import Duration, Interval, LongDuration, Percent, Section, live

LEAST_TO_TELL: Final = 4  # iterations from which on a difference can be told from noise
_DEFAULT: Final = BenchmarkSpec()
_WORKLOAD: Final = ("prompt_tokens", "output_tokens", "iterations", "concurrency", "depth")


def _schema(low: int, high: int) -> WithJsonSchema:
    number = {"type": "integer", "minimum": low, "maximum": high}
    many = {"type": "array", "items": number, "minItems": 1, "maxItems": MOST_KINDS, "uniqueItems": True}
    return WithJsonSchema({"anyOf": [number, many]})


def _different(values: list[int]) -> list[int]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("InvalidValue", "numbers that differ")
    return values


_Several = (
    Field(min_length=1, max_length=MOST_KINDS),
    BeforeValidator(lambda value: [value] if type(value) is int else value),
    AfterValidator(_different),
)
Counts = Annotated[list[Annotated[int, Field(ge=1, le=255)]], *_Several, _schema(1, 255)]
Depths = Annotated[list[Annotated[int, Field(ge=0, le=MOST_TOKENS)]], *_Several, _schema(0, MOST_TOKENS)]


def _read_tune(value: object) -> Tune:
    if isinstance(value, bool):
        return "propose" if value else "off"
    if value in ("propose", "apply"):
        return "apply" if value == "apply" else "propose"
    raise PydanticCustomError(
        "InvalidValue" if isinstance(value, str) else "WrongType", "true, false, propose or apply"
    )


_TUNE_SCHEMA: Final = {"anyOf": [{"type": "boolean"}, {"type": "string", "enum": ["propose", "apply"]}]}
Tunes = Annotated[str, BeforeValidator(_read_tune), WithJsonSchema(_TUNE_SCHEMA)]


class Benchmark(Section):
    """When the model is measured by itself, with what, and how fast it has to be."""

    when: Literal["on_change", "schedule", "never"] = live(
        _DEFAULT.when,
        "on_change: whenever what it is loaded with, its file, the engine, the workload or the machine is another one; "
        "schedule: then, and every so often; never.",
    )
    every: Interval = live("168h", "How often a schedule measures, 1s to 168h.")
    prompt_tokens: int = live(_DEFAULT.workload.prompt_tokens, "Tokens of the prompt.", ge=0, le=MOST_TOKENS)
    output_tokens: int = live(_DEFAULT.workload.output_tokens, "Tokens of the answer.", ge=0, le=MOST_TOKENS)
    iterations: int = live(_DEFAULT.workload.iterations, "How often each kind is measured.", ge=1, le=MOST_ITERATIONS)
    concurrency: Counts = live([1], "Sequences at once: a number, or several.")
    depth: Depths = live([0], "Tokens that stand before the prompt: a number, or several.")
    idle: Duration = live("30s", "How long this machine must have answered no request before anything is measured.")
    max_wait: LongDuration = live("24h", "How long such a time is waited for; then the condition says NoIdleTime.")
    min_generation_tps: float | None = live(None, "Tokens a second of an answer that are enough.", gt=0, le=1_000_000)
    max_ttft: Duration | None = live(None, "Seconds to the first token that are short enough.")
    max_regression: Percent | None = live(
        None, "The share of its best rates so far, of prompt or answer, that may be lost, such as 10%."
    )
    on_fail: Literal["report", "hold"] = live(
        _DEFAULT.on_fail,
        "hold: a change of what the model is loaded with, or of its file, does not replace what serves before it was "
        "measured against that, in turns, and is not worse than these limits. report: the condition says so.",
    )
    on_timeout: Literal["keep", "swap"] = live(
        _DEFAULT.on_timeout, "What a hold does when it could not be measured within max_wait."
    )
    tune: Tunes = live(
        False,
        "Whether faster values are searched for threads, flash_attention, cache_type_k and cache_type_v where the "
        "manifest does not give them; true is propose: status shows them. apply: they take effect, but for what may "
        "cost quality.",
    )
    tune_time: Interval = live("30m", "The most that one search may measure, 1s to 168h.")


def benchmark_of(given: Sequence[Benchmark]) -> BenchmarkSpec | None:
    """What several say together, field by field the last one; None where none says anything."""
    if not given:
        return None
    fields: dict[str, Any] = {}
    for section in given:
        fields |= section.given()
    workload = {name: fields.pop(name) for name in _WORKLOAD if name in fields}
    return BenchmarkSpec(**fields, workload=replace(_DEFAULT.workload, **workload))


def against_each_other(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Fields that make no sense beside others of valid types, and why."""
    work = Workload(iterations=_DEFAULT.workload.iterations)
    prompt, output = given.get("prompt_tokens", work.prompt_tokens), given.get("output_tokens", work.output_tokens)
    depth, concurrency = _listed(given.get("depth", 0)), _listed(given.get("concurrency", 1))
    if prompt == 0 and (0 in depth or output in (0, 1)):
        yield "prompt_tokens", "without a prompt there must be a depth, and two tokens of answer to time"
    if len(depth) * len(concurrency) > MOST_KINDS:
        yield "depth" if "depth" in given else "concurrency", f"they make more than {MOST_KINDS} kinds of runs together"
    if "min_generation_tps" in given and output in (0, 1):
        yield "min_generation_tps", "the answer is too short to time; raise output_tokens"
    if "max_ttft" in given and prompt == 0:
        yield "max_ttft", "there is no prompt to time; raise prompt_tokens"
    limits = [key for key in ("min_generation_tps", "max_ttft", "max_regression") if given.get(key) is not None]
    holds = given.get("on_fail") == "hold"
    if holds and not limits:
        yield "on_fail", "nothing says what is worse; give max_regression, min_generation_tps or max_ttft"
    if holds and given.get("when") == "never":
        yield "on_fail", "with 'when: never' nothing is measured; remove one of them"
    if given.get("tune", False) is not False and given.get("when") == "never":
        yield "tune", "with 'when: never' nothing is measured; remove one of them"
    iterations = given.get("iterations", work.iterations)
    if "max_regression" in limits and type(iterations) is int and iterations < LEAST_TO_TELL:
        yield "iterations", f"fewer than {LEAST_TO_TELL} tell no difference from noise, which max_regression needs"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]

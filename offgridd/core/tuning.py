"""The search for the load fields that make a model fastest: what is tried, in which order, and what is better. Pure.

From what serves, one field after the other, each value once, on top of the best so far. What answers for the worse
comes last, so that the best without it was measured, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from offgridd.core import events as ev
from offgridd.core.desired import ModelSpec, Setting, Settings
from offgridd.core.judging import LEAST_PAIRS, RATES, Figures, Interval, at_least, median_interval
from offgridd.core.keys import load_key, stable_key
from offgridd.core.observed import ModelFacts, Observed
from offgridd.core.plan import complete_file
from offgridd.core.tuned import TUNABLE, Result, Tried, Tuning, as_declared, coarser, is_possible, with_value, yaml_line

GAIN, LOSS = 0.03, 0.02  # a rate has to gain so much, and the other one may lose so much
LEAST_TO_DROP, MOST_PAIRS = 8, 40  # pairs after which a candidate may be dropped, and after which it is


@dataclass(frozen=True, slots=True)
class Candidate:
    """`settings`: the best so far, with this field otherwise."""

    field: str
    value: Setting
    settings: Settings


@dataclass(frozen=True, slots=True)
class Judgement:
    result: Result
    ratios: tuple[tuple[str, Interval], ...]


def key_of(spec: ModelSpec, facts: ModelFacts, observed: Observed) -> str | None:
    """What a search would be for: the file, what is declared, the engine, the machine. None: the file is not known."""
    file = complete_file(spec, facts)
    if file is None:
        return None
    return stable_key(load_key(as_declared(spec), file.key, observed.engine), observed.host.kind, spec.tunable)


def begun(spec: ModelSpec, key: str, host: str, before: Tuning | None) -> Tuning:
    """The search as it goes on; another one is begun where something else serves, or is searched for, than before."""
    if before is not None and (before.key, before.host, before.start) == (key, host, spec.tuned) and not before.done:
        return before
    found = before.found if before is not None and before.host == host else ()
    return Tuning(key, host, spec.tuned, spec.tuned, found)


def is_whole(tuning: Tuning) -> bool:
    """Whether a search could have made it: what is kept may be damaged, or another version's."""
    better = (one.settings for one in tuning.tried if one.result == "better")
    sets = (tuning.start, tuning.best, tuning.found, *(one.settings for one in tuning.tried))
    whole = all(name in TUNABLE and _could_be(name, value) for settings in sets for name, value in settings)
    return whole and tuning.best in (tuning.start, *better)


def _could_be(name: str, value: Setting) -> bool:
    if name == "threads":
        return type(value) is int and value > 0
    return any(type(value) is type(one) and value == one for one in _values(name, 1))


def candidate(spec: ModelSpec, cores: int, tuning: Tuning) -> Candidate | None:
    """The next one; None: all were tried."""
    known = {(one.field, one.value) for one in tuning.tried}
    for name in (name for name in TUNABLE if name in spec.tunable):
        for value in _values(name, cores):
            settings = with_value(tuning.best, name, value)
            if settings != tuning.best and (name, value) not in known and is_possible(spec, settings):
                return Candidate(name, value, settings)
    return None


def _values(name: str, cores: int) -> Sequence[Setting]:
    """None of threads is as many as there are cores, and fewer while others want them."""
    match name:
        case "threads":
            return tuple(dict.fromkeys((None, max(1, cores // 2), 1))) if cores > 1 else (None,)
        case "flash_attention":
            return (True, False)
    return ("q8_0",)


def judge(pairs: Sequence[tuple[Figures, Figures]], best: Mapping[str, Interval]) -> Judgement | None:
    """What (served, candidate) pairs say; `best`: the ratios of the best so far. None: more of them are needed.

    Nothing is better that loses more than LOSS of a rate to what served, or to the best where that is faster.
    """
    if len(pairs) < LEAST_TO_DROP:
        return None
    ratios = tuple(_ratios(pairs))
    over = [_over(found, max(1.0, best[name].mid) if name in best else 1.0) for name, found in ratios]
    if not ratios or any(one.high < 1 - LOSS for one in over):
        return Judgement("worse" if ratios else "same", ratios)
    if all(one.high < 1 + GAIN for one in over):
        return Judgement("same", ratios)
    gains = any(one.low > 1 and one.mid >= 1 + GAIN for one in over)
    keeps = all(at_least(one, 1 - LOSS, 2 * LOSS) == "holds" for one in over)
    if gains and keeps and len(pairs) >= LEAST_PAIRS:
        return Judgement("better", ratios)
    return Judgement("unclear", ratios) if len(pairs) >= MOST_PAIRS else None


def _ratios(pairs: Sequence[tuple[Figures, Figures]]) -> Iterator[tuple[str, Interval]]:
    for name in RATES:
        found = [b / a for old, new in pairs if (a := old.get(name)) and (b := new.get(name))]
        if len(found) >= LEAST_TO_DROP:
            yield name, median_interval(found)


def _over(found: Interval, by: float) -> Interval:
    return Interval(found.low / by, found.mid / by, found.high / by)


def ratios_of_best(tuning: Tuning) -> Mapping[str, Interval]:
    """Of the best so far to what served; none where that is the best."""
    if tuning.best == tuning.start:
        return {}
    return dict(next(one.ratios for one in reversed(tuning.tried) if one.result == "better"))


def advanced(tuning: Tuning, tried: Tried) -> Tuning:
    best = tried.settings if tried.result == "better" else tuning.best
    return replace(tuning, tried=(*tuning.tried, tried), best=best, why="", again=0.0)


def ended(tuning: Tuning, cut: str = "") -> Tuning:
    """`cut`: why not all was tried."""
    gained = "; ".join(f"{RATES[name]} {found}" for name, found in ratios_of_best(tuning).items())
    why = f"{gained} of what served" if gained else f"nothing that was tried is faster by {GAIN:.0%} or more"
    return replace(tuning, done=True, found=tuning.best, why=f"{why}; {cut}" if cut else why, again=0.0)


def folded(tunings: Mapping[str, Tuning], event: ev.Tuned | ev.Retuned | ev.TrialChosen) -> dict[str, Any]:
    """What changes in Observed."""
    match event:
        case ev.TrialChosen(trial):
            return {"trial": trial}
        case ev.Tuned(model, tuning) if tuning is not None:
            return {"tunings": {**tunings, model: tuning}}
        case ev.Retuned(model) if model in tunings:
            return {"tunings": {**tunings, model: replace(tunings[model], key="", done=False)}}
        case ev.Tuned(model):
            return {"tunings": {name: one for name, one in tunings.items() if name != model}}
    return {}


def shown(spec: ModelSpec, tuning: Tuning | None, key: str | None) -> dict[str, Any] | None:
    """As status has it; None where nothing is tuned."""
    if spec.tunes == "off":
        return None
    current = tuning is not None and tuning.key == key
    found = tuning.best if tuning and current and not tuning.done else tuning.found if tuning else ()
    found = tuple(one for one in found if one[0] in spec.tunable)
    return {
        "state": _state(spec, tuning if current else None),
        "policy": spec.tunes,
        "best": dict(found),
        "proposal": [yaml_line(*one) for one in found],
        "applied": dict(spec.tuned),
        "coarser": [name for name, _ in coarser(found)],
        "why": _why(spec, tuning if current else None),
        "seconds": round(tuning.seconds, 1) if tuning else 0.0,
        "tried": [_tried(one) for one in tuning.tried] if tuning else [],
    }


def _state(spec: ModelSpec, tuning: Tuning | None) -> str:
    if not spec.tunable:
        return "declared"
    if tuning is not None and tuning.done:
        return "done"
    return "searching" if tuning is not None and tuning.tried else "waiting"


def _why(spec: ModelSpec, tuning: Tuning | None) -> str:
    if not spec.tunable:
        return "the manifest gives all that could be searched"
    if tuning is None or not (tuning.done or tuning.why):
        return "it is searched while the machine is idle"
    left = [yaml_line(*one) for one in coarser(tuning.found)] if tuning.done else []
    asks = f"; {', '.join(left)} may cost quality: that is yours to declare" if left else ""
    return tuning.why + asks


def _tried(one: Tried) -> dict[str, Any]:
    ratios = {name: {"low": found.low, "mid": found.mid, "high": found.high} for name, found in one.ratios}
    return {
        "field": one.field, "value": one.value, "result": one.result, "why": one.why, "pairs": one.pairs,
        "seconds": round(one.seconds, 1), "ratios": ratios,
    }  # fmt: skip

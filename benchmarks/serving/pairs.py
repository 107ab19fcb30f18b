"""Takes turns: ours, the other, ours, the other, until every question about them is settled."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from serving.judge import clear, judge, ratios, settled
from serving.record import Row

Found = Mapping[str, float]  # by a question's key
Measure = Callable[[int], Awaitable[Found]]
MORE = 5  # pairs between two looks
SLOW = 5  # pairs that may be enough where one takes minutes
turns = itertools.count(1)  # each number once, so that a text made with it was never seen


@dataclass(frozen=True, slots=True)
class Plan:
    pairs: int = 15
    most: int = 60
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """`bound`: how many times better ours has to be. `higher`: more is better."""

    key: str
    title: str
    unit: str
    bound: float | None = None
    higher: bool = True
    aim: str = ""
    beside: str = "llama-server"


class Contender(NamedTuple):
    measure: Measure
    note: str = ""


async def compare(plan: Plan, asked: Sequence[Question], ours: Measure, other: Contender, *, slow: bool) -> list[Row]:
    """One row a question. `slow`: a few pairs are enough where the interval is clear, and nothing warms up."""
    pairs: dict[str, list[tuple[float, float]]] = {q.key: [] for q in asked}
    if not slow and not plan.quick:
        turn = next(turns)
        await ours(turn)
        await other.measure(turn)
    for count in itertools.count(1):
        turn = next(turns)
        a, b = await ours(turn), await other.measure(turn)
        for q in asked:
            pairs[q.key].append((a[q.key], b[q.key]))
        shown = "; ".join(f"{q.key} {a[q.key]:.4g} / {b[q.key]:.4g} {q.unit}" for q in asked)
        print(f"  pair {count}: {shown}", flush=True)
        if count >= plan.most or all(_enough(plan, q, pairs[q.key], slow) for q in asked):
            break
    note = f"a few pairs: the interval is far from the bound; {other.note}" if count < plan.pairs else other.note
    return [_row(q, pairs[q.key], note.rstrip("; ")) for q in asked]


def _enough(plan: Plan, question: Question, pairs: Sequence[tuple[float, float]], slow: bool) -> bool:
    count, bound = len(pairs), question.bound
    if plan.quick:
        return count >= plan.pairs
    found = ratios(pairs, higher=question.higher)
    if slow and count >= SLOW and clear(found, bound):
        return True
    return count % MORE == 0 and settled(found, bound, plan.pairs)


def _row(question: Question, pairs: Sequence[tuple[float, float]], note: str) -> Row:
    q, found = question, judge(ratios(pairs, higher=question.higher), question.bound)
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Row(q.key, q.title, found.verdict, q.unit, len(pairs), a, b, q.beside, found.ratio, found.low, found.high,
               q.bound, q.aim, note)  # fmt: skip

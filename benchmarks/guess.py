"""`make bench-guess`: decoding with `speculative: {lookup: true}` beside decoding without, of two workers in turns.

repeat: the prompt holds a text and asks for it word for word; 300 tokens. story: nothing of the answer stands anywhere;
300 tokens, drawn at temperature 1. The end tokens are forbidden; from the first token to the last, without HTTP. Each
pair is one answer of each, the first of them in turn. `--draft FILE`: that model guesses, not the lookup; `--draft
fool`: one that has the same tokens and random weights, for what a draft costs that is never right.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import Any, Final, NamedTuple

from serving import judge, models
from serving.floor import ENDS
from serving.peer import Shape
from serving.quiet import MOST as MOST_OTHERS
from serving.quiet import Quiet
from serving.worker import Worker, named, worker
from support.lookalikes import lookalike
from support.tinymodel import Spec

TOKENS: Final = 300
LEAST, MOST = 15, 60  # pairs
BLOCK: Final = 5  # pairs of the same two workers
LOSS: Final = 0.97  # what a draft may cost at most
TEXT: Final = (
    "The harbour of the old town lies under a hill. In the morning the fishermen come home with their boats, and the "
    "women sell what they have caught on the square behind the church. In the afternoon it is quiet, and only the cats "
    "walk between the nets. When the sun goes down, people sit in front of their houses and tell each other stories of "
    "the sea, of storms and of ships that never came back. On Sundays there is music. The band plays old songs, and "
    "everybody dances, young and old, until it is dark and the lanterns are lit along the quay. In winter the boats "
    "lie upside down on the beach like sleeping whales. The men mend their nets by the stove, and the children draw "
    "ships on the frozen windows. Once a week the mail comes with the bus from the city, and the whole town waits for "
    "it at the corner of the market. The old teacher reads the newspaper aloud, from the first page to the last, and "
    "nobody goes home before the weather report. In spring the boats are painted red and blue and put back into the "
    "water. "
)


Pair = tuple[float, float]


class Scene(NamedTuple):
    name: str
    text: str
    bound: dict[str, float]  # by model
    temperature: float = 0.0  # a greedy answer of a small model soon repeats itself


SCENES: Final = (
    Scene(
        "repeat",
        f"Repeat the following text word for word, from its beginning to its end, and nothing else.\n\n{TEXT}",
        {"q4_1": 1.1, "q4_0": 1.35},
    ),
    Scene(
        "story", "Tell me a long story about a dragon who wants to become a baker.", {"q4_1": 0.97, "q4_0": 0.97}, 1.0
    ),
)


def pair(sides: Sequence[Worker], scene: Scene, number: int) -> Pair | None:
    """Tokens a second with guesses, and without; printed. None where others disturbed it."""
    order, quiet = (0, 1) if number % 2 else (1, 0), Quiet()
    found, texts = {}, {}
    for side in order:
        seconds, texts[side] = sides[side].answer(scene.text, TOKENS, ENDS, scene.temperature, number)
        found[side] = (TOKENS - 1) / seconds
    alike = sum(takewhile(bool, map(eq, texts[0], texts[1]))) / max(1, len(texts[1]))
    others = quiet.others()
    print(
        f"{scene.name} {number}: with guesses {found[0]:.1f}, without {found[1]:.1f} tokens/s: "
        f"{found[0] / found[1]:.3f}; the texts are alike for {alike:.0%}; others took {others:.0%}", flush=True,
    )  # fmt: skip
    return (found[0], found[1]) if others <= MOST_OTHERS else None


@contextmanager
def guesser(file: Path, draft: str | None) -> Iterator[dict[str, Any]]:
    """What of a Load says who guesses."""
    with tempfile.TemporaryDirectory() as folder:
        if draft is None:
            yield {"speculative": True}
        elif draft == "fool":
            yield {"draft": named(lookalike(Path(folder, "fool.gguf"), file, Spec(embedding=16)))}
        else:
            yield {"draft": named(Path(draft))}


@contextmanager
def sides(file: Path, shape: Shape, more: dict[str, Any], *, guessing_first: bool) -> Iterator[tuple[Worker, Worker]]:
    """The one that guesses and the other. Who is started first may have the better memory: that is in turn, too."""
    with ExitStack() as stack:
        made: dict[bool, Worker] = {}
        for guesses in (guessing_first, not guessing_first):
            made[guesses] = stack.enter_context(worker(file, shape, **(more if guesses else {})))
        yield made[True], made[False]


def measure(scene: Scene, file: Path, bound: float, more: dict[str, Any], given: argparse.Namespace) -> list[Pair]:
    """Pairs that nobody disturbed, until they decide."""
    shape = Shape(slots=1, cells=2048, context=2048, threads=given.threads)
    until, pairs = time.monotonic() + 60 * given.minutes, list[Pair]()
    for block in itertools.count():
        with sides(file, shape, more, guessing_first=block % 2 == 0) as both:
            for side in both:
                side.answer(scene.text, 8, ENDS)  # its prompt is kept from now on
            for number in range(block * BLOCK + 1, (block + 1) * BLOCK + 1):
                pairs += [found] if (found := pair(both, scene, number)) is not None else []
                if time.monotonic() > until and not pairs:
                    raise SystemExit("others disturbed all of them")
                if time.monotonic() > until or len(pairs) >= given.pairs:
                    return pairs
        if len(pairs) >= min(LEAST, given.pairs) and judge.settled(judge.ratios(pairs, higher=True), bound, LEAST):
            return pairs
    raise AssertionError("it counts for ever")


def row(scene: Scene, pairs: list[Pair], bound: float) -> str:
    found = judge.judge(judge.ratios(pairs, higher=True), bound)
    mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = f"{found.ratio:.3f} ({found.low:.3f} to {found.high:.3f})"
    cells = (scene.name, f"{mine:.1f}", f"{other:.1f}", ratio, f"at least {bound}", found.verdict, str(len(pairs)))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("q4_1", "q4_0"), default="q4_1")
    parser.add_argument("--scenes", default="repeat,story", help="with commas between")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pairs", type=int, default=MOST, help="at most so many of each")
    parser.add_argument("--minutes", type=float, default=30, help="of each at most; then what there is is judged")
    parser.add_argument("--draft", metavar="FILE", help="a GGUF with the same tokens, or fool")
    parser.add_argument("--control", action="store_true", help="neither guesses: how much the measure itself errs")
    given = parser.parse_args()
    file = models.find(given.model)
    print(f"{file.title}, {given.threads} threads")
    rows = []
    with guesser(file.path, given.draft) as more:
        for scene in (one for one in SCENES if one.name in given.scenes.split(",")):
            bound = LOSS if given.draft or given.control else scene.bound[given.model]
            rows.append(row(scene, measure(scene, file.path, bound, {} if given.control else more, given), bound))
    print("| what | with guesses, tokens/s | without | ratio (95 %) | bound | | pairs |")
    print("| --- | ---: | ---: | --- | --- | --- | ---: |")
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()

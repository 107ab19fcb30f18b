"""docs/transfer.md, made of the results that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.peer import ROOT
from serving.record import load

PAGE = ROOT / "docs" / "transfer.md"
KINDS = {
    "ours": "offgridd, hashed and synced",
    "unhashed": "offgridd, synced, not hashed",
    "plain": "plain stream",
    "plain-synced": "plain stream, synced",
    "plain-hashed": "plain stream, synced and hashed",
}
HEAD = """# Fetching, measured

<!-- Written by `python -m transfer --report` from benchmarks/results/transfer.json. Do not edit. -->

`make bench-transfer` measures it again; `ARGS="--scenes aria,free"` a part. The machine: {cores} cores ({cpu}) of a
virtual machine on shared hardware, {memory}, {system}, Python {python}. Read ratios, not absolutes.

## How

- The hub is `offgridd dev-hub`, in a process of its own, on loopback and on the same cores. All contenders ask it in
  turns, each run in a new process and into an empty folder: ours, the other, ours, the other.
- Ours is what the daemon does, with its defaults: 8 connections, pieces of 8 MiB, hashed while they come, each piece
  synced, then renamed into the store. It includes asking the hub where the file is. Time begins when
  everything is imported and, for ours, the repository was listed, which the daemon does once.
- `hf_hub_download` of the hub's own library has its defaults, with `HF_HUB_DISABLE_XET=1`. `aria2c -x8 -s8
  --file-allocation=falloc` is timed with its start. Neither syncs, and neither knows the sha256 afterwards.
- The plain stream is one connection, read by `http.client` into a buffer of 1 MiB and written to a file; synced at
  its end, and hashed on the way, where it says so. Before each run without limit a file of the same size is written
  and removed: otherwise whoever comes after a long pause pays for memory that the virtual machine had given back.
- Figures are medians. The ratio is the median of the pairs' ratios, always so that more is better, with its 95 %
  bootstrap interval; how a bound is judged stands in `benchmarks/serving/judge.py`.

## Seconds

| what | offgridd | beside it | times better | bound | verdict | pairs | date |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def write(results: Path) -> None:
    PAGE.write_text(page(load(results)))


def page(found: Mapping[str, Any]) -> str:
    """The page's text. Pure."""
    rows = sorted(found["models"].get("transfer", {}).values(), key=lambda row: row["key"])
    lines = [HEAD.format(**found["machine"])]
    lines += [_line(row) for row in rows if row["ratio"] is not None]
    lines += ["\n## Processor and memory\n\n| what | measured | verdict | date |\n| --- | --- | --- | --- |\n"]
    lines += [f"| {r['title']} | {r['text']} | {r['verdict']} | {r['date']} |\n" for r in rows if r["ratio"] is None]
    return "".join(lines) + TAIL


def _line(row: Mapping[str, Any]) -> str:
    ratio = f"{row['ratio']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"
    note = f"; {row['note']}" if row["note"] else ""
    cells = [row["title"], f"{row['a']:.3g} s", f"{row['b']:.3g} s ({row['beside']}{note})", ratio, f"{row['bound']:g}",
             row["verdict"], str(row["pairs"]), row["date"]]  # fmt: skip
    return "| " + " | ".join(cells) + " |\n"


TAIL = """
What stands behind the figures:

- One sha256 goes over about 1.6 GB a second of one core here, and a plain stream on loopback brings more than that. So
  where there is no limit at all, on two cores that are shared with the hub, a file that is verified can not be as fast
  as one that is not; what is verified and synced on both sides, or synced on both, can be compared. A limited
  connection leaves time: there hashing costs its share of the processor and no second.
- Plain http goes from the socket to the file by `splice`, without a copy to the process. With TLS it can not.

## What breaks off, and kills

Counted by the hub, in `tests/effects/test_large.py`:

- A file of 512 MiB, killed with signal 9 at each failpoint of a fetch: at most one piece (8 MiB) a connection is sent
  a second time, and nothing is left in `partial/`.
- 64 MiB over connections that end after each MiB, or each 700 kB: the hub sends the file's size once. With resets no
  byte is written twice either, but what lay in the hub's own socket is sent again: the hub counts 1.4 times the size
  with a reset after each MiB and 1.7 times with one after each 700 kB, on loopback, where a socket takes all at once.
"""

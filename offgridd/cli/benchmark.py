"""benchmark and compare: how fast models are on this machine, and whether they differ by more than noise."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from offgridd.cli import machines, plots, quality, travel
from offgridd.cli.client import REFUSED, Client, CliError, in_address
from offgridd.cli.measuring import measure
from offgridd.cli.tables import ROWS, as_csv, as_markdown, cell, note
from offgridd.cli.terminal import complain, say
from offgridd.core.stamps import stamp

Record = dict[str, Any]
USAGE = 2
COMPARED = 5  # iterations of compare: under four no difference can be told from noise


def add_to(commands: Any) -> None:
    one = commands.add_parser("benchmark", help="measure how fast a model is here")
    one.add_argument("models", nargs="*", metavar="MODEL")
    what = one.add_mutually_exclusive_group()
    what.add_argument("--history", action="store_true", help="what was measured before, and nothing new")
    travel.add_to(what)
    one.add_argument("--plot", nargs="?", const=plots.TERMINAL, metavar="FILE.svg", help="with --history: draw it")
    quality.add_to(one)
    _workload(one, iterations=3)
    _output(one)
    one.set_defaults(run=benchmark)
    one = commands.add_parser("compare", help="models side by side; measures what was not measured yet")
    one.add_argument("models", nargs="+", metavar="MODEL")
    how = one.add_mutually_exclusive_group()
    how.add_argument("--again", action="store_true", help="measure all of them anew")
    one.add_argument("--plot", metavar="FILE.svg", help="draw them side by side")
    how.add_argument("--history", action="store_true", help="one MODEL as it was measured on several machines")
    quality.add_to(one)
    _workload(one, iterations=COMPARED)
    _output(one)
    one.set_defaults(run=compare)


def _workload(parser: argparse.ArgumentParser, iterations: int) -> None:
    parser.add_argument("--prompt-tokens", type=int, default=512, metavar="N", help="default: 512")
    parser.add_argument("--output-tokens", type=int, default=128, metavar="N", help="default: 128")
    parser.add_argument("--iterations", type=int, default=iterations, metavar="N", help=f"default: {iterations}")
    parser.add_argument("--concurrency", type=_numbers, default=[1], metavar="N[,N...]", help="sequences at once")
    parser.add_argument("--depth", type=_numbers, default=[0], metavar="N[,N...]", help="tokens that stand before")


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", choices=("text", "json", "csv", "markdown"), default="text")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number, or numbers with commas between") from None


def benchmark(client: Client, args: argparse.Namespace) -> int:
    plots.check(args.plot, terminal=True)
    if args.plot is not None and not args.history:
        raise CliError(USAGE, "cannot plot that: --plot goes with --history")
    if args.export is not None or args.import_ is not None:
        return travel.run(client, args)
    if len(args.models) != 1:
        raise CliError(USAGE, "cannot tell what to measure: name one model")
    (model,) = args.models
    if args.history:
        found = client.json("GET", f"/v1/benchmarks?model={in_address(model)}")["benchmarks"]
        if not found and args.output == "text":
            complain(f"cannot show any: {model} was not measured yet; offgrid benchmark {model} does")
            return REFUSED
        _show(found, args.output, _as_history, several=True)
        if args.output == "text" or args.plot not in (None, plots.TERMINAL):
            plots.history(found, args.plot, machines.whence)
        return 0
    _show([measure(client, model, {**_asked(args), "quality": args.quality})], args.output, _as_text)
    return 0


def compare(client: Client, args: argparse.Namespace) -> int:
    plots.check(args.plot)
    if args.history:
        columns, legend = machines.columns(client, args.models, _asked(args))
        _show(columns, args.output, lambda records: [*legend, "", *_side_by_side(records)], several=True)
        plots.side_by_side(columns, args.plot, _values)
        return 0
    if len(args.models) < 2:
        raise CliError(REFUSED, "cannot compare: name two models or more, each once")
    known = [_newest(client, model, args) for model in args.models]
    names = [name for name, _ in known]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CliError(REFUSED, f"cannot compare: {twice} is named twice; name two models or more, each once")
    records = [
        measure(client, name, {**_asked(args), "quality": args.quality}) if one is None or args.again else one
        for name, one in known
    ]
    _show(records, args.output, _side_by_side, several=True)
    plots.side_by_side(records, args.plot, _values)
    return 0


def _newest(client: Client, model: str, args: argparse.Namespace) -> tuple[str, Record | None]:
    """What the model is called, and what was measured last of it as it is loaded now, here, with this workload.

    Where others disturbed every run of a kind it is not to be relied on, and is measured anew.
    """
    found = client.json("GET", f"/v1/benchmarks?current=1&model={in_address(model)}")
    asked = _asked(args)
    fits = (
        one
        for one in found["benchmarks"]
        if all(one["workload"].get(name) == value for name, value in asked.items())
        and not any(result["disturbed"] for result in one["results"])
        and (quality.has_it(one) or not args.quality)
    )
    return found["model"], next(fits, None)


def _asked(args: argparse.Namespace) -> dict[str, Any]:
    names = ("prompt_tokens", "output_tokens", "iterations", "concurrency", "depth")
    return {name: getattr(args, name) for name in names}


def _show(
    records: Sequence[Record], output: str, as_text: Callable[[Sequence[Record]], list[str]], *, several: bool = False
) -> None:
    """`several`: a list in JSON, however many there are."""
    if output == "json":
        say(json.dumps(records if several else records[0], indent=2))
    elif output == "csv":
        say(as_csv(records), end="")
    elif output == "markdown":
        say(*as_markdown(records))
    else:
        say(*as_text(records))


def _as_text(records: Sequence[Record]) -> list[str]:
    lines: list[str] = []
    for one in records:
        lines += [
            f"{one['model']}: {one['workload']['iterations']} runs, {one['threads']} threads, {one['memory_mb']} MB"
        ]
        for result in one["results"]:
            lines += ["", f"{result['label']}{note(result)}", f"{'':<22} {'median':>10} {'low':>10} {'high':>10}"]
            lines += [
                f"{title:<22} " + " ".join(f"{show(result[name][which]):>10}" for which in ("median", "low", "high"))
                for name, (title, show) in ROWS.items()
                if name in result
            ]
        lines += quality.lines(one)
    return lines


def _as_history(records: Sequence[Record]) -> list[str]:
    lines = [f"{'WHEN':<20}  {'WHAT':<24}  {'PROMPT/S':>9}  {'TOKENS/S':>9}  {'TTFT MS':>9}"]
    for one in records:
        for result in one["results"]:
            cells = [cell(result, name) for name in ("prompt_tps", "generation_tps", "ttft")]
            line = f"{stamp(one['started']):<20}  {result['label']:<24}  " + "  ".join(f"{c:>9}" for c in cells)
            lines.append(line + ("  disturbed" if result["disturbed"] else "") + machines.whence(one))
    return lines


def _side_by_side(records: Sequence[Record]) -> list[str]:
    names = [one["model"] for one in records]
    width = max(12, *map(len, names))
    lines: list[str] = []
    for at, result in enumerate(records[0]["results"]):
        columns = [one["results"][at] for one in records]
        lines += [*([""] if lines else []), f"{result['label']:<22} " + " ".join(f"{name:>{width}}" for name in names)]
        for name, (title, _) in ROWS.items():
            if any(name in column for column in columns):
                cells = " ".join(f"{cell(column, name):>{width}}" for column in columns)
                lines.append(f"{title:<22} {cells}  {_verdict(records, at, name)}".rstrip())
        lines += [f"{one['model']}{note(column)}" for one, column in zip(records, columns, strict=True) if note(column)]
    return lines + quality.side_by_side(records, width)


def _verdict(records: Sequence[Record], at: int, figure: str) -> str:
    """Of the first beside each other one."""
    from offgridd.core.benchmark import LEAST_RUNS, is_clear

    values = [_values(one, at, figure) for one in records]
    if not all(values):
        return ""

    def verdict(other: list[float]) -> str:
        if min(len(values[0]), len(other)) < LEAST_RUNS:
            return "too few runs to tell"
        return "differ" if is_clear(values[0], other) else "within noise"

    return ", ".join(verdict(other) for other in values[1:])


def _values(record: Record, at: int, figure: str) -> list[float]:
    """Of the runs that the result was made of."""
    result = record["results"][at]
    kind = result["concurrency"], result["depth"]
    return [
        run["figures"][figure]
        for run in record["runs"]
        if (run["concurrency"], run["depth"]) == kind
        and run["figures"].get(figure) is not None
        and (result["disturbed"] or not run["disturbed"])
    ]

"""compare --history MODEL: the newest results of one model on each machine that measured it, ours and imported ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from offgridd.cli.client import REFUSED, Client, CliError, in_address
from offgridd.core.stamps import stamp

Record = dict[str, Any]
MOST = 1000  # the newest records that are looked through
_WIDEST = 120  # characters of a machine's name: a record may hold megabytes
_SAME = ("prompt_tokens", "output_tokens", "concurrency", "depth")  # runs may be more on one side


def columns(client: Client, models: Sequence[str], asked: Mapping[str, Any]) -> tuple[list[Record], list[str]]:
    """A record of each machine under a short name, ours first, and what the names mean. Raises CliError."""
    if len(models) != 1:
        raise CliError(REFUSED, "cannot compare machines by several models: name one with --history")
    (model,) = models
    records = client.json("GET", f"/v1/benchmarks?model={in_address(model)}&limit={MOST}")["benchmarks"]
    alike = [one for one in records if all(one["workload"].get(name) == asked[name] for name in _SAME)]
    newest: dict[tuple[object, ...], Record] = {}
    for one in sorted(alike, key=lambda one: -one["started"]):
        newest.setdefault(_machine(one), one)
    if len(newest) < 2:
        text = f"cannot compare: {len(newest)} machines have measured {model} with this workload; "
        raise CliError(REFUSED, text + "bring results of another one with offgrid benchmark --import FILE")
    return _named(sorted(newest.values(), key=lambda one: bool(one.get("imported"))))


def _machine(record: Record) -> tuple[object, ...]:
    """What tells machines apart, as far as a record does."""
    found = record["environment"]
    return bool(record.get("imported")), found["cpu"], found["cores"], *found.get("gpus", ())


def _named(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    named: list[Record] = []
    for one in records:
        word = "imported" if one.get("imported") else "here"
        count = sum(other["model"].startswith(word) for other in named) + 1
        named.append({**one, "model": word if count == 1 else f"{word} {count}"})
    return named, [f"{one['model']}: {described(one)}, {stamp(one['started'])}" for one in named]


def described(record: Record) -> str:
    """The machine in a few words."""
    found = record["environment"]
    gpus = "".join(f", {name}" for name in found.get("gpus", ()))
    text = f"{found['cpu'] or found['machine']}, {found['cores']} cores{gpus}"
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


def whence(record: Record) -> str:
    """Behind a result that was brought from another machine: which one."""
    return f"  imported: {described(record)}" if record.get("imported") else ""

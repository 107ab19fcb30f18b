"""wait, events, describe, history, config and retry: what there is to see, and to wait for."""

from __future__ import annotations

import argparse
import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from offgridd.cli.client import REFUSED, TIMEOUT, Client, CliError
from offgridd.cli.reading import read_files
from offgridd.cli.terminal import say
from offgridd.core.judging import RATES, Interval
from offgridd.core.reasons import BY_WORD
from offgridd.core.sizes import show_size
from offgridd.core.tuned import yaml_line

Json = dict[str, Any]
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def add_to(commands: Any) -> None:
    one = commands.add_parser("wait", help="until a condition is as wanted; 4 where it does not come about in time")
    one.add_argument("what", nargs="?", default="server", metavar="TARGET", help="model/NAME, or server (default)")
    one.add_argument(
        "--for", dest="wanted", type=_wanted, default=("Ready", "True"), metavar="TYPE[=STATUS]",
        help="STATUS is true, false or unknown; default Ready=true",
    )  # fmt: skip
    one.add_argument("--timeout", type=seconds, default=300.0, help="such as 90s or 10m; default 5m")
    one.set_defaults(run=wait)
    one = commands.add_parser("events", help="conditions that changed, the newest last")
    one.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    one.add_argument("--model")
    one.add_argument("--json", action="store_true", help="one object a line")
    one.set_defaults(run=events)
    one = commands.add_parser("describe", help="all that is known of one model, and what to do about it")
    one.add_argument("model", metavar="MODEL")
    one.set_defaults(run=describe)
    one = commands.add_parser("retry", help="try again what failed with a model, also what was given up")
    one.add_argument("model", metavar="MODEL")
    one.set_defaults(run=retry)
    one = commands.add_parser("history", help="the newest generations of the manifest")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=history)
    one = commands.add_parser("config", help="the manifest as it takes effect, with the origin of every value")
    one.add_argument("file", nargs="?", type=Path, help="of this file; default: what the daemon has accepted")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=config)


def wait(client: Client, args: argparse.Namespace) -> int:
    model = args.what.removeprefix("model/") if args.what != "server" else None
    return until(client, model, args.wanted, args.timeout)


def _wanted(text: str) -> tuple[str, str]:
    """A condition and its status."""
    kind, _, status = text.partition("=")
    if not kind or (status or "true").lower() not in ("true", "false", "unknown"):
        raise argparse.ArgumentTypeError(f"{text!r} is no condition: write Ready, or Ready=false")
    return kind, (status or "true").capitalize()


def until(client: Client, model: str | None, wanted: tuple[str, str], timeout: float) -> int:
    """Until a condition of a model, or of the whole, has a status, for at most so many seconds. Raises CliError."""
    (kind, status), what = wanted, f"model/{model}" if model is not None else "server"
    end, found = time.monotonic() + timeout, client.json("GET", "/v1/status")  # looked at once, whatever the time is
    least, statuses = found["generation"], client.events("GET", "/v1/status?watch")
    while True:
        condition = _condition(found, model, kind)
        last = f"{kind} is {condition['status']} ({condition['reason']})"
        if condition["status"] == status and found["observedGeneration"] >= least:
            say(f"{what}: {last}")
            return 0
        try:
            with _deadline(end - time.monotonic()):
                found = next(statuses)
        except _Over:
            text = f"cannot wait longer for {what}: {last} after {timeout:g} s"
            raise CliError(TIMEOUT, text) from None


def _condition(found: Json, model: str | None, kind: str) -> Json:
    """Raises CliError where there is no such model or condition."""
    place = found if model is None else _model(found, model)
    for condition in place["conditions"]:
        if condition["type"].lower() == kind.lower():
            made: Json = condition
            return made
    names = ", ".join(condition["type"] for condition in place["conditions"])
    raise CliError(REFUSED, f"cannot wait for {kind}: there is no such condition; there are {names}")


def _model(found: Json, name: str) -> Json:
    """By its name, an alias, its file's name or its repository. Raises CliError."""
    models: list[Json] = [*found["models"], *found["kept"]]
    ways = ([m for m in models if name == m["name"]], [m for m in models if name in m["aliases"]],
            [m for m in models if name in m["names"]])  # fmt: skip
    meant = next((way for way in ways if way), [])
    if len(meant) > 1:
        raise CliError(REFUSED, f"cannot tell which model is meant: {', '.join(m['name'] for m in meant)}")
    if not meant:
        raise CliError(REFUSED, f"cannot find the model {name!r}: none of that name is declared or kept")
    return meant[0]


class _Over(Exception):
    """The time is over."""


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """_Over within the block once the time is over, also in the middle of a read."""

    def over(_number: int, _frame: object) -> None:
        raise _Over

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def events(client: Client, args: argparse.Namespace) -> int:
    known = client.json("GET", "/v1/events?follow=0")
    model = args.model
    with suppress(CliError):  # else it is one that was removed, and the name that it had
        model = model and _model(client.json("GET", "/v1/status"), model)["name"]
    _show_events(known["events"], model, as_json=args.json)
    if args.follow:
        try:
            for one in client.events("GET", f"/v1/events?since={known['next']}"):
                _show_events([one], model, as_json=args.json)
        except KeyboardInterrupt:
            pass
    return 0


def _show_events(found: list[Json], model: str | None, *, as_json: bool) -> None:
    for one in found:
        if model in (None, one["model"]):
            say(json.dumps(one) if as_json else _event(one))


def _event(one: Json) -> str:
    why = f": {one['message']}" if one["message"] else ""
    return f"{one['time']}  {one['model'] or '-':<16}  {one['type']} is {one['status']}, {one['reason']}{why}"


def describe(client: Client, args: argparse.Namespace) -> int:
    found = client.json("GET", "/v1/status")
    model = _model(found, args.model)
    say(model["name"], *([f"  {model['description']}"] if model["description"] else []))
    for name in ("source", "file", "declared", "effective", "serving", "download"):
        if model[name]:
            say(f"{name}:", *(f"  {key}: {value}" for key, value in model[name].items() if value not in (None, [], "")))
    estimate = model["memory"]["estimate"]
    if estimate:
        say(f"memory: charged with at most {show_size(estimate['charge'])}")
    say(*_tuning(model["tuning"]), *_processes(found, model["name"]), "conditions:")
    for condition in model["conditions"]:
        why = f": {condition['message']}" if condition["message"] else ""
        say(f"  {condition['type']} is {condition['status']}, {condition['reason']}, "
            f"since {condition['lastTransitionTime']}{why}")  # fmt: skip
        known = BY_WORD.get(condition["reason"])
        if known and known.do:
            say(f"    what to do: {known.do}")
    happened = [e for e in client.json("GET", "/v1/events?follow=0")["events"] if e["model"] == model["name"]]
    if happened:
        say("events:", *(f"  {_event(one)}" for one in happened[-10:]))
    return 0


def _tuning(found: Json | None) -> list[str]:
    """The search for faster settings: what came of it, and what that rests on."""
    if found is None:
        return []
    lines, applied = [f"tuning: {found['state']}: {found['why']}"], found["applied"]
    for (name, value), line in zip(found["best"].items(), found["proposal"], strict=True):
        lines.append(f"  {line}" + ("  # in effect" if name in applied and applied[name] == value else ""))
    return [*lines, *map(_one_tried, found["tried"])]


def _one_tried(one: Json) -> str:
    facts = [f"{RATES[name]} {Interval(**found)}" for name, found in one["ratios"].items()]
    facts += [f"{one['pairs']} pairs", f"{one['seconds']:.0f} s", *([one["why"]] if one["why"] else [])]
    return f"  tried {yaml_line(one['field'], one['value'])}: {one['result']} ({', '.join(facts)})"


def _processes(found: Json, name: str) -> list[str]:
    return [
        f"process {one['pid']}: {one['state']}, charged with {show_size(one['own'])} of its own and "
        f"{show_size(one['shared'])} of its file"
        for one in found["memory"]["workers"]
        if one["model"] == name
    ]


def retry(client: Client, args: argparse.Namespace) -> int:
    done = client.json("POST", "/v1/retry", json.dumps({"model": args.model}).encode())
    say(f"trying {done['model']} again; see offgrid describe {done['model']}")
    return 0


def history(client: Client, args: argparse.Namespace) -> int:
    found = client.json("GET", "/v1/history")["generations"]
    if args.json:
        say(json.dumps(found, indent=2))
    else:
        say("GENERATION  ACCEPTED              DIGEST            COMMIT")
        say(*(_generation(one) for one in found))
    return 0


def _generation(one: dict[str, Any]) -> str:
    commit = (one["commit"] or "-")[:12]
    return f"{one['generation']:<10}  {one['accepted']}  {one['digest'][:16]}  {commit}"


def config(client: Client, args: argparse.Namespace) -> int:
    if args.file is not None:
        return _config_of(args.file, as_json=args.json)
    found = client.json("GET", "/v1/config")
    if args.json:
        say(json.dumps(found, indent=2))
        return 0
    say(*(f"# {name}: {_host(one['value'])} ({one['origin']})" for name, one in found["host"].items()))
    say(found["text"].rstrip("\n"))
    return 0


def _host(value: object) -> str:
    values = value if isinstance(value, list) else [] if value is None else [value]
    return " ".join(map(str, values)) or "none"


def _config_of(path: Path, *, as_json: bool) -> int:
    from offgridd.core.errors import ManifestError
    from offgridd.manifest import as_text, effective

    try:
        values = effective(read_files(path))
    except ManifestError as error:
        raise CliError(REFUSED, str(error)) from None
    shown = [{"path": list(v.path), "value": v.value, "origin": v.origin} for v in values]
    say(json.dumps(shown, indent=2) if as_json else as_text(values).rstrip("\n"))
    return 0


def seconds(text: str) -> float:
    """A time such as 90, 90s or 10m."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)(ms|s|m|h)?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 90s or 10m")
    return float(found[1]) * _SECONDS[found[2] or "s"]

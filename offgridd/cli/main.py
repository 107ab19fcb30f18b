"""Parses the command line and turns every failure into one line on stderr and its exit code."""

from __future__ import annotations

import argparse
from pathlib import Path

from offgridd.cli import (
    adopt,
    benchmark,
    bundle,
    catalog,
    chat,
    doctor,
    files,
    garbage,
    inspect,
    loading,
    lock,
    observe,
    search,
    state,
    updates,
    variants,
    verify,
)  # fmt: skip
from offgridd.cli.client import NO_DAEMON, REFUSED, Client, CliError
from offgridd.cli.terminal import complain

# What needs a daemon and no manifest: where none runs, one is started for this user.
ALONE = {
    "search",
    "catalog",
    "download-hf",
    "pull",
    "adopt",
    "list",
    "rm",
    "jobs",
    "gc",
    "load",
    "unload",
    "ps",
    "verify",
    "run",
    "inspect",
    "lock",
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="offgrid", description="Talks to offgridd, which keeps this machine's models.")
    top.add_argument("--host", help="host:port or the path of a Unix socket")
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("status", help="what is declared, what runs, and why anything is not ready")
    how = one.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true")
    how.add_argument("--watch", action="store_true", help="again at each change, until Ctrl-C")
    one.set_defaults(run=state.status)
    one = commands.add_parser("plan", help="what an edit would do, without doing it")
    one.add_argument("file", type=Path, nargs="?", default=Path("offgridd.yaml"), help="default: offgridd.yaml")
    one.add_argument("--against", metavar="REF", help="beside the file in this Git commit; needs no daemon")
    one.add_argument("--output", choices=("text", "json", "markdown"), default="text", help="with --against")
    one.set_defaults(run=state.plan)
    one = commands.add_parser("check", help="whether a manifest is valid; needs no daemon")
    one.add_argument("file", type=Path)
    one.add_argument("--fetched", action="store_true", help="as a host reads it whose `git` names its folder")
    one.set_defaults(run=state.check)
    one = commands.add_parser("schema", help="the manifest's JSON schema; needs no daemon")
    one.set_defaults(run=state.schema)
    one = commands.add_parser("run", help="chat with a model")
    one.add_argument("model")
    one.set_defaults(run=chat.run)
    one = commands.add_parser("reload", help="read the manifest now")
    one.add_argument("--wait", action="store_true", help="accepted for scripts: reload always waits for the verdict")
    one.add_argument("--allow-rewind", action="store_true", help="of git: take its newest commit whatever came before")
    one.set_defaults(run=state.reload)
    one = commands.add_parser("reconcile", help="look again now, and try again what failed")
    one.add_argument("model", nargs="?")
    one.add_argument("--wait", action="store_true", help="until it is Ready")
    one.add_argument("--timeout", type=observe.seconds, default=300.0, help="of --wait; default 5m")
    one.set_defaults(run=state.reconcile)
    one = commands.add_parser("logs", help="the end of what a model's worker printed")
    one.add_argument("model")
    one.set_defaults(run=state.logs)
    variants.add_to(commands)
    search.add_to(commands)
    catalog.add_to(commands)
    inspect.add_to(commands)
    lock.add_to(commands)
    updates.add_to(commands)
    bundle.add_to(commands)
    files.add_to(commands)
    adopt.add_to(commands)
    garbage.add_to(commands)
    verify.add_to(commands)
    loading.add_to(commands)
    observe.add_to(commands)
    doctor.add_to(commands)
    benchmark.add_to(commands)
    return top


def main(argv: list[str] | None = None) -> int:
    """The exit code."""
    args = parser().parse_args(argv)
    try:
        code: int = args.run(Client(args.host, private=args.command in ALONE), args)
    except CliError as error:
        complain(error)
        return error.code
    except BrokenPipeError:
        return 0
    except OSError as error:  # a full disk behind stdout
        complain(f"cannot go on: {error.strerror or error}")
        return REFUSED
    except (KeyError, TypeError) as error:  # of another version, or no offgridd at all
        complain(f"cannot use the answer: it is not as expected ({error}); is the daemon of the same version?")
        return NO_DAEMON
    except KeyboardInterrupt:
        return 130
    return code

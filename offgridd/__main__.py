"""The two programs: argument parsing only."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from offgridd import __version__


def offgridd(argv: list[str] | None = None) -> None:
    """`offgridd serve`."""
    parser = argparse.ArgumentParser(prog="offgridd", description="Keeps this machine's models as a YAML file says.")
    parser.add_argument("--version", action="version", version=f"offgridd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run the daemon")
    what = serve.add_mutually_exclusive_group()
    what.add_argument("--manifest", type=Path)
    what.add_argument(
        "--private", action="store_true", default=None,
        help="no manifest, no TCP: a socket for this user alone, until the last client has gone",
    )  # fmt: skip
    serve.add_argument("--state-dir", type=Path)
    serve.add_argument("--admin-socket", type=Path)
    args = parser.parse_args(argv)
    from offgridd import daemon
    from offgridd.settings import Settings

    flags = {k: v for k, v in vars(args).items() if k != "command" and v is not None}
    sys.exit(daemon.run(Settings(**flags)))


def offgrid(argv: list[str] | None = None) -> None:
    """Everything else."""
    from offgridd.cli import main

    sys.exit(main(argv))


if __name__ == "__main__":
    offgridd()

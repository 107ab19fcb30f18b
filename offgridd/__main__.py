"""The two programs: argument parsing only."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from offgridd import __version__

EXIT_CONFIG = 78


def offgridd(argv: list[str] | None = None) -> None:
    """`offgridd serve`, `dev-hub`, `install` and `uninstall`."""
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
    serve.add_argument("--admin-group", help="may use the admin socket besides its owner")
    serve.add_argument(
        "--store-root", dest="store_roots", action="append", type=Path, metavar="PATH",
        help="a folder that models may lie in; more than once for more",
    )  # fmt: skip
    serve.add_argument("--log-level", help="debug, info, warning or error")
    serve.add_argument("--log-format", help="auto, text, journal or json")
    hub = commands.add_parser("dev-hub", help="serve a folder of repositories as a hub, for demos and trials")
    hub.add_argument(
        "folder", type=Path, metavar="DIR", help="holds owner/name/FILES, and may hold owner/name/.hub.json"
    )
    hub.add_argument("--host", default="127.0.0.1")
    hub.add_argument(
        "--port", type=int, default=8611, help="of the hub; large files come from the next one; 0 = any two"
    )
    hub.add_argument("--rate", type=float, help="bytes a second that a connection may have of a file")
    for name, why in (("install", "write and enable a unit for systemd"), ("uninstall", "take it away again")):
        one = commands.add_parser(name, help=why)
        one.add_argument("--user", action="store_true", help="of this user alone, not of the system")
    for flag, why in (
        ("--socket", "systemd listens, so that a restart refuses no connection"),
        ("--gpu", "let it use GPUs"),
        ("--offline", "let it reach nothing but this machine"),
        ("--now", "start it, too"),
        ("--dry-run", "show what would be written"),
    ):
        commands.choices["install"].add_argument(flag, action="store_true", help=why)
    commands.choices["install"].add_argument(
        "--bin", type=Path, metavar="DIR", help="where offgridd and offgrid are; default: this environment"
    )
    args = parser.parse_args(argv)
    if args.command in ("install", "uninstall"):
        sys.exit(_units(args))
    if args.command == "dev-hub":
        from offgridd.devhub.run import run

        sys.exit(run(args.folder, args.host, args.port, args.rate))
    from offgridd.settings import SettingsRefused, load

    try:
        settings = load({k: v for k, v in vars(args).items() if k != "command" and v is not None})
    except SettingsRefused as refused:
        print(f"offgridd: {refused}", file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    from offgridd import daemon

    sys.exit(daemon.run(settings))


def _units(args: argparse.Namespace) -> int:
    from offgridd import install

    given = {name: value for name, value in vars(args).items() if name not in ("command", "dry_run")}
    wanted = install.Wanted(**given)
    try:
        if getattr(args, "dry_run", False):
            for path, text in install.files(wanted).items():
                print(f"# {path}\n{text}")
            return 0
        print(*getattr(install, args.command)(wanted), sep="\n")
    except install.InstallError as error:
        print(f"offgridd: {error}", file=sys.stderr)
        return 1
    return 0


def offgrid(argv: list[str] | None = None) -> None:
    """Everything else."""
    try:
        from offgridd.cli import main

        code = main(argv)
    except KeyboardInterrupt:  # also while it is still loading
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    offgridd()

"""bundle export, bundle import: models for machines that never see a network."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from offgridd.cli.client import REFUSED, Client, CliError
from offgridd.cli.files import follow, shown_error
from offgridd.cli.terminal import complain, say
from offgridd.cli.writing import write
from offgridd.core.bundle import HEAD, BundleError, blob_of
from offgridd.core.sizes import show_size

AT_ONCE = 100  # files of one message


def add_to(commands: Any) -> None:
    kinds = commands.add_parser("bundle", help="models for machines that never see a network").add_subparsers(
        dest="bundle", required=True
    )
    one = kinds.add_parser("export", help="write what is declared and fetched, with its manifest and lock")
    one.add_argument("out", metavar="OUT.tar", help="- = stdout")
    one.add_argument("models", nargs="*", metavar="MODEL", help="all that were fetched, where none is named")
    one.add_argument("--json", action="store_true", help="the job, when it is over")
    one.set_defaults(run=export)
    one = kinds.add_parser("import", help="bring a bundle's models into the store; then declare them")
    one.add_argument("bundle", help="the tar, - = stdin, or the folder that it was unpacked to")
    one.add_argument("--manifest-to", type=Path, metavar="DIR", help="also write its manifest there, if there is none")
    one.add_argument("--json", action="store_true", help="the job, when it is over")
    one.set_defaults(run=take)


def export(client: Client, args: argparse.Namespace) -> int:
    """A file is there whole or not at all; a pipe or a device stays what it is and is written to."""
    if args.out == "-":
        return _export(client, args, _descriptor(sys.stdout, "stdout"), sys.stderr)
    out = Path(os.path.realpath(args.out))  # a link stays one
    part = Path(f"{out}.{os.getpid()}.part")  # of this command alone: two may be told to write the same file
    try:
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if out.exists() and not out.is_file():
            with out.open("wb") as file:
                return _export(client, args, file.fileno(), sys.stdout)
        with part.open("wb") as file:
            code = _export(client, args, file.fileno(), sys.stdout)
            os.fsync(file.fileno())
        if code == 0:
            os.replace(part, out)
        return code
    except OSError as error:
        raise CliError(REFUSED, f"cannot write {args.out}: {error.strerror}; name another file") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _export(client: Client, args: argparse.Namespace, fd: int, to: Any) -> int:
    begun = client.json("POST", "/v1/bundle/export", json.dumps({"models": args.models or None}).encode())
    job = _handed(client, begun, [("", fd)], leave=False)  # its file has no name then
    if args.json:
        say(json.dumps(job, indent=2), file=to)
    if job["state"] != "done":
        complain(shown_error(job))
        return REFUSED
    if not args.json:
        say(*(f"{one['model']} is not in it: {one['why']}" for one in job["result"]["left_out"]), file=sys.stderr)
        say(f"bundled {', '.join(job['result']['models'])}: {show_size(job['size'])}", file=to)
    return 0


def take(client: Client, args: argparse.Namespace) -> int:
    with contextlib.ExitStack() as stack:
        try:
            files = _opened(args.bundle, stack)
        except OSError as error:
            raise CliError(REFUSED, f"cannot read {error.filename or args.bundle}: {error.strerror}") from None
        texts = _manifest(files, args.bundle) if args.manifest_to else []
        _check_absent(args.manifest_to, texts)
        job = _handed(client, client.json("POST", "/v1/bundle/import", b"{}"), files)
    if args.json:
        say(json.dumps(job, indent=2))
    if job["state"] != "done":
        complain(shown_error(job))
        return REFUSED
    _write(args.manifest_to, texts)
    if not args.json:
        names = ", ".join(job["result"]["models"])
        say(f"{names}: here, {show_size(job['size'])}")
    return 0


def _descriptor(stream: Any, name: str) -> int:
    """Raises CliError."""
    if stream is None:  # Python's, where it was closed before
        raise CliError(REFUSED, f"cannot use {name}: it is closed; name a file")
    return int(stream.fileno())


Files = list[tuple[str, int]]  # names in a folder, "" of a tar, and descriptors


def _opened(name: str, stack: contextlib.ExitStack) -> Files:
    """What is to be handed over. Raises OSError."""
    if name == "-":
        return [("", _descriptor(sys.stdin, "stdin"))]
    path = Path(name)
    if not path.is_dir():
        return [("", stack.enter_context(path.open("rb")).fileno())]
    folder = path / "blobs"
    blobs = sorted(n for n in (os.listdir(folder) if folder.is_dir() else []) if blob_of(f"blobs/{n}"))
    names = [HEAD, *(f"blobs/{n}" for n in blobs)]
    return [(n, stack.enter_context((path / n).open("rb")).fileno()) for n in names]


def _handed(client: Client, begun: dict[str, Any], files: Files, *, leave: bool = True) -> Any:
    """Hands the files over; gives the job when it is over. Raises CliError."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(begun["socket"])
            for some in (files[i : i + AT_ONCE] for i in range(0, len(files), AT_ONCE)):
                line = json.dumps({"names": [name for name, _ in some if name]}).encode() + b"\n"
                sent = socket.send_fds(sock, [line], [fd for _, fd in some])
                sock.sendall(line[sent:])
    except OSError as error:
        raise CliError(REFUSED, f"cannot hand the file over to the daemon: {error.strerror or error}") from None
    return follow(client, begun, leave=leave)


def _manifest(files: Files, name: str) -> list[tuple[str, str]]:
    """The texts of the manifest in a bundle, by their names. Raises CliError."""
    from offgridd.effects.bundles import BundleReader, Member, Opened, file_member, tar_members

    def members() -> Iterator[Member]:
        name, fd = files[0]
        if name:
            yield file_member(name, fd)
        else:
            yield from tar_members(Opened(fd, lambda: None))

    try:
        found = BundleReader(members()).head()
        os.lseek(files[0][1], 0, os.SEEK_SET)
    except BundleError as error:
        raise CliError(REFUSED, str(error)) from None
    except OSError as error:
        raise CliError(REFUSED, f"cannot take the manifest from {name}: {error.strerror}; give it as a file") from None
    return list(found.files)


def _check_absent(folder: Path | None, texts: Iterable[tuple[str, str]]) -> None:
    """Nothing is overwritten. Raises CliError."""
    for name, text in texts:
        assert folder is not None
        path = folder / name
        if path.exists() and path.read_bytes() != text.encode():
            raise CliError(REFUSED, f"cannot write {path}: there is another one; compare them, or name another folder")


def _write(folder: Path | None, texts: Iterable[tuple[str, str]]) -> None:
    """The manifest itself last: whoever watches it must not see half. Raises CliError."""
    for name, text in reversed(list(texts)):
        assert folder is not None
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CliError(REFUSED, f"cannot write {path}: {error.strerror}") from None
        write(path, text.encode())

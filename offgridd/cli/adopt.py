"""adopt: takes models over from what other programs have on this machine.

The files are opened here, as the user who calls, and handed over open: the daemon needs no right to read them.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from offgridd import places
from offgridd.cli.client import NO_DAEMON, REFUSED, TIMEOUT, Client, CliError
from offgridd.cli.files import CANCELLED
from offgridd.cli.terminal import complain, is_terminal, say
from offgridd.core.adopting import FILES, TOOLS, Candidate, Found, harmless, own_repo, whole_models, without_twins
from offgridd.core.sizes import show_size
from offgridd.core.variants import all_shards

PATIENCE = 3600.0  # seconds for one model to be hashed
_SAID = {"reflink": "shares its bytes", "hardlink": "a hard link", "copy": "copied", "here": "was here already"}


def add_to(commands: Any) -> None:
    one = commands.add_parser("adopt", help="take models over from what other programs have on this machine")
    one.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="files, or folders to look through")
    one.add_argument(
        "--from", dest="tool", choices=[*TOOLS, "all"], help="a program; without it and without PATH it is all of them"
    )
    one.add_argument("--copy", action="store_true", help="copy what can be neither cloned nor safely linked")
    one.add_argument("--dry-run", action="store_true", help="only list what there is; needs no daemon")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=adopt)


def adopt(client: Client, args: argparse.Namespace) -> int:
    """1 where something that was found, or named, could not be had."""
    found, missing = _candidates(args)
    for text in missing:
        complain(text)
    if args.dry_run:
        shown = [_shown(one) for one in found]
        say(json.dumps(shown, indent=2)) if args.json else say(*_table(shown))
        return REFUSED if missing else 0
    results = [*_adopted(client, found, copy=args.copy, quiet=args.json)] if found else []
    if args.json:
        say(json.dumps(results, indent=2))
    elif not found and not missing:
        say("found no model of another program")
    return REFUSED if missing or any(one["error"] for one in results) else 0


def _candidates(args: argparse.Namespace) -> tuple[list[Candidate], list[str]]:
    from offgridd.effects.tools import find

    made: list[Candidate] = []
    missing: list[str] = []
    for path in args.paths:
        named = _at(path)
        made += named
        missing += [] if named else [f"cannot adopt {path}: there is no whole GGUF model"]
    tool = args.tool or (None if args.paths else "all")
    if tool is not None:
        made += find(TOOLS if tool == "all" else [tool], os.environ, Path(os.path.expanduser("~")))
    return without_twins(made), missing


def _at(path: Path) -> list[Candidate]:
    """A file that is named, with the other shards of its model; of a folder what is in it."""
    from offgridd.effects.tools.folders import found_at, ggufs

    if path.is_dir():
        files = [found_at(one, f"{harmless(one.name[:-5])}.gguf") for _, one in ggufs(path)]
        return whole_models(FILES, own_repo(FILES), "", [f for f in files if f is not None])
    name = path.name if path.name.lower().endswith(".gguf") else f"{path.name}.gguf"
    shards = all_shards(name)
    places_ = [path.with_name(shard) for shard in shards] if len(shards) > 1 else [path]
    names = [f"{harmless(shard[:-5])}.gguf" for shard in shards]
    found = [one for where, as_ in zip(places_, names, strict=True) if (one := found_at(where, as_))]
    return [Candidate(FILES, own_repo(FILES), "", tuple(found))] if len(found) == len(shards) else []


def _shown(one: Candidate) -> dict[str, Any]:
    return {
        "tool": one.tool, "repo": one.repo, "commit": one.commit or None, "files": [f.path for f in one.files],
        "paths": [f.where for f in one.files], "sha256": [f.sha256 for f in one.files], "quant": one.quant,
        "size": one.size, "would": _outlook(one.files),
    }  # fmt: skip


def _outlook(files: Sequence[Found]) -> str:
    """What the daemon would do, as far as one can see from here: it decides by where its own store is."""
    store = places.state()
    there = next((p for p in (store, *store.parents) if p.exists()), Path("/")).stat()
    try:
        abouts = [os.stat(f.where) for f in files]
    except OSError as error:
        return f"nothing: {error.strerror}"
    if any(about.st_dev != there.st_dev for about in abouts):
        return "needs --copy: it is on another file system"
    if all(about.st_uid == there.st_uid and not about.st_mode & 0o022 for about in abouts):
        return "clone, else hard link"
    return "clone, else needs --copy"


def _table(shown: list[dict[str, Any]]) -> list[str]:
    if not shown:
        return ["found no model of another program"]
    rows = [("FROM", "FILE", "QUANT", "SIZE", "REPOSITORY", "WOULD")]
    for one in shown:
        more = f" and {len(one['files']) - 1} more" if len(one["files"]) > 1 else ""
        repo = one["repo"] + (f" at {one['commit'][:12]}" if one["commit"] else "")
        rows.append(
            (one["tool"], one["files"][0] + more, one["quant"] or "-", show_size(one["size"]), repo, one["would"])
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _adopted(client: Client, found: Sequence[Candidate], *, copy: bool, quiet: bool) -> Iterator[dict[str, Any]]:
    """What came of each."""
    job = client.json("POST", "/v1/adopt", json.dumps({"copy": copy}).encode())
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect(job["socket"])
            with sock.makefile("rb") as answers:
                for one in found:
                    if is_terminal(sys.stderr):
                        say(f"reading {one.files[0].path}, {show_size(one.size)}", file=sys.stderr)
                    result = {"tool": one.tool} | _handed_over(sock, answers, one)
                    yield result
                    if not quiet:
                        _tell(result)
        except KeyboardInterrupt:
            text = "what was handed over is still taken over without you; to stop it: offgrid jobs --cancel "
            raise CliError(CANCELLED, text + job["id"]) from None
        except TimeoutError:
            raise CliError(TIMEOUT, f"cannot wait longer: no answer in {PATIENCE:.0f} s") from None
        except OSError as error:
            raise CliError(NO_DAEMON, f"cannot hand over files: {error.strerror or error}") from None


def _handed_over(sock: socket.socket, answers: Any, one: Candidate) -> dict[str, Any]:
    """Raises CliError, OSError."""
    files = [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in one.files]
    line = json.dumps({"tool": one.tool, "repo": one.repo, "commit": one.commit, "files": files}).encode() + b"\n"
    with ExitStack() as stack:
        descriptors = []
        for file in one.files:
            try:
                descriptors.append(os.open(file.where, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
            except OSError as error:
                text = f"cannot adopt {file.path}: {error.strerror}"
                return {"file": file.path, "error": {"code": "Unreadable", "message": text}}
            stack.callback(os.close, descriptors[-1])
        sent = socket.send_fds(sock, [line], descriptors)
        sock.sendall(line[sent:])
        answer = answers.readline()
    if not answer.endswith(b"\n"):
        raise CliError(REFUSED, "cannot hand over any more: the daemon has ended, or it was called off")
    try:
        found: dict[str, Any] = json.loads(answer)
    except ValueError:
        raise CliError(NO_DAEMON, "cannot use the answer: what listens there is no offgridd") from None
    return found


def _tell(result: dict[str, Any]) -> None:
    if result["error"]:
        complain(f"{result['error']['code']}: {result['error']['message']}")
        return
    trust = "its sha256 is what its name says" if result["named"] else "nobody says its sha256: trusted on first use"
    say(f"adopted {result['file']} from {result['tool']}, {show_size(result['size'])}, {_SAID[result['how']]}; {trust}")

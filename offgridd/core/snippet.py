"""The lines that declare a model, and the command that fetches it. Pure."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

_PLAIN = re.compile(r"(?:UD-)?[A-Z]+[0-9][A-Z0-9_]*")


def command(repo: str, quant: str | None, file: str) -> str:
    """`file` where no quant tells it."""
    how = f"--quant {shlex.quote(quant)}" if quant else f"--file {shlex.quote(file)}"
    return f"offgrid download-hf {repo} {how}"


def declaration(
    repo: str, quants: Sequence[str], file: str | None, revision: str | None = None, max_size: int | None = None
) -> str:
    """Lines of a manifest; `models:` is the first. `file` and `quants` exclude each other."""
    source = [f"hf: {repo}"]
    source += [f"file: {json.dumps(file)}"] if file else []
    source += [f"revision: {json.dumps(revision)}"] if revision else []
    lines = ["models:", f"  {name_of(repo)}:", f"    source: {{{', '.join(source)}}}"]
    if quants and not file:
        shown = [quant if _PLAIN.fullmatch(quant) else json.dumps(quant) for quant in quants]
        lines.append(f"    quant: {shown[0] if len(shown) == 1 else '[' + ', '.join(shown) + ']'}")
    lines += [f"    max_size: {max_size}"] if max_size is not None else []
    return "\n".join(lines) + "\n"


def web_declaration(url: str, sha256: str) -> str:
    """The same of a file of the web."""
    name = name_of(f"/{unquote(urlsplit(url).path).rpartition('/')[2].lower().removesuffix('.gguf')}")
    return f"models:\n  {name}:\n    source: {{url: {json.dumps(url)}}}\n    sha256: {json.dumps(sha256)}\n"


def name_of(repo: str) -> str:
    """What a model of a repository may be called in a manifest."""
    name = re.sub("[^a-z0-9._-]+", "-", repo.partition("/")[2].lower().removesuffix("-gguf"))
    return name.strip("._-")[:64] or "model"

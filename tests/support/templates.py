"""The chat templates of the models that llama.cpp knows: out of the source that our wheel is built from."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from offgridd.engine.render import environment, rendered

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "llama-cpp.lock"
_NAMES = {"bos_token": "<BOS>", "eos_token": "<EOS>"}


def folder() -> Path:
    """Where they lie; the first call downloads that source, with the pinned sha256."""
    version, sha256 = _pinned()
    home = (
        os.environ.get("OFFGRIDD_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "offgridd"
    )
    kept = Path(home) / "templates" / f"{version}-{sha256[:8]}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with (kept.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            _fetch(kept, version, sha256)
    return kept


def _pinned() -> tuple[str, str]:
    found = re.search(r"==(\S+).*?sha256:([0-9a-f]{64})", LOCK.read_text(), re.DOTALL)
    assert found
    return found[1], found[2]


def _fetch(kept: Path, version: str, sha256: str) -> None:
    with tempfile.TemporaryDirectory(dir=kept.parent) as work:
        wanted = ["--no-deps", "--no-binary", "llama-cpp-python", "--require-hashes", "-r", str(LOCK), "-d", work]
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", *wanted], check=True, timeout=600)
        archive = Path(work) / f"llama_cpp_python-{version}.tar.gz"
        with archive.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == sha256
        part = Path(work) / "part"
        part.mkdir()
        with tarfile.open(archive) as packed:
            for member in packed:
                if re.fullmatch(r"[^/]+/vendor/llama\.cpp/models/templates/[^/]+\.jinja", member.name):
                    data = packed.extractfile(member)
                    assert data is not None
                    (part / Path(member.name).name).write_bytes(data.read())
        part.rename(kept)


def templates() -> Iterator[tuple[str, str]]:
    """Name and text of each."""
    for path in sorted(folder().glob("*.jinja")):
        yield path.stem, path.read_text()


@cache
def _compiled(text: str) -> Any:
    return environment().from_string(text)


class Rendering:
    """As `offgridd.engine.render.Renderer`, in this process. None where the template refuses."""

    def __init__(self, text: str) -> None:
        self._template = _compiled(text)

    def render(self, messages: Any, tools: Any = (), variables: Any = None, *, answer: bool = True) -> str | None:
        asked = {"messages": messages, "tools": list(tools), "variables": variables or {}, "answer": answer}
        try:
            return rendered(self._template, asked, _NAMES)
        except Exception:  # whatever a template raises is its refusal
            return None

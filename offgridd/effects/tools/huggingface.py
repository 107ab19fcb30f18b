"""The cache of Hugging Face's library: `models--OWNER--NAME/snapshots/COMMIT/PATH` are links to `blobs/SHA256`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from offgridd.core.adopting import Candidate, whole_models
from offgridd.core.hub import is_repo
from offgridd.effects.tools.folders import found_at, ggufs, read_text, subfolders

_COMMIT = re.compile(r"[0-9a-f]{40}")


def find(env: Mapping[str, str], home: Path) -> list[Candidate]:
    return find_in(cache_of(env, home), "huggingface")


def cache_of(env: Mapping[str, str], home: Path) -> Path:
    """Where the library puts it."""
    if given := env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE"):
        return Path(given)
    if given := env.get("HF_HOME"):
        return Path(given) / "hub"
    return Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "huggingface" / "hub"


def find_in(cache: Path, tool: str) -> list[Candidate]:
    """Those of a folder in that layout; of several commits that have the same file, the one that `main` is at."""
    made = []
    for folder in subfolders(cache):
        owner, _, name = folder.name.removeprefix("models--").partition("--")
        repo = f"{owner}/{name}"
        if not folder.name.startswith("models--") or not is_repo(repo):
            continue
        main = read_text(folder / "refs" / "main").strip()
        snapshots = [s for s in subfolders(folder / "snapshots") if _COMMIT.fullmatch(s.name)]
        for snapshot in sorted(snapshots, key=lambda s: s.name != main):
            files = (found_at(path, name) for name, path in ggufs(snapshot))
            made += whole_models(tool, repo, snapshot.name, [f for f in files if f is not None])
    return made

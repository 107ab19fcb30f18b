"""LM Studio's folder of models: `PUBLISHER/REPOSITORY/FILE`, as at Hugging Face; it may lie anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from offgridd.core.adopting import Candidate, Found, harmless, own_repo, whole_models
from offgridd.core.hub import is_repo
from offgridd.effects.tools.folders import found_at, ggufs, read_map, read_text

TOOL = "lmstudio"


def find(_env: Mapping[str, str], home: Path) -> list[Candidate]:
    pointed = read_text(home / ".lmstudio-home-pointer").strip()
    own = Path(pointed) if pointed.startswith("/") and "\0" not in pointed else home / ".lmstudio"
    chosen = read_map(own / "settings.json").get("downloadsFolder")
    folders = [own / "models", home / ".cache" / "lm-studio" / "models"]
    if isinstance(chosen, str) and chosen.startswith("/") and "\0" not in chosen:
        folders.insert(0, Path(chosen))
    return [one for folder in dict.fromkeys(folders) for one in _find_in(folder)]


def _find_in(folder: Path) -> list[Candidate]:
    repos: dict[str, list[Found]] = {}
    for name, path in ggufs(folder):
        publisher, _, rest = name.partition("/")
        repo, _, file = rest.partition("/")
        known = bool(file) and is_repo(f"{publisher}/{repo}")
        title = file if known else f"{harmless(path.name[:-5])}.gguf"
        if found := found_at(path, title):
            repos.setdefault(f"{publisher}/{repo}" if known else own_repo(TOOL), []).append(found)
    return [one for repo, files in repos.items() for one in whole_models(TOOL, repo, "", files)]

"""llama.cpp's cache. Now it has Hugging Face's layout; before, `OWNER_NAME_FILE` lay flat, with a list beside it.

The list is `manifest=OWNER=NAME=TAG.json`, what the hub had answered; it names the first file and its sha256.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from offgridd.core.adopting import Candidate, Found, harmless, own_repo, whole_models
from offgridd.core.hub import as_sha256, is_path, is_repo
from offgridd.core.variants import all_shards
from offgridd.effects.tools import huggingface
from offgridd.effects.tools.folders import found_at, read_map

TOOL = "llama.cpp"


def find(env: Mapping[str, str], home: Path) -> list[Candidate]:
    given = env.get("LLAMA_CACHE")
    cache = Path(given) if given else Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "llama.cpp"
    return [*huggingface.find_in(cache, TOOL), *_flat(cache)]


def _flat(cache: Path) -> list[Candidate]:
    try:
        names = sorted(p.name for p in cache.iterdir())
    except OSError:
        return []
    by_repo: dict[str, list[Found]] = {}
    listed: set[str] = set()
    for repo, name, path, sha256 in (one for n in names for one in _listed(cache, n)):
        if name not in listed and (found := found_at(cache / name, path, sha256)):
            listed.add(name)
            by_repo.setdefault(repo, []).append(found)
    others = [name for name in names if name.lower().endswith(".gguf") and name not in listed]
    rest = [found for name in others if (found := found_at(cache / name, f"{harmless(name[:-5])}.gguf"))]
    return [
        one for repo, files in [*by_repo.items(), (own_repo(TOOL), rest)] for one in whole_models(TOOL, repo, "", files)
    ]


def _listed(cache: Path, name: str) -> Iterator[tuple[str, str, str, str | None]]:
    """Of each file that a list names: its repository, its name here, its path there, and its sha256."""
    parts = name.removesuffix(".json").split("=")
    if len(parts) != 4 or parts[0] != "manifest" or not name.endswith(".json"):
        return
    repo, file = f"{parts[1]}/{parts[2]}", read_map(cache / name).get("ggufFile")
    path = file.get("rfilename") if isinstance(file, dict) else None
    if not is_repo(repo) or not isinstance(path, str) or not is_path(path) or not path.lower().endswith(".gguf"):
        return
    lfs = file.get("lfs") if isinstance(file, dict) else None
    first = as_sha256(lfs.get("sha256")) if isinstance(lfs, dict) else None
    for number, shard in enumerate(all_shards(path)):
        yield repo, f"{parts[1]}_{parts[2]}_{shard.replace('/', '_')}", shard, first if number == 0 else None

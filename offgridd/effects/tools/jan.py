"""Jan's data folder: `llamacpp/models/ID/model.yml` says where a file is, mostly beside it; before, `~/jan/models`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from offgridd.core.adopting import Candidate, Found, harmless, own_repo, whole_models
from offgridd.core.hub import as_sha256
from offgridd.effects.tools.folders import MOST_ENTRIES, found_at, ggufs, read_map, read_text

TOOL = "jan"
_LINE = re.compile(r"(?m)^(model_path|model_sha256):[ \t]*(\"[^\"\n]*\"|'[^'\n]*'|[^\n#]*)")


def find(env: Mapping[str, str], home: Path) -> list[Candidate]:
    data = _data_folder(env, home)
    files = [*_described(data), *_plain(data / "llamacpp" / "models"), *_plain(home / "jan" / "models")]
    once = {f.where: f for f in reversed(files)}
    return whole_models(TOOL, own_repo(TOOL), "", reversed(once.values()))


def _data_folder(env: Mapping[str, str], home: Path) -> Path:
    share = Path(env.get("XDG_DATA_HOME") or home / ".local" / "share") / "Jan"
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "Jan"
    for folder in (share, config):
        chosen = read_map(folder / "settings.json").get("data_folder")
        if isinstance(chosen, str) and chosen.startswith("/") and "\0" not in chosen:
            return Path(chosen)
    return share / "data"


def _described(data: Path) -> Iterator[Found]:
    """By each `model.yml`; two of its lines are read, so no YAML is."""
    models = data / "llamacpp" / "models"
    found = [Path(here) for here, _, names in os.walk(models) if "model.yml" in names]
    for folder in sorted(found)[:MOST_ENTRIES]:
        said = {key: value.strip().strip("\"'") for key, value in _LINE.findall(read_text(folder / "model.yml"))}
        path = said.get("model_path", "")
        if path and "\0" not in path:
            name = harmless(folder.relative_to(models).as_posix())
            file = found_at(data / path, f"{name}.gguf", as_sha256(said.get("model_sha256")))
            if file is not None:
                yield file


def _plain(models: Path) -> Iterator[Found]:
    for name, path in ggufs(models):
        folder, _, file = name.rpartition("/")
        title = folder if file == "model.gguf" and folder else file[:-5]
        if found := found_at(path, f"{harmless(title)}.gguf"):
            yield found

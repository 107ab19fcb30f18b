"""Ollama's store: `manifests/REGISTRY/NAMESPACE/NAME/TAG` name layers, which are `blobs/sha256-HEX`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from offgridd.core.adopting import Candidate, harmless, own_repo
from offgridd.core.hub import as_sha256
from offgridd.effects.tools.folders import MOST_ENTRIES, found_at, read_map

TOOL = "ollama"
SERVICE = Path("/usr/share/ollama/.ollama/models")  # of the service that its installer makes
_MODEL = "application/vnd.ollama.image.model"
_USUAL = ("registry.ollama.ai", "library")


def find(env: Mapping[str, str], home: Path) -> list[Candidate]:
    given = env.get("OLLAMA_MODELS")
    stores = [Path(given)] if given else [home / ".ollama" / "models", SERVICE]
    return [one for store in stores for one in _find_in(store)]


def _find_in(store: Path) -> Iterator[Candidate]:
    for path in _manifests(store / "manifests"):
        *where, name, tag = path.relative_to(store / "manifests").parts
        layers = read_map(path).get("layers")
        digests = [_digest(layer) for layer in layers if _is_model(layer)] if isinstance(layers, list) else []
        if len(digests) != 1 or digests[0] is None:
            continue  # made of tensors or of several files: nothing that we load
        title = [*(part for part in where if part not in _USUAL), name, tag]
        file = f"{harmless('-'.join(title))}.gguf"
        if found := found_at(store / "blobs" / f"sha256-{digests[0]}", file, digests[0]):
            yield Candidate(TOOL, own_repo(TOOL), "", (found,))


def _manifests(folder: Path) -> list[Path]:
    """The files four steps below."""
    found = [Path(here, name) for here, _, names in os.walk(folder) for name in names]
    return sorted(p for p in found[:MOST_ENTRIES] if len(p.relative_to(folder).parts) == 4)


def _is_model(layer: object) -> bool:
    return isinstance(layer, dict) and layer.get("mediaType") == _MODEL


def _digest(layer: dict[str, object]) -> str | None:
    return as_sha256(str(layer.get("digest")).removeprefix("sha256:"))

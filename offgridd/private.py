"""A daemon for one user without a manifest: what stands in its place, from the variables that hub tools share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

NAME = "--private"  # what positions call it


def manifest(environ: Mapping[str, str]) -> tuple[tuple[str, bytes], ...]:
    """As `effects.source` reads one. HF_ENDPOINT, HF_TOKEN and the token in HF_HOME count here and nowhere else."""
    lines = ["apiVersion: offgridd/v1", "models: {}"]
    endpoint, token = environ.get("HF_ENDPOINT", "").rstrip("/"), _token(environ)
    if endpoint or token:
        lines += ["defaults:"]
        lines += [f"  endpoint: {json.dumps(endpoint)}"] if endpoint else []
        lines += [f"  token: {token}"] if token else []
    return ((NAME, "\n".join(lines).encode() + b"\n"),)


def _token(environ: Mapping[str, str]) -> str:
    """Where the user's token is, as a manifest says it; "" where there is none."""
    if environ.get("HF_TOKEN", "").strip():
        return "{env: HF_TOKEN}"
    cache = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or "/") / ".cache")
    path = Path(environ.get("HF_HOME") or Path(cache) / "huggingface") / "token"
    return f"{{file: {json.dumps(str(path))}}}" if path.is_absolute() and path.is_file() else ""

"""Reads and checks the header of a GGUF model file; used by the verifier, before anything else looks at the file."""

from __future__ import annotations

from offgridd.effects.gguf.reader import open_regular, read_adapter, read_header, read_model, read_remote
from offgridd.effects.gguf.types import GgufError

__all__ = ["GgufError", "open_regular", "read_adapter", "read_header", "read_model", "read_remote"]

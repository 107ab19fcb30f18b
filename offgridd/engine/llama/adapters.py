"""LoRA adapters beside a model: loaded once, and put on a context in sets."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp as lib

from offgridd.engine.adapters import MOST, Adapter
from offgridd.engine.port import LoadError
from offgridd.engine.wire import AdapterFile


class Adapters:
    """Those of one model: to be loaded before it has a context, and to be gone with it."""

    def __init__(self, model: Any, files: Sequence[AdapterFile]) -> None:
        """Raises LoadError."""
        if len(files) > MOST:
            raise LoadError(f"it has {len(files)} adapters, {MOST} are the most", "AdapterInvalid")
        self._handles = [_load(model, file) for file in files]
        self._scales = [file.scale for file in files]
        self.known = tuple(
            Adapter(file.name, _invocation(handle)) for file, handle in zip(files, self._handles, strict=True)
        )

    def put_on(self, context: Any, wanted: int) -> None:
        """Decodes of the context are computed with this set from now on. The same one again costs nothing."""
        bits = [bit for bit in range(len(self._handles)) if wanted >> bit & 1]
        handles = (lib.llama_adapter_lora_p_ctypes * len(bits))(*[self._handles[bit] for bit in bits])
        scales = (ctypes.c_float * len(bits))(*[self._scales[bit] for bit in bits])
        if lib.llama_set_adapters_lora(context, handles, len(bits), scales):
            raise RuntimeError("llama_set_adapters_lora failed")


def _load(model: Any, file: AdapterFile) -> Any:
    handle = lib.llama_adapter_lora_init(model, file.path.encode())
    if not handle:
        text = f"the library could not load the adapter {file.name!r}: it may be for another model"
        raise LoadError(text, "AdapterInvalid")
    return ctypes.cast(handle, lib.llama_adapter_lora_p_ctypes)


def _invocation(handle: Any) -> tuple[int, ...]:
    count = lib.llama_adapter_get_alora_n_invocation_tokens(handle)
    return tuple(lib.llama_adapter_get_alora_invocation_tokens(handle)[:count]) if count else ()

"""Where a model and its cache lie: what is declared is what runs, or the model is refused with the reason."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp as lib

from offgridd.engine.llama import log
from offgridd.engine.port import LoadError
from offgridd.engine.wire import Placement

# ggml_type
KV_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30}

_LOAD_MODES = {  # by whether the file is mapped, and locked
    (False, False): lib.LLAMA_LOAD_MODE_NONE,
    (True, False): lib.LLAMA_LOAD_MODE_MMAP,
    (False, True): lib.LLAMA_LOAD_MODE_MLOCK,
    (True, True): lib.LLAMA_LOAD_MODE_MMAP_MLOCK,
}


def kv_types(placement: Placement, *, deterministic: bool) -> tuple[str, str]:
    """Of keys and values."""
    return placement.cache_type_k or "f16", placement.cache_type_v or ("q8_0" if deterministic else "f16")


def model_params(placement: Placement) -> Any:
    """llama_model_params. Raises LoadError."""
    params = lib.llama_model_default_params()
    params.load_mode = _LOAD_MODES[placement.mmap, placement.mlock]
    _place(params, placement)
    return params


def check_locked(placement: Placement) -> None:
    """After a model was loaded. Raises LoadError where it was asked to be locked and is not, or in part."""
    if placement.mlock and (_locked() == 0 or log.said("failed to mlock")):
        text = "the file could not be locked in memory; raise the limit on locked memory or say mlock: false"
        raise LoadError(text, "MlockFailed")


def _place(params: Any, placement: Placement) -> None:
    """Sets what goes to which GPU. The library itself would go on with the CPU where there is none."""
    asked = placement.gpu_layers or placement.main_gpu is not None or placement.tensor_split
    if asked and not lib.llama_supports_gpu_offload():
        text = "a GPU is asked for, and this build of llama.cpp has no support for any, or finds none"
        raise LoadError(f"{text}; build it for this GPU, or remove gpu_layers, main_gpu and tensor_split", "NoGpu")
    if placement.gpu_layers is not None:
        params.n_gpu_layers = placement.gpu_layers
    if placement.main_gpu is not None:
        params.main_gpu = placement.main_gpu
    if placement.tensor_split:
        most = lib.llama_max_devices()
        if len(placement.tensor_split) > most:
            text = f"tensor_split has {len(placement.tensor_split)} shares and there are at most {most} devices"
            raise LoadError(text, "NoGpu")
        params.tensor_split = (ctypes.c_float * most)(*placement.tensor_split)


def _locked() -> int:
    """kB of this process that are locked in memory."""
    with open("/proc/self/status") as status:
        return next((int(line.split()[1]) for line in status if line.startswith("VmLck:")), 0)

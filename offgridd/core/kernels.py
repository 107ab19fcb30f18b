"""Which types of weights a processor computes with fast: those that llama.cpp lays out anew for it at load.

The table is that of `ggml_repack_get_optimal_repack_type` in the llama.cpp of llama-cpp-python 0.3.36.
What is laid out anew is a copy in the worker's own memory, beside the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from types import MappingProxyType

NAMES: Mapping[int, str] = MappingProxyType(
    {
        0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K",
        13: "Q5_K", 14: "Q6_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
        22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4",
        41: "Q1_0", 42: "Q2_0",
    }
)  # fmt: skip
# What a processor says of itself -> the types that it has such kernels for.
_REPACKED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "avx2": frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}),
        "avx512f": frozenset({"Q2_K"}),
        "asimddp": frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "MXFP4", "Q8_0"}),
        "i8mm": frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0"}),
    }
)


def fast_types(features: Set[str]) -> frozenset[str]:
    """Names of the ggml types that are laid out anew; `features` as /proc/cpuinfo has them."""
    return frozenset().union(*(types for feature, types in _REPACKED.items() if feature in features))


def main_type(quant: str) -> str:
    """The ggml type of most weights of a quantisation: Q4_K of Q4_K_M and UD-Q4_K_XL."""
    name = quant.removeprefix("UD-")
    for ending in ("_XL", "_L", "_M", "_S"):
        if name.startswith("Q") and "_K" in name:
            name = name.removesuffix(ending)
    return name.removesuffix("_MOE")


def speed_note(quant: str | None, features: Set[str]) -> str:
    """What `why` says of the type, or nothing where nothing is known."""
    if quant is None or not features or main_type(quant) not in NAMES.values():
        return ""
    fast = main_type(quant) in fast_types(features)
    return (
        f"{main_type(quant)} has fast kernels on this CPU"
        if fast
        else f"{main_type(quant)} has no fast kernels on this CPU"
    )

"""Quantisation names as people write them in file names, and what is known of each.

The names are llama.cpp's (`llama_ftype`), with the additions of those who publish: `UD-` (a mix chosen per tensor),
`_L`, `_XL`, `_P` (some tensors kept wider), `FP16`, and `Q4_K` for `Q4_K_M`, as llama-quantize has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_ALIASES = {"FP16": "F16", "FP32": "F32", "Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
_FULL = {"F32": 32.0, "F16": 16.0, "BF16": 16.0}
# Bits a weight of a whole file: measured on files of 32 billion parameters, or the type's own where none was at hand.
_BITS = {
    **_FULL, "Q8_0": 8.5, "Q8_K": 9.64, "Q6_K": 6.56, "Q5_K_M": 5.67, "Q5_K_S": 5.53, "Q5_1": 6.0, "Q5_0": 5.5,
    "Q4_1": 5.04, "Q4_K_M": 4.83, "Q4_K_S": 4.58, "Q4_0": 4.57, "IQ4_NL": 4.56, "IQ4_XS": 4.33, "MXFP4": 4.25,
    "MXFP4_MOE": 4.25, "NVFP4": 4.5, "Q3_K_L": 4.22, "Q3_K_M": 3.9, "Q3_K_S": 3.51, "IQ3_M": 3.66, "IQ3_S": 3.44,
    "IQ3_XS": 3.3, "IQ3_XXS": 3.06, "Q2_K": 3.01, "Q2_K_S": 2.79, "IQ2_M": 2.7, "IQ2_S": 2.5, "IQ2_XS": 2.31,
    "IQ2_XXS": 2.06, "Q2_0": 2.25, "TQ2_0": 2.06, "TQ1_0": 1.69, "IQ1_M": 1.75, "IQ1_S": 1.56, "Q1_0": 1.13,
}  # fmt: skip
_WIDER = re.compile(r"_(?:XXL|XL|L|P)$")
# A separator, or a name that a capital Q is glued to (`devstralQ4_K_M`); behind it a separator or the end.
_TOKEN = re.compile(
    r"""(?ix) (?: (?<![A-Z0-9]) (?P<dynamic>UD-)? | (?-i:(?<=[a-z])(?=I?Q[1-8]_)) )
    (?P<name>
        I?Q[1-9]_K (?:_(?:XXL|XL|XS|S|M|L|P|KV))*  (?:_R[48])?  # k-quants
      | P?Q[1-9]_[01] (?:_(?:4_4|4_8|8_8|R[48]|XL|L|P))? (?:_?g\d+)?
      | IQ[1-6]_ (?:XXS|XS|NL|KSS|KS|KL|KT|BN|S|M) (?:_(?:XL|L|P))? (?:_R[48])?
      | TQ[1-9]_ [0-9A-Z]+ | I2_S
      | MXFP4 (?:_MOE\d*)? | NVFP4 | BF16 | FP?16 | FP?32
      | (?<=[-._])Q[2-8] (?=$|[-.](?!\d))  # alone, and no version: `Q3.5-9B` is a model's name
    ) (?: (?![A-Z0-9_]) | (?<=F16|P16|F32|P32) (?![A-Z0-9]) ) """
)
_BARE = re.compile(r"(?i)Q[2-8]$")


@dataclass(frozen=True, slots=True)
class Quant:
    """`name` is canonical, `token` what the file has (upper case); `suffix`: another type is named behind it."""

    name: str
    token: str
    suffix: bool = False

    @property
    def plain(self) -> str:
        """The kind of file without who made it: `UD-Q4_K_XL` -> `Q4_K_M`, as its tensors are mostly of that type."""
        return _about(self.name)[0]

    @property
    def bits(self) -> float | None:
        """Bits a weight, about; None where the name says nothing of it."""
        return _about(self.name)[1]

    @property
    def loadable(self) -> bool:
        """Whether llama.cpp itself reads it: not a type of a fork, nor one that it has dropped."""
        return self.bits is not None

    @property
    def width(self) -> int:
        """1 to 8, 16 or 32: the number that its name has."""
        return _about(self.name)[2]


@lru_cache(1024)  # a search asks for the same few names some thousand times
def _about(name: str) -> tuple[str, float | None, int]:
    """Of a quant's name: `plain`, `bits` and `width`."""
    plain = name.removeprefix("UD-")
    while plain not in _BITS and (cut := _WIDER.sub("", plain)) != plain:
        plain = cut
    plain = _ALIASES.get(plain, plain)
    bits = _BITS.get(plain, float(plain[1]) + 0.5 if _BARE.match(plain) else None)
    width = int(re.findall(r"\d+", plain)[0]) if plain not in ("MXFP4", "MXFP4_MOE", "NVFP4") else 4
    return plain, bits, width


@lru_cache(4096)  # what many search for is looked at again and again
def find_quant(text: str) -> Quant | None:
    """The quant that the name of a file (without `.gguf` and its shard's number) or of a folder tells; the last one.

    What stands behind it may be the type of the outer tensors (`Q4_K_M-fp16`, `Q3_K_L-Q8`): no quant of its own.
    """
    found = list(_TOKEN.finditer(text))
    if not found:
        return None
    last, before = found[-1], found[-2] if len(found) > 1 else None
    outer = before is not None and last.start() - before.end() == 1 and _is_outer(last["name"], before["name"])
    chosen = before if before is not None and outer else last
    token = ((chosen["dynamic"] or "") + chosen["name"]).upper()
    prefix = "UD-" if chosen["dynamic"] else ""
    name = token.removeprefix("UD-")
    return Quant(prefix + _ALIASES.get(name, name), token, suffix=outer)


def _is_outer(name: str, before: str) -> bool:
    """Whether `name` behind `before` tells the outer tensors' type."""
    wide = {*_FULL, *_ALIASES, "Q8", "Q8_0"}
    return name.upper() in wide and before.upper() not in {*_FULL, "FP16", "FP32"}

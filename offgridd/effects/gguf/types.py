"""The words of the GGUF format: value and tensor types, our limits, what a walk collects, and the one error.

Used by the other modules of this package. It must never open a file or decide whether a model makes sense.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType

NOT_REGULAR = "NotARegularFile"
NOT_GGUF = "NotGGUF"
UNSUPPORTED = "UnsupportedVersion"
MALFORMED = "MalformedGGUF"
TRUNCATED = "Truncated"
INVALID = "InvalidModel"

ARCHITECTURE = "general.architecture"
ALIGNMENT = "general.alignment"
SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS = "split.no", "split.count", "split.tensors.count"

MAX_HEADER = 128 << 20  # bytes; vocabularies with merges need about 20 MiB. It bounds the time that a walk takes.
MAX_KEYS = 100_000
MAX_TENSORS = 100_000  # in files that exist: 50,000 (one for each expert of each layer). Their names are held at once.
MAX_FACTS = 1_000  # keys that are kept
MAX_TEXT = 65_535  # bytes of a key, and of a text that is kept
MAX_ALIGNMENT = 1 << 20
MAX_DIMS = 4
MAX_NAME = 63  # bytes of a tensor's name
MAX_HEADS = 4_096  # elements of a head count per layer
MAX_LAYERED = 16  # arrays of a number per layer whose elements are kept: real files have up to 5
IMPLAUSIBLE = 1 << 40  # a declared length from here on is nonsense and not a file that was cut off
INT64 = 1 << 63  # the engine counts elements and bytes below this


class Kind(IntEnum):
    """Types of metadata values."""

    U8 = 0
    I8 = 1
    U16 = 2
    I16 = 3
    U32 = 4
    I32 = 5
    F32 = 6
    BOOL = 7
    STR = 8
    ARRAY = 9
    U64 = 10
    I64 = 11
    F64 = 12


# struct format of each fixed-size value
FORMATS = MappingProxyType(
    {
        Kind.U8: "<B",
        Kind.I8: "<b",
        Kind.U16: "<H",
        Kind.I16: "<h",
        Kind.U32: "<I",
        Kind.I32: "<i",
        Kind.F32: "<f",
        Kind.BOOL: "<?",
        Kind.U64: "<Q",
        Kind.I64: "<q",
        Kind.F64: "<d",
    }
)

# ggml tensor type -> (elements per block, bytes per block). The numbers that lack here are types that were removed
# (4, 5, 31-33, 36-38) or that nobody has defined.
TENSOR_TYPES = MappingProxyType(
    {
        0: (1, 4),  # F32
        1: (1, 2),  # F16
        2: (32, 18),  # Q4_0
        3: (32, 20),  # Q4_1
        6: (32, 22),  # Q5_0
        7: (32, 24),  # Q5_1
        8: (32, 34),  # Q8_0
        9: (32, 36),  # Q8_1
        10: (256, 84),  # Q2_K
        11: (256, 110),  # Q3_K
        12: (256, 144),  # Q4_K
        13: (256, 176),  # Q5_K
        14: (256, 210),  # Q6_K
        15: (256, 292),  # Q8_K
        16: (256, 66),  # IQ2_XXS
        17: (256, 74),  # IQ2_XS
        18: (256, 98),  # IQ3_XXS
        19: (256, 50),  # IQ1_S
        20: (32, 18),  # IQ4_NL
        21: (256, 110),  # IQ3_S
        22: (256, 82),  # IQ2_S
        23: (256, 136),  # IQ4_XS
        24: (1, 1),  # I8
        25: (1, 2),  # I16
        26: (1, 4),  # I32
        27: (1, 8),  # I64
        28: (1, 8),  # F64
        29: (256, 56),  # IQ1_M
        30: (1, 2),  # BF16
        34: (256, 54),  # TQ1_0
        35: (256, 66),  # TQ2_0
        39: (32, 17),  # MXFP4
        40: (64, 36),  # NVFP4
        41: (128, 18),  # Q1_0
        42: (64, 18),  # Q2_0
    }
)


class GgufError(Exception):
    """Why a file is refused. `reason` is one of the words above, `message` is for people and safe to print."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason, self.message = reason, message


@dataclass(frozen=True, slots=True)
class Array:
    """What is kept of an array: never its elements, but for a few numbers per layer."""

    kind: int
    count: int
    items: tuple[int, ...] = ()  # of a number per layer

    @property
    def largest(self) -> int:
        return max(self.items, default=0)


Value = int | float | bool | str | Array


@dataclass(slots=True)
class Facts:
    """What one walk over a header collects, still unjudged."""

    values: dict[str, Value] = field(default_factory=dict)
    has_chat_template: bool = False
    tensor_count: int = 0
    tensor_bytes: int = 0
    embedding_row: int | None = None  # first dimension of token_embd.weight
    empty_tensor: str = ""  # name of a tensor with a zero dimension
    names: set[bytes] = field(default_factory=set)  # of the tensors
    shards: int = 1  # files that these facts are of
    layered: int = 0  # arrays whose elements were kept
    multiplied: dict[int, int] = field(default_factory=dict)  # by type, bytes of matrices whose rows divide by 8
    embedding: dict[int, int] = field(default_factory=dict)  # the same of token_embd.weight
    own_output: bool = False  # there is an output.weight
    classifier: bool = False  # there is a cls.weight or a cls.output.weight


def malformed(offset: int, why: str) -> GgufError:
    return GgufError(MALFORMED, f"cannot read the model's header: at byte {offset} {why}; get the file again")


def truncated(expected: int, actual: int) -> GgufError:
    text = f"cannot use the model: it needs at least {expected} bytes and the file has {actual}; get the file again"
    return GgufError(TRUNCATED, text)


def invalid(why: str, do: str = "use another file") -> GgufError:
    return GgufError(INVALID, f"cannot use the file as a model: {why}; {do}")


def show(text: str | bytes) -> str:
    """Text from a file as it can be printed anywhere: quoted, escaped and short."""
    if isinstance(text, bytes):
        text = text[:80].decode("utf-8", "backslashreplace")
    return ascii(text[:64])

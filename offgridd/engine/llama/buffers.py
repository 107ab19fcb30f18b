"""What the library says of itself, taken apart: the memory that it reserves, and what of the processor it uses.

The forms are those of the llama.cpp of llama-cpp-python 0.3.36: `load_tensors`, `llama_kv_cache`, `sched_reserve` in
its log, and `llama_print_system_info`. A line of another form is not understood, and nothing is made of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from offgridd.engine.wire import Buffer

_LINE = re.compile(r":\s+(\S+)\s+(model|KV|RS|compute|output) buffer size =\s*([0-9.]+) MiB")
_KINDS = {"model": "weights", "KV": "kv", "RS": "kv", "compute": "compute", "output": "output"}


def buffer(line: str) -> Buffer | None:
    """`load_tensors:   CPU_Mapped model buffer size =    92.10 MiB`."""
    found = _LINE.search(line)
    return Buffer(found[1], _KINDS[found[2]], round(float(found[3]) * (1 << 20))) if found else None


def together(buffers: Iterable[Buffer]) -> tuple[Buffer, ...]:
    """Those of one device and kind as one: shards have a buffer each, layers with a window keys of their own."""
    sums: dict[tuple[str, str], int] = {}
    for one in buffers:
        sums[one.device, one.what] = sums.get((one.device, one.what), 0) + one.bytes
    return tuple(Buffer(device, what, size) for (device, what), size in sums.items())


def features(text: str) -> tuple[str, ...]:
    """`CPU : SSE3 = 1 | AVX2 = 1 | ` -> CPU SSE3, CPU AVX2; what is 0 is left out, another value stays."""
    found, device = [], ""
    for part in text.split("|"):
        name, _, value = part.partition("=")
        if ":" in name:
            device, _, name = name.partition(":")
        name, value = f"{device.strip()} {name.strip()}".strip(), value.strip()
        if value not in ("", "0"):
            found.append(name if value == "1" else f"{name} = {value}")
    return tuple(found)

"""Benchmark records as they are kept, made up."""

from __future__ import annotations

import copy
import json
from typing import Any

_FIGURE = {"median": 2.0, "low": 1.0, "high": 3.0, "runs": 4}
_NAMES = ("prompt_tps", "generation_tps", "ttft", "itl_p50", "itl_p95", "total")
RECORD: dict[str, Any] = {
    "format": "offgridd.benchmark/v1", "uid": "0" * 32, "model": "smol", "load_key": "0123456789abcdef",
    "file": {"sha256": "a" * 64, "size": 5}, "load": {"context": 8192, "cache_types": ["f16", "f16"]}, "threads": 2,
    "workload": {"prompt_tokens": 512, "output_tokens": 128, "iterations": 4, "concurrency": [1], "depth": [0]},
    "memory": {"own_peak_bytes": 1000, "mapped_bytes": 2000, "reserved": [{"device": "CPU", "what": "kv", "bytes": 9}],
               "gpu_reserved_bytes": None, "estimate": {"weights": 7, "mapped": True}},
    "results": [{"label": "pp512 + tg128", "concurrency": 1, "depth": 0, "disturbed": False,
                 **{name: dict(_FIGURE) for name in _NAMES}}],
    "runs": [{"concurrency": 1, "depth": 0, "figures": dict.fromkeys(_NAMES, value), "disturbed": ""}
             for value in (1.0, 2.0, 2.0, 3.0)],
    "environment": {"cpu": "A processor", "cores": 2, "governor": None, "memory": 1 << 33, "kernel": "6.1",
                    "machine": "x86_64", "offgridd": "0.1", "engine": "fake", "gpus": [],
                    "before": {"load": [0.1, 0.2, 0.3], "pressure": None}},
    "started": 1.8e9, "seconds": 5.5, "load_seconds": 0.5,
}  # fmt: skip


def record(number: int = 0, **changed: Any) -> dict[str, Any]:
    """Another one for each number. Keys of what is within others are written `memory__mapped_bytes`."""
    made = copy.deepcopy({**RECORD, "uid": f"{number:032x}", "started": RECORD["started"] + number})
    for name, value in changed.items():
        *outer, last = name.split("__")
        place: Any = made
        for key in outer:
            place = place[int(key) if isinstance(place, list) else key]
        place[int(last) if isinstance(place, list) else last] = value
    return made


def lines(*records: dict[str, Any]) -> bytes:
    return "".join(json.dumps(one) + "\n" for one in records).encode()

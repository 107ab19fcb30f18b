"""What an edit costs: keys that change when a file has to be found again, or a worker replaced.

They are asked for at every pass of the loop, for every model, so that answers are remembered: by the parts of a spec
that matter, so that edits of all else leave nothing behind.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any, Final

from offgridd.core.benchmark import Workload
from offgridd.core.desired import HUB, HubSource, LoadSpec, ModelSpec, Source
from offgridd.core.errors import Failure
from offgridd.core.hub import Pin

# Of LoadSpec, what changes nothing in a saved state. The number of threads varies within a worker's life.
_NO_MATTER: Final[Mapping[str, Any]] = {
    "chat_template": None, "threads": None, "lookup": False, "sandbox": "preferred", "persist": True,
    "adapters": (), "draft": None,
}  # fmt: skip


def stable_key(*parts: object) -> str:
    """A short name for plain data: 16 hex digits of the sha256 of its canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def source_key(spec: ModelSpec) -> str:
    """Changes when the file has to be found and verified again: the question, and the lock's answer."""
    return _source_key(spec.source, spec.sha256, spec.lock)


def question_key(spec: ModelSpec) -> str:
    """Changes when the source asks for something else. Where it comes from and its declared sha256."""
    return _question_key(spec.source, spec.sha256)


def load_key(spec: ModelSpec, file_key: str, engine: str) -> str:
    """Changes when the worker has to be replaced: the bytes, a draft's too, the load fields, the engine build."""
    return _load_key(spec.load, file_key, engine)


def shelf_key(spec: ModelSpec, file_key: str, engine: str) -> str:
    """Changes when states that were saved say nothing any more: the bytes, the engine build, most load fields."""
    return _shelf_key(replace(spec.load, **_NO_MATTER), file_key, engine)


def bench_key(load_key: str, workload: Workload, host: str) -> str:
    """Changes when a measurement says nothing any more: the load key, the workload, the machine."""
    return _bench_key(load_key, workload, host)


@lru_cache(maxsize=32768)
def _bench_key(load_key: str, workload: Workload, host: str) -> str:
    return stable_key(load_key, asdict(workload), host)


@lru_cache(maxsize=32768)
def _source_key(source: Source, sha256: str | None, lock: Pin | Failure | None) -> str:
    match lock:
        case None:
            return _question_key(source, sha256)
        case Pin(files=files):
            return stable_key(_question_key(source, sha256), [f.sha256 for f in files])
        case Failure(reason=reason):
            return stable_key(_question_key(source, sha256), reason)


@lru_cache(maxsize=32768)
def _question_key(source: Source, sha256: str | None) -> str:
    if isinstance(source, HubSource):
        source = replace(source, endpoint=HUB, token=None)
    return stable_key(type(source).__name__, asdict(source), sha256)


@lru_cache(maxsize=32768)
def _load_key(load: LoadSpec, file_key: str, engine: str) -> str:
    adapters = [(one.name, one.scale) for one in load.adapters]  # their bytes are in `file_key`
    plain = asdict(replace(load, chat_template=None, adapters=(), draft=None))
    return stable_key(file_key, plain, _text_key(load), adapters, engine)


@lru_cache(maxsize=32768)
def _shelf_key(load: LoadSpec, file_key: str, engine: str) -> str:
    return stable_key("shelf", file_key, asdict(load), engine)


@lru_cache(maxsize=1024)
def _template_key(template: str) -> str:
    return stable_key(template)


def _text_key(load: LoadSpec) -> str | None:
    """A thousand models may share one long template: it is hashed once."""
    return _template_key(load.chat_template) if load.chat_template is not None else None

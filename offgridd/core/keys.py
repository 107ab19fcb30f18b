"""What an edit costs: keys that change when a file has to be found again, or a worker replaced.

They are asked for at every pass of the loop, for every model; specs are immutable, so once is enough.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from functools import lru_cache

from offgridd.core.desired import HUB, HubSource, LoadSpec, ModelSpec
from offgridd.core.errors import Failure
from offgridd.core.hub import Pin


def stable_key(*parts: object) -> str:
    """A short name for plain data: 16 hex digits of the sha256 of its canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=32768)
def source_key(spec: ModelSpec) -> str:
    """Changes when the file has to be found and verified again: the question, and the lock's answer."""
    match spec.lock:
        case None:
            return question_key(spec)
        case Pin(files=files):
            return stable_key(question_key(spec), [f.sha256 for f in files])
        case Failure(reason=reason):
            return stable_key(question_key(spec), reason)


@lru_cache(maxsize=32768)
def question_key(spec: ModelSpec) -> str:
    """Changes when the source asks for something else. Where it comes from and its declared sha256."""
    source = spec.source
    if isinstance(source, HubSource):
        source = replace(source, endpoint=HUB, token=None)
    return stable_key(type(source).__name__, asdict(source), spec.sha256)


@lru_cache(maxsize=32768)
def load_key(spec: ModelSpec, file_key: str, engine: str) -> str:
    """Changes when the worker has to be replaced: the bytes, the load fields, the engine build."""
    return stable_key(file_key, asdict(replace(spec.load, chat_template=None)), _text_key(spec.load), engine)


@lru_cache(maxsize=1024)
def _template_key(template: str) -> str:
    return stable_key(template)


def _text_key(load: LoadSpec) -> str | None:
    """A thousand models may share one long template: it is hashed once."""
    return _template_key(load.chat_template) if load.chat_template is not None else None

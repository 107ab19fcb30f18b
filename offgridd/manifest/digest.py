"""What tells one manifest from another: the sha256 of what it means, defaults included."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import cache
from typing import Any

from offgridd.core.desired import Desired


@cache
def names_of(kind: Any) -> tuple[str, ...]:
    """Of a dataclass's fields; asked for each model."""
    return tuple(field.name for field in dataclasses.fields(kind))


def digest_of(desired: Desired, version: str) -> str:
    """The sha256 of the content, defaults included.

    Model by model and each template hashed once: a template in `defaults` stands in all of them.
    """
    digest = hashlib.sha256(_canonical(version, desired.server, desired.store, desired.endpoint, desired.token))
    if desired.git is not None:
        digest.update(_canonical(desired.git))
    templates: dict[str, str] = {}
    for spec in desired.models.values():
        template = spec.load.chat_template
        if template is not None:
            hashed = templates.setdefault(template, "") or hashlib.sha256(template.encode()).hexdigest()
            templates[template] = hashed
            spec = dataclasses.replace(spec, load=dataclasses.replace(spec.load, chat_template=hashed))
        digest.update(_canonical(type(spec.source).__name__, spec))
    return digest.hexdigest()


def _canonical(*parts: object) -> bytes:
    return json.dumps(parts, sort_keys=True, separators=(",", ":"), default=_shallow).encode() + b"\n"


def _shallow(value: Any) -> dict[str, Any]:
    """One dataclass for JSON, which asks again for those inside: `asdict` would copy all of them first."""
    return {name: getattr(value, name) for name in names_of(type(value))}  # type: ignore[arg-type]

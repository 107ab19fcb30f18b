"""The snapshot as JSON: /v1/status and /v1/models. Remembers when each condition last changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from offgridd.core.conditions import Condition, model_conditions, whole_conditions
from offgridd.core.desired import ModelSpec
from offgridd.core.observed import ModelFacts
from offgridd.reconcile.loop import Snapshot

Json = dict[str, Any]


class StatusView:
    """Built anew for each snapshot, model by model, and only for those that changed.

    A model's part is kept as JSON text: at 1,000 models encoding it all at each request would hold up every stream.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._since = clock, dict[tuple[str, str], tuple[str, str]]()
        self._models: dict[str, tuple[tuple[object, ...], msgspec.Raw]] = {}
        self._whole: Json = {}
        self._encoded: bytes | None = None
        self.transitions: list[Json] = []  # of the newest snapshot, for the event stream

    @property
    def encoded(self) -> bytes:
        """The body of /v1/status."""
        if self._encoded is None:
            self._encoded = msgspec.json.encode(self._whole)
        return self._encoded

    def update(self, snapshot: Snapshot) -> None:
        self.transitions = []
        desired, observed = snapshot.desired, snapshot.observed
        generation = snapshot.observed_generation
        models = []
        for name, spec in desired.models.items():
            facts = observed.of(name)
            parts = (spec, facts, generation, observed.engine)
            before = self._models.get(name)
            if before is None or any(a is not b for a, b in zip(before[0], parts, strict=True)):
                conditions = self._dress(name, model_conditions(spec, facts, observed), generation)
                self._models[name] = (parts, msgspec.Raw(msgspec.json.encode(_model(spec, facts, conditions))))
            models.append(self._models[name][1])
        for gone in set(self._models) - set(desired.models):
            del self._models[gone]
        self._encoded = None
        self._whole = {
            "generation": desired.generation,
            "observedGeneration": generation,
            "digest": desired.digest,
            "conditions": self._dress("", whole_conditions(desired, observed), generation),
            "insecure": desired.server.insecure,
            "models": models,
        }

    def _dress(self, model: str, conditions: tuple[Condition, ...], generation: int) -> list[Json]:
        dressed = []
        for c in conditions:
            status, since = self._since.get((model, c.type), ("", ""))
            if status != c.status:
                since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
                self._since[model, c.type] = (c.status, since)
                self.transitions.append(
                    {"model": model or None, "type": c.type, "status": c.status, "reason": c.reason}
                )
            dressed.append(
                {"type": c.type, "status": c.status, "reason": c.reason, "message": _printable(c.message),
                 "lastTransitionTime": since, "observedGeneration": generation}
            )  # fmt: skip
        return dressed


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _model(spec: ModelSpec, facts: ModelFacts, conditions: list[Json]) -> Json:
    serving = facts.serving()
    effective = serving.effective if serving else None
    return {
        "name": spec.name,
        "aliases": list(spec.aliases),
        "description": spec.description,
        "declared": {"context": spec.load.context, "parallel": spec.load.parallel, "threads": spec.load.threads},
        "effective": effective
        and {"context": effective.context, "parallel": effective.parallel, "threads": effective.threads},
        "file": facts.file and {"sha256": facts.file.sha256, "size": facts.file.identity.size},
        "workers": [{"id": w.id, "pid": w.pid, "ready": w.ready, "stopping": w.stopping} for w in facts.workers],
        "conditions": conditions,
    }  # fmt: skip

"""The snapshot as JSON: /v1/status. Remembers when each condition last changed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import msgspec

from offgridd.api import memory
from offgridd.api.metrics import Metrics
from offgridd.api.progress import Progress
from offgridd.api.shown import Json, adapters_shown, git_shown, model_shown
from offgridd.api.transitions import Transitions
from offgridd.core.adapters import adapters_of
from offgridd.core.challenge import challenger_name, contested, is_challenger
from offgridd.core.condition import Condition
from offgridd.core.conditions import model_conditions, resting_conditions
from offgridd.core.desired import ModelSpec
from offgridd.core.fit import estimate
from offgridd.core.observed import ModelFacts, Observed
from offgridd.core.plan import current_file
from offgridd.core.readiness import whole_conditions
from offgridd.core.stamps import stamp
from offgridd.core.tuned import as_declared
from offgridd.core.tuning import key_of as tuning_key
from offgridd.core.tuning import shown as shown_tuning
from offgridd.engine import wire
from offgridd.reconcile.loop import Snapshot

# Of a model's conditions, put in when all is encoded: an edit of one model makes the text of no other one anew.
# No text of a file can be mistaken for it: quotes within a string are escaped.
_LATER, _LATER_TEXT = -1, b'"observedGeneration":-1'


@dataclass(frozen=True, slots=True)
class _Card:
    """One model as it is shown, and the objects that it was made from."""

    parts: tuple[object, ...]
    ready: bool
    json: msgspec.Raw


class StatusView:
    """Built anew for each snapshot, model by model, and only for those that changed.

    A model's part is kept as JSON text: at 1,000 models encoding it all at each request would hold up every stream.
    """

    def __init__(
        self, metrics: Metrics, clock: Callable[[], float] = time.time, features: Set[str] = frozenset(),
        inherited: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._features = features  # of the processor
        self._inherited = list(inherited)  # addresses; those of the manifest mean nothing then
        self._metrics, self._snapshot, self._progress = metrics, Snapshot(), Progress()
        self._clock, self._since = clock, dict[tuple[str, str], tuple[str, str, str]]()
        self._models: dict[str, _Card] = {}
        self._undeclared: dict[str, _Card] = {}
        self._kept: dict[str, ModelSpec] = {}
        self._contested: Mapping[str, ModelSpec] = {}
        self.kept: Callable[[], Mapping[str, ModelSpec]] = dict  # files that are served and not declared
        self._whole: Json = {}
        self._encoded: bytes | None = None
        self._tag: str | None = None
        self._stale = False  # a worker has reported since
        self._now = ""
        self.transitions = Transitions()
        self._garbage = (0, 0)
        self._accepted = 0.0  # when a manifest was accepted last

    @property
    def encoded(self) -> bytes:
        """The body of /v1/status."""
        if self._stale or dict(self.kept()) != self._kept:
            self.update(self._snapshot)
        if self._encoded is None:
            generation = self._whole["observedGeneration"]
            encoded = msgspec.json.encode(self._whole)
            self._encoded, self._tag = encoded.replace(_LATER_TEXT, b'"observedGeneration":%d' % generation), None
        return self._encoded

    @property
    def tag(self) -> str:
        """The ETag of `encoded`."""
        encoded = self.encoded
        if self._tag is None:
            self._tag = f'"{hashlib.sha256(encoded).hexdigest()[:32]}"'
        return self._tag

    @property
    def gauges(self) -> dict[str, float]:
        """What /metrics says of the whole."""
        ram, desired = self._whole["memory"]["ram"], self._snapshot.desired
        found = {"config_last_reload_successful": float(not self._snapshot.observed.manifest.problems),
                 "config_last_reload_success_timestamp_seconds": self._accepted,
                 "config_generation": float(desired.generation), "memory_taken_bytes": float(ram["taken"])}  # fmt: skip
        return found | ({"memory_budget_bytes": float(ram["budget"])} if ram["budget"] is not None else {})

    @property
    def ready(self) -> dict[str, bool]:
        """By model, its Ready condition."""
        return {name: card.ready for name, card in self._models.items()}

    def took(self, model: str, worker: int, stats: wire.Stats | None) -> None:
        """A worker has reported, or is gone. What is only measured answers nobody."""
        if is_challenger(model):
            return
        if stats is None:
            self._metrics.gone(model, worker)
        else:
            self._metrics.took(model, worker, stats)
        self._stale = True

    def fetched(self, model: str, here: int, size: int) -> None:
        """So many bytes of a model's `size` are here. From any thread."""
        self._progress.note(model, here, size)
        self._stale = True

    def unneeded(self, count: int, size: int) -> None:
        """So many things of the store, of so many bytes, are there for nothing."""
        if self._garbage != (count, size):
            self._garbage, self._stale = (count, size), True

    def update(self, snapshot: Snapshot) -> None:
        if snapshot.desired.generation != self._snapshot.desired.generation:
            self._accepted = self._clock()
        self._encoded, self._snapshot, self._stale = None, snapshot, False
        self._now = stamp(self._clock())
        desired, observed, generation = snapshot.desired, snapshot.observed, snapshot.observed_generation
        self._contested = contested(desired, observed)
        self._kept = dict(self.kept())
        kept = {name: spec for name, spec in self._kept.items() if name not in desired.models}
        self._metrics.forget({*desired.models, *kept})
        gone = (self._models.keys() | self._undeclared.keys()) - desired.models.keys() - kept.keys()
        self._models = {name: self._card(spec, observed) for name, spec in desired.models.items()}
        self._undeclared = {name: self._card(spec, observed, declared=False) for name, spec in kept.items()}
        if gone:
            self._since = {key: value for key, value in self._since.items() if key[0] not in gone}
        waiting = [name for name, card in self._models.items() if not card.ready and desired.models[name].preload]
        self._whole = {
            "generation": desired.generation,
            "observedGeneration": generation,
            "digest": desired.digest,
            "conditions": self._dress("", whole_conditions(desired, observed, waiting), generation),
            "git": git_shown(observed.manifest.git),
            "insecure": desired.server.insecure,
            "listen": {"addresses": self._inherited or list(desired.server.listen), "inherited": bool(self._inherited)},
            "memory": memory.taken(desired, observed, lambda at: self._clock() + at - time.monotonic()),
            "store": {
                "prune": desired.store.prune,
                "unneeded": dict(zip(("count", "bytes"), self._garbage, strict=True)),
            },
            "models": [card.json for card in self._models.values()],
            "kept": [card.json for card in self._undeclared.values()],
        }

    def _card(self, spec: ModelSpec, observed: Observed, *, declared: bool = True) -> _Card:
        facts = observed.of(spec.name)
        serving = self._metrics.models.get(spec.name)
        short = observed.short.get(spec.name)
        other = self._contested.get(spec.name) if declared else None
        contest = (other, observed.of(challenger_name(spec.name))) if other else (None, None)
        tuning = observed.tunings.get(spec.name)
        judged = replace(other, name=challenger_name(spec.name)) if other else None
        adapters = adapters_of(one for one in (spec, judged) if one is not None)
        beside = [observed.of(name) for name in adapters]
        parts = (spec, facts, observed.engine, serving and serving.now, short, tuning, *contest, *beside)
        before = (self._models if declared else self._undeclared).get(spec.name)
        names = (spec.name, *([challenger_name(spec.name)] if other else ()), *adapters)
        fetching = next((found for name in names if (found := self._progress.shown(name))), None)
        if fetching is None and before is not None and all(a is b for a, b in zip(before.parts, parts, strict=True)):
            return before
        asked = declared or facts.file or facts.verify_retry or facts.demanded
        conditions = model_conditions(spec, facts, observed, other) if asked else resting_conditions(spec, facts)
        wanted = as_declared(other or spec)
        worn = adapters_shown(judged or spec, observed)
        shown = model_shown(spec, facts, wanted, self._dress(spec.name, conditions, _LATER, told=declared), worn)
        shown["managed"] = declared
        shown["tuning"] = shown_tuning(spec, tuning, tuning_key(spec, facts, observed)) if spec.tunes != "off" else None
        shown["serving"] = self._metrics.shown(spec.name)
        shown["download"] = fetching
        shown["memory"] = {"estimate": self._estimate(spec, facts), "measured": self._metrics.measured(spec.name)}
        return _Card(
            parts if fetching is None else (None,) * len(parts),
            conditions[-1].status == "True",
            msgspec.Raw(msgspec.json.encode(shown)),
        )

    def _estimate(self, spec: ModelSpec, facts: ModelFacts) -> Json | None:
        file = current_file(spec, facts)
        return memory.shown(estimate(file.header, spec.load, self._features, spec.cache_ram)) if file else None

    def _dress(
        self, model: str, conditions: tuple[Condition, ...], generation: int, *, told: bool = True
    ) -> list[Json]:
        """`told`: what changed is an event."""
        dressed = []
        for condition in conditions:
            c = replace(condition, message=_printable(condition.message))
            status, reason, since = self._since.get((model, c.type), ("", "", ""))
            if status != c.status:
                since = self._now
            if (status, reason) != (c.status, c.reason):
                self._since[model, c.type] = (c.status, c.reason, since)
                if told:
                    self.transitions.add(since, model or None, c)
            dressed.append(
                {"type": c.type, "status": c.status, "reason": c.reason, "message": c.message,
                 "lastTransitionTime": since, "observedGeneration": generation}
            )  # fmt: skip
        return dressed


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)

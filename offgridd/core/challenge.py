"""A change that has to prove itself: what is declared runs beside what serves, as a model of its own, and is judged.

Its name no manifest can have. It is loaded when it is its turn, has no requests, and makes no other model leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from offgridd.core.adapters import PLUS, loading
from offgridd.core.desired import LOWEST_PRIORITY, Desired, ModelSpec
from offgridd.core.keys import source_key
from offgridd.core.observed import Observed
from offgridd.core.tuned import Trial, as_declared, is_possible, with_settings

_BEHIND = "@next"


def challenger_name(model: str) -> str:
    return model + _BEHIND


def is_challenger(name: str) -> bool:
    return name.endswith(_BEHIND)


def answered_by(name: str) -> tuple[str, ...]:
    """Whose pin is the answer where it is to the same question: what serves comes first, so that no edit updates it.

    An adapter may have been that of a challenger, which serves by now.
    """
    model, plus, adapter = name.partition(PLUS)
    own = model.removesuffix(_BEHIND)
    if plus:
        return own + plus + adapter, challenger_name(own) + plus + adapter
    return (own, name) if is_challenger(name) else (name,)


def contested(desired: Desired, observed: Observed) -> Mapping[str, ModelSpec]:
    """By model, what is to be judged: another spec, or the same one with a file that is newer."""
    specs = (desired.models.get(name) for name in observed.challenged if not desired.server.suspend)
    newer = {spec.name: spec for spec in specs if spec is not None and spec.holds and not spec.suspend}
    return {**newer, **desired.challengers} if newer else desired.challengers


def challengers(desired: Desired, observed: Observed) -> dict[str, ModelSpec]:
    """The same as models of their own, by their own names; and what tuning tries, where nothing is to be judged."""
    specs, trial = contested(desired, observed), observed.trial
    if trial is not None and trial.model not in specs and (tried := tried_as(desired, trial)) is not None:
        specs = {**specs, trial.model: tried}
    return {
        challenger_name(name): replace(
            spec, name=challenger_name(name), aliases=(), preload=False, pin=False, idle_unload=None,
            priority=LOWEST_PRIORITY - 2, updates="manual", benchmark=None, challenger=True,
        )
        for name, spec in specs.items()
    }  # fmt: skip


def tried_as(desired: Desired, trial: Trial) -> ModelSpec | None:
    """The model as it would be with what is tried; None where nothing is tuned any more."""
    spec = desired.models.get(trial.model)
    if spec is None or spec.tunes == "off" or spec.suspend or desired.server.suspend:
        return None
    if not is_possible(spec, trial.settings) or any(name not in spec.tunable for name, _ in trial.settings):
        return None
    plain = as_declared(spec)
    return replace(plain, load=with_settings(plain.load, trial.settings), tuned=trial.settings)


def differ(old: ModelSpec, new: ModelSpec) -> bool:
    """Whether `new` may be another file, or is loaded otherwise."""
    return source_key(old) != source_key(new) or loading(old) != loading(new)


def kept_as(old: ModelSpec, new: ModelSpec) -> ModelSpec:
    """`new` with the file of `old`, loaded as that: all else takes effect at once."""
    return replace(
        new, source=old.source, sha256=old.sha256, lock=old.lock, load=old.load, tunable=old.tunable, tuned=old.tuned
    )

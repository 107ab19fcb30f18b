"""What tuning found for models, and how that becomes what they are loaded with. Pure.

Only fields that the manifest does not give are ever set, so that what is declared can be had back from any spec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from offgridd.core.desired import Desired, LoadSpec, ModelSpec, Setting, Settings
from offgridd.core.judging import Interval

Result = Literal["better", "worse", "same", "unclear", "failed"]
TUNABLE: Final = ("threads", "flash_attention", "cache_type_k", "cache_type_v")  # in the order of the search
_OWN: Final = ("threads",)  # of LoadSpec; the others are of its Placement
_NEEDS_NONE: Final = (None, "f16", "bf16", "f32")  # types of values that go without flash attention
_COARSER: Final = ("cache_type_k", "cache_type_v")  # another value of these changes answers for the worse


@dataclass(frozen=True, slots=True)
class Tried:
    """One candidate: what it was, and how it stood to what served. `seconds`: of measuring, loading included."""

    field: str
    value: Setting
    settings: Settings
    result: Result
    why: str = ""  # it failed
    pairs: int = 0
    ratios: tuple[tuple[str, Interval], ...] = ()  # by figure
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Tuning:
    """A search, as far as it is. `best`: the fastest so far; `found`: what the newest whole search ended with.

    `start`: what served when it began. `host`: on which kind of machine.
    """

    key: str
    host: str
    start: Settings = ()
    best: Settings = ()
    found: Settings = ()
    tried: tuple[Tried, ...] = ()
    done: bool = False
    why: str = ""
    again: float = 0.0  # monotonic seconds; not before

    @property
    def seconds(self) -> float:
        return sum(one.seconds for one in self.tried)


@dataclass(frozen=True, slots=True)
class Trial:
    """What is loaded beside what serves, to be measured, and never to serve."""

    model: str
    settings: Settings


def coarser(settings: Settings) -> Settings:
    """Those that make the model answer a little worse: they are proposed, never applied."""
    return tuple(one for one in settings if one[0] in _COARSER)


def harmless(settings: Settings) -> Settings:
    return tuple(one for one in settings if one[0] not in _COARSER)


def with_settings(load: LoadSpec, settings: Settings) -> LoadSpec:
    own: dict[str, Any] = {name: value for name, value in settings if name in _OWN}
    placed: dict[str, Any] = {name: value for name, value in settings if name not in _OWN}
    return replace(load, **own, placement=replace(load.placement, **placed))


def default_of(name: str) -> Setting:
    """What a field is that the manifest does not give."""
    load = LoadSpec()
    found: Setting = getattr(load if name in _OWN else load.placement, name)
    return found


def with_value(settings: Settings, name: str, value: Setting) -> Settings:
    others = {key: one for key, one in settings if key != name}
    return tuple(sorted((others | ({name: value} if value != default_of(name) else {})).items()))


def as_declared(spec: ModelSpec) -> ModelSpec:
    """Without what tuning has set."""
    if not spec.tuned:
        return spec
    plain = tuple((name, default_of(name)) for name, _ in spec.tuned)
    return replace(spec, load=with_settings(spec.load, plain), tuned=())


def is_possible(spec: ModelSpec, settings: Settings) -> bool:
    """Whether it contradicts nothing that is declared, as `manifest.rules` has it."""
    plain = as_declared(spec).load
    placed = with_settings(plain, settings).placement
    if plain.deterministic:  # which says itself what these are
        return placed == plain.placement
    return placed.flash_attention or placed.cache_type_v in _NEEDS_NONE


def yaml_line(name: str, value: Setting) -> str:
    """As a user would write it."""
    text = str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
    return f"{name}: {text}"


def all_as_declared(desired: Desired) -> Desired:
    return _each(desired, lambda _name, spec: as_declared(spec))


def effective(desired: Desired, tunings: Mapping[str, Tuning], host: str) -> Desired:
    """`desired` with what was found for those models that say `tune: apply`, and without it for all others.

    What is judged before it serves gets it, too. Specs that stay as they are stay the same objects.
    """
    return _each(desired, lambda name, spec: _tuned(spec, tunings.get(name), host))


def _each(desired: Desired, change: Callable[[str, ModelSpec], ModelSpec]) -> Desired:
    models = {n: new for n, spec in desired.models.items() if (new := change(n, spec)) is not spec}
    others = {n: new for n, spec in desired.challengers.items() if (new := change(n, spec)) is not spec}
    if not models and not others:
        return desired
    return replace(desired, models={**desired.models, **models}, challengers={**desired.challengers, **others})


def _tuned(spec: ModelSpec, tuning: Tuning | None, host: str) -> ModelSpec:
    wanted: Settings = ()
    if spec.tunes == "apply" and tuning is not None and tuning.host == host:
        wanted = harmless(tuple(one for one in tuning.found if one[0] in spec.tunable))
    if wanted == spec.tuned:
        return spec
    if not is_possible(spec, wanted):  # with what was declared since
        return as_declared(spec)
    plain = as_declared(spec)
    return replace(plain, load=with_settings(plain.load, wanted), tuned=wanted)

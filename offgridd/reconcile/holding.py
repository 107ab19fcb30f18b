"""What is held back, also over restarts: of each model that goes on as it was, the texts that said so.

A suspension holds, and a change that has to prove itself first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from offgridd.core.challenge import differ
from offgridd.core.desired import Desired, ModelSpec
from offgridd.core.edits import hold_back, take
from offgridd.core.errors import ManifestError
from offgridd.core.gitsource import Files
from offgridd.manifest import accept_files

Held = Sequence[tuple[Sequence[str], Files]]  # models, and the manifest that they come from; none: they are held out


class HeldPort(Protocol):
    """Blocking. `keep_held` raises OSError."""

    def held(self) -> Held: ...
    def keep_held(self, held: Held) -> None: ...


@dataclass
class Holding:
    state: HeldPort
    _effective: Desired | None = None  # what is acted on
    _origins: dict[str, Files] = field(default_factory=dict)  # by model that is held
    _files: Files = ()  # that were accepted last
    _kept: Held = ()

    def restore(self, desired: Desired, last: Files) -> None:
        """Before the first manifest of this life is accepted, which is `desired`; `last` was, before. Blocking."""
        self._kept = self.state.held()
        models = dict(desired.models)
        for names, files in self._kept:
            known = _models(files)
            for name in names:
                models.pop(name, None)
                if name in known:
                    models[name] = known[name]
                self._origins[name] = files
        held = {name for names, _ in self._kept for name in names}
        before = _models(last) if any(spec.holds for spec in models.values()) else {}
        for name, old in before.items():
            if name in models and name not in held and models[name].holds and differ(old, models[name]):
                models[name], self._origins[name] = old, last  # it was edited while nobody was there to measure
        if self._origins:
            self._effective = replace(desired, models=models, generation=max(1, desired.generation))

    def accepted(self, desired: Desired, files: Files) -> Desired:
        """`desired` with what it holds back; `files` said it."""
        before = self._effective
        self._effective = hold_back(before, desired) if before is not None else desired
        held = (*self._effective.held, *self._effective.challengers) if before is not None else ()
        there = before.models if before is not None else {}
        self._origins = {n: self._origins.get(n, self._files if n in there else ()) for n in held}
        self._files = files
        return self._effective

    def take(self, name: str, spec: ModelSpec) -> bool:
        """The challenger of a model is what serves from now on; False where it is another one by now."""
        if self._effective is None or self._effective.challengers.get(name) != spec:
            return False
        self._effective = take(self._effective, name, spec)
        self._origins.pop(name, None)
        return True

    def keep(self) -> None:
        """Blocking. Raises OSError."""
        origins = {id(files): files for files in self._origins.values()}
        held = [([n for n, one in self._origins.items() if one is files], files) for files in origins.values()]
        if held != list(self._kept):
            self.state.keep_held(held)
            self._kept = held


def _models(files: Files) -> dict[str, ModelSpec]:
    """None where another version wrote them: then it is as declared now."""
    try:
        return dict(accept_files(files).desired.models) if files else {}
    except ManifestError:
        return {}

"""Which variant is taken, and why. The rules are in docs/models.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offgridd.core.errors import Failure
from offgridd.core.kernels import speed_note
from offgridd.core.sizes import RESERVE, show_size
from offgridd.core.variants import Variant

AUTO = "auto"
_FIRST = ("Q4_K_M", "Q5_K_M", "UD-Q4_K_XL")
_LIKED = 4  # bits of a weight: what most people want


@dataclass(frozen=True, slots=True)
class Choice:
    variant: Variant
    why: str


@dataclass(frozen=True, slots=True)
class Room:
    """The memory that `auto` must do with. `rest`: what a variant takes besides its files, where that is known."""

    memory: int
    rest: int | None = None

    def needed(self, size: int) -> int:
        """Bytes that files of `size` take. Where only that is known, a quarter more, and what any worker takes."""
        return size + (size // 4 + RESERVE if self.rest is None else self.rest)


@dataclass(frozen=True, slots=True)
class Wanted:
    """`quants` in order of preference, `auto` among them; `most` bytes of all its files. `room` bounds `auto` alone.

    `features`: what the processor says of itself; then `why` tells whether it is fast with the type.
    """

    quants: tuple[str, ...] = (AUTO,)
    most: int | None = None
    room: Room | None = None
    features: frozenset[str] = frozenset()


def choose(variants: Sequence[Variant], wanted: Wanted) -> Choice | Failure:
    """What to take, or why nothing: a failure of `Resolved` that stands until question or repository change."""
    if not variants:
        return _refused("NoModelFiles", "the repository has no GGUF of a model")
    sound = [v for v in variants if v.complete and v.loadable is not False]
    failure: Failure | None = None
    for name in wanted.quants:
        found = _auto(sound, wanted) if name.lower() == AUTO else _named(variants, name, wanted.most)
        if isinstance(found, Choice):
            note = speed_note(found.variant.quant.name if found.variant.quant else None, wanted.features)
            return Choice(found.variant, f"{found.why}; {note}" if note else found.why)
        failure = failure or found
    return failure or _refused("QuantNotFound", "no quant was asked for")


def _auto(sound: Sequence[Variant], wanted: Wanted) -> Choice | Failure:
    if not sound:
        return _refused(
            "NoModelFiles", "what the repository has is of types that llama.cpp can not load, or incomplete"
        )
    tagged = [v for v in sound if v.quant is not None]
    if not tagged and len(sound) > 1:
        names = ", ".join(v.filename for v in sound[:8])
        return _refused("AmbiguousQuant", f"no file's name tells its quant; name one with `file:` of {names}")
    small = [v for v in sound if _fits(v, wanted.most)]
    fitting = [v for v in small if _has_room(v, wanted.room)]
    if not fitting:
        least = min((v.total_bytes for v in sound if v.total_bytes is not None), default=None)
        smallest = f"the smallest variant has {show_size(least)}" if least is not None else "no size is known"
        return _refused("TooLarge", f"{smallest}, {_too_much(least, small, wanted.room)}")
    best = min(fitting, key=_rank)
    return Choice(best, _why(best, fitting, wanted))


def _too_much(least: int | None, small: Sequence[Variant], room: Room | None) -> str:
    if not small or room is None:
        return "more than max_size"
    needs = f"needs about {show_size(room.needed(least))}, " if least is not None else ""
    return f"{needs}more than server.memory allows, {show_size(room.memory)}"


def _named(variants: Sequence[Variant], name: str, most: int | None) -> Choice | Failure:
    asked = name.upper()
    found = [v for v in variants if v.quant is not None and asked in (v.quant.name, v.quant.token)]
    if not found:  # a dynamic one only where nothing else has the name
        found = [v for v in variants if v.quant is not None and v.quant.name == f"UD-{asked}"]
    if not found:
        there = ", ".join(dict.fromkeys(v.quant.name for v in variants if v.quant is not None)) or "none with a name"
        return _refused("QuantNotFound", f"the repository has no {name}; it has {there}")
    whole = [v for v in found if v.complete]
    if not whole:
        return _refused("IncompleteShards", f"of {name} {len(found[0].files)} of {found[0].shards} shards are there")
    if all(v.loadable is False for v in whole):
        return _refused("QuantNotLoadable", f"llama.cpp can not load {name}: it is of a fork, or was dropped")
    fitting = [v for v in whole if _fits(v, most)]
    if not fitting:
        sizes = [v.total_bytes for v in whole if v.total_bytes is not None]
        size = f"it has {show_size(min(sizes))}" if sizes else "its size is not known"
        return _refused("TooLarge", f"cannot take {name}: {size}, and max_size is {show_size(most or 0)}")
    best = min(fitting, key=_tie)
    return Choice(best, f"{name} was asked for" + (", and the repository has it twice" if len(fitting) > 1 else ""))


def _rank(variant: Variant) -> tuple[float, ...] | tuple[object, ...]:
    """Smaller is better."""
    quant, size = variant.quant, variant.total_bytes
    if quant is None:  # beside others it is the 16-bit original
        return (6, 0.0, *_tie(variant))
    if quant.name in _FIRST:
        return (_FIRST.index(quant.name), 0.0, *_tie(variant))
    weight = float(size) if size is not None else (quant.bits or 0.0) * 1e9
    if quant.width == _LIKED:
        return (3, -weight, *_tie(variant))
    if quant.width < _LIKED:
        return (4, -weight, *_tie(variant))
    return (5, (quant.bits or 0.0), weight, *_tie(variant))


def _tie(variant: Variant) -> tuple[object, ...]:
    """Between two of the same quant."""
    return (variant.quant is not None and variant.quant.suffix, variant.shards, len(variant.filename), variant.filename)


def _fits(variant: Variant, most: int | None) -> bool:
    return most is None or (variant.total_bytes is not None and variant.total_bytes <= most)


def _has_room(variant: Variant, room: Room | None) -> bool:
    return room is None or (variant.total_bytes is not None and room.needed(variant.total_bytes) <= room.memory)


def _why(best: Variant, fitting: Sequence[Variant], wanted: Wanted) -> str:
    bounds = [show_size(wanted.most)] if wanted.most is not None else []
    bounds += [f"server.memory ({show_size(wanted.room.memory)})"] if wanted.room is not None else []
    within = f" within {' and '.join(bounds)}" if bounds else ""
    if best.quant is None:
        return f"the only model file{within}" if len(fitting) == 1 else f"the only kind of file left{within}"
    name, width = best.quant.name, best.quant.width
    if name in _FIRST:
        return (
            f"{name}: " + ("the usual balance of size and quality" if name == _FIRST[0] else f"no {_FIRST[0]}") + within
        )
    if width == _LIKED:
        return f"{name}: the largest 4-bit variant{within}"
    if width < _LIKED:
        return f"{name}: the largest variant{within}; none of 4 bits fits"
    return f"{name}: the smallest variant{within}; none of up to 4 bits is there"


def _refused(reason: str, message: str) -> Failure:
    return Failure("Resolved", reason, f"cannot choose a variant: {message}", terminal=True)

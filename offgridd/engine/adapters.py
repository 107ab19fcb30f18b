"""Which adapters a request is computed with, and from which token on. Pure.

A set of adapters is a number whose bits stand for the declared ones, in their order; 0 is the model itself. An adapter
with an invocation (aLoRA) leaves what is before it as the model itself computes it, so that all may share that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

MOST = 31  # adapters of one model: a set and a token fit in 63 bits


class Adapter(NamedTuple):
    """A declared one. `invocation`: the tokens from whose last occurrence on it takes effect; empty: from the first."""

    name: str
    invocation: tuple[int, ...] = ()


class Worn(NamedTuple):
    """The set of a request: from its token `switch` on."""

    adapters: int = 0
    switch: int = 0


class AdapterError(Exception):
    """The set can not be used; the text is for whoever asked for it."""


def worn(names: Sequence[str], known: Sequence[Adapter], tokens: Sequence[int]) -> Worn:
    """What a prompt of these tokens is computed with. Raises AdapterError."""
    bits = {adapter.name: bit for bit, adapter in enumerate(known)}
    for name in names:
        if name not in bits:
            has = f"it has {', '.join(bits)}" if bits else "it has none"
            raise AdapterError(f"cannot use the adapter {name!r}: the model does not have it, {has}")
    chosen = [known[bits[name]] for name in dict.fromkeys(names)]  # naming one twice is naming it
    adapters = sum(1 << bits[adapter.name] for adapter in chosen)
    invoked = next((adapter for adapter in chosen if adapter.invocation), None)
    if invoked is None:
        return Worn(adapters)
    if len(chosen) > 1:
        text = f"cannot use {invoked.name!r} with others: it takes effect from its invocation on; ask for it alone"
        raise AdapterError(text)
    at = last_of(invoked.invocation, tokens)
    return Worn(adapters, at) if at is not None else Worn()  # nothing invokes it: the model itself answers


def last_of(wanted: Sequence[int], tokens: Sequence[int]) -> int | None:
    """Where the last occurrence of `wanted` begins."""
    size, first = len(wanted), wanted[0]
    for at in range(len(tokens) - size, -1, -1):
        if tokens[at] == first and tuple(tokens[at : at + size]) == tuple(wanted):
            return at
    return None

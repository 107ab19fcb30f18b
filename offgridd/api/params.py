"""Parameters of a request: how each that can not be used is refused, whatever route it is of."""

from __future__ import annotations

from offgridd.core.errors import RequestRefused


def bad(param: str, text: str, code: str = "invalid_value") -> RequestRefused:
    """`text` says why it can not be used."""
    return RequestRefused(400, code, f"cannot use {param}: {text}", param=param)


def integer(name: str, value: object, low: int, high: int) -> int:
    """`value`, if it is a whole number in the range, and not true or false. Raises RequestRefused."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise bad(name, f"it must be a whole number from {low} to {high}")
    return value

"""Texts of a shape as expressions that can also say "perhaps, with more text". One door to the regex library."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import regex

from offgridd.engine.tools.shape import ID, INDEX, ORDINAL

Pattern = regex.Pattern[str]
Match = regex.Match[str]
_HOLES = {ID: r"[^\s<>\[\]{}|]*?", INDEX: r"\d+", ORDINAL: r"\d+"}


def source(text: str, *, exact: bool = False) -> str:
    """`text` where white space may be more, less or none, also before it; `exact`: at its edges at most its own."""
    inner = r"\s*".join(_holed(part) for part in text.split())
    if not exact:
        return rf"\s*{inner}"
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"(?:{regex.escape(before)})?{inner}(?:{regex.escape(after)})?"


def _holed(text: str) -> str:
    return "".join(_HOLES.get(char) or regex.escape(char) for char in text)


@lru_cache(1024)
def compiled(expression: str) -> Pattern:
    return regex.compile(expression)


def either(found: Mapping[str, str]) -> Pattern | None:
    """One that says by its group which of several matched; None: there are none."""
    return compiled("|".join(f"(?P<{name}>{one})" for name, one in found.items())) if found else None


def search(pattern: Pattern, text: str) -> Match | None:
    """Where it is found first, or where it may begin, which the match's `partial` says."""
    return pattern.search(text, partial=True)


def decide(text: str, choices: Mapping[str, Pattern], *, last: bool = False) -> tuple[str, int] | None:
    """Which of several stands at the beginning, and its length; the first that may still come is waited for.

    ("", 0): none. None: it can not be told yet, and there is more to come.
    """
    for name, pattern in choices.items():
        found = pattern.match(text, partial=True)
        if found is None:
            continue
        if not found.partial:
            return name, found.end()
        if not last:
            return None
    return "", 0

"""Prints what came from outside: no character of it may be a command to the terminal."""

from __future__ import annotations

import os
import sys
import unicodedata
from typing import TextIO


def is_terminal(end: TextIO | None) -> bool:
    """Whether one of the three streams is one; None is what the caller has closed."""
    return end is not None and end.isatty()


def clean(text: str) -> str:
    """`text` with a ? for each character that is neither shown nor a space of some kind."""
    return "".join(c if c.isprintable() or c in "\n\t" or unicodedata.category(c) == "Zs" else "?" for c in text)


def say(*texts: object, end: str = "\n", file: TextIO | None = None) -> None:
    """Prints each on a line of its own; nothing for none."""
    if texts:
        print(*(clean(str(text)) for text in texts), sep="\n", end=end, file=file or sys.stdout, flush=True)


def say_dimmed(text: str) -> None:
    """Part of a line, on a terminal; plainly where NO_COLOR is set."""
    text = clean(text)
    print(text if os.environ.get("NO_COLOR") else f"\x1b[2m{text}\x1b[0m", end="", flush=True)


def complain(text: object) -> None:
    """One line on stderr."""
    say("offgrid: " + " ".join(str(text).split()), file=sys.stderr)

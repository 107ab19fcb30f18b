"""A model is added to a manifest's text; everything else in it stays as it is, comments too. Pure.

The text is not understood here: whoever calls this has the result accepted, and compares what it means with before.
"""

from __future__ import annotations

import re

_MODELS = re.compile(r"models[ \t]*:")
_BLOCK = re.compile(r"models[ \t]*:(?P<none>[ \t]+(?:\{[ \t]*\}|~|null))?(?P<comment>[ \t]+#.*)?[ \t]*")
_LINE = re.compile(r"[^\n]*\n")
_CHILD = re.compile(r"( +)[^\s#]")


def add_model(text: str, entry: str) -> str:
    """`entry`: the line `models:`, and the model below it, indented by two. Raises ValueError: `its ...`."""
    end = "\r\n" if "\r\n" in text else "\n"
    text += "" if not text or text.endswith("\n") else end
    added = [line[2:] + end for line in entry.splitlines()[1:]]
    lines = _LINE.findall(text)
    at = next((number for number, line in enumerate(lines) if _MODELS.match(line)), None)
    if at is None:
        return text + "".join((f"models:{end}", *(f"  {line}" for line in added)))
    head = _BLOCK.fullmatch(lines[at].rstrip("\r\n"))
    if head is None:
        raise ValueError("its models are not written one below the other")
    if head["none"]:
        lines[at] = f"models:{head['comment'] or ''}{end}"
    stop = _end(lines, at + 1)
    indent = next((found[1] for line in lines[at + 1 : stop] if (found := _CHILD.match(line))), "  ")
    return "".join((*lines[:stop], *(indent + line for line in added), *lines[stop:]))


def _end(lines: list[str], start: int) -> int:
    """Behind the last line of the block that begins at `start`. What stands right before the next key is that key's."""
    last = start
    for number in range(start, len(lines)):
        line = lines[number]
        if line[0] in " \t" and line.strip():
            last = number + 1
        elif line.strip() and not line.startswith("#"):
            break
    return last

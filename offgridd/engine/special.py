"""No text of a request becomes a control token. Pure; the vocabulary comes in as data.

1. `mask`: in each string of the request, the first character of every control token's text becomes a private-use
   stand-in, also where the string only ends in the beginning of one (the template may join it to the rest).
2. The template renders. 3. `split` finds the control tokens that the template itself wrote. 4. Each fragment between
them gets its characters back and is tokenised as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

LSTRIP, RSTRIP = 1, 2
_PRIVATE = range(0xE000, 0xF8FF)


class Masker:
    def __init__(self, controls: Mapping[str, int], strips: Mapping[int, int] | None = None) -> None:
        """`controls` maps a control token's text to its id, `strips` an id to LSTRIP | RSTRIP."""
        self._controls = {t: i for t, i in controls.items() if t}
        self._strips = strips or {}
        longest_first = sorted(self._controls, key=len, reverse=True)
        texts = "|".join(map(re.escape, longest_first))
        self._find = re.compile(texts) if texts else None
        self._begins = re.compile(f"(?=(?:{texts})).", re.DOTALL) if texts else None  # looks on: texts may overlap
        self._beginnings = {t[:size] for t in longest_first for size in range(1, len(t))}
        self._reach = max(map(len, longest_first), default=1) - 1  # so long is the longest beginning

    def stand_ins(self, strings: Iterable[str]) -> dict[str, str]:
        """For each first character of a control text, a private-use one that occurs in none of `strings`."""
        used = set().union(*map(set, strings)) | set("".join(self._controls))
        free = (chr(c) for c in _PRIVATE if chr(c) not in used)
        try:
            return {first: next(free) for first in sorted({t[0] for t in self._controls})}
        except StopIteration:
            raise ValueError("the text uses every private-use character") from None

    def mask(self, text: str, stand_ins: Mapping[str, str]) -> str:
        """`text` with a stand-in for each character at which a control text begins, or may begin at the end."""
        if self._begins is None:
            return text
        masked = self._begins.sub(lambda found: stand_ins[found.group()], text)
        end = max(0, len(text) - self._reach)
        tail = (stand_ins[text[at]] if text[at:] in self._beginnings else masked[at] for at in range(end, len(text)))
        return masked[:end] + "".join(tail)

    def split(self, rendered: str, stand_ins: Mapping[str, str]) -> list[str | int]:
        """Fragments of plain text and control token ids, in order."""
        back = str.maketrans({stand: first for first, stand in stand_ins.items()})
        parts: list[str | int] = []
        at, strip_left = 0, False
        for found in self._find.finditer(rendered) if self._find else ():
            token = self._controls[found.group()]
            strips = self._strips.get(token, 0)
            text = rendered[at : found.start()]
            text = text.lstrip() if strip_left else text
            text = text.rstrip() if strips & LSTRIP else text
            parts += [text.translate(back), token] if text else [token]
            at, strip_left = found.end(), bool(strips & RSTRIP)
        tail = rendered[at:].lstrip() if strip_left else rendered[at:]
        return [*parts, tail.translate(back)] if tail else parts

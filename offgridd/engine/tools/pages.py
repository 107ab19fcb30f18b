"""What a template makes of messages that are made up: the pages that calls are learnt from. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from offgridd.engine.tools.shape import Json

Render = Callable[[Sequence[Json], bool], str | None]  # messages, whether an answer is to come; None: it refuses them
NAMES, IDS = ("fnalpha", "fnbeta"), ("idalpha0a", "idbetab0b")  # ids as Mistral's want them: nine letters and digits
KEYS, VALUES = ("keyone", "keytwo"), ("valone", "valtwo")
ARGS: tuple[Json, Json] = ({KEYS[0]: VALUES[0]}, {KEYS[1]: VALUES[1]})
USER, CONTENT = "quiz of the user", "content beside calls"
TOOL: Json = {
    "type": "function",
    "function": {
        "name": "fnother", "description": "it does",
        "parameters": {"type": "object", "required": [],
                       "properties": {"other": {"type": "string", "description": "it is"}}},
    },
}  # fmt: skip


def user() -> Json:
    return {"role": "user", "content": USER}


def calling(calls: Sequence[tuple[str, Json]], *, strings: bool, content: str = "") -> Json:
    made = [
        {"id": IDS[i] if i < len(IDS) else f"idmore{i:03}", "type": "function",
         "function": {"name": name, "arguments": json.dumps(one) if strings else one}}
        for i, (name, one) in enumerate(calls)
    ]  # fmt: skip
    return {"role": "assistant", "content": content, "tool_calls": made}


@dataclass(frozen=True)
class Pages:
    """What the template makes of calls, from where the answer begins to where the message ends."""

    render: Render
    strings: bool

    def of(self, *calls: tuple[str, Json]) -> str:
        """Raises ValueError where the template refuses them."""
        names = [name for name, _ in calls]
        beside = self.tail(calling(calls, strings=self.strings, content=CONTENT))
        if beside is not None and beside.count(CONTENT) == 1:
            found = beside.partition(CONTENT)[2]
            if names[0] in found and not self._begins_again(found[: found.index(names[0])]):
                return self._cut(found, names)
        alone = self.tail(calling(calls, strings=self.strings))
        if alone is None or names[0] not in alone:
            raise ValueError
        return self._cut(alone[shared(self._plain()[0], alone) :], names)

    def prompt(self) -> str:
        """What the template writes for an answer to begin with."""
        whole = self.render([user()], True) or ""
        return whole.rpartition(USER)[2]

    def tail(self, message: Json) -> str | None:
        """What the template makes of an answer; None where it refuses it."""
        whole = self.render([user(), message], False)
        return whole.rpartition(USER)[2] if whole is not None and USER in whole else None

    def _plain(self) -> tuple[str, str]:
        """What stands before and after the text of an answer without calls."""
        plain = self.tail({"role": "assistant", "content": CONTENT}) or ""
        head, _, end = plain.partition(CONTENT)
        return head, end

    def _begins_again(self, text: str) -> bool:
        """Whether the calls are in a message of their own."""
        head = self.prompt().partition(_THINK)[0].strip().rpartition("\n")[2]
        return any(map(str.isalpha, head)) and head in text

    def _cut(self, text: str, names: Sequence[str]) -> str:
        """`text` up to where, behind these names, the turn ends or another begins."""
        start = max(map(text.rfind, names))
        end = self._plain()[1]
        marks = {*_MARK.findall(end), *_MARK.findall(self.prompt().partition(_THINK)[0]), end.strip()} - {""}
        cuts = [at for mark in marks if mark not in text[:start] and (at := text.find(mark, start)) >= 0]
        return text[: min(cuts, default=len(text))]


_MARK = re.compile(r"<[^<>\s]{2,}>|\[[A-Z_/]{3,}\]")
_THINK = "<think"  # what comes from there on may differ from answer to answer


def alike(one: str, other: str) -> int:
    """So many characters are the same at the beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def shared(head: str, text: str) -> int:
    """How much of both is alike, but for the beginning of a mark."""
    at = alike(head, text)
    if at in (len(head), len(text)):
        return at
    opening = max(text.rfind("<", 0, at), text.rfind("[", 0, at))
    closing = max(text.rfind(">", 0, at), text.rfind("]", 0, at))
    return opening if opening > closing else at

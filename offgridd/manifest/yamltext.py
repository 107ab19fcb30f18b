"""YAML text in, nodes with positions out: a bounded loader on the parser's events.

`accept` calls it, off the event loop. It bounds the size and refuses what is not clean UTF-8 before the parser sees it;
`builder` bounds the rest. It never reads a file, runs a tag or raises anything but ManifestError.
"""

from __future__ import annotations

import re
from typing import Any, Final, NoReturn

import yaml

from offgridd.manifest.builder import Budget, Builder, refuse
from offgridd.manifest.nodes import MapNode, Mark

MAX_BYTES: Final = 1 << 20  # of one file

# libyaml's parser where PyYAML was built with it: ten times faster, the same events.
PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def load(name: str, data: bytes, budget: Budget | None = None, most: int = MAX_BYTES) -> MapNode:
    """The document in `data`, of `most` bytes; `name` stands for the file in positions. Stops at the first problem."""
    builder = Builder(name, budget or Budget())
    text = _decode(name, data, most)
    try:
        for event in yaml.parse(text, Loader=PARSER):
            builder.feed(event)
    except yaml.MarkedYAMLError as error:
        _refuse_syntax(name, text, error)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: the pure Python parser on `\U00110000`
        why = " ".join(str(error).split())
        refuse("ParseError", f"cannot read the file as YAML: {why}; correct it", Mark(name, 0, 0))
    return builder.document()


def _refuse_syntax(name: str, text: str, error: yaml.MarkedYAMLError) -> NoReturn:
    at = error.problem_mark or error.context_mark
    mark, before = Mark(name, 0, 0), ""
    if at is not None:
        mark = Mark(name, at.line + 1, at.column + 1)
        before = "".join(text.split("\n")[at.line : at.line + 1])[: at.column + 1]
    why = " ".join(filter(None, (error.problem, error.context)))
    advice = "indent with spaces, not with tabs" if "\t" in before else "correct the syntax here or just above"
    refuse("ParseError", f"cannot read this as YAML: {why}; {advice}", mark)


def _decode(name: str, data: bytes, most: int) -> str:
    if len(data) > most:
        message = f"cannot read a file of {len(data)} bytes: the limit is {most}; split it into conf.d files"
        refuse("TooLarge", message, Mark(name, 0, 0))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        head = data[: error.start]
        mark = Mark(name, head.count(b"\n") + 1, error.start - head.rfind(b"\n"))
        refuse(
            "ParseError", f"cannot read byte 0x{data[error.start]:02x}: it is not UTF-8; save the file as UTF-8", mark
        )
    text = text.removeprefix("\ufeff")
    found = _UNPRINTABLE.search(text)
    if found:
        start = found.start()
        mark = Mark(name, text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start))
        refuse("ParseError", f"cannot read character U+{ord(found[0]):04X}: YAML does not allow it; remove it", mark)
    return text

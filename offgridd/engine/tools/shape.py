"""How a model writes tool calls: the texts around names and arguments, as data. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ID, INDEX, ORDINAL, KEY = "\x00", "\x01", "\x02", "\x03"  # in a text: a call's id, its number from 0 or 1, a key
Kind = Literal["object", "keyed", "named", "tagged", "curly", "python"]
Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Shape:
    """All calls of an answer: `open`, the first call, `between`, the next one, ..., `close`.

    By `kind` one call is
    object: a JSON object with the name in `name_key`, the arguments in `args_key`, and `extras` such as an id;
    keyed: a JSON object with the name as its only key, and the arguments as its value;
    named: the name, `after`, and a JSON object of the arguments;
    tagged: the name, `after`, and for each argument `param`, its key, one of `quote`, its value, `unquote`;
    curly: the name and `{key:value}`, strings between `after`;
    python: the name and `(key=value)`, as Python writes them.
    """

    kind: Kind
    open: str
    between: str
    close: str
    name_key: str = "name"
    args_key: str = "arguments"
    extras: tuple[tuple[str, str], ...] = ()  # other keys of the object, and a hole or text for each; in order
    leading: int = 0  # how many of the extras stand before the name
    after: str = ""
    param: str = ""
    quote: Mapping[str, str] = field(default_factory=dict)  # by JSON type
    unquote: str = ""
    parallel: bool = True  # several calls in one answer
    bare: bool = False  # nothing stands before the call: it is one where it begins the answer
    prompted: bool = False  # the template writes `open` itself before the answer
    strings: bool = False  # the template wants arguments as text, not as an object


@dataclass(frozen=True, slots=True)
class Thinking:
    """What stands around reasoning. `started`: the template has written `open` already."""

    open: str
    close: str
    started: bool = False


@dataclass(frozen=True, slots=True)
class Dialect:
    """All that is known of a template. `shape` is None where it writes no calls that we understand.

    `native`: it tells the model of the tools itself; else our own words do.
    """

    shape: Shape | None = None
    thinking: Thinking | None = None
    native: bool = False
    channels: bool = False  # OpenAI's harmony: every message has a header that says what it is
    writes: bool = True  # it writes the calls of messages; else they go into their text
    system: bool = True  # it takes a message of the role system
    hidden: tuple[str, ...] = ()  # marks around the text of an answer


# For templates that know no tools, and models that were never told of them.
DEFAULT = Shape("object", "<tool_call>\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>")

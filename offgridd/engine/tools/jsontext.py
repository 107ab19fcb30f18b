"""JSON that comes in pieces: where a value ends, and what of an object can be passed on already. Pure."""

from __future__ import annotations

import json


class Value:
    """One JSON value, of whatever kind; sound JSON is assumed, and what follows is left."""

    def __init__(self) -> None:
        self._depth, self._string, self._escaped = 0, False, False
        self._bare = False  # a number or a word, which ends where something else begins
        self._begun = False
        self.done = False

    def take(self, text: str) -> int:
        """How many characters of `text` are of the value."""
        for at, char in enumerate(text):
            if self._ends_before(char):
                return at
            self._step(char)
            if self.done:
                return at + 1
        return len(text)

    def _ends_before(self, char: str) -> bool:
        if self._bare and (char in ",]}" or char.isspace()):
            self.done = True
        return self.done

    def _step(self, char: str) -> None:
        if self._string:
            if self._escaped:
                self._escaped = False
            elif char == "\\":
                self._escaped = True
            elif char == '"':
                self._string = False
                self.done = self._depth == 0
        elif char == '"':
            self._begun, self._string = True, True
        elif char in "{[":
            self._begun = True
            self._depth += 1
        elif char in "}]":
            self._depth -= 1
            self.done = self._depth <= 0
        elif not char.isspace() and not self._begun:
            self._begun = self._bare = True


class Call:
    """A call as an object: its name, and the text of its arguments as it comes.

    `args_key` None: the name is the only key, and the arguments its value.
    """

    def __init__(self, name_key: str, args_key: str | None) -> None:
        self._name_key, self._args_key = name_key, args_key
        self._key: str | None = None  # whose value is read, or is to come
        self._value: Value | None = None  # the key or value that is being read
        self._text = ""  # of it, where it is not passed on
        self._passes = False  # it is the arguments, and they are not JSON within a string
        self._early = ""  # arguments that came before the name
        self._opened = False
        self.name: str | None = None
        self.done = False

    def take(self, text: str) -> tuple[int, str]:
        """How many characters are of it, and what is new of the arguments. Raises ValueError where it is no object."""
        at, made = 0, ""
        while at < len(text) and not self.done:
            if self._value is not None:
                used, more = self._read(text[at:], self._value)
                at, made = at + used, made + more
            else:
                self._between(text[at])
                at += 1
        if self.name is None:
            self._early += made
            return at, ""
        made, self._early = self._early + made, ""
        return at, made

    def _between(self, char: str) -> None:
        """A character that is of no key and no value."""
        if char == "{" and not self._opened:
            self._opened = True
        elif char == '"' and self._opened and self._key is None:
            self._value, self._text, self._passes = Value(), char, False
            self._value.take(char)
        elif char == ":" and self._key is not None:
            self._value, self._text, self._passes = Value(), "", False
        elif char == "}" and self._opened:
            self.done = True
        elif not char.isspace() and not (char == "," and self._opened):
            raise ValueError("it is no object")

    def _read(self, text: str, value: Value) -> tuple[int, str]:
        used = value.take(text)
        piece, arguments = text[:used], self._key is not None and self._args_key in (None, self._key)
        if arguments and not self._text and not self._passes:
            piece = piece.lstrip()
            self._passes = bool(piece) and not piece.startswith('"')
        if not self._passes:
            self._text += piece
        made = piece if self._passes else ""
        if value.done:
            if arguments and not self._passes:
                made = str(json.loads(self._text))
            self._end(arguments)
        return used, made

    def _end(self, arguments: bool) -> None:
        """A key or a value is whole."""
        self._value = None
        if self._key is None:
            self._key = str(json.loads(self._text))
            self.name = self._key if self._args_key is None else self.name
            return
        if not arguments and self._key == self._name_key:
            self.name = str(json.loads(self._text))
        self._key = None

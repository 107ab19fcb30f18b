"""Token bytes in, text out: only whole UTF-8, and nothing that may still become a stop string. Pure."""

from __future__ import annotations

import codecs


class StreamText:
    """The text of one answer. After `push` returned True a stop string was met and nothing more comes."""

    def __init__(self, stops: tuple[str, ...] = ()) -> None:
        self._stops = stops
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._ready: list[str] = []
        self.stopped = False

    def push(self, piece: bytes, *, last: bool = False) -> bool:
        """Takes the next bytes; `last` lets go of what was held back. True: a stop string ended the text."""
        if self.stopped:
            return True
        self._held += self._decoder.decode(piece, final=last)
        cuts = [at for at in (self._held.find(s) for s in self._stops) if at >= 0]
        if cuts:
            self._ready.append(self._held[: min(cuts)])
            self._held, self.stopped = "", True
        else:
            keep = 0 if last else self._may_grow()
            cut = len(self._held) - keep
            self._ready.append(self._held[:cut])
            self._held = self._held[cut:]
        return self.stopped

    def take(self) -> str:
        """The text that is certain and was not taken before."""
        text = "".join(self._ready)
        self._ready.clear()
        return text

    def _may_grow(self) -> int:
        """How many characters at the end may be the beginning of a stop string."""
        most = max((len(s) - 1 for s in self._stops), default=0)
        for size in range(min(most, len(self._held)), 0, -1):
            if any(s.startswith(self._held[-size:]) for s in self._stops):
                return size
        return 0

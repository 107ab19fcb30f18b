"""How log records look: on a terminal, in the journal, and as JSON. One line each, whatever is in them."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Literal

Format = Literal["auto", "text", "journal", "json"]
# sd-daemon(3): the levels of syslog, which the journal takes from the beginning of a line.
_LEVELS = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


def install(level: str, wanted: Format) -> None:
    """On stderr. `auto`: as the journal wants it where stderr is the journal's, else text."""
    handler = logging.StreamHandler()
    kind = ("journal" if in_journal(os.environ) else "text") if wanted == "auto" else wanted
    handler.setFormatter({"text": Text, "journal": Journal, "json": Json}[kind]())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of each event, ours decide


def in_journal(environ: Mapping[str, str]) -> bool:
    """Whether stderr leads to systemd's journal, as systemd.exec(5) says it can be told."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class Text(logging.Formatter):
    """For people: time, level, text. A traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        return f"{stamp} {record.levelname:<7} {one_line(record.getMessage())}{self._trace(record)}"

    def _trace(self, record: logging.LogRecord) -> str:
        if not record.exc_info:
            return ""
        return "\n" + "\n".join(one_line(line) for line in self.formatException(record.exc_info).splitlines())


class Journal(Text):
    """The journal has the time; each line begins with its level."""

    def format(self, record: logging.LogRecord) -> str:
        level = f"<{_LEVELS.get(record.levelno, 5)}>"
        lines = (one_line(record.getMessage()) + self._trace(record)).splitlines()
        return "\n".join(level + line for line in lines)


class Json(Text):
    """An object a line: time (UTC), level, logger, message, and trace where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        shown = {"time": f"{stamp}.{record.msecs:03.0f}Z", "level": record.levelname.lower(), "logger": record.name,
                 "message": record.getMessage()}  # fmt: skip
        if record.exc_info:
            shown["trace"] = self.formatException(record.exc_info)
        return json.dumps(shown)


def one_line(text: str) -> str:
    """With what could end the line, or move a terminal's cursor, escaped: names come from files and clients."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

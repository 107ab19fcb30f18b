"""What an answer to a request for some bytes of a file means. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

from offgridd.core.hub import HubError, HubFailure

_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)$")


class Verdict(Enum):
    TAKE = "these are the bytes"
    WHOLE = "the whole file comes: ranges are not understood"
    RENEW = "the address is used up: ask the hub for another"
    WAIT = "not now: later"


def judge(status: int, headers: Mapping[str, str], start: int, end: int, size: int) -> Verdict:
    """Of an answer to a request for bytes `start` to `end` of a file of `size`. Raises HubError."""
    if status == 206:
        found = _RANGE.match(headers.get("content-range", ""))
        if found is None or int(found[1]) != start or int(found[2]) >= max(end, 1):
            raise _other("the server sends other bytes than were asked for")
        if found[3] != "*" and int(found[3]) != size:
            raise _other(f"the server's file has {found[3]} bytes, the hub's has {size}")
        if headers.get("content-encoding", "identity") != "identity":
            raise _other("the server compresses what it sends")
        return Verdict.TAKE
    if status == 200:
        length = headers.get("content-length", str(size))
        if length != str(size) or headers.get("content-encoding", "identity") != "identity":
            raise _other(f"the server's file has {length} bytes, the hub's has {size}")
        return Verdict.WHOLE
    if status in (401, 403, 410) or 300 <= status < 400:
        return Verdict.RENEW
    if status in (408, 425, 429) or status >= 500:
        return Verdict.WAIT
    if status == 416:
        raise _other(f"the server's file is shorter than the {size} bytes that the hub tells")
    raise HubError(HubFailure("ContentMissing", f"cannot fetch the file: its server answers {status}", passing=True))


def _other(why: str) -> HubError:
    return HubError(HubFailure("ContentDiffers", f"cannot fetch the file: {why}", passing=True))

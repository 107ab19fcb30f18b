"""A bundle: what a machine without a network needs to have models, as one file.

It is a tar, or a folder, of `bundle.json` and `blobs/sha256-*`; this is `bundle.json`. The same state gives the same
bytes: nothing in it says when or where it was made.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from offgridd.core.desired import ModelSpec
from offgridd.core.hub import MOST_SIZE, Pin, as_sha256
from offgridd.core.keys import question_key
from offgridd.core.locking import LOCK_FILE

VERSION = 1
HEAD = "bundle.json"
MOST_HEAD = 64 << 20  # bytes of bundle.json
BUNDLED = "it came in a bundle"  # why of a pin
_FRAGMENT = re.compile(r"conf\.d/[^/\0.][^/\0]{0,250}\.yaml")
_MAIN = re.compile(r"[^/\0.][^/\0]{0,250}")
_BLOB = re.compile(r"blobs/sha256-([0-9a-f]{64})")


class BundleError(Exception):
    """The text says what of the bundle can not be used."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """`files`: a manifest, its conf.d and, where it had one, its lock, by the names they have beside each other.

    `lock`: what the bundled models of a hub mean. `blobs`: their sizes in bytes by sha256. `catalogue`: what is known
    of their repositories, for searches.
    """

    files: tuple[tuple[str, str], ...]
    lock: str
    blobs: dict[str, int]
    catalogue: tuple[Any, ...] = ()


def beside(name: str, number: int) -> str:
    """What the manifest's file `name`, the `number`th of all, is called in a bundle. Raises BundleError."""
    last = name.rpartition("/")[2]
    found = last if number == 0 or last == LOCK_FILE else f"conf.d/{last}"
    if not _is_name(found, number):
        raise BundleError(f"cannot bundle {last!r}: rename it")
    return found


def may_pin(spec: ModelSpec | None, pin: Pin) -> bool:
    """Whether `pin` of a bundle may be what the model of that name means here: none, or one that asks the same.

    What a lock has fixed stays so, also for the day on which the lock is taken away.
    """
    return spec is None or (spec.lock is None and question_key(spec) == pin.key)


def blob_name(sha256: str) -> str:
    return f"blobs/sha256-{sha256}"


def blob_of(name: str) -> str | None:
    """The sha256 of the blob that a member of this name is."""
    found = _BLOB.fullmatch(name)
    return found[1] if found else None


def write_head(bundle: Bundle) -> bytes:
    found = {
        "version": VERSION,
        "manifest": [{"name": name, "text": text} for name, text in bundle.files],
        "lock": bundle.lock,
        "blobs": [{"sha256": sha256, "size": size} for sha256, size in sorted(bundle.blobs.items())],
        "catalogue": list(bundle.catalogue),
    }
    return json.dumps(found, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"


def read_head(data: bytes) -> Bundle:
    """Raises BundleError."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"cannot read {HEAD}: {error}; it is no bundle, or is damaged") from None
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise BundleError(f"cannot read {HEAD}: it is of another version; this program reads version {VERSION}")
    try:
        files = tuple((_text(one["name"]), _text(one["text"])) for one in found["manifest"])
        blobs = {_sha256(one["sha256"]): _size(one["size"]) for one in found["blobs"]}
        bundle = Bundle(files, _text(found["lock"]), blobs, tuple(found["catalogue"]))
    except (KeyError, TypeError, ValueError):
        raise BundleError(f"cannot read {HEAD}: something of it is missing or has another form") from None
    names = [name for name, _ in files]
    if not names or len(set(names)) < len(names) or not all(_is_name(n, i) for i, n in enumerate(names)):
        raise BundleError(f"cannot use {HEAD}: the files of its manifest have names that it may not have")
    return bundle


def _is_name(name: str, number: int) -> bool:
    good = _MAIN if number == 0 else _FRAGMENT
    return name.isprintable() and bool(good.fullmatch(name) or (number > 0 and name == LOCK_FILE))


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise TypeError
    found.encode()  # half a character is none: UnicodeEncodeError is a ValueError
    return found


def _sha256(found: object) -> str:
    sha256 = as_sha256(found)
    if sha256 is None or sha256 != found:
        raise ValueError
    return sha256


def _size(found: object) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or not 0 < found < MOST_SIZE:
        raise ValueError
    return found

"""Says what a file that is no GGUF looks like, from its first bytes; used by `reader` for the text of a refusal.

It must never decide anything: the verdict is reached before it is asked.
"""

from __future__ import annotations

import struct

SNIFF = 512  # bytes that are enough to tell

_STARTS = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file that it stands for"),
    (b"\x1f\x8b", "gzip data"),
    (b"PK\x03\x04", "a zip archive or a PyTorch checkpoint"),
    (b"\x28\xb5\x2f\xfd", "zstandard data"),
    (b"\xfd7zXZ\x00", "xz data"),
    (b"lmgg", "an old GGML file"),
    (b"fmgg", "an old GGML file"),
    (b"tjgg", "an old GGML file"),
    (b"algg", "an old GGML file"),
    (b"FUGG", "a GGUF with its bytes swapped"),
)


def looks_like(head: bytes, size: int) -> str:
    """`head` is the start of a file of `size` bytes."""
    if size == 0:
        return "an empty file"
    for start, name in _STARTS:
        if head.startswith(start):
            return name
    if _is_safetensors(head, size):
        return "a safetensors file"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle"
    if not head.strip(b"\0"):
        return "a file of zeros, as a broken download leaves it"
    return _text_kind(head) or "data of an unknown kind"


def _is_safetensors(head: bytes, size: int) -> bool:
    """Eight bytes of length, then that much JSON."""
    return len(head) > 8 and head[8:9] == b"{" and struct.unpack_from("<Q", head)[0] <= size - 8


def _text_kind(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page"
    if text.startswith(b"<"):
        return "an XML document"
    if text.startswith((b"{", b"[")):
        return "a JSON document"
    # A character that the end of `head` cuts in two still makes text.
    printable = text.decode("utf-8", "ignore").replace("\n", "").replace("\r", "").replace("\t", "").isprintable()
    whole = len(text.decode("utf-8", "ignore").encode()) >= len(text) - 3
    return "a text file" if text and printable and whole else ""

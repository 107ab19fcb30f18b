"""The catalogue over HTTP and on the command line: synced from a hub, then asked without it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.rig import Rig, until

from offgridd.devhub.answers import Answer, Request, error
from offgridd.devhub.repos import Repos
from offgridd.devhub.routes import Hub
from offgridd.devhub.serve import serving

OFFGRID = str(Path(sys.executable).with_name("offgrid"))


class Held(Hub):
    """A hub whose list stands still at a second page while `held` is set, or answers it with `refusal`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Repos(folder), page=2)
        self.held, self.go_on = threading.Event(), threading.Event()
        self.refusal: Answer | None = None

    def answer(self, request: Request) -> Answer:
        if "cursor" in request.query:
            if self.refusal is not None:
                return self.refusal
            if self.held.is_set():
                self.go_on.wait(30)
        return super().answer(request)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        self.go_on.clear()
        self.held.set()
        try:
            yield
        finally:
            self.held.clear()
            self.go_on.set()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Held]]:
    folder = tmp_path_factory.mktemp("hub")
    for n in range(5):
        repo = folder / ("acme" if n < 4 else "zoo") / f"Coding-{n}-GGUF"
        repo.mkdir(parents=True)
        for quant in ("Q4_K_M", "Q8_0"):
            (repo / f"m{n}-{quant}.gguf").write_bytes(bytes(1000 + n))
        (repo / ".hub.json").write_text(json.dumps({"downloads": n}))
    made = Held(folder)
    with serving(made) as (base, _):
        yield base, made


@pytest.fixture
def rig(tmp_path: Path, hub: tuple[str, Held]) -> Iterator[Rig]:
    made = Rig(tmp_path, "fake")
    declare(made, hub[0])
    made.start()
    yield made
    assert made.stop() == 0
    made.api.close()


def declare(rig: Rig, endpoint: str, offline: str = "false") -> None:
    text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"], offline: {offline}}}
defaults: {{endpoint: "{endpoint}"}}
models: {{}}
"""
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)
    if rig.process is not None:
        rig.admin.json("POST", "/v1/reload")


def offgrid(rig: Rig, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [OFFGRID, "--host", str(rig.socket), *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def tcp(rig: Rig, method: str, path: str, **more: Any) -> httpx2.Response:
    return httpx2.request(method, f"http://127.0.0.1:{rig.port}{path}", timeout=30, **more)


def admin(rig: Rig, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    with rig.admin.any(method, path, None if body is None else json.dumps(body).encode()) as response:
        return response.status, json.loads(response.read())


def test_synced_then_searched_without_a_hub(rig: Rig) -> None:
    assert "nothing is known yet" in offgrid(rig, "catalog").stdout
    assert tcp(rig, "GET", "/v1/catalog").json() == {
        "models": 0, "sized": 0, "bytes": tcp(rig, "GET", "/v1/catalog").json()["bytes"], "oldest_age": None,
        "newest_age": None,
    }  # fmt: skip
    done = offgrid(rig, "catalog", "sync")
    assert (done.returncode, done.stdout) == (0, "5 models were kept, 5 are known\n"), done.stderr
    assert "5 models" in done.stderr
    known = json.loads(offgrid(rig, "catalog", "--json").stdout)
    assert (known["models"], known["sized"]) == (5, 0)
    assert known["bytes"] > 0
    assert 0 <= known["newest_age"] <= known["oldest_age"] < 60
    declare(rig, "http://127.0.0.1:9", offline="true")
    found = tcp(rig, "GET", "/v1/search?query=coding&sort=downloads&limit=2").json()
    assert [r["model"]["id"] for r in found["results"]] == ["zoo/Coding-4-GGUF", "acme/Coding-3-GGUF"]
    best = found["results"][0]["best_variant"]
    assert (found["source"], best["quant"], best["size"], best["fits"]) == ("catalog", "Q4_K_M", None, "unknown")
    assert tcp(rig, "GET", "/v1/search?query=coding&max_size=1GB").json()["results"] == []
    assert "5 models, 0 of them with the sizes" in offgrid(rig, "catalog").stdout
    done = offgrid(rig, "catalog", "sync")
    assert (done.returncode, "Offline: " in done.stderr) == (5, True)


def test_what_is_asked_for(rig: Rig) -> None:
    done = offgrid(rig, "catalog", "sync", "--author", "acme", "--query", "coding", "--limit", "3", "--json")
    job = json.loads(done.stdout)
    assert (job["unit"], job["models"], job["size"], job["what"]) == ("models", 3, 3, "catalog sync acme/ coding")
    assert job["result"] == {"models": 3, "more": True, "known": 3}
    assert f"{job['id']}  done       catalog sync acme/ coding  3 models" in offgrid(rig, "jobs").stdout


@pytest.mark.parametrize(
    "body",
    [{"limit": 0}, {"limit": -1}, {"limit": 10**7}, {"limit": "9"}, {"limit": True}, {"limit": 1.5}, {"author": 5},
     {"query": "x" * 257}, {"pages": 1}],
)  # fmt: skip
def test_what_makes_no_sense_is_a_400_that_names_it(rig: Rig, body: dict[str, Any]) -> None:
    status, answer = admin(rig, "POST", "/v1/catalog/sync", body)
    assert (status, answer["error"]["param"]) == (400, next(iter(body)))


def test_over_tcp_it_is_read_only(rig: Rig) -> None:
    for path in ("/v1/catalog/sync", "/v1/catalog%2Fsync"):
        assert tcp(rig, "POST", path, json={}).status_code in (403, 404)
    assert tcp(rig, "GET", "/v1/catalog?x=1").status_code == 400
    assert tcp(rig, "GET", "/v1/catalog").status_code == 200


def test_one_at_a_time_and_called_off(rig: Rig, hub: tuple[str, Held]) -> None:
    with hub[1].standing_still():
        _, job = admin(rig, "POST", "/v1/catalog/sync", {})
        until(lambda: admin(rig, "GET", f"/v1/jobs/{job['id']}")[1]["models"] == 2)
        status, answer = admin(rig, "POST", "/v1/catalog/sync", {})
        assert (status, answer["error"]["code"]) == (409, "sync_running")
        assert job["id"] in answer["error"]["message"]
        assert tcp(rig, "GET", "/v1/catalog").json()["models"] == 2  # nobody waits for it
        assert f"{job['id']} is cancelled" in offgrid(rig, "jobs", "--cancel", job["id"]).stdout
    assert offgrid(rig, "catalog", "sync").returncode == 0
    assert tcp(rig, "GET", "/v1/catalog").json()["models"] == 5


def test_a_hub_that_has_enough_of_us(rig: Rig, hub: tuple[str, Held]) -> None:
    hub[1].refusal = error(429, "too many", headers={"Retry-After": "3000"})
    try:
        done = offgrid(rig, "catalog", "sync")
    finally:
        hub[1].refusal = None
    assert done.returncode == 5
    assert "RateLimited: cannot ask for the list of models" in done.stderr
    assert "2 models were kept; sync again in 3000 s" in done.stderr
    assert tcp(rig, "GET", "/v1/catalog").json()["models"] == 2


@pytest.mark.parametrize(
    "text", ["%00", "a%00b", "%22%22", "%25", "_", "a*", "NOT+x", "%E6%A8%A1", "%ff%fe", "%5C", "x"]
)
@pytest.mark.parametrize("sort", ["downloads", "relevance"])
def test_no_text_of_a_query_is_an_error(shared: Rig, text: str, sort: str) -> None:
    for path in (f"query={text}", f"author={text}", f"quant={text}", f"query=coding+{text}"):
        answer = tcp(shared, "GET", f"/v1/search?{path}&sort={sort}")
        assert answer.status_code == 200, answer.text
        found = [r["model"]["id"] for r in answer.json()["results"]]
        assert not found or text in ("_", "x"), (path, found)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, hub: tuple[str, Held]) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("shared"), "fake")
    declare(made, hub[0])
    made.start()
    assert offgrid(made, "catalog", "sync").returncode == 0
    declare(made, hub[0], offline="true")
    yield made
    assert made.stop() == 0
    made.api.close()


def test_it_survives_a_kill_in_the_middle(rig: Rig, hub: tuple[str, Held]) -> None:
    with hub[1].standing_still():
        _, job = admin(rig, "POST", "/v1/catalog/sync", {})
        until(lambda: admin(rig, "GET", f"/v1/jobs/{job['id']}")[1]["models"] == 2)
        rig.kill()
    rig.start()
    assert tcp(rig, "GET", "/v1/catalog").json()["models"] == 2


def test_it_does_not_hold_the_daemon_up(rig: Rig, hub: tuple[str, Held]) -> None:
    with hub[1].standing_still():
        _, job = admin(rig, "POST", "/v1/catalog/sync", {})
        until(lambda: admin(rig, "GET", f"/v1/jobs/{job['id']}")[1]["models"] == 2)
        began = time.monotonic()
        assert rig.stop() == 0
        assert time.monotonic() - began < 8

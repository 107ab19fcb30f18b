"""Search over HTTP and on the command line, against a hub that is there, slow, wrong or gone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.hubs import Local, local_hub
from support.rig import Rig, until

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
MB = 10**6


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with local_hub(tmp_path_factory.mktemp("hub")) as made:
        for number, author in enumerate(["TheBloke", "TheBloke", "acme", "acme", "zoo"]):
            files = {f"m{number}-{q}.gguf": bytes(size) for q, size in {"Q4_K_M": 4000, "Q8_0": 8000}.items()}
            files |= {f"m{number}-Q5_K_M.gguf": bytes(5000)} if number < 3 else {}
            made.put(f"{author}/Coding-{number}-GGUF", {**files, "README.md": b"x"}, downloads=number * 10,
                     gated="manual" if number == 4 else False, tags=["gguf", "license:mit"],
                     pipeline_tag="feature-extraction" if number == 3 else "text-generation")  # fmt: skip
        made.put("acme/Not-a-model", {"README.md": b"x"}, downloads=1000)
        yield made


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, hub: Local) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("rig"), "fake")
    declare(made, hub.base)
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


def get(rig: Rig, path: str) -> httpx2.Response:
    return httpx2.get(f"http://127.0.0.1:{rig.port}{path}", timeout=30)


def ids(found: dict[str, Any]) -> list[str]:
    return [r["model"]["id"] for r in found["results"]]


def test_get_and_post_as_they_are_documented(rig: Rig) -> None:
    found = get(rig, "/v1/search?query=coding&sort=downloads&limit=2").json()
    assert ids(found) == ["zoo/Coding-4-GGUF", "acme/Coding-3-GGUF"]
    assert (found["source"], found["partial"], found["hub_error"]) == ("hub", False, None)
    body = {"query": "coding", "max_size": 4500, "sort_by": "downloads", "limit": 5}
    found = httpx2.post(f"http://127.0.0.1:{rig.port}/v1/search", json=body).json()
    assert len(found["results"]) == 5
    best = found["results"][0]["best_variant"]
    assert (best["filename"], best["size"], best["quant"], best["fits"]) == (
        "m4-Q4_K_M.gguf",
        4000,
        "Q4_K_M",
        "unknown",
    )
    assert found["results"][0]["model"] == {
        "id": "zoo/Coding-4-GGUF", "author": "zoo", "downloads": 40, "likes": 0, "gated": "manual", "license": "mit",
        "kind": "chat", "created_at": "2024-01-02T03:04:05.000Z", "last_modified": "2025-01-02T03:04:05.000Z",
    }  # fmt: skip
    assert found["results"][0]["command"] == "offgrid download-hf zoo/Coding-4-GGUF --quant Q4_K_M"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("author=thebloke", {0, 1}),
        ("quant=Q5_K_M", {0, 1, 2}),
        ("quant=q6_k", set()),
        ("exclude_gated=true", {0, 1, 2, 3}),
        ("kind=embedding", {3}),
        ("query=coding-2", {2}),
        ("min_size=5000", {0, 1, 2, 3, 4}),
        ("min_size=9000", set()),
        ("max_size=3kB", None),
        ("max_size=0", set()),
    ],
)
def test_filters(rig: Rig, asked: str, found: set[int] | None) -> None:
    answer = get(rig, f"/v1/search?{asked}")
    if found is None:
        assert answer.status_code == 400
    else:
        assert {int(i.split("-")[1]) for i in ids(answer.json())} == found


def test_the_snippet_is_a_manifest_that_is_valid(rig: Rig, tmp_path: Path) -> None:
    found = get(rig, "/v1/search?query=coding&limit=1").json()["results"][0]
    path = tmp_path / "m.yaml"
    path.write_text("apiVersion: offgridd/v1\n" + found["manifest"])
    done = subprocess.run([OFFGRID, "check", str(path)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "asked",
    ["limit=0", "limit=101", "limit=x", "sort=colour", "kind=toy", "colour=red", "exclude_gated=perhaps",
     "quant=" + "Q" * 33, "query=" + "x" * 257, "min_size=-1", "sort=likes&sort_by=likes"],
)  # fmt: skip
def test_what_makes_no_sense_is_a_400_that_names_it(rig: Rig, asked: str) -> None:
    answer = get(rig, f"/v1/search?{asked}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in asked


def test_the_hub_gone_is_answered_from_the_catalogue_and_said(rig: Rig, hub: Local) -> None:
    get(rig, "/v1/search?query=coding&limit=5")
    declare(rig, "http://127.0.0.1:9")
    try:
        found = get(rig, "/v1/search?query=coding&sort=downloads").json()
        assert ids(found)[0] == "zoo/Coding-4-GGUF"
        assert (found["source"], found["hub_error"]["code"]) == ("catalog", "HubUnreachable")
        assert found["results"][0]["best_variant"]["size"] == 4000
        assert get(rig, "/v1/search?query=unheard-of").status_code == 502
        assert search(rig, "unheard-of").returncode == 5
        declare(rig, "http://127.0.0.1:9", offline="true")
        answer = get(rig, "/v1/search?query=unheard-of")
        assert (answer.status_code, answer.json()["results"]) == (200, [])
        done = search(rig, "coding")
        assert done.returncode == 0
        assert "from the catalogue" in done.stdout
        assert "offline is declared" in done.stdout
    finally:
        declare(rig, hub.base)


def test_a_hub_that_answers_nonsense_or_nothing_is_an_error_in_time(rig: Rig, hub: Local) -> None:
    try:
        began = time.monotonic()
        declare(rig, f"http://127.0.0.1:{rig.port}")  # a server, but no hub
        answer = get(rig, "/v1/search?query=elsewhere")
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "hub_failed"
        assert time.monotonic() - began < 5
    finally:
        declare(rig, hub.base)


def search(rig: Rig, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [OFFGRID, "--host", str(rig.socket), "search", *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def test_the_command_line(rig: Rig) -> None:
    done = search(rig, "coding", "--author", "TheBloke", "--quant", "Q5_K_M", "--sort", "downloads", "--limit", "10")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["TheBloke/Coding-1-GGUF", "10", "0", "Q5_K_M", "5", "kB"]
    assert lines[-1] == "to fetch the first: offgrid download-hf TheBloke/Coding-1-GGUF --quant Q5_K_M"
    assert len(json.loads(search(rig, "coding", "--chat", "--json").stdout)["results"]) == 4
    assert search(rig, "unheard-of").returncode == 1
    assert search(rig, "--sort", "colour").returncode == 2
    done = search(rig, "--max-size", "9 bananas")
    assert done.returncode == 1
    assert "a size such as" in done.stderr


def test_trees_are_asked_for_once_for_a_commit(rig: Rig, hub: Local) -> None:
    def trees() -> int:
        hub.seen.requests.clear()
        get(rig, "/v1/search?query=coding&limit=5")
        return sum("/tree/" in path for _, path, _ in hub.seen.requests)

    trees()
    assert until(lambda: trees() == 0)

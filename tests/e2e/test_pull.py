"""Fetch a file, keep it, chat with it, remove it: without a word in the manifest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from support.hubs import Local, local_hub
from support.rig import Rig, until
from support.tinymodel import CONTROL, model

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
REPO = "acme/Tiny-GGUF"
DATA = model(spec=CONTROL)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with local_hub(tmp_path_factory.mktemp("hub")) as made:
        made.put(REPO, {"tiny-Q8_0.gguf": DATA, "tiny-Q4_K_M.gguf": DATA + bytes(100), "bad-Q2_K.gguf": b"no GGUF"})
        made.put("acme/Other-GGUF", {"other-Q8_0.gguf": DATA + bytes(7)})
        yield made


@pytest.fixture
def rig(tmp_path: Path, hub: Local) -> Iterator[Rig]:
    made = Rig(tmp_path, "fake")
    declare(made, hub.base)
    made.start()
    yield made
    assert made.stop() == 0
    made.api.close()


def declare(rig: Rig, endpoint: str, models: str = "{}", server: str = "") -> None:
    text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]{server}}}
defaults: {{endpoint: "{endpoint}", context: 64}}
store: {{min_free: 0}}
models: {models}
"""
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)
    if rig.process is not None:
        rig.admin.json("POST", "/v1/reload")


def offgrid(rig: Rig, *args: str, text: str = "") -> subprocess.CompletedProcess[str]:
    argv = [OFFGRID, "--host", str(rig.socket), *args]
    return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60)


def chat(rig: Rig, name: str) -> Any:
    return rig.api.chat.completions.create(model=name, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)


def blobs(rig: Rig) -> list[str]:
    folder = rig.folder / "state/blobs"
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".json")) if folder.is_dir() else []


def test_download_run_list_and_remove(rig: Rig) -> None:
    done = offgrid(rig, "download-hf", REPO, "--quant", "Q8_0")
    assert (done.returncode, done.stdout) == (0, "tiny-Q8_0.gguf is kept; try it: offgrid run tiny-Q8_0.gguf\n"), (
        done.stderr
    )
    assert "100%" in done.stderr
    done = offgrid(rig, "run", "tiny-Q8_0.gguf", text="Hello\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    for name in ("tiny-Q8_0.gguf", REPO, f"{REPO}:Q8_0", f"{REPO}/tiny-Q8_0.gguf"):
        assert chat(rig, name).model == "tiny-Q8_0.gguf"
    assert rig.status()["models"] == []
    (listed,) = rig.api.models.list().data
    assert (listed.id, listed.managed) == ("tiny-Q8_0.gguf", False)  # type: ignore[attr-defined]
    rows = offgrid(rig, "list").stdout.splitlines()
    assert rows[1].split()[:2] == ["tiny-Q8_0.gguf", "Q8_0"]
    assert rows[1].split()[-2:] == [REPO, "kept"]
    assert offgrid(rig, "rm", "tiny-Q8_0.gguf").returncode == 0
    assert blobs(rig) == []
    with pytest.raises(openai.NotFoundError):
        chat(rig, "tiny-Q8_0.gguf")
    assert offgrid(rig, "rm", "tiny-Q8_0.gguf").returncode == 1


def test_it_is_kept_over_a_restart_and_served_without_the_hub(rig: Rig) -> None:
    assert offgrid(rig, "pull", REPO).returncode == 0
    assert rig.stop() == 0
    rig.start()
    assert chat(rig, "tiny-Q4_K_M.gguf").choices[0].message.content
    declare(rig, "http://127.0.0.1:9", server=", undeclared: refuse")
    with pytest.raises(openai.NotFoundError):
        chat(rig, "tiny-Q4_K_M.gguf")


def test_what_is_kept_is_known_from_the_blobs_where_the_state_is_lost(rig: Rig) -> None:
    assert offgrid(rig, "pull", REPO, "--quant", "Q8_0").returncode == 0
    assert rig.stop() == 0
    for file in (rig.folder / "state").glob("state.db*"):
        file.unlink()
    rig.start()
    assert chat(rig, "tiny-Q8_0.gguf").choices[0].message.content
    assert offgrid(rig, "rm", "tiny-Q8_0.gguf").returncode == 0
    assert rig.stop() == 0
    rig.start()
    assert rig.admin.json("GET", "/v1/list")["files"] == []


def test_one_kept_file_is_served_at_a_time(rig: Rig) -> None:
    for repo in (REPO, "acme/Other-GGUF"):
        assert offgrid(rig, "pull", repo).returncode == 0
    chat(rig, "tiny-Q4_K_M.gguf")
    chat(rig, "other-Q8_0.gguf")
    assert rig.process is not None
    children = f"/proc/{rig.process.pid}/task/{rig.process.pid}/children"
    until(lambda: len(Path(children).read_text().split()) == 1)
    chat(rig, "tiny-Q4_K_M.gguf")


def test_what_is_declared_is_not_removed_and_its_bytes_are_shared(rig: Rig, hub: Local) -> None:
    hub.seen.sent.clear()
    assert offgrid(rig, "pull", REPO, "--quant", "Q8_0").returncode == 0
    declare(rig, hub.base, f"{{tiny: {{source: {{hf: {REPO}}}, quant: Q8_0}}}}")
    until(lambda: rig.status()["models"] and rig.is_ready())
    assert hub.seen.sent[""] == len(DATA)
    done = offgrid(rig, "rm", REPO)
    assert done.returncode == 0
    assert len(blobs(rig)) == 1
    done = offgrid(rig, "rm", REPO)
    assert done.returncode == 1
    assert "it is declared as tiny" in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "reason"),
    [
        ([REPO, "--quant", "Q6_K"], 1, "QuantNotFound"),
        ([REPO, "--max-size", "5"], 1, "TooLarge"),
        ([REPO, "--file", "nope.gguf"], 1, "FileNotInRepo"),
        (["acme/Nothing"], 1, "RepoNotFound"),
        ([REPO, "--file", "bad-Q2_K.gguf"], 1, "NotGGUF"),
        (["nonsense"], 1, "owner/repo"),
        ([REPO, "--file", "../x"], 1, "file"),
        ([REPO, "--file", "x", "--quant", "Q8_0"], 1, "quant"),
    ],
)
def test_what_can_not_be_pulled_is_one_line_with_a_reason(rig: Rig, args: list[str], code: int, reason: str) -> None:
    done = offgrid(rig, "pull", *args)
    assert done.returncode == code
    assert reason in done.stderr.splitlines()[-1]
    assert rig.admin.json("GET", "/v1/list")["files"] == []


def test_no_hub_is_known_in_time_and_has_its_own_exit_code(rig: Rig) -> None:
    declare(rig, "http://127.0.0.1:9")
    done = offgrid(rig, "pull", REPO)
    assert done.returncode == 5
    assert "HubUnreachable" in done.stderr


def test_ctrl_c_leaves_it_to_the_daemon_and_a_job_can_be_called_off(rig: Rig, tmp_path: Path) -> None:
    with local_hub(tmp_path / "slow", rate=1 << 18) as slow:
        slow.put("acme/Big-GGUF", {"big-Q8_0.gguf": DATA + os.urandom(30 << 20)})
        declare(rig, slow.base)
        argv = [OFFGRID, "--host", str(rig.socket), "pull", "acme/Big-GGUF"]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
            jobs = until(lambda: [j for j in rig.admin.json("GET", "/v1/jobs")["jobs"] if j["bytes"]])
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            said = process.stderr.read()
        assert process.returncode == 130
        assert f"offgrid jobs --cancel {jobs[0]['id']}" in said
        assert offgrid(rig, "jobs").stdout.split()[:2] == [jobs[0]["id"], "running"]
        done = offgrid(rig, "jobs", "--cancel", jobs[0]["id"])
        assert done.stdout.split() == [jobs[0]["id"], "is", "cancelled"]
        assert any(p.suffix == ".part" for p in (rig.folder / "state/partial").iterdir())


def test_it_is_for_the_admin_socket(rig: Rig) -> None:
    for method, path in {"/v1/pull": "POST", "/v1/rm": "POST", "/v1/jobs": "GET", "/v1/jobs/x": "DELETE"}.items():
        answer = httpx2.request(path, f"http://127.0.0.1:{rig.port}{method}")
        assert (answer.status_code, json.loads(answer.content)["error"]["code"]) == (403, "admin_only")

"""Fetch a file, keep it, chat with it, remove it: without a word in the manifest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
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


def test_what_is_kept_is_described_and_waited_for_by_its_name(rig: Rig) -> None:
    assert offgrid(rig, "pull", REPO, "--quant", "Q8_0").returncode == 0
    shown = offgrid(rig, "describe", "tiny-Q8_0.gguf")
    assert (shown.returncode, "tiny-Q8_0.gguf" in shown.stdout) == (0, True), shown.stderr
    assert "Loaded is False, OnDemand" in shown.stdout
    assert offgrid(rig, "wait", "model/tiny-Q8_0.gguf", "--for=Ready", "--timeout", "20s").returncode == 0
    assert chat(rig, "tiny-Q8_0.gguf").choices[0].message.content
    assert offgrid(rig, "wait", "model/tiny-Q8_0.gguf", "--for=Loaded", "--timeout", "20s").returncode == 0
    (found,) = (one for one in rig.status()["kept"] if one["name"] == "tiny-Q8_0.gguf")
    assert found["managed"] is False
    assert all(one["managed"] for one in rig.status()["models"])


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


def test_kept_files_are_served_side_by_side(rig: Rig) -> None:
    for repo in (REPO, "acme/Other-GGUF"):
        assert offgrid(rig, "pull", repo).returncode == 0
    for name in ("tiny-Q4_K_M.gguf", "other-Q8_0.gguf", "tiny-Q4_K_M.gguf"):
        chat(rig, name)

    def workers() -> list[dict[str, Any]]:
        return list(rig.status()["memory"]["workers"])

    idle = until(lambda: [w for w in workers() if w["unloadAfter"]][1:] and workers())
    assert {(w["model"], w["priority"]) for w in idle} == {("tiny-Q4_K_M.gguf", None), ("other-Q8_0.gguf", None)}


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


def test_who_follows_a_job_does_not_hold_up_the_end(rig: Rig) -> None:
    argv = [OFFGRID, "--host", str(rig.socket), "bundle", "import", "-"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        until(lambda: rig.admin.json("GET", "/v1/jobs")["jobs"])
        with rig.admin.open("GET", "/v1/jobs/" + only_job(rig), accept="text/event-stream") as events:
            assert events.readline().startswith(b"data: ")
            began = time.monotonic()
            assert rig.stop() == 0
            assert time.monotonic() - began < 2, "its listeners wait 2 s for who is connected"
            assert b"[DONE]" not in events.read()
        assert following.communicate(timeout=30)[1].endswith("offgrid: cannot go on: the answer broke off\n")
    assert following.returncode == 3
    assert "Traceback" not in (rig.folder / "log").read_text()


def only_job(rig: Rig) -> str:
    (job,) = rig.admin.json("GET", "/v1/jobs")["jobs"]
    return str(job["id"])


def test_it_is_for_the_admin_socket(rig: Rig) -> None:
    for method, path in {"/v1/pull": "POST", "/v1/rm": "POST", "/v1/jobs": "GET", "/v1/jobs/x": "DELETE"}.items():
        answer = httpx2.request(path, f"http://127.0.0.1:{rig.port}{method}")
        assert (answer.status_code, json.loads(answer.content)["error"]["code"]) == (403, "admin_only")


@pytest.mark.parametrize(
    ("tail", "file"),
    [("", "tiny-Q4_K_M.gguf"), ("/blob/main/tiny-Q8_0.gguf", "tiny-Q8_0.gguf"), ("/tree/main", "tiny-Q4_K_M.gguf")],
)
def test_an_address_is_as_good_as_a_name(rig: Rig, hub: Local, tail: str, file: str) -> None:
    for base in (hub.base, "https://huggingface.co"):  # which the declared hub may be a mirror of
        found = json.loads(offgrid(rig, "pull", f"{base}/{REPO}{tail}", "--dry-run", "--json").stdout)
        assert (found["repo"], found["files"][0]["path"], found["size"]) == (REPO, file, found["files"][0]["size"])


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["https://example.org/acme/Tiny-GGUF"], "no address of"),
        (["https://huggingface.co/acme"], "names no repository"),
        (["https://huggingface.co/" + "x" * 3000], "too long"),
        (["https://huggingface.co/acme/Tiny-GGUF/blob/main/a.gguf", "--file", "b.gguf"], "names another one"),
        (["https://huggingface.co/acme/Tiny-GGUF/blob/main/../../a.gguf"], "file"),
        (["acme/Tiny-GGUF/x"], "owner/repo"),
        (["https://huggingface.co/acme/Tiny\n-GGUF"], "no address of"),
    ],
)
def test_what_is_no_address_of_the_hub_is_told(rig: Rig, args: list[str], why: str) -> None:
    done = offgrid(rig, "pull", *args)
    assert done.returncode == 1
    assert why in done.stderr
    assert rig.admin.json("GET", "/v1/jobs")["jobs"] == []


def test_a_dry_run_says_what_would_be_fetched_and_fetches_nothing(rig: Rig, hub: Local) -> None:
    done = offgrid(rig, "pull", REPO, "--dry-run")
    assert done.returncode == 0, done.stderr
    first, second, last = done.stdout.splitlines()
    assert first.startswith(f"{REPO} at ")
    assert "Q4_K_M: the usual balance" in first
    assert (second.split()[:2], second.split()[-1]) == (["to", "fetch"], "tiny-Q4_K_M.gguf")
    assert last.endswith("would be fetched")
    assert blobs(rig) == []
    assert rig.admin.json("GET", "/v1/jobs")["jobs"] == []
    assert offgrid(rig, "pull", REPO).returncode == 0
    found = json.loads(offgrid(rig, "pull", REPO, "--dry-run", "--json").stdout)
    assert (found["fetched"], found["files"][0]["here"], found["quant"]) == (0, True, "Q4_K_M")
    assert offgrid(rig, "pull", REPO, "--quant", "Q2_K", "--dry-run", "--max-size", "1").returncode == 1
    declare(rig, "http://127.0.0.1:9")
    assert offgrid(rig, "pull", "acme/Other-GGUF", "--dry-run").returncode == 5
    declare(rig, hub.base, server=", offline: true")
    done = offgrid(rig, "pull", "acme/Other-GGUF", "--dry-run")
    assert (done.returncode, "offline is declared" in done.stderr) == (5, True)


def test_what_was_pulled_can_be_declared(rig: Rig, tmp_path: Path) -> None:
    done = offgrid(rig, "pull", REPO, "--quant", "Q8_0", "--declare")
    entry = f"models:\n  tiny:\n    source: {{hf: {REPO}}}\n    quant: Q8_0\n"
    assert done.stdout.endswith(f"\n{entry}"), done.stderr
    path = tmp_path / "mine.yaml"
    (tmp_path / "link.yaml").symlink_to(path)
    text = "apiVersion: offgridd/v1\n# what we run\nmodels:  # all\n    other: {source: {hf: a/b}}\n# the end\n"
    path.write_text(text)
    path.chmod(0o640)
    done = offgrid(rig, "pull", REPO, "--quant", "Q8_0", "--declare", str(tmp_path / "link.yaml"))
    assert done.returncode == 0, done.stderr
    assert "tiny is declared in" in done.stdout
    added = f"    tiny:\n      source: {{hf: {REPO}}}\n      quant: Q8_0\n"
    assert path.read_text() == text.replace("# the end\n", f"{added}# the end\n")
    assert path.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "link.yaml").is_symlink()
    for _ in range(2):  # it is declared now
        done = offgrid(rig, "pull", REPO, "--declare", str(path))
        assert done.returncode == 1
        assert "cannot add a model" in done.stderr
    assert path.read_text() == text.replace("# the end\n", f"{added}# the end\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"models: {}\n", "it is not valid"),
        (b"apiVersion: offgridd/v1\nmodels: {a: {source: {hf: a/b}}}\n", "one below the other"),
        (b"apiVersion: offgridd/v1\nmodels: {}\n# \xff\n", "it is not valid"),
        (b"apiVersion: offgridd/v1\nmodels:\n  tiny: {source: {hf: a/b}}\n", "it is not valid, or would not be"),
        (None, "cannot read"),
    ],
)
def test_a_manifest_that_nothing_can_be_added_to_stays(rig: Rig, tmp_path: Path, text: bytes | None, why: str) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_bytes(text)
    done = offgrid(rig, "pull", REPO, "--declare", str(path))
    assert done.returncode == 1
    assert why in done.stderr
    assert (path.read_bytes() if text is not None else None) == text
    assert not list(tmp_path.glob("*.part"))


def test_a_name_that_conf_d_declares_is_taken(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "own" / "conf.d").mkdir(parents=True)
    (tmp_path / "own/conf.d/a.yaml").write_text("models: {tiny: {source: {hf: a/b}}}\n")
    path = tmp_path / "own/m.yaml"
    path.write_text("apiVersion: offgridd/v1\n")
    done = offgrid(rig, "pull", REPO, "--declare", str(path))
    assert done.returncode == 1
    assert path.read_text() == "apiVersion: offgridd/v1\n"


def test_it_waits_for_a_hub_that_is_away(rig: Rig, hub: Local) -> None:
    declare(rig, hub.url(status=503, retry=0))
    argv = [OFFGRID, "--host", str(rig.socket), "pull", "acme/Other-GGUF", "--wait"]
    declare(rig, "http://127.0.0.1:9")
    with subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as pull:
        assert pull.stderr is not None
        assert "waiting: cannot reach http://127.0.0.1:9" in pull.stderr.readline()
        (job,) = rig.admin.json("GET", "/v1/jobs")["jobs"]
        assert (job["state"], job["error"]["code"]) == ("running", "HubUnreachable")
        assert offgrid(rig, "jobs", "--cancel", job["id"]).returncode == 0
        assert pull.wait(20) == 1
    done = offgrid(rig, "pull", "acme/Other-GGUF")
    assert done.returncode == 5  # without it the command knows at once

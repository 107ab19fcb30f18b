"""What operators see and wait for: status and its watch, wait, events, describe, retry, history, config."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rig import Rig, until
from support.tinymodel import CONTROL, model

OFFGRID = str(Path(sys.executable).with_name("offgrid"))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("observe")
    made = Rig(folder, "fake", {"OFFGRIDD_STORE_ROOTS": str(folder / "models"), "OFFGRIDD_LOG_LEVEL": "info"})
    (folder / "models").mkdir()
    (folder / "models" / "a.gguf").write_bytes(model(spec=CONTROL))
    declare(made)
    made.start()
    until(made.is_ready)
    yield made
    assert made.stop() == 0
    made.api.close()


def declare(rig: Rig, more: str = "", context: int = 256) -> None:
    text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]}}
models:
  a: {{source: {{file: {rig.folder}/models/a.gguf}}, context: {context}, threads: 1, aliases: [first]}}
{more}"""
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)
    if rig.process is not None:
        rig.admin.json("POST", "/v1/reload")


def missing(rig: Rig) -> str:
    return f"  gone: {{source: {{file: {rig.folder}/models/gone.gguf}}, threads: 1}}\n"


def offgrid(rig: Rig, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [OFFGRID, "--host", str(rig.socket), *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def get(rig: Rig, path: str, headers: dict[str, str]) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.getheader("ETag"), response.read()
    finally:
        connection.close()


def test_a_status_that_is_known_is_not_sent_again(rig: Rig) -> None:
    status, tag, text = get(rig, "/v1/status", {})
    assert (status, json.loads(text)["models"][0]["name"]) == (200, "a")
    assert tag
    known = until(lambda: get(rig, "/v1/status", {"If-None-Match": f'"other", W/{get(rig, "/v1/status", {})[1]}'}))
    assert known[0] == 304
    assert known[2] == b""
    declare(rig, context=128)
    assert until(lambda: get(rig, "/v1/status", {"If-None-Match": tag})[0] == 200)


@pytest.mark.parametrize(
    "path", ["/v1/status?watch=2", "/v1/events?since=x", "/v1/events?since=-1", "/v1/events?follow=x"]
)
def test_parameters_that_mean_nothing_are_refused(rig: Rig, path: str) -> None:
    status, _, text = get(rig, path, {})
    assert (status, json.loads(text)["error"]["code"]) == (400, "invalid_value")


def test_a_watch_shows_each_change_once(rig: Rig) -> None:
    declare(rig, context=256)
    until(rig.is_ready)
    watch = rig.admin.events("GET", "/v1/status?watch")
    first = next(watch)
    declare(rig, context=192)
    contexts = []
    for found in watch:
        effective = found["models"][0]["effective"]
        contexts += [effective["context"]] if effective else []
        if contexts[-1:] == [192] and len(found["models"][0]["workers"]) == 1:
            break
    watch.close()
    assert first["models"][0]["effective"]["context"] == 256
    assert contexts == sorted(contexts, reverse=True), "never back"


def test_wait_returns_when_it_is_so_and_4_when_it_does_not_come(rig: Rig) -> None:
    declare(rig)
    done = offgrid(rig, "wait", "model/first", "--timeout", "30s")
    assert (done.returncode, done.stdout) == (0, "model/first: Ready is True (Ready)\n"), done.stderr
    assert offgrid(rig, "wait", "--for", "accepted").returncode == 0
    done = offgrid(rig, "reconcile", "a", "--wait")
    assert (done.returncode, done.stdout) == (0, "model/a: Ready is True (Ready)\n"), done.stderr
    declare(rig, missing(rig))
    done = offgrid(rig, "wait", "--for=Ready", "model/gone", "--timeout", "700ms")
    assert done.returncode == 4
    assert "cannot wait longer for model/gone: Ready is False (FileNotFound) after 0.7 s" in done.stderr
    assert offgrid(rig, "wait", "--for=Ready=false", "model/gone").returncode == 0
    for what, why in (("model/nobody", "cannot find the model"), ("a", "")):
        done = offgrid(rig, "wait", what, "--for", "Redy" if not why else "Ready")
        assert done.returncode == 1
        assert (why or "there are Resolved, Downloaded") in done.stderr
    for wrong in ("--timeout=soon", "--for=", "--for=Ready=maybe"):
        assert offgrid(rig, "wait", wrong).returncode == 2
    done = offgrid(rig, "wait", "model/a.gguf", "--timeout", "0")
    assert (done.returncode, done.stderr) == (0, ""), "what is so is seen whatever the time is"


def test_describe_says_what_to_do(rig: Rig) -> None:
    declare(rig, missing(rig))
    until(lambda: offgrid(rig, "wait", "--for=Resolved=false", "model/gone").returncode == 0)
    text = offgrid(rig, "describe", "gone").stdout
    assert "Resolved is False, FileNotFound, since " in text
    assert "what to do: mend the path, or put it there" in text
    assert "gone" in text.partition("events:")[2]
    text = offgrid(rig, "describe", "first").stdout
    assert "memory: charged with at most " in text
    assert ": ready, charged with " in text
    assert "NotMeasured" in text
    assert "what to do: remove it" not in text
    assert offgrid(rig, "describe", "a.gguf").stdout.startswith("a\n")
    assert offgrid(rig, "describe", "nobody").returncode == 1
    declare(rig, f"  b: {{source: {{file: {rig.folder}/models/a.gguf}}, threads: 1, preload: false}}\n")
    assert "cannot tell which model is meant: a, b" in offgrid(rig, "describe", "a.gguf").stderr


def test_an_admin_socket_that_is_taken_away_is_made_anew(rig: Rig) -> None:
    watch = rig.admin.events("GET", "/v1/status?watch")
    next(watch)
    rig.socket.unlink()
    until(rig.answers)
    assert rig.socket.stat().st_mode & 0o777 == 0o660
    declare(rig, context=224)
    next(watch)
    watch.close()
    assert "was taken away; it is made anew" in logged(rig)


def test_what_matters_is_logged(rig: Rig) -> None:
    declare(rig)
    until(rig.is_ready)
    declare(rig, missing(rig))
    until(lambda: "WARNING model gone: Resolved is False, FileNotFound: cannot " in logged(rig))
    os.kill(rig.pids()[0], signal.SIGKILL)
    until(lambda: "WARNING model a: Loaded is False, WorkerCrashed: the worker process was ended by SIG" in logged(rig))
    assert "INFO    model a: it serves\n" in logged(rig)
    rig.manifest.write_text("models: [")
    assert offgrid(rig, "reload").returncode == 1
    assert "WARNING manifest: refused: " in logged(rig)


def logged(rig: Rig) -> str:
    return (rig.folder / "log").read_text()


def test_an_event_is_also_another_reason(rig: Rig) -> None:
    declare(rig, f"  late: {{source: {{file: {rig.folder}/models/a.gguf}}, threads: 1, preload: false}}\n")
    until(lambda: ("Loaded", "OnDemand") in seen_of(rig, "late"))
    assert offgrid(rig, "load", "late").returncode == 0
    until(lambda: seen_of(rig, "late")[-1] == ("Ready", "Ready"))
    reasons = [reason for kind, reason in seen_of(rig, "late") if kind == "Loaded"]
    assert reasons[-3:] == ["OnDemand", "Loading", "Serving"], "from False to False, and then True"


def seen_of(rig: Rig, name: str) -> list[tuple[str, str]]:
    found = rig.admin.json("GET", "/v1/events?follow=0")["events"]
    return [(one["type"], one["reason"]) for one in found if one["model"] == name]


def test_events_go_on_over_a_restart(rig: Rig) -> None:
    declare(rig, missing(rig))
    offgrid(rig, "wait", "--for=Resolved=false", "model/gone")
    assert "  a  " in offgrid(rig, "events", "--model", "first").stdout, "an alias"
    shown = offgrid(rig, "events", "--model", "gone", "--json").stdout.splitlines()
    seen = [json.loads(line) for line in shown]
    assert any(one["type"] == "Resolved" and one["reason"] == "FileNotFound" for one in seen)
    until(lambda: len(kept(rig)) >= len(seen))
    assert rig.stop() == 0
    rig.start()
    again = [json.loads(line) for line in offgrid(rig, "events", "--model", "gone", "--json").stdout.splitlines()]
    assert again[: len(seen)] == seen
    numbers = [one["number"] for one in again]
    assert numbers == sorted(set(numbers))


def kept(rig: Rig) -> list[str]:
    db = sqlite3.connect(rig.folder / "state" / "state.db")
    try:
        return [row[0] for row in db.execute("select event from events") if '"gone"' in row[0]]
    finally:
        db.close()


def test_events_are_followed(rig: Rig) -> None:
    argv = [OFFGRID, "--host", str(rig.socket), "events", "-f", "--model", "new"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        until(lambda: connected(follower.pid) >= 1)
        declare(rig, f"  new: {{source: {{file: {rig.folder}/models/a.gguf}}, threads: 1, preload: false}}\n")
        lines = iter(follower.stdout.readline, "")
        assert any("Verified is True, DigestKnown" in line for line in lines)
        follower.send_signal(signal.SIGINT)
        assert follower.wait(20) == 0


def connected(pid: int) -> int:
    """Sockets that a process has open."""
    try:
        fds = os.listdir(f"/proc/{pid}/fd")
        return sum(os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:") for fd in fds)
    except OSError:
        return 0


def test_retry_tries_again_what_was_given_up(rig: Rig) -> None:
    declare(rig)
    until(rig.is_ready)
    for _ in range(3):
        (pid,) = until(rig.pids)
        os.kill(pid, signal.SIGSEGV)
        until(lambda pid=pid: rig.pids() != [pid])
        if reason(rig) == "CrashLoop":
            break
        until(lambda: rig.pids() or reason(rig) == "CrashLoop")
    until(lambda: reason(rig) == "CrashLoop")
    assert "offgrid retry MODEL" in offgrid(rig, "describe", "a").stdout
    done = offgrid(rig, "retry", "first")
    assert (done.returncode, done.stdout) == (0, "trying a again; see offgrid describe a\n"), done.stderr
    until(rig.is_ready)


def reason(rig: Rig) -> str:
    conditions = rig.status()["models"][0]["conditions"]
    return str(next(c["reason"] for c in conditions if c["type"] == "Loaded"))


def test_history_and_config_show_what_was_accepted(rig: Rig) -> None:
    declare(rig, context=200)
    generation = rig.status()["generation"]
    rows = offgrid(rig, "history").stdout.splitlines()
    assert rows[1].split()[0] == str(generation)
    text = offgrid(rig, "config").stdout
    assert f"# manifest: {rig.manifest} (--manifest)" in text
    assert "# engine: fake (OFFGRIDD_ENGINE)" in text
    assert "# linger: 10.0 (default)" in text
    assert "# admin_group: none (default)" in text
    assert f"context: 200  # {rig.manifest}:4" in text
    assert offgrid(rig, "config", str(rig.manifest)).stdout in text
    values = json.loads(offgrid(rig, "config", "--json").stdout)["values"]
    assert {"path": ["models", "a", "parallel"], "value": 4, "origin": "default"} in values
    new = rig.manifest.with_suffix(".new")
    new.write_text("# a comment\n" + rig.manifest.read_text())
    new.rename(rig.manifest)
    assert not rig.admin.json("POST", "/v1/reload")["changed"]
    assert f"context: 200  # {rig.manifest}:5" in offgrid(rig, "config").stdout, "where it stands now"
    rig.manifest.with_suffix(".bad").write_text("models: [")
    done = offgrid(rig, "config", str(rig.manifest.with_suffix(".bad")))
    assert done.returncode == 1
    assert ".bad:2:1: " in done.stderr


def test_doctor_says_what_is_wrong_and_what_to_do(rig: Rig) -> None:
    declare(rig)
    until(rig.is_ready)
    done = offgrid(rig, "doctor", "--json")
    found = {one["what"]: one for one in json.loads(done.stdout)}
    assert (found["daemon"]["state"], found["manifest"]["state"], found["memory"]["state"]) == ("ok", "ok", "ok")
    assert found["engine"]["text"].startswith("llama-cpp-python ")
    assert "Landlock" in found["sandbox"]["text"]
    assert done.returncode == (1 if any(one["state"] == "bad" for one in found.values()) else 0)
    declare(rig, missing(rig))
    offgrid(rig, "wait", "--for=Resolved=false", "model/gone")
    done = offgrid(rig, "doctor")
    assert done.returncode == 1
    assert "bad   daemon    Ready is False, ModelsNotReady: not ready: gone" in done.stdout
    nobody = subprocess.run(
        [OFFGRID, "--host", str(rig.folder / "no.sock"), "doctor"], capture_output=True, text=True, timeout=60
    )
    assert nobody.returncode == 1
    assert "bad   daemon    cannot reach a daemon" in nobody.stdout


def test_reconcile_looks_before_it_lets_anybody_wait(rig: Rig) -> None:
    here = rig.folder / "models" / "a.gguf"
    away = here.with_suffix(".away")
    declare(rig)
    until(rig.is_ready)
    here.rename(away)
    done = offgrid(rig, "reconcile", "first", "--wait", "--timeout", "500ms")
    away.rename(here)
    assert done.returncode == 4, done.stdout
    assert offgrid(rig, "reconcile", "first", "--wait", "--timeout", "30s").returncode == 0

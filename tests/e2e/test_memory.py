"""Memory as a budget, with real processes: who is loaded, who makes room, who waits, and what a refusal says.

A worker of these models is charged with some 101 MB and its `cache.ram`, of which it takes next to nothing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.rig import Rig, until
from support.tinymodel import CONTROL, model

from offgridd.cli.client import CliError

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
ONE, TWO = "250MB", "450MB"  # room for so many workers with 100 MB of cache each
COLD = "preload: false"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("memory")
    made = Rig(folder, "fake", {"OFFGRIDD_STORE_ROOTS": str(folder / "models")})
    (folder / "models").mkdir()
    for number, name in enumerate("abc"):
        (folder / "models" / f"{name}.gguf").write_bytes(model(spec=CONTROL) + bytes(number))
    declare(made, TWO, a="")
    made.start()
    yield made
    assert made.stop() == 0
    made.api.close()


def declare(rig: Rig, ram: str, cache: str = "100MB", context: int = 256, **models: str) -> None:
    """Models by name, of the file of that name, with what else is to stand there; takes effect before it returns."""
    lines = [
        f"  {name}: {{source: {{file: {rig.folder}/models/{name}.gguf}}, context: {context}, cache: {{ram: {cache}}}, "
        f"threads: 1{', ' + more if more else ''}}}"
        for name, more in models.items()
    ]
    text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"], memory: {{ram: {ram}}}}}
models:
"""
    new = rig.manifest.with_suffix(".new")
    new.write_text(text + "\n".join(lines) + "\n")
    new.rename(rig.manifest)
    if rig.process is not None:
        generation = rig.admin.json("POST", "/v1/reload")["generation"]
        until(lambda: rig.status()["observedGeneration"] >= generation)


def fresh(rig: Rig, ram: str, **models: str) -> None:
    """Nothing is loaded, and then this is declared."""
    declare(rig, ram, c=COLD)
    until(lambda: not pids(rig) or unload(rig, "c"))
    declare(rig, ram, **models)


def unload(rig: Rig, name: str) -> bool:
    return offgrid(rig, "unload", name).returncode == 0 and not pids(rig)


def offgrid(rig: Rig, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [OFFGRID, "--host", str(rig.socket), *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def pids(rig: Rig) -> dict[str, int]:
    return {w["model"]: w["pid"] for w in rig.status()["memory"]["workers"]}


def loaded(rig: Rig, name: str) -> dict[str, Any]:
    """Its condition Loaded."""
    (found,) = (m for m in rig.status()["models"] if m["name"] == name)
    return next(c for c in found["conditions"] if c["type"] == "Loaded")


def ask(rig: Rig, name: str, tokens: int = 4) -> str:
    body = {"model": name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": tokens}
    return str(rig.admin.json("POST", "/v1/chat/completions", json.dumps(body).encode())["usage"]["completion_tokens"])


def test_a_higher_priority_is_given_the_place_of_an_idle_one(rig: Rig) -> None:
    fresh(rig, ONE, a="")
    until(lambda: loaded(rig, "a")["reason"] == "Serving")
    declare(rig, ONE, a="", b="priority: 5")
    until(lambda: loaded(rig, "b")["reason"] == "Serving")
    gone = loaded(rig, "a")
    assert (gone["status"], gone["reason"]) == ("False", "Evicted")
    assert "it made room for b (priority 5)" in gone["message"]
    assert list(pids(rig)) == ["b"]
    declare(rig, TWO, a="", b="priority: 5")  # an edit of the budget is no reason to wait any longer
    until(lambda: loaded(rig, "a")["reason"] == "Serving", 20)


def test_whom_there_is_no_room_for_says_why_not(rig: Rig) -> None:
    fresh(rig, TWO, b="priority: 5", c="priority: 3")
    until(lambda: loaded(rig, "c")["reason"] == "Serving" and loaded(rig, "b")["reason"] == "Serving")
    declare(rig, TWO, a="", b="priority: 5", c="priority: 3")
    until(lambda: loaded(rig, "a")["reason"] == "InsufficientMemory")
    text = loaded(rig, "a")["message"]
    assert "it needs 201 MB, the budget is 450 MB and 47.6 MB are free; of its priority or above: c, b" in text
    assert rig.ready(), "one that there is no room for does not hold up the start"


def test_on_demand_models_take_turns_and_a_busy_one_is_waited_for(rig: Rig) -> None:
    fresh(rig, ONE, a=COLD, b=COLD)
    assert ask(rig, "a") == "4"
    assert list(pids(rig)) == ["a"]
    assert ask(rig, "b") == "4"
    assert list(pids(rig)) == ["b"]
    pid = pids(rig)["b"]
    until(lambda: rig.status()["memory"]["workers"][0]["requests"] == 0)  # of the one before it may still be counted
    with ThreadPoolExecutor() as pool, stopped(pid):
        busy: Future[str] = pool.submit(ask, rig, "b")
        until(lambda: rig.status()["memory"]["workers"][0]["requests"])
        other = pool.submit(ask, rig, "a")
        until(lambda: loaded(rig, "a")["reason"] == "InsufficientMemory")
        assert "busy: b" in loaded(rig, "a")["message"]
        assert not other.done()
        assert pids(rig)["b"] == pid
    assert (busy.result(30), other.result(30)) == ("4", "4")
    assert list(pids(rig)) == ["a"]


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_what_is_pinned_stays_and_the_refusal_says_so_at_once(rig: Rig) -> None:
    fresh(rig, ONE, a="pin: true", b=COLD)
    until(lambda: loaded(rig, "a")["reason"] == "Serving")
    with pytest.raises(CliError, match=r"InsufficientMemory: cannot load it: it needs 201 MB.*; pinned: a"):
        ask(rig, "b")
    until(lambda: loaded(rig, "b")["reason"] == "OnDemand")
    done = offgrid(rig, "load", "b")
    assert done.returncode == 1
    assert "pinned: a" in done.stderr


def test_one_that_is_larger_than_the_budget_is_never_tried(rig: Rig) -> None:
    fresh(rig, ONE, a="")
    declare(rig, ONE, cache="300MB", a="", b="priority: 9")
    until(lambda: loaded(rig, "b")["reason"] == "InsufficientMemory")
    assert "it needs 401 MB and the budget for all models is 250 MB" in loaded(rig, "b")["message"]


def test_a_lower_budget_has_the_idle_one_of_the_lowest_priority_go(rig: Rig) -> None:
    fresh(rig, TWO, a="", b="priority: 1")
    until(lambda: len(pids(rig)) == 2 and rig.is_ready())
    kept = pids(rig)["b"]
    declare(rig, ONE, a="", b="priority: 1")
    until(lambda: list(pids(rig)) == ["b"])
    assert "it made room for the budget" in loaded(rig, "a")["message"]
    assert pids(rig)["b"] == kept


def test_a_new_setting_is_loaded_beside_the_old_one_or_after_it(rig: Rig) -> None:
    fresh(rig, TWO, a="")
    until(lambda: loaded(rig, "a")["reason"] == "Serving")
    seen = watch_workers(rig, lambda: declare(rig, TWO, context=128, a=""))
    assert 2 in seen, "both were there"
    assert 0 not in seen
    seen = watch_workers(rig, lambda: declare(rig, ONE, context=64, a=""))
    assert 2 not in seen, "there was no room for both"


def watch_workers(rig: Rig, edit: Any) -> set[int]:
    """How many workers of `a` were seen from an edit to the new one's readiness."""
    (before,) = pids(rig).values()
    seen = set()
    with ThreadPoolExecutor() as pool:
        edited = pool.submit(edit)

        def over() -> bool:
            status = rig.status()
            workers = status["memory"]["workers"]
            seen.add(len(workers))
            done = len(workers) == 1 and workers[0]["pid"] != before and workers[0]["state"] == "ready"
            return edited.done() and done

        until(over)
    return seen


def test_load_ps_and_unload(rig: Rig) -> None:
    fresh(rig, TWO, a=f"{COLD}, idle_unload: 1h", b="")
    done = offgrid(rig, "load", "a")
    assert (done.returncode, done.stdout) == (0, "loaded a\n"), done.stderr
    table = offgrid(rig, "ps").stdout.splitlines()
    assert table[0].startswith("RAM 40")
    assert table[2].split() == ["MODEL", "PID", "CHARGE", "SHARED", "GPU", "STATE", "PRIORITY", "UNTIL"]
    (row,) = (line.split() for line in table[3:] if line.startswith("a "))
    assert row[-3:-1] == ["ready", "0"]
    assert row[-1].endswith("Z")
    done = offgrid(rig, "unload", "a")
    assert (done.returncode, done.stdout) == (0, "unloaded a\n"), done.stderr
    until(lambda: list(pids(rig)) == ["b"])
    done = offgrid(rig, "unload", "b")
    assert done.returncode == 1
    assert "its manifest says preload" in done.stderr


def test_an_idle_one_is_unloaded_when_it_was_said_and_comes_again(rig: Rig) -> None:
    fresh(rig, TWO, a=f"{COLD}, idle_unload: 1s")
    assert ask(rig, "a") == "4"
    until(lambda: not pids(rig))
    assert loaded(rig, "a")["reason"] == "OnDemand"
    assert ask(rig, "a") == "4"


def test_a_client_that_leaves_does_not_cancel_the_load(rig: Rig) -> None:
    fresh(rig, TWO, a=COLD)
    body = json.dumps({"model": "a", "messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
    with rig.admin.open("POST", "/v1/chat/completions", body) as response:
        assert response.readline().startswith(b": ping")
    until(lambda: loaded(rig, "a")["reason"] == "Serving")


def test_three_that_want_the_one_place_at_once_are_all_answered(rig: Rig) -> None:
    fresh(rig, ONE, a=COLD, b=COLD, c=COLD)
    with ThreadPoolExecutor(9) as pool:
        asked = [pool.submit(ask, rig, name) for name in "abcabcabc"]
        assert [one.result(60) for one in asked] == ["4"] * 9, "who holds the place is only loading, or answering"


def test_what_failed_and_was_unloaded_then_is_loaded_again_for_who_asks(rig: Rig) -> None:
    fresh(rig, TWO, a=COLD)
    assert ask(rig, "a") == "4"
    for _ in range(2):  # the next try is two seconds away
        (pid,) = until(lambda: pids(rig).values())
        os.kill(pid, signal.SIGKILL)
        until(lambda gone=pid: pids(rig).get("a") != gone)
        until(lambda: loaded(rig, "a")["reason"] in ("WorkerCrashed", "Serving"))
    rig.admin.json("POST", "/v1/unload", b'{"model": "a"}')
    until(lambda: answers(rig, "a"))


def answers(rig: Rig, name: str) -> bool:
    try:
        return ask(rig, name) == "4"
    except CliError:
        return False


def test_who_waits_for_what_is_unloaded_by_hand_is_told(rig: Rig) -> None:
    fresh(rig, ONE, a="priority: 5", b=COLD)
    until(lambda: loaded(rig, "a")["reason"] == "Serving")
    with ThreadPoolExecutor() as pool, stopped(pids(rig)["a"]):
        pool.submit(ask, rig, "a")
        until(lambda: rig.status()["memory"]["workers"][0]["requests"])
        declare(rig, ONE, a="", b=f"{COLD}, priority: 5")  # it has to wait until that one is idle
        waits = pool.submit(ask, rig, "b")
        until(lambda: loaded(rig, "b")["reason"] == "InsufficientMemory")
        assert offgrid(rig, "unload", "b").returncode == 0
        with pytest.raises(CliError, match="it was unloaded by hand"):
            waits.result(30)

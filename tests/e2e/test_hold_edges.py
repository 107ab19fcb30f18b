"""Changes that have to prove themselves, where something comes between: other edits, updates by hand, crashes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.holding import (
    LIMITS,
    SLOW,
    begin,
    condition,
    holding,
    measured,
    message,
    serving,
    shown,
    slowed,
    text,
    write,
)
from support.hubs import Local, local_hub
from support.rig import Rig, until
from support.tinymodel import CONTROL, model


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    yield from holding(tmp_path)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Local]:
    with local_hub(tmp_path / "hub") as made:
        made.put("acme/Tiny-GGUF", {"tiny-Q8_0.gguf": model(spec=CONTROL), "README.md": b"# Tiny\n"})
        yield made


SMALL = LIMITS.replace("64", "16").replace("32", "8")


def tiny(rig: Rig, hub: Local, context: int = 64, limits: str = SMALL, more: str = "", server: str = "") -> str:
    return f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]{server}}}
store: {{min_free: 0}}
models:
  tiny: {{source: {{hf: acme/Tiny-GGUF}}, endpoint: "{hub.url()}", context: {context}, threads: 1, updates: manual,
    benchmark: {{{limits}}}{more}}}
"""


def test_an_idle_time_that_comes_after_max_wait_is_used(rig: Rig) -> None:
    begin(rig, text(rig))
    write(rig, text(rig, 1025, LIMITS.replace("idle: 0s", "idle: 2s") + ", max_wait: 1s"))
    until(lambda: serving(rig) == 1025)
    until(lambda: (rig.folder / "log").read_text().count("pairs") == 1)  # it is said when it is kept


def test_a_refusal_ends_with_an_edit(rig: Rig) -> None:
    """Of the limits; and where the change is taken back, and declared again later."""
    sha256 = begin(rig, text(rig))
    assert rig.stop() == 0
    rig.env["OFFGRIDD_FAILPOINTS"] = slowed(rig, text(rig, SLOW), sha256)
    rig.start()
    until(rig.is_ready)
    write(rig, text(rig, SLOW))
    until(lambda: condition(rig, "Benchmarked") == ("False", "Regressed"))
    write(rig, text(rig))
    until(lambda: condition(rig, "Ready") == ("True", "Ready"))
    write(rig, text(rig, SLOW, LIMITS.replace("idle: 0s", "idle: 1h")))
    until(lambda: condition(rig, "Benchmarked") == ("Unknown", "WaitsForIdle"))
    write(rig, text(rig, SLOW, LIMITS.replace("50%", "99%")))
    until(lambda: serving(rig) == SLOW)


def test_what_waited_too_long_is_swapped_once_that_is_declared(rig: Rig) -> None:
    begin(rig, text(rig))
    never = LIMITS.replace("idle: 0s", "idle: 1h") + ", max_wait: 1s"
    write(rig, text(rig, 1025, never))
    until(lambda: condition(rig, "Benchmarked") == ("Unknown", "NoIdleTime"))
    write(rig, text(rig, 1025, never + ", on_timeout: swap"))
    until(lambda: serving(rig) == 1025)


def test_an_edit_is_judged_with_the_file_that_serves(rig: Rig, hub: Local) -> None:
    """Not with what the hub has by now; and without asking it."""
    old = begin(rig, tiny(rig, hub))
    hub.put("acme/Tiny-GGUF", {"tiny-Q8_0.gguf": model(spec=CONTROL) + bytes(64)})
    write(rig, tiny(rig, hub, 65))
    until(lambda: serving(rig) == 65)
    assert shown(rig)["file"]["sha256"] == old
    write(rig, tiny(rig, hub, 66, server=", offline: true"))
    until(lambda: serving(rig) == 66)
    assert shown(rig)["file"]["sha256"] == old


def update(rig: Rig) -> None:
    rig.admin.json("POST", "/v1/update", json.dumps({"models": ["tiny"]}).encode())


def test_an_update_by_hand_that_is_worse_is_refused(rig: Rig, hub: Local) -> None:
    newer = model(spec=CONTROL) + bytes(64)
    old = begin(rig, tiny(rig, hub))
    assert rig.stop() == 0
    rig.env["OFFGRIDD_FAILPOINTS"] = slowed(rig, tiny(rig, hub), hashlib.sha256(newer).hexdigest())
    rig.start()
    until(rig.is_ready)
    hub.put("acme/Tiny-GGUF", {"tiny-Q8_0.gguf": newer})
    update(rig)
    until(lambda: condition(rig, "UpToDate") == ("False", "UpdateRejected"))
    until(lambda: condition(rig, "Ready") == ("True", "Ready"))
    assert "Regressed" in message(rig, "UpToDate")
    assert shown(rig)["file"]["sha256"] == old
    write(rig, tiny(rig, hub, limits=SMALL.replace("hold", "report")))
    update(rig)
    until(lambda: shown(rig)["file"]["sha256"] != old)


def test_an_update_by_hand_waits_while_it_is_suspended_and_is_taken_without_hold(rig: Rig, hub: Local) -> None:
    old = begin(rig, tiny(rig, hub))
    hub.put("acme/Tiny-GGUF", {"tiny-Q8_0.gguf": model(spec=CONTROL) + bytes(64)})
    never = SMALL.replace("idle: 0s", "idle: 1h")
    write(rig, tiny(rig, hub, limits=never))
    until(lambda: rig.status()["generation"] == 2)
    update(rig)
    until(lambda: condition(rig, "Ready") == ("True", "Held"))
    write(rig, tiny(rig, hub, more=", suspend: true"))
    until(lambda: condition(rig, "Ready") == ("True", "Suspended"))
    assert shown(rig)["file"]["sha256"] == old
    write(rig, tiny(rig, hub, limits=never))
    until(lambda: condition(rig, "Ready") == ("True", "Held"))
    write(rig, tiny(rig, hub, limits=never.replace("hold", "report")))
    until(lambda: shown(rig)["file"]["sha256"] != old)
    until(lambda: condition(rig, "Ready") == ("True", "Ready"))


def test_where_what_serves_crashes_again_and_again_the_change_is_taken(rig: Rig) -> None:
    begin(rig, text(rig))
    write(rig, text(rig, 1025, LIMITS.replace("output_tokens: 32", "output_tokens: 3000")))
    until(lambda: len(rig.status()["memory"]["workers"]) == 2)
    for _ in range(3):
        os.kill(until(rig.pids)[0], signal.SIGKILL)
        until(lambda: not rig.pids())
    until(lambda: rig.pids() and serving(rig) == 1025)
    until(lambda: "can not serve" in (rig.folder / "log").read_text())


def test_what_is_unloaded_while_it_loads_to_be_measured_is_loaded_again(rig: Rig) -> None:
    """By hand: nobody else would load it, and all that is due would wait behind it."""
    lazy = ", preload: false"
    write(rig, text(rig, more=lazy, limits=SMALL.replace("idle: 0s", "idle: 1s")))
    rig.start()

    def unload_while_loading(enough: tuple[str, str]) -> None:
        until(lambda: condition(rig, "Benchmarked") == enough or [w for w in shown(rig)["workers"] if not w["ready"]])
        rig.admin.json("POST", "/v1/unload", b'{"model": "smol"}')

    unload_while_loading(("True", "NoBaseline"))
    until(lambda: measured(rig))
    until(lambda: rig.pids() == [])
    write(rig, text(rig, 1025, more=lazy, limits=SMALL))
    unload_while_loading(("True", "Measured"))
    until(lambda: condition(rig, "Ready")[1] != "Held" and measured(rig))
    assert shown(rig)["declared"]["context"] == 1025

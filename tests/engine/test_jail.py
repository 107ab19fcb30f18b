"""What a worker can still do once it is confined: a probe that takes its place tries, through the same code."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.tinymodel import CONTROL, model

from offgridd.core import events as ev
from offgridd.core.actions import StartWorker, Verify
from offgridd.core.desired import FileSource, LoadSpec
from offgridd.effects.files import Files
from offgridd.effects.workers import Workers

PROBE = (sys.executable, "-I", "-m", "offgridd.engine.probe")
NO_LANDLOCK = str(Path(__file__).parents[1] / "support" / "nolandlock.py")
BY_LANDLOCK = {
    "read what lies beside its model", "read /etc/passwd", "read the daemon's environment", "read the daemon's memory",
    "list /", "write to /tmp", "write beside the library", "run a program", "signal the daemon",
}  # fmt: skip


@pytest.fixture
def action(tmp_path: Path) -> StartWorker:
    path = tmp_path / "m.gguf"
    path.write_bytes(model(spec=CONTROL))
    (tmp_path / "m.gguf.secret").write_text("secret")
    file = anyio.run(Files((tmp_path,), {}).verify, Verify("m", FileSource(str(path)), None, "key"))
    return StartWorker("m", file, LoadSpec(context=64, threads=1), 0, "key")


@asynccontextmanager
async def started(program: tuple[str, ...], action: StartWorker) -> AsyncIterator[list[ev.Event]]:
    seen: list[ev.Event] = []
    async with anyio.create_task_group() as group:
        workers = Workers(group, seen.append, program)
        with anyio.fail_after(30):
            await workers.start(action)
        yield seen
        await workers.drain(0)
        group.cancel_scope.cancel()


async def probed(program: tuple[str, ...], action: StartWorker) -> dict[str, Any]:
    async with started(program, action) as seen:
        failure = next(e.failure for e in seen if isinstance(e, ev.WorkerExited))
    assert failure is not None
    assert failure.reason == "Probed", failure
    found: dict[str, Any] = json.JSONDecoder().raw_decode(failure.message)[0]
    return found


def attempts(found: dict[str, Any]) -> dict[str, str]:
    return {name: said for name, said in found.items() if name not in ("missing", "environment", "its model")}


async def test_it_reads_its_model_and_does_nothing_else(action: StartWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    found = await probed(PROBE, action)
    assert (found["missing"], found["its model"]) == ([], "allowed")
    assert set(attempts(found).values()) <= {"EPERM", "EACCES"}, found
    assert "HF_TOKEN" not in found["environment"]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM], ids=errno.errorcode.get)
async def test_without_landlock_it_says_what_is_missing_and_keeps_the_rest(action: StartWorker, code: int) -> None:
    program = (sys.executable, NO_LANDLOCK, str(code), "offgridd.engine.probe")
    found = await probed(program, action)
    (said,) = found["missing"]
    assert said.startswith("files: Landlock says ")
    denied = {name for name, what in attempts(found).items() if what == "EPERM"}
    assert denied >= attempts(found).keys() - BY_LANDLOCK, "seccomp does not need it"
    assert found["read /etc/passwd"] == "allowed", "else the test would show nothing"


async def test_a_model_loads_confined_and_where_that_is_required_and_can_not_be_it_does_not(
    action: StartWorker,
) -> None:
    required = replace(action, load=replace(action.load, sandbox="required"))
    async with started((sys.executable, "-I", "-m", "offgridd.engine.fake"), required) as seen:
        (ready,) = [e for e in seen if isinstance(e, ev.WorkerReady)]
        assert ready.effective.unconfined == ()
        assert ready.effective.template is None, "its helper could be started"
    broken = (sys.executable, NO_LANDLOCK, str(errno.ENOSYS), "offgridd.engine.fake")
    async with started(broken, action) as seen:
        (ready,) = [e for e in seen if isinstance(e, ev.WorkerReady)]
        assert ready.effective.unconfined == ("files: Landlock says Function not implemented",)
    async with started(broken, required) as seen:
        (exited,) = [e for e in seen if isinstance(e, ev.WorkerExited)]
        assert exited.failure is not None
        assert exited.failure.reason == "SandboxUnavailable"

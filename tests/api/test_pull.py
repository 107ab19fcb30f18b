"""A pull that waits for its hub: how long, for what, and what its job says meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from offgridd.api import pull
from offgridd.api.jobs import Job, Jobs, Report
from offgridd.core.desired import HubSource, ModelSpec
from offgridd.core.errors import ActionFailed, Failure

SOURCE = HubSource("acme/M", "m.gguf")
SPEC = ModelSpec("kept/acme/M/m.gguf", SOURCE)


class Keeper:
    """Fails with each of `reasons`, then it has the file."""

    def __init__(self, *reasons: str) -> None:
        self._reasons = list(reasons)

    async def pull(self, source: HubSource, report: Report) -> ModelSpec:
        if self._reasons:
            raise ActionFailed(Failure("Downloaded", self._reasons.pop(0), "cannot fetch it: so it is"))
        return SPEC


async def run(keeper: Keeper, *, wait: bool) -> Job:
    ctx: Any = SimpleNamespace(keeper=keeper)
    async with anyio.create_task_group() as group:

        async def work(report: Report) -> dict[str, Any]:
            await pull._pulled(ctx, SOURCE, report, job if wait else None)
            return {}

        job = Jobs(group).begin("pull acme/M", work)
    return job


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "PAUSES", (0.0, 0.001))


async def test_it_waits_for_as_long_as_the_hub_is_away() -> None:
    job = await run(Keeper("HubUnreachable", "HubTimeout", "RateLimited", "ContentUnavailable"), wait=True)
    assert (job.state, job.failure) == ("done", None)


@pytest.mark.parametrize(
    "reason", ["Offline", "QuantNotFound", "BadAnswer", "DigestMismatch", "ContentMissing", "InsufficientDisk"]
)
async def test_what_waiting_does_not_mend_is_told(reason: str) -> None:
    job = await run(Keeper("HubUnreachable", reason), wait=True)
    assert job.failure is not None
    assert (job.state, job.failure.reason) == ("failed", reason)


async def test_without_waiting_it_is_told_at_once() -> None:
    job = await run(Keeper("HubUnreachable"), wait=False)
    assert job.failure is not None
    assert (job.state, job.failure.reason) == ("failed", "HubUnreachable")

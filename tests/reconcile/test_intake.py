"""Manifest text to desired state, with real files and a real state directory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from support.limits import no_space

from offgridd.core import events as ev
from offgridd.core.desired import Desired
from offgridd.core.errors import ManifestError, Problem
from offgridd.core.observed import ManifestFacts
from offgridd.effects import source
from offgridd.effects.repository import Repository
from offgridd.effects.state import State
from offgridd.reconcile.follow import Follow
from offgridd.reconcile.intake import Intake, Seen

ONE = "apiVersion: offgridd/v1\nmodels:\n  a: {source: {file: /m/a.gguf}}\n"
TWO = ONE + "  b: {source: {file: /m/b.gguf}}\n"
BAD = ONE + "  b: {sauce: {}}\n"
SAME = "# a comment\nmodels: {'a': {source: {'file': \"/m/a.gguf\"}}}\napiVersion: offgridd/v1\n"


@dataclass
class Desk:
    """An intake, what it emitted, and the folder it works on."""

    folder: Path
    emitted: list[ev.Event | Desired] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path = self.folder / "m.yaml"
        self.open()

    def open(self) -> None:
        self.state = State(self.folder / "state")
        follow = Follow(Repository(self.folder / "state" / "git"))
        self.intake = Intake(lambda: source.read(self.path), self.state, self.emitted.append, follow)

    def restart(self) -> None:
        self.state.close()
        self.emitted.clear()
        self.open()

    async def put(self, text: str) -> Seen:
        await anyio.Path(self.path).write_text(text)
        return await self.intake.take()

    @property
    def desired(self) -> list[Desired]:
        return [item for item in self.emitted if isinstance(item, Desired)]

    @property
    def facts(self) -> ManifestFacts:
        found = [item.facts for item in self.emitted if isinstance(item, ev.ManifestSeen)]
        return found[-1] if found else ManifestFacts()

    def models(self) -> list[str]:
        assert self.intake.desired is not None
        return sorted(self.intake.desired.models)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.state.close()


async def test_a_new_text_is_a_new_generation_told_once(desk: Desk) -> None:
    assert await desk.put(ONE) == Seen(1, (), changed=True)
    assert await desk.put(TWO) == Seen(2, (), changed=True)
    assert [(d.generation, sorted(d.models)) for d in desk.desired] == [(1, ["a"]), (2, ["a", "b"])]


async def test_the_same_text_and_the_same_meaning_change_nothing(desk: Desk) -> None:
    await desk.put(ONE)
    before = [*desk.emitted]
    assert await desk.put(ONE) == Seen(1, (), changed=False)
    assert await desk.put(SAME) == Seen(1, (), changed=False)
    assert desk.emitted == before


async def test_a_fragment_counts_as_the_manifest_does(desk: Desk) -> None:
    await desk.put(ONE)
    conf = anyio.Path(desk.folder / "conf.d")
    await conf.mkdir()
    await (conf / "b.yaml").write_text("models:\n  b: {source: {file: /m/b.gguf}}\n")
    assert (await desk.intake.take()).generation == 2
    assert desk.models() == ["a", "b"]
    await (conf / "b.yaml").unlink()
    assert (await desk.intake.take()).generation == 3


async def test_a_bad_text_keeps_what_was_accepted_and_says_what_is_wrong(desk: Desk) -> None:
    await desk.put(ONE)
    seen = await desk.put(BAD)
    assert (seen.generation, seen.changed, len(desk.desired)) == (1, False, 1)
    assert desk.facts.problems == seen.problems
    assert (seen.problems[0].file, seen.problems[0].line) == (str(desk.path), 4)
    assert await desk.intake.take() == seen  # and again, when it is asked for
    assert await desk.put(ONE) == Seen(1, (), changed=False)
    assert desk.facts == ManifestFacts()


async def test_a_missing_manifest_keeps_what_was_accepted_until_it_is_back(desk: Desk) -> None:
    await desk.put(ONE)
    await anyio.Path(desk.path).unlink()
    assert await desk.intake.differs()
    seen = await desk.intake.take()
    assert (seen.generation, seen.problems[0].reason) == (1, "ManifestMissing")
    assert "No such file" in desk.facts.problems[0].message
    assert not await desk.intake.differs()
    assert (await desk.put(TWO)).generation == 2
    assert desk.facts.problems == ()


async def test_the_generation_goes_on_after_a_restart(desk: Desk) -> None:
    await desk.put(ONE)
    await desk.put(TWO)
    desk.restart()
    assert await desk.intake.start() == Seen(2, (), changed=True)
    assert (await desk.put(ONE)).generation == 3


@pytest.mark.parametrize("text", [BAD, None], ids=["bad", "missing"])
async def test_at_start_the_last_good_manifest_stands_in(text: str | None, desk: Desk) -> None:
    await desk.put(TWO)
    desk.restart()
    await (anyio.Path(desk.path).unlink() if text is None else anyio.Path(desk.path).write_text(text))
    seen = await desk.intake.start()
    assert (seen.generation, desk.models()) == (1, ["a", "b"])
    assert seen.problems == desk.facts.problems != ()
    assert desk.facts.from_last_good
    assert await desk.put(TWO) == Seen(1, (), changed=False)
    assert not desk.facts.from_last_good


@pytest.mark.parametrize("kept", [None, b"[]", b'[["m.yaml", "models: 1"]]', b"\0"])
async def test_at_start_without_any_good_manifest_nothing_is_desired(kept: bytes | None, desk: Desk) -> None:
    if kept is not None:
        await anyio.Path(desk.folder / "state" / "last-good.json").write_bytes(kept)
    seen = await desk.intake.start()
    assert desk.intake.desired is None
    assert (seen.generation, seen.problems[0].reason) == (0, "ManifestMissing")


async def test_a_full_disk_is_reported_and_stops_nothing(desk: Desk) -> None:
    await desk.put(ONE)
    await anyio.Path(desk.path).write_text(TWO)
    with no_space():
        assert (await desk.intake.take()).generation == 2
    assert desk.models() == ["a", "b"]
    assert desk.facts.state_error == "cannot keep the manifest: File too large; make room: it is tried again"
    assert not desk.facts.problems
    assert [text.decode() for _, text in desk.intake.accepted] == [TWO], "what is in effect is shown, kept or not"
    await desk.intake.keep_again()
    assert desk.facts.state_error == ""
    await desk.put(BAD)
    assert [text.decode() for _, text in desk.intake.accepted] == [TWO]
    desk.restart()
    await anyio.Path(desk.path).unlink()
    assert (await desk.intake.start()).generation == 2
    assert desk.models() == ["a", "b"]


async def test_takes_at_once_are_one_change(desk: Desk) -> None:
    await anyio.Path(desk.path).write_text(ONE)
    seen: list[Seen] = []

    async def take() -> None:
        seen.append(await desk.intake.take())

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(take)
    assert sorted(s.changed for s in seen) == [False] * 19 + [True]
    assert {s.generation for s in seen} == {1}
    assert len(desk.desired) == 1


async def test_what_can_not_be_prepared_is_refused_and_tried_again(desk: Desk) -> None:
    busy = True

    async def prepare(_: Desired) -> None:
        if busy:
            raise ManifestError((Problem("BindFailed", "cannot listen: in use", "m.yaml"),))

    await desk.put(ONE)
    desk.intake.prepare = prepare
    seen = await desk.put(TWO)
    assert (seen.generation, seen.problems[0].reason, desk.models()) == (1, "BindFailed", ["a"])
    busy = False
    assert await desk.intake.differs()
    assert (await desk.intake.take()).generation == 2
    assert desk.facts == ManifestFacts()


async def test_what_the_watcher_reports_is_told_until_it_is_over(desk: Desk) -> None:
    await desk.put(ONE)
    desk.intake.report_watch("cannot watch")
    desk.intake.report_watch("cannot watch")
    desk.intake.report_watch("")
    told = [item.facts.watch_error for item in desk.emitted if isinstance(item, ev.ManifestSeen)]
    assert told == ["cannot watch", ""]

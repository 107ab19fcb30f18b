"""What is suspended stays as it was, however often the daemon is started again in between."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from offgridd.core import events as ev
from offgridd.core.desired import Desired
from offgridd.core.edits import hold_back
from offgridd.effects import source
from offgridd.effects.repository import Repository
from offgridd.effects.state import State
from offgridd.reconcile.follow import Follow
from offgridd.reconcile.intake import Intake


class Life:
    """A daemon that acts on what it is told, as the loop does, and can be started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, folder / "m.yaml"
        folder.mkdir(exist_ok=True)

    async def begin(self) -> None:
        self.effective = Desired()
        self.state = State(self.folder / "state")
        follow = Follow(Repository(self.folder / "git"))
        self.intake = Intake(lambda: source.read(self.manifest), self.state, self.heard, follow)
        await self.intake.start()

    def heard(self, item: ev.Event | Desired) -> None:
        if isinstance(item, Desired):
            self.effective = hold_back(self.effective, item)

    async def again(self) -> None:
        self.state.close()
        await self.begin()

    async def put(self, text: str) -> None:
        self.manifest.write_text(text)
        await self.intake.take()

    def contexts(self) -> dict[str, int | None]:
        return {name: spec.load.context for name, spec in self.effective.models.items()}


def manifest(models: dict[str, tuple[int, bool]], *, suspend: bool = False) -> str:
    """By name its context, and whether it is suspended."""
    lines = [
        f"  {name}: {{source: {{file: /m/{name}.gguf}}, context: {context}, suspend: {str(held).lower()}}}"
        for name, (context, held) in models.items()
    ]
    head = f"apiVersion: offgridd/v1\nserver: {{suspend: {str(suspend).lower()}}}\nmodels:"
    return head + ("\n" + "\n".join(lines) + "\n" if lines else " {}\n")


async def test_an_edit_that_is_held_back_is_so_after_a_restart(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.manifest.write_text(manifest({"a": (256, False), "gone": (256, False)}))
    await life.begin()
    await life.put(manifest({"a": (512, False), "new": (256, False)}, suspend=True))
    for _ in range(2):
        assert life.contexts() == {"a": 256, "gone": 256}
        assert set(life.effective.held) == {"a", "gone", "new"}
        await life.again()
    await life.put(manifest({"a": (512, False), "new": (256, False)}))
    assert life.contexts() == {"a": 512, "new": 256}
    await life.again()
    assert (life.contexts(), life.effective.held) == ({"a": 512, "new": 256}, ())
    life.state.close()


async def test_models_are_held_from_different_manifests(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.manifest.write_text(manifest({"a": (1, False), "b": (1, False)}))
    await life.begin()
    await life.put(manifest({"a": (2, True), "b": (2, False)}))
    await life.put(manifest({"a": (3, True), "b": (3, True)}))
    await life.again()
    assert life.contexts() == {"a": 1, "b": 2}
    life.state.close()


async def test_a_record_that_can_not_be_read_is_none(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.manifest.write_text(manifest({"a": (1, False)}))
    await life.begin()
    await life.put(manifest({"a": (2, True)}))
    (tmp_path / "state" / "held.json").write_text("[[1]]")
    await life.again()
    assert life.contexts() == {"a": 2}
    life.state.close()


@pytest.mark.parametrize("seed", range(12))
async def test_restarts_change_nothing_of_what_is_acted_on(seed: int, tmp_path: Path) -> None:
    """Two daemons see the same edits; one is started again now and then."""
    dice = random.Random(seed)
    steady, other = Life(tmp_path / "steady"), Life(tmp_path / "other")
    text = manifest({name: (dice.randint(1, 3), False) for name in "abc"})
    for life in (steady, other):
        life.manifest.write_text(text)
        await life.begin()
    for _ in range(15):
        chosen = {n: (dice.randint(1, 3), dice.random() < 0.4) for n in "abcd" if dice.random() < 0.8}
        text = manifest(chosen, suspend=dice.random() < 0.3)
        for life in (steady, other):
            await life.put(text)
        if dice.random() < 0.5:
            await other.again()
        assert other.contexts() == steady.contexts()
        assert set(other.effective.held) == set(steady.effective.held)
    for life in (steady, other):
        life.state.close()

"""What suspension holds back: changes, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from offgridd.core.conditions import model_conditions
from offgridd.core.desired import Desired, FileSource, LoadSpec, ModelSpec, ServerSpec
from offgridd.core.edits import hold_back
from offgridd.core.keys import load_key
from offgridd.core.observed import Effective, Identity, ModelFacts, ModelHeader, Observed, VerifiedFile, Worker
from offgridd.core.plan import plan

A, B = ModelSpec("a", FileSource("/m/a.gguf")), ModelSpec("b", FileSource("/m/b.gguf"))
NORMAL, FROZEN = ServerSpec(), ServerSpec(suspend=True)


def desired(*models: ModelSpec, generation: int = 1, server: ServerSpec = NORMAL) -> Desired:
    return Desired(generation, str(generation), server, {m.name: m for m in models})


def names(found: Desired) -> list[str]:
    return list(found.models)


def test_a_suspended_server_adds_removes_and_changes_nothing() -> None:
    edited = replace(A, load=LoadSpec(context=512))
    found = hold_back(desired(A), desired(edited, B, generation=2, server=FROZEN))
    assert (names(found), found.models["a"].load, found.held) == (["a"], A.load, ("a", "b"))
    found = hold_back(desired(A, B), desired(B, generation=2, server=FROZEN))
    assert (names(found), found.held) == (["a", "b"], ("a",))


def test_a_suspended_model_alone_keeps_what_it_had() -> None:
    edited = replace(A, load=LoadSpec(context=512), aliases=("x",), suspend=True)
    found = hold_back(desired(A, B), desired(edited, replace(B, aliases=("y",)), generation=2))
    assert found.models["a"] == replace(A, suspend=True)
    assert found.models["b"].aliases == ("y",)
    assert found.held == ("a",)


def test_once_it_is_suspended_no_more_it_is_as_declared() -> None:
    edited = replace(A, load=LoadSpec(context=512), suspend=True)
    held = hold_back(desired(A), desired(edited, generation=2))
    assert hold_back(held, desired(replace(edited, suspend=False), generation=3)).models["a"].load.context == 512


def test_the_first_manifest_is_as_declared() -> None:
    assert names(hold_back(Desired(), desired(A, server=FROZEN))) == ["a"]


def facts(*, file: bool) -> ModelFacts:
    header = ModelHeader("llama", "tiny", 0, 4096, 1, 32, 2, 288, 12, 1000, True)
    verified = VerifiedFile("/m/a.gguf", Identity(1, 1, 1, 1), "0" * 64, header, "old")
    worker = Worker(1, load_key(A, "0" * 64, "e"), 100, ready=True, effective=Effective(4096, 4, 4096, 1, None))
    return ModelFacts(file=verified if file else None, workers=(worker,))


def test_what_serves_is_left_alone_and_ready_also_when_its_file_was_touched() -> None:
    frozen = replace(A, suspend=True)
    for file in (True, False):
        seen = Observed(models={"a": facts(file=file)}, engine="e")
        assert plan(desired(frozen), seen, 0.0).empty
        ready = model_conditions(frozen, seen.of("a"), seen)[-1]
        assert (ready.status, ready.reason) == ("True", "Suspended")


def test_a_crash_is_repaired_all_the_same() -> None:
    seen = Observed(models={"a": replace(facts(file=True), workers=())}, engine="e")
    assert not plan(desired(replace(A, suspend=True)), seen, 0.0).empty

"""What may go: never what is needed, kept, adopted, of unknown origin or young; and nothing under no manifest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridd.core.desired import Desired, HubSource, ModelSpec, StoreSpec, UrlSource
from offgridd.core.garbage import QUARANTINE, Item, Rules, counted, freed, judge, referred, rules_of
from offgridd.core.hub import HubFile, Pin
from offgridd.core.observed import Identity, ModelFacts, ModelHeader, Observed, Part, VerifiedFile

names = st.sampled_from(["a" * 64, "b" * 64, "c" * 64])
seconds = st.floats(0, 1e9)
items = st.builds(
    Item,
    st.sampled_from(["blob", "partial", "quarantine", "note"]),
    names,
    st.integers(0, 2**40),
    seconds,
    st.sampled_from(["declared", "kept", "adopted", "unknown"]),
    st.booleans(),
)
references = st.dictionaries(names, st.sampled_from(["Declared", "Kept", "InUse"]))
rules = st.builds(Rules, seconds, st.booleans())


@given(st.lists(items), references, rules)
def test_what_goes_is_needed_by_nobody_and_old_enough(these: list[Item], needed: dict[str, str], how: Rules) -> None:
    verdicts = judge(these, needed, how)
    assert [v.item for v in verdicts] == these
    for item in (v.item for v in verdicts if v.goes):
        assert item.regular
        assert not how.empty
        assert item.kind == "quarantine" or item.name not in needed
        assert item.kind != "quarantine" or item.age > QUARANTINE
        assert item.kind != "blob" or (item.origin == "declared" and item.age > how.grace)
    assert all(v.left is None or v.left >= 0 for v in verdicts)
    assert freed(verdicts) == sum(v.item.size for v in verdicts if v.goes)


@given(items, references, rules, seconds)
def test_more_age_or_fewer_references_never_save_and_the_rest_does_not_matter(
    item: Item, needed: dict[str, str], how: Rules, more: float
) -> None:
    (now,) = judge([item], needed, how)
    (later,) = judge([replace(item, age=item.age + more)], needed, how)
    (freer,) = judge([item], {}, how)
    assert now.goes <= later.goes
    assert now.goes <= freer.goes


@given(st.dictionaries(names, seconds), st.lists(names), st.sets(names), seconds)
def test_time_is_counted_while_nothing_refers_and_begins_anew_after(
    idle: dict[str, float], blobs: list[str], needed: set[str], passed: float
) -> None:
    after = counted(idle, blobs, needed, passed)
    assert set(after) == set(blobs) - needed
    assert all(after[name] == (idle[name] + passed if name in idle else 0) for name in after)


@pytest.mark.parametrize(
    ("item", "needed", "reason"),
    [
        (Item("blob", "x", age=99, origin="declared"), {}, "Unreferenced"),
        (Item("blob", "x", age=5, origin="declared"), {}, "Grace"),
        (Item("blob", "x", age=99, origin="kept"), {}, "Kept"),
        (Item("blob", "x", age=99, origin="adopted"), {}, "Adopted"),
        (Item("blob", "x", age=99), {}, "OriginUnknown"),
        (Item("blob", "x", age=99, origin="declared", regular=False), {}, "NotAFile"),
        (Item("blob", "x", age=99, origin="declared"), {"x": "Declared"}, "Declared"),
        (Item("partial", "x"), {}, "Ownerless"),
        (Item("partial", "x"), {"x": "InUse"}, "InUse"),
        (Item("quarantine", "x", age=5), {}, "Recent"),
        (Item("quarantine", "x", age=1e6), {"x": "Declared"}, "Old"),
        (Item("note", "x"), {}, "NoBlob"),
    ],
)
def test_each_has_its_reason(item: Item, needed: dict[str, str], reason: str) -> None:
    (found,) = judge([item], needed, Rules(grace=10))
    assert (found.reason, found.goes) == (reason, reason in ("Unreferenced", "Ownerless", "Old", "NoBlob"))
    if found.goes:
        assert judge([item], needed, Rules(grace=10, empty=True))[0].reason == "NothingDeclared"


def pin(*digests: str) -> Pin:
    return Pin("k", "a/b", "c" * 40, tuple(HubFile(f"{d}.gguf", 1, d) for d in digests), None, "")


def test_references_are_pins_locks_urls_kept_files_and_what_works_go_on_with() -> None:
    hub = HubSource("a/b")
    models = {
        "pinned": ModelSpec("pinned", hub),
        "locked": ModelSpec("locked", hub, lock=pin("locked")),
        "web": ModelSpec("web", UrlSource("https://x/y.gguf"), sha256="web"),
        "seen": ModelSpec("seen", hub),
    }
    header = ModelHeader("llama", "", 0, 1, 1, 1, 1, 1, 1, 1, True)
    identity = Identity(1, 1, 1, 1)
    drafting = VerifiedFile("/z", identity, "draft", header, "z")
    file = VerifiedFile("/x", identity, "served", header, "k", (Part("/y", identity, "served-2"),), draft=drafting)
    observed = Observed(models={"seen": ModelFacts(pin=pin("seen")), "gone": ModelFacts(file=file)})
    pins = {"pinned": pin("p1", "p2"), "kept/a/b/c.gguf": pin("p2", "kept"), "no-more": pin("no-more")}
    assert referred(Desired(models=models), observed, pins, {"busy", "p1"}) == {
        **dict.fromkeys(["p1", "p2", "locked", "web", "seen"], "Declared"),
        "kept": "Kept",
        **dict.fromkeys(["served", "served-2", "draft", "busy"], "InUse"),
    }


def test_an_empty_manifest_lets_nothing_go_unless_it_says_so() -> None:
    assert rules_of(Desired()).empty
    assert not rules_of(Desired(store=StoreSpec(allow_empty=True))).empty
    assert not rules_of(Desired(models={"m": ModelSpec("m", HubSource("a/b"))})).empty

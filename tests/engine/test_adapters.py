"""Which adapters a request is computed with, and that each gives what the model merged with it gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.lora import BASE, Lora, lora_of, merged, write
from support.serving import Got, Serving, serving
from support.tinymodel import model

from offgridd.engine import wire
from offgridd.engine.adapters import Adapter, AdapterError, Worn, last_of, worn

KNOWN = (Adapter("a"), Adapter("b"), Adapter("called", (7, 8)), Adapter("c"))
A, B = lora_of(BASE, seed=1), lora_of(BASE, seed=2)
INVOCATION = (3 + ord("!"),)  # the byte token of "!", which the texts below have where it is to begin
CALLED = lora_of(BASE, seed=3, invocation=INVOCATION)
TEXT = "the sea was calm and the ships were few "
WAYS: dict[str, tuple[tuple[Lora, float], ...]] = {
    "": (), "a": ((A, 1.0),), "b": ((B, 0.5),), "a+b": ((A, 1.0), (B, 0.5)),
}  # fmt: skip


def test_a_set_is_told_by_its_names_and_what_is_unknown_is_refused() -> None:
    assert worn((), KNOWN, [1]) == Worn(0, 0)
    assert worn(("b", "a"), KNOWN, [1]) == worn(("a", "b", "a"), KNOWN, [1]) == Worn(0b11, 0)
    assert worn(("called",), KNOWN, [7, 8, 1, 7, 8, 2]) == Worn(0b100, 3)
    assert worn(("called",), KNOWN, [7, 7]) == Worn(), "nothing invokes it"
    assert worn(("called", "called"), KNOWN, [7, 8]) == worn(("called",), KNOWN, [7, 8]), "twice is once"
    with pytest.raises(AdapterError, match="has a, b, called, c"):
        worn(("d",), KNOWN, [1])
    with pytest.raises(AdapterError, match="it has none"):
        worn(("a",), (), [1])
    with pytest.raises(AdapterError, match="alone"):
        worn(("a", "called"), KNOWN, [7, 8])


@given(st.lists(st.integers(0, 2), max_size=12), st.lists(st.integers(0, 2), min_size=1, max_size=3))
def test_the_last_occurrence_is_found(tokens: list[int], wanted: list[int]) -> None:
    places = [at for at in range(len(tokens)) if tokens[at : at + len(wanted)] == wanted]
    assert last_of(wanted, tokens) == (places[-1] if places else None)


def adapter_file(name: str, path: Path, scale: float = 1.0) -> wire.AdapterFile:
    found = path.stat()
    return wire.AdapterFile(name, str(path), (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns), scale)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("lora")
    write(made / "base.gguf", model(spec=BASE))
    for name, lora in (("a", A), ("b", B), ("called", CALLED)):
        write(made / f"{name}.gguf", lora.bytes())
    for name, loras in WAYS.items():
        write(made / f"merged-{name}.gguf", merged(BASE, loras))
    write(made / "merged-called.gguf", merged(BASE, [(CALLED, 1.0)]))
    return made


@pytest.fixture(scope="module")
def worker(folder: Path) -> Iterator[Serving]:
    adapters = (
        adapter_file("a", folder / "a.gguf"),
        adapter_file("b", folder / "b.gguf", 0.5),
        adapter_file("called", folder / "called.gguf"),
    )
    with serving(folder / "base.gguf", 512, adapters=adapters) as made:
        assert made.loaded.adapters == ("a", "b", "called")
        yield made


def values(got: Got) -> list[float]:
    assert isinstance(got.end, wire.Finish), got.end
    return [one.logprob for one in got.logprobs]


def alike(ours: Got, wanted: Got) -> None:
    """The same text, and logits as near as merging in another order of sums leaves them."""
    assert ours.text == wanted.text
    assert values(ours) == pytest.approx(values(wanted), abs=2e-2)


@pytest.fixture(scope="module")
def wanted(folder: Path) -> dict[str, Got]:
    """What the merged models say."""
    found: dict[str, Got] = {}
    for name in WAYS:
        with serving(folder / f"merged-{name}.gguf", 512) as made:
            found[name] = made.answers(TEXT, count=24, logprobs=1)
    assert len({got.text for got in found.values()}) == len(WAYS), "each of them changes the answer"
    return found


def names(way: str) -> tuple[str, ...]:
    return tuple(way.split("+")) if way else ()


def test_two_adapters_at_once_give_what_the_merged_models_give(worker: Serving, wanted: dict[str, Got]) -> None:
    asked = {way: worker.ask(TEXT, count=24, logprobs=1, adapters=names(way)) for way in WAYS}
    for way, got in zip(asked, worker.wait(*asked.values()), strict=True):
        alike(got, wanted[way])


def test_what_was_computed_with_one_is_of_use_to_that_one_alone(worker: Serving, wanted: dict[str, Got]) -> None:
    text = "nobody came that day " * 6
    cold = {way: worker.answers(text, count=8, logprobs=1, adapters=names(way)) for way in WAYS}
    head = cold[""].cached  # what the template begins with, from the test before
    assert all(got.cached == head < 20 for got in cold.values())
    for way, got in cold.items():
        again = worker.answers(text, count=8, logprobs=1, adapters=names(way))
        assert again.cached > 60
        alike(again, got)


def test_one_with_an_invocation_leaves_what_is_before_it_to_all(worker: Serving, folder: Path) -> None:
    """Its answer is no merged model's: what is before the invocation is the base model's own."""
    text = "who is there " * 8
    plain = worker.answers(f"{text}! go on", count=8, logprobs=1)
    called = worker.answers(f"{text}! go on", count=8, logprobs=1, adapters=("called",))
    assert called.cached > 60, "the base model's"
    assert called.text != plain.text
    assert worker.answers(f"{text}! go on", count=8, logprobs=1, adapters=("called",)).answer[0] == called.text
    unasked = worker.answers(f"{text}? go on", count=8, logprobs=1)
    alike(worker.answers(f"{text}? go on", count=8, logprobs=1, adapters=("called",)), unasked)
    with serving(folder / "merged-called.gguf", 512) as whole:
        other = whole.answers(f"{text}! go on", count=8, logprobs=1)
        assert values(other) != pytest.approx(values(called), abs=2e-2)


def test_who_asks_for_none_that_is_there_is_refused(worker: Serving) -> None:
    got = worker.answers("hi", adapters=("nobody",))
    assert isinstance(got.end, wire.Refused)
    assert (got.end.status, got.end.code) == (404, "model_not_found")


def test_one_for_another_model_is_refused_when_it_is_loaded(folder: Path, tmp_path: Path) -> None:
    other = Lora({"blk.0.attn_q.weight": (32, 32)})
    more = Lora({"blk.9.attn_q.weight": (64, 64)})
    for number, lora in enumerate((other, more, Lora(A.shapes, architecture="qwen2"))):
        path = write(tmp_path / f"{number}.gguf", lora.bytes())
        with ExitStack() as stack, pytest.raises(AssertionError, match="AdapterInvalid"):
            stack.enter_context(serving(folder / "base.gguf", 512, adapters=(adapter_file("x", path),)))

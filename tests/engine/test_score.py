"""The likelihood of a text in a worker: as it is by the library's own logits, nothing kept, and requests go first."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from engine.test_serve import Worker, alone, worker
from support.serving import serving
from support.tinymamba import write_mamba, write_windowed
from support.tinymodel import BOOL, CONTROL, DEFAULT, Edit, model, pair

from offgridd.core.quality import Sums, perplexity
from offgridd.engine import wire

TEXT = "the quick fox was a friend of the lazy dog and they went to the sea \u00e4 in the old boat " * 8


def by_the_library(path: Path, n_ctx: int) -> tuple[float, float, int]:
    """Perplexity, its error and the number of tokens by its definition: from the logits that the library gives."""
    library = llama_cpp.Llama(str(path), n_ctx=512, logits_all=True, flash_attn=True, verbose=False, n_threads=1)
    tokens = library.tokenize(TEXT.encode(), add_bos=True, special=False)
    unlikely: list[float] = []
    for at in range(0, len(tokens) - n_ctx + 1, n_ctx):
        chunk = tokens[at : at + n_ctx]
        library.reset()
        library.eval([library.token_bos(), *chunk[1:]])
        for position in range(n_ctx // 2, n_ctx - 1):
            row = library.scores[position].astype(np.float64)
            unlikely.append(float(np.log(np.exp(row - row.max()).sum()) - (row[chunk[position + 1]] - row.max())))
    library.close()
    values = np.array(unlikely)
    found = math.exp(values.mean())
    return found, found * float(values.std(ddof=1)) / math.sqrt(len(values)), len(values)


def by_us(path: Path, n_ctx: int, **more: object) -> tuple[Sums, wire.Scored]:
    sums, chunk, chunks = Sums(0, 0, 0), 0, 1
    with serving(path, context=512, parallel=2, **more) as w:
        while chunk < chunks:
            scored = w.score(TEXT, n_ctx, chunk)
            assert isinstance(scored, wire.Scored)
            sums += Sums(scored.tokens, scored.sum, scored.squares)
            chunk, chunks = chunk + 1, scored.chunks
    return sums, scored


@pytest.mark.parametrize("n_ctx", [64, 131, 300])
@pytest.mark.parametrize("kind", ["a buffer each", "deterministic", "recurrent", "window"])
def test_it_is_what_the_library_says(kind: str, n_ctx: int, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    if kind == "recurrent":
        write_mamba(path)
    elif kind == "window":
        write_windowed(path)
    else:
        path.write_bytes(model(spec=dataclasses.replace(DEFAULT, layers=2)))
    sums, _ = by_us(path, n_ctx, deterministic=kind == "deterministic")
    found, wanted = perplexity(sums), by_the_library(path, n_ctx)
    assert found is not None
    assert sums.tokens == wanted[2] > 100
    assert found[0] == pytest.approx(wanted[0], rel=0.005 if kind == "deterministic" else 0.001)
    assert found[1] == pytest.approx(wanted[1], rel=0.01)


def test_other_vocabularies_are_told_apart(tmp_path: Path) -> None:
    found = []
    for name, spec in (("one", DEFAULT), ("same", dataclasses.replace(DEFAULT, seed=8)), ("other", CONTROL)):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(model(spec=dataclasses.replace(spec, context_length=512)))
        found.append(by_us(path, 128)[1])
    assert found[0].tokens_sha256 == found[1].tokens_sha256 != found[2].tokens_sha256
    assert found[0].sum != found[1].sum


def test_a_model_that_wants_a_token_behind_a_text_is_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "ends.gguf"
    path.write_bytes(model(Edit(extra=(pair("tokenizer.ggml.add_eos_token", BOOL, True),)), DEFAULT))
    with serving(path, context=512) as w:
        found = w.score(TEXT, 64)
        assert isinstance(found, wire.Refused)
        assert (found.status, found.code) == (400, "unsupported_model")


def score(w: Worker, asked: wire.Score) -> wire.Scored | wire.Refused:
    w.send(asked)
    while not isinstance(frame := w.receive(), wire.Scored | wire.Refused):
        pass
    assert frame.id == asked.id
    return frame


@pytest.mark.parametrize("apart", [False, True])
def test_the_worker_goes_on_as_if_nothing_had_been(apart: bool) -> None:
    with worker(apart=apart) as w:
        first = score(w, wire.Score(1, TEXT, 100, 3))
        assert isinstance(first, wire.Scored)
        assert (first.tokens, first.chunks, first.why) == (49, len(TEXT.encode()) // 100, "")
        w.ask(2, "hello", 30)
        w.wait(2)
        assert w.text[2] == alone("hello", 30)
        assert w.ends[2].cached_tokens == 0  # type: ignore[union-attr]
        assert score(w, wire.Score(3, TEXT, 100, 3)) == wire.Scored(
            3, first.tokens, first.sum, first.squares, first.chunks, first.tokens_sha256
        )


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (wire.Score(1, TEXT, 2000), "context_length_exceeded"),
        (wire.Score(1, TEXT, 1000), "context_length_exceeded"),  # more than there are cells
        (wire.Score(1, TEXT, 3), "context_length_exceeded"),
        (wire.Score(1, TEXT[:199], 100), "invalid_value"),
        (wire.Score(1, TEXT, 100, 99), "invalid_value"),
        (wire.Score(1, TEXT, 100, -1), "invalid_value"),
        (wire.Score(1, "", 100), "invalid_value"),
    ],
)
def test_what_can_not_be_measured_is_refused(asked: wire.Score, code: str) -> None:
    with worker(context=1024, cells=900) as w:
        found = score(w, asked)
        assert isinstance(found, wire.Refused)
        assert (found.status, found.code) == (400, code)


def test_requests_go_first_and_while_they_run_it_is_refused() -> None:
    with worker(context=8192) as w:
        w.send(wire.Score(1, TEXT * 40, 8000))
        w.ask(2, "hello", 30)
        scored = None
        while 2 not in w.ends:
            frame = w.receive()
            scored = frame if isinstance(frame, wire.Scored) else scored
            if isinstance(frame, wire.Tokens):
                w.text[2] = w.text.get(2, "") + "".join(item.text for item in frame.items)
            elif isinstance(frame, wire.Finish):
                w.ends[2] = frame
        assert scored == wire.Scored(1, why="yielded")
        assert w.text[2] == alone("hello", 30)
        w.ask(3, "long", 7000)
        while not isinstance(w.receive(), wire.Admitted):
            pass
        busy = score(w, wire.Score(4, TEXT, 100))
        assert isinstance(busy, wire.Refused)
        assert (busy.status, busy.code) == (409, "busy")


def test_a_probe_is_neither_counted_nor_kept_nor_begun_by_what_was_kept() -> None:
    text = "a prompt that is long enough to be kept"
    messages = (wire.Message("user", text),)
    with worker() as w:
        w.ask(1, text, 20)
        w.wait(1)
        w.send(wire.Chat(2, "q", messages, wire.SamplingParams(temperature=0), 20, probe=True))
        w.wait(2)
        assert w.text[2] == w.text[1]
        assert w.ends[2].cached_tokens == 0  # type: ignore[union-attr]
        stats: list[wire.Stats] = []
        w.ask(3, text, 20)
        while 3 not in w.ends:
            frame = w.receive()
            stats += [frame] if isinstance(frame, wire.Stats) else []
            if isinstance(frame, wire.Finish):
                w.ends[3] = frame
        assert w.ends[3].cached_tokens > 0  # type: ignore[union-attr]
        assert stats, "it reports before it rests"
        assert sum(sum(one.ends.values()) for one in stats) == 0
        assert sum(one.prompt_tokens for one in stats) == 0

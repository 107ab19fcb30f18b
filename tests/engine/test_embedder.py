"""Vectors beside the library's own, of tiny models of all kinds and of a real one."""

# ruff: noqa: RUF001 - other scripts

from __future__ import annotations

from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from support.encoders import Bert, write_bert, write_minilm
from support.tinymodel import BOOL, U32, Edit, Spec, model, pair

from offgridd.engine.llama import Embedder, Settings
from offgridd.engine.port import LoadError, Passage
from offgridd.engine.vectors import Floats

# What a tokenizer or a table of positions may stumble over; `long` is filled up to the model's limit.
TEXTS = [
    "The cat sat on the mat.", "cat", "a", ".", " ", "\n\t ", "0", "[CLS] text [SEP]", "[MASK] [PAD] [UNK]", "<s></s>",
    "##ing ##s", "Größe, façade, naïve, Ångström", "Привет, мир! Как дела?", "日本語の文章です。", "你好，世界",
    "안녕하세요 세계",
    "مرحبا بالعالم", "שלום עולם", "नमस्ते दुनिया", "สวัสดีชาวโลก", "Γειά σου Κόσμε", "🙂🙃👩‍👩‍👧‍👦", "e\u0301 vs é",
    "\u200b\u00a0\ufeff", "a\x00b", "x" * 300, "word " * 120, "http://example.com/?q=1&r=%20#x",
    "def f(x):\n    return x",
    "3.14159 2,718 1e-9", "ＡＢＣ ½ ﬁ", "I'm don't won't", "MiXeD CaSe TeXt",
]  # fmt: skip


def cosine(a: Any, b: Any) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def by_the_library(path: Path, inputs: list[list[int]], rows: int) -> list[list[float]]:
    """Each by itself, in one decode."""
    lib = llama_cpp.Llama(
        str(path),
        embedding=True,
        n_ctx=rows,
        n_batch=rows,
        n_ubatch=rows,
        n_threads=1,
        n_threads_batch=1,
        verbose=False,
    )
    tokens = iter(inputs)
    lib.tokenize = lambda *_a, **_k: next(tokens)
    return [lib.embed("") for _ in inputs]


def together(encoder: Embedder, inputs: list[list[int]]) -> list[Floats]:
    """In decodes of a few, as far as they fit."""
    found: list[Floats] = []
    group: list[list[int]] = []
    for tokens in [*inputs, []]:
        if group and (not tokens or sum(map(len, group)) + len(tokens) > 300):
            made = encoder.encode([Passage(i, 0, one, True) for i, one in enumerate(group)])
            found += [one for one in made if one is not None]
            group = []
        group.append(tokens)
    return found


def test_a_real_model_says_what_the_library_says(tmp_path: Path) -> None:
    path = write_minilm(tmp_path / "minilm.gguf")
    encoder = Embedder(str(path), Settings(None, 1), "mean")
    assert (encoder.context, encoder.vector, encoder.splits, encoder.cells) == (512, 384, False, 0)
    texts = [*TEXTS, "word " * 510]
    inputs = [encoder.vocab.document(text) for text in texts]
    lib = llama_cpp.Llama(
        str(path), embedding=True, n_ctx=512, n_batch=512, n_ubatch=512, n_threads=1, n_threads_batch=1, verbose=False
    )
    assert [lib.tokenize(text.encode()) for text in texts] == inputs
    assert len(inputs[-1]) == 512
    theirs = [lib.embed(text) for text in texts]
    found = {text: cosine(a, b) for text, a, b in zip(texts, together(encoder, inputs), theirs, strict=True)}
    least = min(found, key=lambda text: found[text])
    print(f"the least cosine is {found[least]:.7f}, of {least[:20]!r}")
    assert found[least] >= 0.9999
    cat, kitten, tax = (
        encoder.encode([Passage(0, 0, encoder.vocab.document(text), True)])[0]
        for text in ("a cat sleeps", "the kitten is asleep", "tax law of 1986")
    )
    assert cosine(cat, kitten) > 0.6 > 0.3 > cosine(cat, tax)


KINDS = {0: "none", 1: "mean", 2: "cls", 3: "last"}


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_encoders_and_causal_models_of_each_pooling(kind: int, tmp_path: Path) -> None:
    bert = write_bert(tmp_path / "bert.gguf", Bert(pooling=kind))
    causal = tmp_path / "causal.gguf"
    spec = Spec(layers=2, context_length=1024)
    causal.write_bytes(model(Edit(extra=(pair("llama.pooling_type", U32, kind),)), spec))
    for path, splits in ((bert, False), (causal, True)):
        encoder = Embedder(str(path), Settings(None, 1), KINDS[kind])
        assert encoder.splits is splits
        inputs = [encoder.vocab.document(text)[: encoder.context] for text in TEXTS]
        inputs = [tokens[:300] for tokens in inputs]
        theirs = by_the_library(path, inputs, 1024 if splits else 64)
        least = min(map(cosine, together(encoder, inputs), theirs))
        assert least >= 0.9999


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("piece", [1, 37, 128, 384])
def test_what_is_computed_in_pieces_is_the_same_as_whole(pooling: str, piece: int, tmp_path: Path) -> None:
    path = tmp_path / "causal.gguf"
    kind = {"mean": 1, "cls": 2, "last": 3}[pooling]
    path.write_bytes(model(Edit(extra=(pair("llama.pooling_type", U32, kind),)), Spec(layers=2, context_length=1024)))
    encoder = Embedder(str(path), Settings(None, 1), pooling)
    tokens = encoder.vocab.document("the cat sat on a mat and said nothing " * 40)[: 1000 if piece > 1 else 90]
    other = encoder.vocab.document("another one")
    (whole,) = by_the_library(path, [tokens], 1024)
    (alone,) = by_the_library(path, [other], 1024)
    made = None
    for at in range(0, len(tokens), piece):
        (made,) = encoder.encode([Passage(5, at, tokens[at : at + piece], at + piece >= len(tokens))])
        (between,) = encoder.encode([Passage(0, 0, other, True)])
        assert cosine(between, alone) >= 0.9999
    assert cosine(made, whole) >= 0.9999


def test_a_score_does_not_depend_on_what_is_beside_it(tmp_path: Path) -> None:
    path = write_bert(tmp_path / "rank.gguf", Bert(pooling=4))
    encoder = Embedder(str(path), Settings(None, 1), "rank")
    vocab = encoder.vocab
    pairs = [vocab.pair(vocab.tokenize("the cat"), vocab.tokenize(text)) for text in TEXTS]
    pairs = [tokens[:64] for tokens in pairs]
    cls, sep = 2, 3
    assert pairs[0][0] == cls
    assert pairs[1].count(sep) == 2
    assert pairs[1][-1] == sep
    alone = [float(encoder.encode([Passage(0, 0, tokens, True)])[0][0]) for tokens in pairs]  # type: ignore[index]
    beside = [float(one[0]) for one in together(encoder, pairs)]
    assert beside == pytest.approx(alone, abs=2e-3)
    assert max(alone) - min(alone) > 0.02


def test_alone_means_the_same_bits(tmp_path: Path) -> None:
    """`deterministic`: one input a decode."""
    path = write_bert(tmp_path / "bert.gguf")
    encoder = Embedder(str(path), Settings(None, 1, deterministic=True), "mean")
    assert encoder.slots == 1
    tokens = encoder.vocab.document("the cat sat on a mat")
    first = encoder.encode([Passage(0, 0, tokens, True)])[0]
    encoder.encode([Passage(0, 0, encoder.vocab.document("another"), True)])
    again = encoder.encode([Passage(1, 0, tokens, True)])[0]
    assert first is not None
    assert again is not None
    assert first.tobytes() == again.tobytes()


def test_a_declared_context_is_a_limit_and_never_more_than_the_table_of_positions(tmp_path: Path) -> None:
    path = write_bert(tmp_path / "bert.gguf")
    assert Embedder(str(path), Settings(20, 1), "mean").context == 20
    assert Embedder(str(path), Settings(2000, 1), "mean").context == 64


def test_a_model_that_can_not_answer_texts_says_what_to_declare(tmp_path: Path) -> None:
    from offgridd.engine.llama import Llama

    path = write_bert(tmp_path / "bert.gguf", Bert(pooling=None))
    with pytest.raises(LoadError, match="declare its pooling") as caught:
        Llama(str(path), Settings(None, 1))
    assert caught.value.reason == "PoolingUnknown"


def test_a_decoder_that_sees_all_of_a_text_is_computed_whole(tmp_path: Path) -> None:
    path = tmp_path / "both.gguf"
    extra = (pair("llama.pooling_type", U32, 1), pair("llama.attention.causal", BOOL, 0))
    path.write_bytes(model(Edit(extra=extra), Spec(layers=2, context_length=512)))
    encoder = Embedder(str(path), Settings(None, 1), "mean")
    assert not encoder.splits
    assert encoder.cells
    inputs = [encoder.vocab.document(text)[:500] for text in TEXTS]
    theirs = by_the_library(path, inputs, 512)
    assert min(map(cosine, together(encoder, inputs), theirs)) >= 0.9999

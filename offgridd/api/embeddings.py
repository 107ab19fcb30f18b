"""POST /v1/embeddings, as OpenAI has it: vectors of texts. Nothing is ever cut to fit."""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from functools import partial
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
from offgridd.core.desired import ModelSpec
from offgridd.core.naming import shown_name
from offgridd.engine import wire

MOST_DIMENSIONS = 1_000_000
_KNOWN = ("model", "input", "encoding_format", "dimensions", "user")
_TOKENS = (
    "it holds token ids, which mean nothing to this model; send text. LangChain's OpenAIEmbeddings sends text with "
    "check_embedding_ctx_length=False"
)


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    model: str
    inputs: tuple[str, ...]
    base64: bool
    dimensions: int | None


def add_embeddings(app: Quart, ctx: Context) -> None:
    @app.post("/v1/embeddings")
    async def embeddings() -> Response:
        asked = parse_embeddings(await body.read_json())
        spec = find_model(ctx, asked.model)
        check_dimensions(spec, asked.dimensions)
        client = request.remote_addr or "local"
        embed = wire.Embed(ctx.workers.next_request(), client, asked.inputs, dimensions=asked.dimensions)
        made = await made_of(ctx, spec, embed, "embedding")
        shape = partial(encoded, shown_name(spec), made, as_base64=asked.base64)
        return raw(await anyio.to_thread.run_sync(shape))


def parse_embeddings(given: dict[str, Any]) -> EmbedRequest:
    """Raises RequestRefused naming the parameter."""
    for name in given:
        if name not in _KNOWN:
            raise bad(name[:64], "there is no such parameter", "unknown_parameter")
    model = given.get("model")
    if not isinstance(model, str) or not model:
        raise bad("model", "it must be the name of a model")
    form, dimensions = given.get("encoding_format"), given.get("dimensions")
    if form not in (None, "float", "base64"):
        raise bad("encoding_format", "it must be float or base64")
    if dimensions is not None:
        dimensions = integer("dimensions", dimensions, 1, MOST_DIMENSIONS)
    return EmbedRequest(model, _inputs(given.get("input")), form == "base64", dimensions)


def _inputs(value: Any) -> tuple[str, ...]:
    """Raises RequestRefused."""
    listed = value if isinstance(value, list) else [value]
    if any(_is_token(one) or (isinstance(one, list) and one and all(map(_is_token, one))) for one in listed[:1]):
        raise bad("input", _TOKENS, "unsupported_input")
    if isinstance(value, str):
        if not value:
            raise bad("input", "it is an empty string")
        return (value,)
    if not isinstance(value, list):
        raise bad("input", "it must be a string or a list of strings")
    return checked("input", value)


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check_dimensions(spec: ModelSpec, dimensions: int | None) -> None:
    """Raises RequestRefused."""
    if dimensions is None or dimensions in spec.dimensions:
        return
    if not spec.dimensions:
        text = f"none are declared for {shown_name(spec)}; where its vectors may be cut, the manifest has to say so"
        raise bad("dimensions", f"{text}: dimensions: [..]")
    raise bad("dimensions", f"those of {shown_name(spec)} are {', '.join(map(str, spec.dimensions))}")


def encoded(model: str, made: Made, *, as_base64: bool) -> bytes:
    """The answer's JSON. Vector by vector, so that other threads have their turn between them."""
    items = [
        b'{"object":"embedding","index":%d,"embedding":%b}' % (index, _base64(vector) if as_base64 else _floats(vector))
        for index, vector in enumerate(made.vectors)
    ]
    usage = {"prompt_tokens": made.tokens, "total_tokens": made.tokens}
    head = msgspec.json.encode({"object": "list", "model": model, "usage": usage})
    return b'%b,"data":[%b]}' % (head[:-1], b",".join(items))


def _base64(vector: bytes) -> bytes:
    return b'"%b"' % binascii.b2a_base64(vector, newline=False)


def _floats(vector: bytes) -> bytes:
    return msgspec.json.encode(numbers(vector))

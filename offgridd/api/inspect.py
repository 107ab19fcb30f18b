"""GET /v1/inspect: what a model's file says of itself, and whether it fits this machine. It needs not be fetched."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from quart import Quart, Response, request

from offgridd.api import memory
from offgridd.api.answers import answer
from offgridd.api.context import Context
from offgridd.api.crowd import AT_ONCE, check_crowd
from offgridd.api.search import hub_refused
from offgridd.core.desired import DEFAULT_CONTEXT, HubSource, LoadSpec, ModelSpec, Use
from offgridd.core.errors import ActionFailed, RequestRefused
from offgridd.core.fit import Limits, estimate, fits
from offgridd.core.hub import HubError, is_path, is_repo
from offgridd.core.kernels import NAMES, fast_types
from offgridd.core.looked import Looked
from offgridd.core.naming import find_in
from offgridd.core.observed import ModelHeader
from offgridd.core.plan import current_file, current_pin
from offgridd.core.purpose import pooling_of, purpose_of
from offgridd.effects.gguf import GgufError
from offgridd.manifest import values

PARAMETERS = ("model", "context", "parallel")


def add_inspect(app: Quart, ctx: Context) -> None:
    looking = anyio.CapacityLimiter(AT_ONCE)

    @app.get("/v1/inspect")
    async def inspect() -> Response:
        unknown = sorted(set(request.args) - set(PARAMETERS))
        if unknown:
            raise _bad(unknown[0], "there is no such parameter; there are " + ", ".join(PARAMETERS))
        check_crowd(looking, "inspect")
        spec, where = _meant(ctx, request.args.get("model", ""))
        context, parallel = (_number(key, request.args.get(key)) for key in ("context", "parallel"))
        load = spec.load
        load = replace(load, context=context or load.context, parallel=parallel or load.parallel)
        spec = replace(spec, load=load)
        looked = await _look(ctx, spec, where, looking)
        return answer({"model": spec.name.removeprefix("kept/"), "where": where, **_shown(looked, ctx, spec)})


def _meant(ctx: Context, name: str) -> tuple[ModelSpec, str]:
    """A model by any of its names, and whether it is declared, kept, or at the hub. Raises RequestRefused."""
    for where, models in (("declared", ctx.desired.models), ("kept", ctx.keeper.kept)):
        found = find_in(models, name)
        if len(found) > 1:
            names = ", ".join(m.name.removeprefix("kept/") for m in found)
            raise RequestRefused(409, "model_ambiguous", f"cannot tell which model is meant: {names}", param="model")
        if found:
            return found[0], where
    source = _at_hub(ctx, name)
    if source is None:
        text = f"cannot find the model {name[:128]!r}: none of that name is declared or kept, and it is no owner/repo"
        raise RequestRefused(404, "model_not_found", text, param="model")
    return ModelSpec(name, source), "hub"


def _at_hub(ctx: Context, name: str) -> HubSource | None:
    """`owner/repo`, `owner/repo:QUANT` or `owner/repo/file`; None where it is none of these."""
    whole, _, quant = name.partition(":") if name.count("/") == 1 else (name, "", "")
    owner, _, rest = whole.partition("/")
    repo, _, file = rest.partition("/")
    good = is_repo(f"{owner}/{repo}") and (not quant or values.matches(values.QUANT, quant))
    if not good or ("/" in rest and not _is_inner(file)):
        return None
    desired = ctx.desired
    quants = (quant,) if quant else ()
    return HubSource(f"{owner}/{repo}", file or None, None, quants, None, desired.endpoint, desired.token)


def _is_inner(file: str) -> bool:
    try:
        return is_path(file) and values.inner_path(file) == file
    except ValueError:
        return False


async def _look(ctx: Context, spec: ModelSpec, where: str, looking: anyio.CapacityLimiter) -> Looked:
    """Raises RequestRefused."""
    facts = ctx.loop.snapshot.observed.of(spec.name)
    file = current_file(spec, facts) if where != "hub" else None
    if file is not None:
        return Looked(file.header, file.size, current_pin(spec, facts))
    if not isinstance(spec.source, HubSource):
        text = f"cannot inspect {spec.name}: its file was not verified yet; offgrid status says why"
        raise RequestRefused(409, "not_verified", text, param="model")
    pin = await anyio.to_thread.run_sync(ctx.pinned, spec.name) if where == "kept" else current_pin(spec, facts)
    ask = partial(ctx.look, spec.source, pin if where != "hub" else None, Use(spec.load, spec.cache_ram))
    try:
        return await anyio.to_thread.run_sync(ask, limiter=looking, abandon_on_cancel=True)
    except HubError as error:
        raise hub_refused(error.failure) from error
    except ActionFailed as failed:
        raise RequestRefused(409, failed.failure.reason, failed.failure.message, param="model") from failed
    except GgufError as error:
        raise RequestRefused(409, error.reason, error.message, param="model") from error


def _shown(looked: Looked, ctx: Context, spec: ModelSpec) -> dict[str, Any]:
    header, pin, host = looked.header, looked.pin, ctx.machine()
    found = estimate(header, spec.load, host.features, spec.cache_ram)
    return {
        "here": looked.here,
        "size": looked.size,
        "source": pin and {"hf": pin.repo, "commit": pin.commit, "files": [f.path for f in pin.files],
                           "quant": pin.quant, "why": pin.why},
        "header": _header(header, spec.load),
        "fastTypes": sorted({NAMES.get(kind, "") for kind in header.shape.matrices} & fast_types(host.features)),
        "context": spec.load.context or min(header.context_length, DEFAULT_CONTEXT),
        "parallel": spec.load.parallel,
        "memory": {"estimate": memory.shown(found), "fits": fits(found, spec.load, host.limits),
                   **_limits(host.limits), "total": host.total},
    }  # fmt: skip


def _limits(limits: Limits) -> dict[str, Any]:
    return {"ram": limits.ram, "gpu": {str(number): size for number, size in limits.gpu}}


def _header(header: ModelHeader, load: LoadSpec) -> dict[str, Any]:
    bytes_of = {NAMES.get(kind, str(kind)): m.multiplied + m.embedding for kind, m in header.shape.matrices.items()}
    return {
        "architecture": header.architecture,
        "name": header.name,
        "types": dict(sorted(bytes_of.items(), key=lambda one: -one[1])),
        "tensors": header.tensor_count,
        "tensorBytes": header.tensor_bytes,
        "contextLength": header.context_length,
        "layers": header.block_count,
        "embedding": header.embedding_length,
        "heads": header.head_count,
        "vocabulary": header.vocab_size,
        "chatTemplate": header.has_chat_template,
        "kind": purpose_of(pooling_of(header, load)),
        "pooling": pooling_of(header, load) or None,
    }


def _number(key: str, text: str | None) -> int | None:
    if text is None:
        return None
    most = 255 if key == "parallel" else (1 << 31) - 1
    if not text.isascii() or not text.isdecimal() or len(text) > 10 or not 1 <= int(text) <= most:
        raise _bad(key, f"it must be a whole number from 1 to {most}")
    return int(text)


def _bad(name: str, why: str) -> RequestRefused:
    return RequestRefused(400, "invalid_value", f"cannot use {name[:64]!r}: {why}", param=name[:64])

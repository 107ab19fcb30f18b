"""Models and where they come from, as /v1/status shows them."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from offgridd.core.adapters import adapters_of
from offgridd.core.desired import FileSource, HubSource, ModelSpec, PackageSource, UrlSource
from offgridd.core.gitsource import GitFacts
from offgridd.core.naming import file_name, repository_names, shown_name
from offgridd.core.observed import ModelFacts, Observed
from offgridd.core.plan import current_pin
from offgridd.core.purpose import purpose_of
from offgridd.core.stamps import stamp

Json = dict[str, Any]


def _camel(fields: Json) -> Json:
    """Names as JSON has them."""
    return {re.sub("_(.)", lambda found: found[1].upper(), name): value for name, value in fields.items()}


def git_shown(facts: GitFacts | None) -> Json | None:
    if facts is None:
        return None
    since = stamp(facts.since) if facts.commit else None
    return {"url": facts.url, "ref": facts.ref or None, "commit": facts.commit or None, "since": since}


def _source(spec: ModelSpec, facts: ModelFacts) -> Json:
    """Where the file comes from, and for a hub's what it was found to mean."""
    source, pin = spec.source, current_pin(spec, facts)
    match source:
        case PackageSource(package, file):
            return {"package": package, "file": file}
        case FileSource(path):
            return {"file": path}
        case HubSource():
            pinned = pin and {"commit": pin.commit, "files": [f.path for f in pin.files], "size": pin.size,
                              "quant": pin.quant, "why": pin.why}  # fmt: skip
            return {"hf": source.repo, "endpoint": source.endpoint, "locked": spec.lock is not None, "pinned": pinned}
        case UrlSource(url):
            return {"url": url.partition("?")[0], "size": pin.size if pin else None}  # a query may hold a signature


def adapters_shown(spec: ModelSpec, observed: Observed) -> list[Json]:
    named = zip(spec.load.adapters, adapters_of([spec]).values(), strict=True)
    return [
        {"name": one.name, "scale": one.scale, "source": _source(model, observed.of(model.name))}
        for one, model in named
    ]


def model_shown(
    spec: ModelSpec, facts: ModelFacts, wanted: ModelSpec, conditions: list[Json], adapters: list[Json]
) -> Json:
    """`wanted`: what is declared, also where that waits to be judged."""
    serving = facts.serving()
    effective = serving.effective if serving else None
    return {
        "name": shown_name(spec),
        "aliases": list(spec.aliases),
        "names": [name for name in (file_name(spec.source), *repository_names(spec.source)) if name],
        "description": spec.description,
        "declared": {
            "context": wanted.load.context,
            "parallel": wanted.load.parallel,
            "kvCells": wanted.load.kv_cells,
            "threads": wanted.load.threads,
            "deterministic": wanted.load.deterministic,
            "lookup": wanted.load.lookup,
            "pooling": wanted.load.pooling,
            "dimensions": list(wanted.dimensions),
            "adapters": adapters,
            "cacheRam": wanted.cache_ram,
            **_camel(asdict(wanted.load.placement)),
        },
        "effective": effective
        and {
            "context": effective.context,
            "parallel": effective.parallel,
            "kvCells": effective.cells,
            "threads": effective.threads,
            "threadsAdapt": effective.adaptive,
            "deterministic": effective.deterministic,
            "cacheTypeK": effective.cache_types[0],
            "cacheTypeV": effective.cache_types[1],
            "memory": effective.memory,
            "tools": effective.tools or None,
            "reasoning": effective.reasoning,
            "kind": purpose_of(effective.pooling),
            "pooling": effective.pooling or None,
            "vector": effective.vector or None,
            "adapters": list(effective.adapters),
        },
        "source": _source(spec, facts),
        "file": facts.file and {"sha256": facts.file.sha256, "files": len(facts.file.parts), "size": facts.file.size},
        "workers": [{"id": w.id, "pid": w.pid, "ready": w.ready, "stopping": w.stopping} for w in facts.workers],
        "conditions": conditions,
    }  # fmt: skip

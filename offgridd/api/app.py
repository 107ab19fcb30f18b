"""The Quart app, put together."""

from __future__ import annotations

from quart import Quart

from offgridd.api import body
from offgridd.api.adopt import add_adopt
from offgridd.api.benchimport import add_benchmark_import
from offgridd.api.benchmark import add_benchmark
from offgridd.api.bundle import add_bundle
from offgridd.api.catalog import add_catalog
from offgridd.api.context import Context
from offgridd.api.control import add_control
from offgridd.api.embeddings import add_embeddings
from offgridd.api.files import add_files
from offgridd.api.garbage import add_garbage
from offgridd.api.guard import add_errors, add_guard
from offgridd.api.inference import add_inference
from offgridd.api.inspect import add_inspect
from offgridd.api.loading import add_loading
from offgridd.api.lock import add_lock
from offgridd.api.observe import add_observe
from offgridd.api.pull import add_pull
from offgridd.api.rerank import add_rerank
from offgridd.api.search import add_search
from offgridd.api.updates import add_updates
from offgridd.api.verify import add_verify


def create_app(ctx: Context) -> Quart:
    app = Quart("offgridd")
    app.config.update(MAX_CONTENT_LENGTH=body.LIMIT, RESPONSE_TIMEOUT=None, BODY_TIMEOUT=None)
    app.url_map.strict_slashes = app.url_map.merge_slashes = False
    add_guard(app, ctx)
    add_errors(app)
    add_inference(app, ctx)
    add_embeddings(app, ctx)
    add_rerank(app, ctx)
    add_control(app, ctx)
    add_observe(app, ctx)
    add_search(app, ctx)
    add_catalog(app, ctx)
    add_inspect(app, ctx)
    add_lock(app, ctx)
    add_updates(app, ctx)
    add_bundle(app, ctx)
    add_pull(app, ctx)
    add_files(app, ctx)
    add_garbage(app, ctx)
    add_adopt(app, ctx)
    add_verify(app, ctx)
    add_loading(app, ctx)
    add_benchmark(app, ctx)
    add_benchmark_import(app, ctx)
    return app

"""How a worker process begins: tied to its parent, confined, then one `Load`, one model, and requests to the end."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from offgridd.engine import jail
from offgridd.engine.draft import Draft, difference
from offgridd.engine.embedserve import EmbedEngine
from offgridd.engine.grammar import Grammars
from offgridd.engine.inputs import InputPreparer
from offgridd.engine.link import Link
from offgridd.engine.port import Encoder, LoadError, Memory, Model
from offgridd.engine.prepare import Preparer
from offgridd.engine.pressure import Pressure
from offgridd.engine.render import Renderer, TemplateError
from offgridd.engine.serve import Engine
from offgridd.engine.shelf import Shelf
from offgridd.engine.special import Masker
from offgridd.engine.threads import Threads
from offgridd.engine.tools.dialect import studied
from offgridd.engine.tools.shape import Dialect
from offgridd.engine.usage import Usage
from offgridd.engine.wire import Load, Loaded, LoadFailed, to_worker

M = TypeVar("M", Model, Encoder)
MOST_SPINS = 1000  # of libgomp, up to which the number of threads is adapted
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38


def confine(parent: int) -> None:
    """Ends with `parent`; gains no rights; writes no core."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(0)  # the daemon died before the line above could matter
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGINT, signal.SIGTERM):  # they go to the whole group, or cgroup; the daemon decides
        signal.signal(number, signal.SIG_IGN)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        pass  # then the kernel's own choice stands


def serve(fd: int, open_model: Callable[[Load, int], Model], open_encoder: Callable[[Load, int], Encoder]) -> None:
    """Takes the Load off socket `fd`, opens the model with so many threads, and serves until the socket ends."""
    link = Link(socket.socket(fileno=fd))
    body = link.receive()
    load = to_worker(body) if body is not None else None
    if not isinstance(load, Load):
        return
    usage = Usage()
    unconfined = jail.confine([path for path, _ in load.paths], gpu=load.gpu, shelf=load.shelf)
    if unconfined and load.sandbox == "required":
        text = f"cannot confine the worker, which is required: {'; '.join(unconfined)}"
        link.send(LoadFailed("SandboxUnavailable", text))
    elif load.pooling and load.adapters:
        text = "cannot load the model: an embedding model or reranker has no adapters; remove them"
        link.send(LoadFailed("AdapterInvalid", text))
    elif load.pooling:
        encoder = _opened(link, load, open_encoder)
        if encoder is not None:
            _encode(link, load, encoder, unconfined, usage)
    else:
        model = _opened(link, load, open_model)
        draft = _drafting(link, load, model, open_model) if model is not None and load.draft else None
        if model is not None and bool(load.draft) == (draft is not None):
            _answer(link, load, model, unconfined, usage, draft)


def _opened(link: Link, load: Load, opener: Callable[[Load, int], M], what: str = "the model") -> M | None:
    """None where it can not be, which the daemon was told."""
    threads = _threads(load)
    try:
        if not _unchanged(load):
            link.send(LoadFailed("FileChanged", f"cannot load {what}: the file is not the one that was verified"))
            return None
        model = opener(load, 1 if load.beside else threads)
        model.use_threads(threads)
    except (LoadError, OSError) as error:
        reason = error.reason if isinstance(error, LoadError) else "LoadFailed"
        link.send(LoadFailed(reason, f"cannot load {what}: {error}"))
        return None
    return model


def _drafting(link: Link, load: Load, model: Model, open_model: Callable[[Load, int], Model]) -> Draft | None:
    """The model that guesses for this one, with as many slots and cells; None where the daemon was told why not."""
    asked = structs.replace(load, files=load.draft, draft=(), adapters=(), context=model.context, deterministic=False)
    opened = _opened(link, asked, open_model, "the draft")
    if opened is None:
        return None
    why = difference(opened.vocab, model.vocab)
    if opened.memory is Memory.WHOLE:
        why = "its state can not be cut where a guess was wrong"
    if why:
        link.send(LoadFailed("DraftUnsuitable", f"cannot guess with the draft: {why}; name another model"))
        return None
    return Draft(opened, min(opened.vocab.size, model.vocab.size))


def _answer(
    link: Link, load: Load, model: Model, unconfined: tuple[str, ...], usage: Usage, draft: Draft | None
) -> None:
    """A model for text."""
    threads = _threads(load)
    if (load.speculative or draft) and model.memory is Memory.WHOLE:
        text = "cannot load the model: speculative: its state can not be cut where a guess was wrong"
        link.send(LoadFailed("SpeculationUnsupported", text))
        return
    template, why = _template(load, model)
    controls, strips = model.vocab.controls()
    masker = Masker(controls, strips)
    preparer = Preparer(model.vocab, masker, template, model.context, lambda: _grammars(model), model.adapters)
    adapted = Threads(threads, adaptive=load.threads is None and threads > 1 and _may_adapt())
    shelf = Shelf(Path(load.shelf), Path(load.shelf).name, load.disk) if load.shelf else None
    link.send(
        Loaded(
            model.context, model.slots, model.cells, threads, why or None,
            model.cache_types, adapted.adaptive, load.deterministic,
            model.memory.value, unconfined, *_speaks(template), model.built,
            adapters=tuple(one.name for one in model.adapters),
        )
    )  # fmt: skip
    Engine(model, preparer, link, load, adapted, usage, shelf, draft).run(lambda: _leave(shelf))


def _speaks(template: tuple[Renderer, Dialect] | None) -> tuple[str, bool]:
    """Of `Loaded`: how it is told of tools, and whether its reasoning is known."""
    if template is None:
        return "", False
    dialect = template[1]
    return "native" if dialect.native else "prompted", dialect.thinking is not None or dialect.channels


def _leave(shelf: Shelf | None) -> None:
    if shelf is not None:
        shelf.close()
    os._exit(0)


def _encode(link: Link, load: Load, model: Encoder, unconfined: tuple[str, ...], usage: Usage) -> None:
    """One that makes vectors or scores."""
    threads = _threads(load)
    controls, strips = model.vocab.controls()
    preparer = InputPreparer(model, Masker(controls, strips), model.template())
    link.send(
        Loaded(
            model.context, model.slots, model.cells, threads, None, deterministic=load.deterministic,
            memory="one buffer" if model.cells else "none", unconfined=unconfined, built=model.built,
            pooling=model.pooling, vector=model.vector,
        )
    )  # fmt: skip
    EmbedEngine(model, preparer, link, load, threads, usage).run(lambda: os._exit(0))


def _threads(load: Load) -> int:
    return load.threads or _cores()


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def _may_adapt() -> bool:
    """Only where threads give up a core soon when they wait: otherwise one step of a trial can take seconds."""
    spins = os.environ.get("GOMP_SPINCOUNT", "")
    return spins.isdigit() and int(spins) <= MOST_SPINS and Pressure().available


def _template(load: Load, model: Model) -> tuple[tuple[Renderer, Dialect] | None, str]:
    """The helper that renders this model's chats and how it writes calls, or why there is none."""
    template = load.chat_template
    if template is None and load.file_template:
        template = model.template()
    if template is None:
        return None, "the file has no chat template; give one with chat_template"
    try:
        renderer = Renderer(template, model.vocab.names())
        renderer.check()
    except TemplateError as error:
        return None, str(error)
    return (renderer, studied(template, renderer)), ""


def _grammars(model: Model) -> Grammars | None:
    tokenizer = model.vocab.grammar_tokenizer()
    return Grammars(tokenizer, model.vocab.size) if tokenizer is not None else None


def _unchanged(load: Load) -> bool:
    for path, identity in load.paths:
        found = os.stat(path)
        if (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns) != identity:
            return False
    return True

"""A worker: `python -m offgridd.engine FD PARENT`. Loads one model and serves it until the socket ends.

Spawned by the daemon only. It dies with its parent, owns no state that can not be rebuilt, and reads no environment
but what threads and devices need.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys

from offgridd.engine.wire import Load, Loaded, LoadFailed, to_worker

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38


def confine(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(0)  # the daemon died before the line above could matter
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal goes to the whole group; the daemon decides
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        pass  # then the kernel's own choice stands


def unchanged(load: Load) -> bool:
    found = os.stat(load.path)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns) == tuple(load.identity)


def main() -> None:
    confine(int(sys.argv[2]))
    # Imported after the line above: the library takes a while, and the parent may die meanwhile.
    from offgridd.engine.llama import Llama, LoadError, Settings
    from offgridd.engine.prepare import Preparer
    from offgridd.engine.render import Renderer, TemplateError
    from offgridd.engine.serve import Engine, Link
    from offgridd.engine.special import Masker

    link = Link(socket.socket(fileno=int(sys.argv[1])))
    body = link.receive()
    load = to_worker(body) if body is not None else None
    if not isinstance(load, Load):
        return
    threads = load.threads or len(os.sched_getaffinity(0))
    try:
        if not unchanged(load):
            raise LoadError("the file is not the one that was verified")
        model = Llama(load.path, Settings(load.context, threads))
    except (LoadError, OSError) as error:
        link.send(LoadFailed("LoadFailed", f"cannot load the model: {error}"))
        return
    template = load.chat_template
    if template is None and load.file_template:
        template = model.template()
    renderer, why = None, "the file has no chat template; give one with chat_template"
    if template is not None:
        try:
            renderer, why = Renderer(template, model.vocab.names()), ""
            renderer.check()
        except TemplateError as error:
            renderer, why = None, str(error)
    controls, strips = model.vocab.controls()
    preparer = Preparer(model.vocab, Masker(controls, strips), renderer, model.context)
    link.send(Loaded(model.context, 1, threads, why or None))
    Engine(model, preparer, link, lambda: os._exit(0)).run()


if __name__ == "__main__":
    main()

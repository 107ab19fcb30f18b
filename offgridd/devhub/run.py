"""`offgridd dev-hub DIR`: serves a folder of repositories until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from offgridd.devhub.repos import Repos
from offgridd.devhub.routes import Hub
from offgridd.devhub.serve import serving


def run(folder: Path, host: str, port: int, rate: float | None) -> int:
    """The exit code. `port` is the hub's, the next the content's (0: any two); `rate`: bytes a second a connection."""
    if not folder.is_dir():
        print(
            f"offgridd: cannot serve {folder}: it is no folder; make it and put owner/name/FILES into it",
            file=sys.stderr,
        )
        return 1
    repos, stop = Repos(folder), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with serving(Hub(repos), host=host, ports=(port, port + 1 if port else 0), rate=rate) as (base, _):
            for repo in repos.all():
                tree = repo.commits[repo.head]
                print(f"  {repo.id}  {len(tree)} files, {sum(b.size for b in tree.values()):,} bytes", flush=True)
            print(f"hub at {base}; in a manifest: endpoint: {base}", flush=True)
            stop.wait()
    except OSError as error:
        print(f"offgridd: cannot listen on {host}:{port} and the next port: {error.strerror}", file=sys.stderr)
        return 1
    return 0

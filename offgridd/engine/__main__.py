"""A worker: `python -m offgridd.engine FD PARENT`. Loads one model and serves it until the socket ends.

Spawned by the daemon only. It dies with its parent, owns no state that can not be rebuilt, and reads no environment
but what threads and devices need.
"""

from __future__ import annotations

import sys

from offgridd.engine.boot import confine, serve


def main() -> None:
    confine(int(sys.argv[2]))
    # Imported after the line above: the library takes a while, and the parent may die meanwhile.
    from offgridd.engine.llama import open_encoder, open_model

    serve(int(sys.argv[1]), open_model, open_encoder)


if __name__ == "__main__":
    main()

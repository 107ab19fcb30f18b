#!/usr/bin/env python3
"""`make test-mirror`: the download path through olah, a caching mirror, in an environment of its own (113 MB).

Not part of `make test`: it is another project's server, and its many packages are nothing that we need.
"""

from __future__ import annotations

import os
import sys

from setup import PYTHON, ROOT, UV, run, say

VERSION = "0.5.4"
VENV = ROOT / ".cache" / f"olah-{VERSION}"


def main() -> None:
    if not (VENV / "bin" / "olah-cli").exists():
        say(f"installing olah {VERSION} into .cache")
        run(UV, "venv", "--quiet", "--clear", "--python", sys.executable, VENV)
        run(UV, "pip", "install", "--quiet", "--python", VENV / "bin" / "python", f"olah=={VERSION}")
    os.environ["OFFGRIDD_OLAH"] = str(VENV / "bin" / "olah-cli")
    os.chdir(ROOT)
    os.execv(PYTHON, [str(PYTHON), "-m", "pytest", "-m", "mirror", "tests/mirror"])


if __name__ == "__main__":
    main()

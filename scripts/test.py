#!/usr/bin/env python3
"""All tests but those on request: first those that bear company, two at a time, then those that need all cores."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

GROUPS = (("not alone", "-n", "2", "--dist", "loadfile"), ("alone",))


def main() -> int:
    # A short path: those of Unix sockets may have 107 bytes. What the tests wrote stays where one failed.
    folder = tempfile.mkdtemp(prefix="offgridd-")
    code = 0
    for number, (which, *how) in enumerate(GROUPS):
        argv = [
            sys.executable,
            "-m",
            "pytest",
            "-m",
            f"{which} and not mirror and not systemd",
            f"--basetemp={folder}/{number}",
        ]
        code = subprocess.run([*argv, *how, *sys.argv[1:]], cwd=ROOT).returncode or code
    if code == 0:
        shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())

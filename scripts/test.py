#!/usr/bin/env python3
"""All tests but those on request: first those that bear company, two at a time, then those that need all cores.

Arguments go to pytest. Without any, docs/faults.md is written anew from what came of them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GROUPS = (("not alone", "-n", "2", "--dist", "loadfile"), ("alone",))


def main(given: list[str]) -> int:
    # A short path: those of Unix sockets may have 107 bytes. What the tests wrote stays where one failed.
    folder = Path(tempfile.mkdtemp(prefix="offgridd-"))
    code = 0
    for number, (which, *how) in enumerate(GROUPS):
        argv = [sys.executable, "-m", "pytest", "-m", f"{which} and not mirror and not systemd", *how, *given]
        argv += [f"--basetemp={folder}/{number}", f"--junitxml={folder}/{number}.xml"]
        code = subprocess.run(argv, cwd=ROOT).returncode or code
    if not given:
        _write_faults(folder)
    if code == 0:
        shutil.rmtree(folder)
    return code


def _write_faults(folder: Path) -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from support.faults import outcomes, page

    (ROOT / "docs" / "faults.md").write_text(page(outcomes(sorted(folder.glob("*.xml")))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

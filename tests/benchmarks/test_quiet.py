"""Whose processor time it was."""

from __future__ import annotations

import subprocess
import sys

from serving.quiet import Quiet, of_tree

BURN = "import time\nwhile time.process_time() < 0.6: pass"


def test_what_a_child_took_is_ours_also_once_it_has_ended() -> None:
    before = of_tree()
    subprocess.run([sys.executable, "-c", BURN], check=True, timeout=30)
    assert of_tree() - before > 0.5


def test_what_is_left_of_the_processors_is_the_others() -> None:
    quiet = Quiet()
    subprocess.run([sys.executable, "-c", BURN], check=True, timeout=30)
    assert 0 <= quiet.others() <= 1

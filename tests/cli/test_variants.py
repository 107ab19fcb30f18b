"""`offgrid variants` as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
LISTINGS = sorted((Path(__file__).parents[1] / "data/listings").glob("*.json"))


def variants(*args: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([OFFGRID, "variants", *args], input=text, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("path", LISTINGS, ids=lambda p: p.stem)
def test_a_listing_is_answered_in_the_form_of_what_is_expected(path: Path) -> None:
    expected = json.loads(path.read_text())["expected"]
    done = variants(str(path), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["variants"] == expected["variants"]
    assert {kind: sorted(paths) for kind, paths in found["companions"].items()} == expected["companions"]
    assert found["best"] == expected["best_default"]
    assert found["why"]


def test_quant_and_limit() -> None:
    path = str(next(p for p in LISTINGS if "phi-4" in p.name))
    assert json.loads(variants(path, "--quant", "Q4_K_M", "--json").stdout)["best"] == "phi-4-Q4_K.gguf"
    assert json.loads(variants(path, "--max-size", "9GB", "--json").stdout)["best"] == "phi-4-IQ4_NL.gguf"
    found = json.loads(variants(path, "--quant", "Q2_0", "--json").stdout)
    assert (found["best"], found["reason"]) == (None, "QuantNotFound")
    found = json.loads(variants(path, "--quant", "Q9_Z", "--quant", "q8_0", "--json").stdout)
    assert found["best"] == "phi-4-Q8_0.gguf"


def test_a_table_for_people_marks_the_choice_and_ends_with_why() -> None:
    done = variants(str(next(p for p in LISTINGS if "SmolLM2" in p.name)))
    lines = done.stdout.splitlines()
    (best,) = [line for line in lines if line.startswith("*")]
    assert best.split() == ["*", "Q4_K_M", "1.06", "GB", "SmolLM2-1.7B-Instruct-Q4_K_M.gguf"]
    assert any("Q4_0_4_4" in line and "of a fork" in line for line in lines)
    assert lines[-1].startswith("Q4_K_M: ")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"files": 3}', '{"files": [3]}', '{"files": [{"path": 1}]}', "[" * 100_000, "\xff",
     '{"files": [{"path": "a.gguf", "size": "1"}]}', '{"files": [{"path": "a.gguf", "size": -1}]}',
     '{"files": [{"path": "a.gguf", "size": true}]}'],
)  # fmt: skip
def test_what_is_no_listing_is_one_line_and_1(text: str) -> None:
    done = variants("-", text=text)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "cannot read -" in done.stderr


def test_bad_use() -> None:
    assert variants("/nowhere.json").returncode == 1
    done = variants("-", "--max-size", "9 bananas", text='{"files": []}')
    assert done.returncode == 2
    assert "a size such as" in done.stderr

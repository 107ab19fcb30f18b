"""The table of faults names tests that exist, and the page shows all of it."""

from __future__ import annotations

import ast
from pathlib import Path

from support.faults import FAULTS, page

TESTS = Path(__file__).parent


def names(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_fault_has_a_test_that_exists_or_says_why_not() -> None:
    for fault in FAULTS:
        assert fault.tests or fault.note, fault.number
        for test in fault.tests:
            file, _, name = test.partition("::")
            assert name in names(TESTS / file), test


def test_each_fault_is_there_once() -> None:
    numbers = [fault.number for fault in FAULTS]
    assert numbers == [*range(1, 19), *range(55, 76), *range(111, 124)]


def test_the_page_has_every_row() -> None:
    text = (TESTS.parent / "docs/faults.md").read_text()
    assert [line.split("|")[1:3] for line in text.splitlines()] == [
        line.split("|")[1:3] for line in page({}).splitlines()
    ]

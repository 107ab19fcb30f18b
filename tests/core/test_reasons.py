"""The list of reasons is closed: nothing in the code has another one, and none of them is idle."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from offgridd.core.reasons import BY_WORD, REASONS, reference

ROOT = Path(__file__).parents[2]
WORD = re.compile(r"[A-Z][a-z0-9]+(?:[A-Z]+[a-z0-9]*)*")
# Words that look like reasons and are none: condition types, units, names of the kernel, of HTTP and of other programs.
OTHERS = {
    "Accepted", "Watched", "StateWritable", "SourceVerified", "Resolved", "Downloaded", "Verified", "Loaded",
    "Benchmarked", "UpToDate", "Sandboxed", "KiB", "MiB", "GiB", "TiB", "RssAnon", "RssShmem", "RssFile", "VmSwap",
    "EntryNotFound",
}  # fmt: skip


def sources() -> list[tuple[Path, ast.Module]]:
    files = [p for p in (ROOT / "offgridd").rglob("*.py") if p.name != "reasons.py"]
    return [(path, ast.parse(path.read_text())) for path in files]


def texts(tree: ast.AST) -> set[str]:
    return {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def given(tree: ast.AST) -> set[str]:
    """Words that are given as a reason: to a Failure, a Condition, a Problem, a Finding, or to what makes one."""
    places = {"Failure": 1, "Condition": 2, "Problem": 0, "Finding": 1, "HubFailure": 0, "refused": 1, "LoadError": 0,
              "LoadFailed": 0, "PydanticCustomError": 0, "_unless": 2}  # fmt: skip
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            at = places.get(name)
            if at is not None and len(node.args) > at:
                found |= texts(node.args[at])
    return {word for word in found if WORD.fullmatch(word)}


def test_every_reason_that_the_code_gives_is_in_the_list() -> None:
    unknown = {word: str(path) for path, tree in sources() for word in given(tree) - BY_WORD.keys() - OTHERS}
    assert unknown == {}


def test_every_reason_of_the_list_is_given_somewhere() -> None:
    everything = set().union(*(texts(tree) for _, tree in sources()))
    assert BY_WORD.keys() <= everything


def test_a_word_means_one_thing() -> None:
    assert len(BY_WORD) == len(REASONS)
    assert all(one.meaning and not one.meaning.endswith(".") for one in REASONS)


def test_the_page_is_the_generated_one() -> None:
    assert (ROOT / "docs/reasons.md").read_text() == reference()

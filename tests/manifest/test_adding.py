"""A model is added to a manifest's text, and nothing else of it changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridd.core.snippet import declaration
from offgridd.manifest import accept_files, add_model

ENTRY = declaration("acme/New-GGUF", ("Q4_K_M",), None)
HEAD = "apiVersion: offgridd/v1\n"
OLD = "old:\n    source: {hf: acme/Old}  # as it was\n"


def meaning(text: str) -> dict[str, object]:
    return dict(accept_files([("m.yaml", text.encode())]).desired.models)


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "models: {}\n",
        HEAD + "models: { }   # none yet\nserver: {offline: true}\n",
        HEAD + f"models:\n  {OLD}",
        HEAD + f"models:\n  {OLD}".rstrip("\n"),
        HEAD
        + f"models:  # all\n\n  # the first\n  {OLD}\n  # the last\n\n# of the server\nserver: {{offline: true}}\n",
        HEAD + "models:\n      old:\n          source: {hf: acme/Old}\n\n\n",
        (HEAD + f"models:\n  {OLD}server: {{offline: true}}\n").replace("\n", "\r\n"),
        HEAD + f"models :\n  {OLD}",
        f"models:\n  {OLD}{HEAD}",
        f"# models: of a comment\nmodels:\n# at the edge\n  {OLD}# at the end\n{HEAD}",
    ],
)
def test_it_is_added_and_all_else_stays(text: str) -> None:
    made = add_model(text, ENTRY)
    before, after = meaning(text), meaning(made)
    assert set(after) - set(before) == {"new"}
    assert {name: after[name] for name in before} == before
    there = iter(made.splitlines())
    kept = [line for line in text.splitlines() if not line.startswith("models:")]
    assert all(line in there for line in kept)  # in their order
    assert ("\r\n" in made) == ("\r\n" in text)
    assert made.count("\r\n") in (0, made.count("\n"))
    assert "none yet" not in text or "models:   # none yet" in made


@pytest.mark.parametrize(
    "models", ["{old: {source: {hf: acme/Old}}}", "{\n  }", "&a\n  old: {source: {hf: acme/Old}}", "|"]
)
def test_what_is_written_otherwise_is_refused(models: str) -> None:
    with pytest.raises(ValueError, match="one below the other"):
        add_model(f"{HEAD}models: {models}\n", ENTRY)


@given(st.text(alphabet="models: {}#\n\r\tax-'\"|&", max_size=60))
def test_any_text_is_added_to_or_refused(text: str) -> None:
    try:
        made = add_model(text, ENTRY)
    except ValueError:
        return
    assert "acme/New-GGUF" in made


@pytest.mark.parametrize(
    ("asked", "lines"),
    [
        ((("Q4_K_M",), None), ["    source: {hf: a/B.c-GGUF}", "    quant: Q4_K_M"]),
        ((("Q4_K_M", "no"), None, "1e5", 6),
         ['    source: {hf: a/B.c-GGUF, revision: "1e5"}', '    quant: [Q4_K_M, "no"]', "    max_size: 6"]),
        (((), 'x "y".gguf'), ['    source: {hf: a/B.c-GGUF, file: "x \\"y\\".gguf"}']),
    ],
)  # fmt: skip
def test_the_lines_are_a_manifest(asked: tuple[object, ...], lines: list[str]) -> None:
    made = declaration("a/B.c-GGUF", *asked)  # type: ignore[arg-type]
    assert made.splitlines() == ["models:", "  b.c:", *lines]
    if "no" not in made:
        assert set(meaning(HEAD + made)) == {"b.c"}

"""The loader: what becomes of each scalar, and that every hostile text is one ManifestError, soon and small."""

from __future__ import annotations

import time
import tracemalloc

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from offgridd.core.errors import ManifestError, Problem
from offgridd.manifest import yamltext
from offgridd.manifest.builder import MAX_DEPTH, MAX_NODES
from offgridd.manifest.nodes import locate, plain
from offgridd.manifest.yamltext import MAX_BYTES, load

PARSERS = [yaml.SafeLoader, *([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])]


@pytest.fixture(params=PARSERS, ids=lambda parser: parser.__name__)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamltext, "PARSER", request.param)


def refused(text: str | bytes) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        load("m.yaml", text.encode() if isinstance(text, str) else text)
    return caught.value


def billion_laughs(levels: int, width: int) -> str:
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels + 1)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-7", -7),
        ("4096", 4096),
        ("0.5", 0.5),
        ("-1.25", -1.25),
        ("1.10", 1.1),
        ("-0.0", 0.0),
        ("'true'", "true"),
        ('"12"', "12"),
        *((text, text) for text in ("20:00", "010", "0x1f", "0o17", "8_080", "on", "off", "yes", "No", "True", "NULL")),
        *((text, text) for text in ("1e3", "1.", ".5", "+1", ".inf", ".nan", "2026-01-02", "=", "1" * 5000)),
    ],
)
def test_only_plain_decimals_and_words_are_not_text(parser: None, written: str, value: object) -> None:
    found = plain(load("m.yaml", f"k: {written}".encode()))
    assert isinstance(found, dict)
    assert found["k"] == value
    assert type(found["k"]) is type(value)


def test_positions_count_from_one_and_scalars_stand_at_themselves(parser: None) -> None:
    root = load("m.yaml", b"a:\n  b: [1, two]\n  'c d': x\n")
    assert locate(root, ("a", "b", 1))[0] == ("m.yaml", 2, 10)
    assert locate(root, ("a", "b"))[0] == ("m.yaml", 2, 3)
    assert locate(root, ("a", "c d"))[0] == ("m.yaml", 3, 10)
    assert locate(root, ("a", "gone", "x")) == (("m.yaml", 1, 1), None)


def test_byte_order_mark_comments_and_anchors_are_fine(parser: None) -> None:
    text = "\ufeff# c\n--- # d\na: &x {b: 1}\nc: *x\nd: [*x, *x]\n..."
    assert plain(load("m.yaml", text.encode())) == {"a": {"b": 1}, "c": {"b": 1}, "d": [{"b": 1}, {"b": 1}]}


@pytest.mark.parametrize(
    ("text", "reason", "line", "says"),
    [
        ("models: [", "ParseError", None, "cannot read this as YAML"),
        ("a: 1\nb: c: d", "ParseError", 2, "not allowed"),
        ("a: 1\nb:\n\t- c", "ParseError", 3, "spaces"),
        ("a: 'x", "ParseError", 1, ""),
        ("a: &a [*a]", "ParseError", 1, "contains itself"),
        ("a: &a {b: *a}", "ParseError", 1, "contains itself"),
        ("a: 1\nb: *nope", "ParseError", 2, "'nope'"),
        ("a: !!python/object/apply:os.system ['true']", "ParseError", 1, "tag"),
        ("a: 1\nb: !Env X", "ParseError", 2, "'!Env'"),
        ("a: !!str 1", "ParseError", 1, "tag"),
        ("!!map {a: 1}", "ParseError", 1, "tag"),
        ("!t a: 1", "ParseError", 1, "tag"),
        ("a: 1\n---\nb: 2", "ParseError", 2, "second document"),
        ("a: 1\nb: \0", "ParseError", 2, "U+0000"),
        ('a: "x\\0y"', "ParseError", 1, "NUL"),
        ('a: "\\ud800"', "ParseError", 1, ""),
        ('a: "\\U00110000"', "ParseError", None, ""),
        ("a: \x1b[2J", "ParseError", 1, "U+001B"),
        (b"a: 1\nb: caf\xe9", "ParseError", 2, "0xe9"),
        ("a: 1".encode("utf-16"), "ParseError", 1, "UTF-8"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "ParseError", 3, "<<"),
        ("1.5: x", "ParseError", 1, "'1.5'"),
        ("true: x", "ParseError", 1, "quotes"),
        ("~: x", "ParseError", 1, "quotes"),
        ("[a]: x", "ParseError", 1, "key"),
        ("? {a: 1}\n: x", "ParseError", 1, "key"),
        ("a: &k b\n*k : c", "ParseError", 2, "key"),
        ("models:\n  qwen: 1\n  b: 2\n  qwen: 3", "DuplicateKey", 4, "line 2"),
        ("a: {b: 1, 'b': 2}", "DuplicateKey", 1, "'b'"),
        ("", "Empty", 1, "models: {}"),
        ("\n  # only\n# comments\n", "Empty", 1, "models: {}"),
        ("---\n...\n", "Empty", 1, ""),
        ("null", "Empty", 1, ""),
        ("[a, b]", "WrongType", 1, "a list"),
        ("models", "WrongType", 1, "one value"),
    ],
)
def test_what_is_refused(parser: None, text: str | bytes, reason: str, line: int | None, says: str) -> None:
    (problem,) = refused(text).problems
    assert problem.reason == reason
    assert says in problem.message
    assert problem.message.isprintable()
    assert problem.message.startswith("cannot ")
    assert line is None or problem.line == line


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: " + "[" * 20_000, "TooComplex"),
        ("a: " + "{b: " * 3000 + "1" + "}" * 3000, "TooComplex"),
        ("\n".join(" " * n + "a:" for n in range(1000)), "TooComplex"),
        ("a: " + "x" * 5_000_000, "TooLarge"),
        ("".join(f"{n:x}:\n" for n in range(0xA0000, 0xA0000 + MAX_NODES)), "TooComplex"),
        ("a: [" + "," * 500_000, "ParseError"),
        ("a:\n" + "- \n" * (MAX_NODES + 1), "TooComplex"),
        ("a: &a '" + "x" * 1000 + "'\nb: [" + "*a, " * 9000 + "]", "TooComplex"),
        (billion_laughs(9, 9), "TooComplex"),
        ("a0: &a0 x\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 200)), "TooComplex"),
    ],
    ids=[
        "flow",
        "maps",
        "block",
        "scalar",
        "keys",
        "commas",
        "items",
        "alias-text",
        "laughs",
        "alias-depth",
    ],
)
def test_bounded(text: str, reason: str) -> None:
    began = time.process_time()
    assert refused(text).reason == reason
    assert time.process_time() - began < 3  # all are under one second on an idle machine
    tracemalloc.start()
    try:
        refused(text)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


def test_billion_laughs_ends_within_a_second() -> None:
    began = time.process_time()
    assert refused(billion_laughs(9, 9)).reason == "TooComplex"
    assert time.process_time() - began < 1


def test_depth_is_what_the_limit_says() -> None:
    def nested(depth: int) -> bytes:  # the map itself is the first level
        return b"a: " + b"[" * (depth - 1) + b"]" * (depth - 1)

    load("m.yaml", nested(MAX_DEPTH))
    assert refused(nested(MAX_DEPTH + 1)).reason == "TooComplex"


def test_size_is_what_the_limit_says() -> None:
    load("m.yaml", b"a: 1\n".ljust(MAX_BYTES, b"\n"))
    assert refused(b"a: 1\n".ljust(MAX_BYTES + 1, b"\n")).reason == "TooLarge"


def only_manifest_errors(data: bytes) -> None:
    problems: tuple[Problem, ...] | None = None
    try:
        load("m.yaml", data)
    except ManifestError as error:
        problems = error.problems
    assert problems != ()
    assert all(problem.message.isprintable() for problem in problems or ())


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    only_manifest_errors(data)


YAMLISH = st.lists(
    st.sampled_from(
        [*"ab019:-?[]{},&*!|>'\"%@#~.\n\t \\", "\n  ", "<<", "--- ", "...", "&a ", "*a ", "\\ud800", "%YAML 1.1"]
    )
    | st.characters(),
    max_size=40,
).map("".join)


@pytest.mark.parametrize("kind", PARSERS, ids=lambda kind: kind.__name__)
@given(text=YAMLISH)
def test_any_text(kind: type, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yamltext, "PARSER", kind)
        only_manifest_errors(text.encode("utf-8", "surrogatepass"))

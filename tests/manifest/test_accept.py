"""The door: all problems at once and in order, and a digest that only content moves."""

from __future__ import annotations

import random
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from offgridd.core.desired import HubSource
from offgridd.core.errors import ManifestError, Problem
from offgridd.manifest import SourceText, accept
from offgridd.manifest.reading import MAX_FRAGMENTS, MAX_PROBLEMS

BASE = """\
apiVersion: offgridd/v1
server: {ready: settled}
defaults: {context: 2048}
models:
  a:
    source: {package: p, file: a.gguf}
    temperature: 1
    stop: [x, y]
  b:
    source: {hf: owner/repo}
    chat_template: hello
"""


def digest(text: str) -> str:
    return accept(SourceText("m.yaml", text.encode())).desired.digest


def refused(*texts: str) -> ManifestError:
    main, *fragments = (SourceText(f"{index}.yaml", text.encode()) for index, text in enumerate(texts))
    with pytest.raises(ManifestError) as caught:
        accept(main, fragments)
    return caught.value


def test_all_problems_are_found_at_once_in_the_order_of_the_text() -> None:
    main = (
        "apiVersion: offgridd/v1\n"
        "server:\n  listen: ['0.0.0.0:1', 'x']\n"
        "models:\n  Bad: {source: {file: /dev/null}, context: x}\n  b:\n    source: {file: /b}\n"
        "    aliases: [b]\n    quantt: 1\n    stop:\n"
    )
    found = refused(main, "models: {b: {parallel: 0}}").problems
    assert [(problem.file, problem.line, problem.reason) for problem in found] == [
        ("0.yaml", 3, "InsecureListen"),
        ("0.yaml", 3, "InvalidValue"),
        ("0.yaml", 5, "InvalidName"),
        ("0.yaml", 5, "PathNotAllowed"),
        ("0.yaml", 5, "WrongType"),
        ("0.yaml", 8, "DuplicateAlias"),
        ("0.yaml", 9, "UnknownField"),
        ("0.yaml", 10, "WrongType"),
        ("1.yaml", 1, "InvalidValue"),
    ]


def test_a_syntax_error_in_each_file_is_reported() -> None:
    assert [problem.file for problem in refused("a: [", "ok: 1", "b: {").problems] == ["0.yaml", "2.yaml"]


def test_many_problems_are_bounded_and_soon() -> None:
    began = time.process_time()
    found = refused("apiVersion: offgridd/v1\nmodels: {}\n" + "".join(f"modles{n}: 1\n" for n in range(50_000)))
    assert time.process_time() - began < 10
    assert len(found.problems) == MAX_PROBLEMS
    assert found.problems[0].line == 3


def test_another_version_is_the_only_problem() -> None:
    (problem,) = refused("apiVersion: offgridd/v9\nwhat: {ever: [it, says]}").problems
    assert problem.reason == "UnsupportedVersion"
    assert problem.line == 1


def test_files_share_one_budget() -> None:
    big = "a: [" + "1," * 40_000 + "]"
    assert refused(big, big, big, "x: [").reason == "TooComplex"
    assert refused(*["{}"] * (MAX_FRAGMENTS + 2)).reason == "TooComplex"


def test_a_long_key_is_cut() -> None:
    problems = refused("apiVersion: offgridd/v1\nmodels: {}\n? " + "x" * 100_000 + "\n: 1").problems
    assert len(str(problems[0])) < 300


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\n" + BASE.replace("\n", "   # and\n\n"),
        BASE.replace("{ready: settled}", "{}"),
        BASE.replace("server: {ready: settled}\n", "store: {}\n"),
        BASE.replace("{ready: settled}", "{listen: ['127.0.0.1:11611'], insecure: false, suspend: false}"),
        BASE.replace("temperature: 1", "temperature: 1.0"),
        BASE.replace("temperature: 1", "temperature: 1\n    preload: true\n    parallel: 4\n    drain: 30000ms"),
        BASE.replace("temperature: 1", "temperature: 1\n    aliases: []\n    description: ''\n    context: 2048"),
        BASE.replace("{hf: owner/repo}", "{hf: owner/repo}\n    quant: auto"),
        BASE.replace("file: a.gguf", "file: './a.gguf'"),
        BASE.replace("[x, y]", "&s [&x x, y]"),
        BASE.replace("hello", "|-\n      hello"),
    ],
)
def test_digest_stays(text: str) -> None:
    assert text != BASE
    assert digest(text) == digest(BASE)


@pytest.mark.parametrize(
    "text",
    [
        BASE.replace("settled", "listening"),
        BASE.replace("2048", "2049"),
        BASE.replace("  a:", "  c:"),
        BASE.replace("a.gguf", "b.gguf"),
        BASE.replace("[x, y]", "[y, x]"),
        BASE.replace("hello", "hello\n    description: x"),
        BASE.replace("hello", "hello2"),
        BASE.replace("    chat_template: hello\n", ""),
        BASE.replace("owner/repo", "owner/repo2"),
    ],
)
def test_digest_moves(text: str) -> None:
    assert digest(text) != digest(BASE)


def test_digest_does_not_tell_one_file_from_two() -> None:
    main, fragment = (
        SourceText("m", BASE.replace("ture: 1", "ture: 0").encode()),
        SourceText("f", b"models: {a: {temperature: 1}}"),
    )
    assert accept(main, [fragment]).desired.digest == digest(BASE)


@st.composite
def rewritten(draw: st.DrawFn) -> str:
    """BASE with its keys in another order, in another layout, with comments and blank lines."""
    order = random.Random(draw(st.integers(0, 2**32)))

    def shuffled(value: object) -> object:
        if not isinstance(value, dict):
            return value
        keys = list(value)
        order.shuffle(keys)
        return {key: shuffled(value[key]) for key in keys}

    flow, indent = draw(st.sampled_from([None, False])), draw(st.integers(2, 6))
    text = yaml.safe_dump(shuffled(yaml.safe_load(BASE)), sort_keys=False, default_flow_style=flow, indent=indent)
    noise = st.sampled_from(["\n", " # c\n", "   \n", "\n# a: b\n", "\n\n"])
    return "".join(line + draw(noise) for line in text.splitlines())


@given(rewritten())
def test_digest_is_of_the_content_alone(text: str) -> None:
    assert digest(text) == digest(BASE)


KEYS = st.sampled_from(
    ["apiVersion", "models", "server", "a", "source", "file", "context", "stop", "aliases", "listen", "hf"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["offgridd/v1", "/a", "a/b", "x:1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.dictionaries(KEYS, VALUES, max_size=3))
def test_any_shape_is_accepted_or_refused(main: dict[str, object], fragment: dict[str, object]) -> None:
    texts = [
        SourceText(name, yaml.safe_dump(value, allow_unicode=True).encode())
        for name, value in (("m", main), ("f", fragment))
    ]
    problems: tuple[Problem, ...] | None = None
    try:
        accept(texts[0], texts[1:])
    except ManifestError as error:
        problems = error.problems
    assert problems is None or 0 < len(problems) <= MAX_PROBLEMS
    assert all(problem.message.isprintable() for problem in problems or ())


SOURCE = st.dictionaries(
    st.sampled_from(["package", "hf", "file", "revision"]),
    st.sampled_from(["p", "o/r", "/a", "a.gguf", "..", "", "/dev/x", 1, None]),
)
MODEL = st.fixed_dictionaries(
    {"source": SOURCE}, optional={"quant": st.just("Q8_0"), "aliases": st.lists(st.sampled_from(["a", "b", "c"]))}
)


@given(st.dictionaries(st.sampled_from(["a", "b"]), MODEL))
def test_any_source_is_accepted_or_refused(models: dict[str, object]) -> None:
    text = yaml.safe_dump({"apiVersion": "offgridd/v1", "models": models}).encode()
    try:
        assert set(accept(SourceText("m", text)).desired.models) == set(models)
    except ManifestError:
        return


def test_a_thousand_models_take_a_moment() -> None:
    one = "  m{0}: {{source: {{file: /m{0}}}, context: 4096, aliases: [a{0}], temperature: 0.5, description: text}}\n"
    text = "apiVersion: offgridd/v1\nmodels:\n" + "".join(one.format(n) for n in range(1000))
    began = time.process_time()
    assert len(accept(SourceText("m.yaml", text.encode())).desired.models) == 1000
    assert time.process_time() - began < 2


def test_a_template_for_all_is_hashed_once() -> None:
    text = "apiVersion: offgridd/v1\ndefaults: {chat_template: " + "x" * 262_144 + "}\nmodels:\n"
    text += "".join(f"  m{n}: {{source: {{file: /m}}}}\n" for n in range(5000))
    began = time.process_time()
    digest(text)
    assert time.process_time() - began < 5


def adapters(text: str) -> str:
    return f"apiVersion: offgridd/v1\nmodels:\n  m:\n    source: {{file: /m}}\n    adapters: {text}\n"


def test_adapters_are_loaded_with_their_model_in_the_order_of_their_names() -> None:
    text = adapters("{b: {source: {file: /b}, scale: 0.5}, a: {source: {package: p, file: a.gguf}}}")
    load = accept(SourceText("m.yaml", text.encode())).desired.models["m"].load
    assert [(one.name, one.scale, type(one.source).__name__) for one in load.adapters] == [
        ("a", 1.0, "PackageSource"),
        ("b", 0.5, "FileSource"),
    ]
    assert digest(text) != digest(text.replace("0.5", "0.6"))


def test_adapters_of_a_hub_are_asked_for_as_the_model_says() -> None:
    text = adapters("{a: {source: {hf: o/r, file: a.gguf, revision: v1}}}") + "    endpoint: https://mirror.example\n"
    spec = accept(SourceText("m.yaml", (text + "    updates: manual\n").encode())).desired.models["m"]
    (one,) = spec.load.adapters
    assert one.source == HubSource("o/r", "a.gguf", "v1", endpoint="https://mirror.example")
    assert "quant" in str(refused(text + "    quant: Q4_0\n").problems[0].message), "that chooses among models"
    alone = text.replace("hf: o/r, file: a.gguf, revision: v1", "file: /a")
    assert [p.reason for p in refused(alone).problems] == ["ConflictingFields"], "nothing is asked for there"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{a+b: {source: {file: /a}}}", "InvalidName"),
        ("{a: {source: {file: a}}}", "PathNotAllowed"),
        ("{a: {source: {package: p, file: ../a}}}", "PathNotAllowed"),
        ("{a: {source: {hf: o/r}}}", "MissingField"),
        ("{a: {source: {hf: o/r, url: 'https://x/a.gguf', file: a}}}", "ConflictingFields"),
        ("{a: {source: {url: 'https://x/a.gguf'}}}", "MissingField"),
        ("{a: {source: {file: /a, revision: main}}}", "ConflictingFields"),
        ("{a: {source: {hf: o/r, file: ../a}}}", "PathNotAllowed"),
        ("{a: {source: {hf: o/r, file: a.gguf}, quant: Q4_0}}", "UnknownField"),
        ("{a: {source: {package: p}}}", "MissingField"),
        ("{a: {}}", "MissingField"),
        ("{a: {source: {file: /a}, scale: x}}", "WrongType"),
        ("{a: {source: {file: /a}, sha256: abc}}", "InvalidValue"),
        ("{" + ", ".join(f"a{n}: {{source: {{file: /a}}}}" for n in range(32)) + "}", "InvalidValue"),
        ("[a]", "WrongType"),
    ],
)
def test_adapters_that_can_not_be_are_refused(text: str, reason: str) -> None:
    assert reason in [problem.reason for problem in refused(adapters(text)).problems]

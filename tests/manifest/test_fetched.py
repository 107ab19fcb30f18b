"""`git`: a manifest of two halves, what each may say, and where its mistakes are."""

from __future__ import annotations

import pytest

from offgridd.core.desired import GitSpec, Secret
from offgridd.core.errors import ManifestError, Problem
from offgridd.manifest import accept_fetched, accept_files, effective

LOCAL = """apiVersion: offgridd/v1
server: {ready: listening}
git: {url: "https://git.example.com/fleet/", path: ./hosts//a/, interval: 5m, token: {credential: git}}
"""
THEIRS = "apiVersion: offgridd/v1\ndefaults: {context: 1024}\nmodels:\n  a: {source: {file: /m/a.gguf}}\n"
NAME = "git:0123456789ab/hosts/a/"


def files(*fetched: tuple[str, str], local: str = LOCAL, more: tuple[tuple[str, str], ...] = ()) -> list[
    tuple[str, bytes]
]:  # fmt: skip
    named = [("m.yaml", local), *more, *((NAME + name, text) for name, text in fetched)]
    return [(name, text.encode()) for name, text in named]


def problem(found: list[tuple[str, bytes]]) -> Problem:
    with pytest.raises(ManifestError) as caught:
        accept_files(found)
    return caught.value.problems[0]


def test_until_something_is_fetched_there_are_no_models() -> None:
    desired = accept_files(files()).desired
    assert (dict(desired.models), desired.server.ready) == ({}, "listening")
    assert desired.git == GitSpec(
        "https://git.example.com/fleet", None, "hosts/a", 300.0, None, Secret("credential", "git")
    )


def test_each_half_says_what_is_its_own() -> None:
    desired = accept_files(files(("offgridd.yaml", THEIRS), ("conf.d/1.yaml", "models: {a: {parallel: 2}}"))).desired
    assert desired.models["a"].load.context == 1024
    assert desired.models["a"].load.parallel == 2
    assert desired.server.ready == "listening"


def test_a_fragment_of_the_host_may_say_git() -> None:
    local, fragment = LOCAL.rpartition("git:")[0], "git: {url: file:///srv/fleet}"
    assert accept_files(files(local=local + "models: {}")).desired.git is None
    found = accept_files(files(local=local, more=(("conf.d/1.yaml", fragment),))).desired.git
    assert found == GitSpec("file:///srv/fleet")


@pytest.mark.parametrize("key", ["server: {}", "store: {}", "git: {url: file:///x/y}"])
def test_what_is_the_hosts_is_refused_in_the_repository(key: str) -> None:
    found = problem(files(("offgridd.yaml", THEIRS), ("conf.d/1.yaml", key)))
    assert (found.reason, found.file, found.line) == ("ConflictingFields", f"{NAME}conf.d/1.yaml", 1)
    assert "for each host's own manifest" in found.message


@pytest.mark.parametrize("key", ["models: {}", "defaults: {context: 1}"])
def test_what_the_repository_has_is_refused_beside_git(key: str) -> None:
    found = problem(files(local=LOCAL + key))
    assert (found.reason, found.file, found.line) == ("ConflictingFields", "m.yaml", 4)


def test_mistakes_of_the_repository_are_at_their_place_in_it() -> None:
    found = problem(files(("offgridd.yaml", THEIRS + "  b: {source: {file: /x.gguf}, contex: 1}\n")))
    assert (found.reason, found.file, found.line) == ("UnknownField", f"{NAME}offgridd.yaml", 5)
    found = problem(files(("offgridd.yaml", "apiVersion: offgridd/v1\n")))
    assert (found.reason, found.file) == ("Empty", f"{NAME}offgridd.yaml")
    found = problem(files(("offgridd.yaml", "apiVersion: offgridd/v2\nmodels: {}\n")))
    assert (found.reason, found.file) == ("UnsupportedVersion", f"{NAME}offgridd.yaml")


LOCK = "lockVersion: 1\nmodels: {}\n"


def test_the_lock_is_the_repositorys() -> None:
    theirs = THEIRS + "  hub: {source: {hf: o/r}}\n"
    desired = accept_files(files(("offgridd.yaml", theirs), ("offgridd.lock", LOCK))).desired
    assert getattr(desired.models["hub"].lock, "reason", None) == "NotLocked"
    found = problem(files(("offgridd.yaml", theirs), more=(("offgridd.lock", LOCK),)))
    assert (found.reason, found.file) == ("ConflictingFields", "offgridd.lock")


def test_the_digest_knows_where_the_models_come_from() -> None:
    both = [accept_files(files(("offgridd.yaml", THEIRS), local=one)).desired for one in (LOCAL, LOCAL + "#")]
    assert both[0].digest == both[1].digest
    other = accept_files(files(("offgridd.yaml", THEIRS), local=LOCAL.replace("5m", "6m"))).desired
    assert other.digest != both[0].digest


def test_config_shows_which_half_says_what() -> None:
    shown = {value.path: (value.value, value.origin) for value in effective(files(("offgridd.yaml", THEIRS)))}
    assert shown["git", "interval"] == ("5m", "m.yaml:3")
    assert shown["models", "a", "context"] == (1024, f"defaults at {NAME}offgridd.yaml:2")
    assert shown["server", "ready"] == ("listening", "m.yaml:2")


@pytest.mark.parametrize(
    ("git", "reason", "says"),
    [
        ("{}", "MissingField", "'url' is missing"),
        ("{url: git@github.com:o/r}", "InvalidValue", "is reached by ssh"),
        ("{url: host:o/r}", "InvalidValue", "is reached by ssh"),
        ("{url: ssh://git@github.com/o/r}", "InvalidValue", "is reached by ssh"),
        ("{url: http://example.com/o/r}", "InvalidValue", "is not encrypted"),
        ("{url: https://u:secret@example.com/o/r}", "InvalidValue", "use 'token'"),
        ("{url: https://example.com}", "InvalidValue", "is not the address of a repository"),
        ("{url: https://example.com/o/r?x=1}", "InvalidValue", "is not the address of a repository"),
        ("{url: file://host/o/r}", "InvalidValue", "is not the address of a repository"),
        ("{url: file:///a/../b}", "InvalidValue", "is not the address of a repository"),
        ("{url: /srv/fleet}", "InvalidValue", "is not the address of a repository"),
        ("{url: file:///srv/r, ref: a..b}", "InvalidValue", "Git has no such names"),
        ("{url: file:///srv/r, ref: -x}", "InvalidValue", "a commit, tag or branch"),
        ("{url: file:///srv/r, path: /etc}", "InvalidValue", "is absolute"),
        ("{url: file:///srv/r, path: a/../../b}", "InvalidValue", "has a '..'"),
        ("{url: file:///srv/r, interval: 10ms}", "InvalidValue", "at least 1s"),
        ("{url: file:///srv/r, verify: {}}", "MissingField", "'allowedSigners' is missing"),
        ("{url: file:///srv/r, verify: {allowedSigners: signers}}", "InvalidValue", "is not absolute"),
        (
            "{url: file:///srv/r, verify: {allowedSigners: /s, allowdSigners: /s}}",
            "UnknownField",
            "did you mean 'allowedSigners'",
        ),
        ("{url: file:///srv/r, token: {env: T}}", "ConflictingFields", "asks for none"),
        ("{url: https://h/r, token: {env: T, file: /t}}", "ConflictingFields", "it is in one place"),
        ("{url: https://h/r, tokn: {env: T}}", "UnknownField", "did you mean 'token'"),
    ],
)
def test_gits_that_are_refused(git: str, reason: str, says: str) -> None:
    found = problem([("m.yaml", f"apiVersion: offgridd/v1\ngit: {git}\n".encode())])
    assert (found.reason, found.line) == (reason, 2)
    assert says in found.message
    assert "secret" not in found.message


def test_a_folder_is_judged_as_a_host_would_that_follows_it() -> None:
    assert [*accept_fetched([("offgridd.yaml", THEIRS.encode())]).desired.models] == ["a"]
    with pytest.raises(ManifestError) as caught:
        accept_fetched([("offgridd.yaml", THEIRS.encode()), ("conf.d/1.yaml", b"server: {}")])
    assert (caught.value.problems[0].file, caught.value.reason) == ("conf.d/1.yaml", "ConflictingFields")
    assert accept_fetched([("offgridd.yaml", THEIRS.encode()), ("offgridd.lock", LOCK.encode())]).desired.models


@pytest.mark.parametrize("name", ["git:x.yaml", "git:x/offgridd.yaml"])
def test_the_first_file_is_the_hosts_own_whatever_its_name(name: str) -> None:
    assert accept_files([(name, THEIRS.encode())]).desired.git is None
    assert [value.path for value in effective([(name, THEIRS.encode())]) if value.path[:2] == ("models", "a")]


def test_a_lock_beside_git_is_refused_before_anything_is_fetched() -> None:
    found = problem(files(more=(("offgridd.lock", LOCK),)))
    assert (found.reason, found.file) == ("ConflictingFields", "offgridd.lock")

"""A manifest whose models come from a repository: a real process asks a real one; what is in effect, what is not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from support.gitrepo import GitRepo, keypair

from offgridd.core import events as ev
from offgridd.core.desired import Desired, GitSpec
from offgridd.core.gitsource import Fetched, GitFacts, commit_of
from offgridd.core.observed import ManifestFacts, Observed
from offgridd.core.readiness import whole_conditions
from offgridd.effects import source
from offgridd.effects.repository import Repository
from offgridd.effects.state import State
from offgridd.reconcile.follow import Follow
from offgridd.reconcile.intake import Intake, Seen


def models(*names: str) -> str:
    listed = "".join(f"  {name}: {{source: {{file: /m/{name}.gguf}}}}\n" for name in names)
    return "apiVersion: offgridd/v1\nmodels:" + (f"\n{listed}" if listed else " {}\n")


class Desk:
    """An intake and what it follows."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.remote = folder, GitRepo(folder / "remote")
        self.manifest = folder / "m.yaml"
        self.open()

    def open(self) -> None:
        self.facts = ManifestFacts()
        self.state = State(self.folder / "state")
        self.follow = Follow(Repository(self.folder / "state" / "git"))
        self.intake = Intake(lambda: source.read(self.manifest), self.state, self.emit, self.follow)

    def emit(self, item: ev.Event | Desired) -> None:
        if isinstance(item, ev.ManifestSeen):
            self.facts = item.facts

    async def restart(self) -> Seen:
        self.state.close()
        self.open()
        return await self.intake.start()

    def write(self, more: str = "", server: str = "{}", **git: str) -> None:
        fields = ", ".join(f"{key}: {value}" for key, value in {"url": self.remote.url, **git}.items())
        self.manifest.write_text(f"apiVersion: offgridd/v1\nserver: {server}\ngit: {{{fields}}}\n{more}")

    async def fetched(self, *, rewind: bool = False) -> GitFacts:
        """As the daemon does when it is due: ask, and take what is new."""
        await self.follow.fetch(rewind=rewind)
        if self.follow.news():
            await self.intake.take()
        assert self.follow.facts is not None
        return self.follow.facts

    def names(self) -> list[str]:
        assert self.intake.desired is not None
        return sorted(self.intake.desired.models)

    def condition(self, kind: str) -> tuple[str, str, str]:
        assert self.intake.desired is not None
        found = whole_conditions(self.intake.desired, Observed(manifest=self.facts), ())
        one = next(c for c in found if c.type == kind)
        return one.status, one.reason, one.message


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.state.close()


async def test_at_the_first_start_there_are_no_models_until_they_are_fetched(desk: Desk) -> None:
    commit = desk.remote.commit({"offgridd.yaml": models("a")})
    desk.write()
    seen = await desk.intake.start()
    assert (seen.generation, seen.problems, desk.names()) == (1, (), [])
    assert desk.condition("SourceVerified")[:2] == ("Unknown", "Fetching")
    assert desk.condition("Accepted")[:2] == ("Unknown", "Waiting")
    assert desk.condition("Ready")[:2] == ("False", "Waiting")
    facts = await desk.fetched()
    assert (facts.commit, facts.reason, desk.names()) == (commit, "", ["a"])
    assert desk.condition("SourceVerified")[:2] == ("True", "Fetched")
    assert desk.condition("Accepted")[:2] == ("True", "Valid")


async def test_a_commit_is_a_generation_only_where_it_says_something_else(desk: Desk) -> None:
    first = desk.remote.commit({"offgridd.yaml": models("a")})
    desk.write()
    await desk.intake.start()
    await desk.fetched()
    second = desk.remote.commit({"README": "more"})
    assert (await desk.fetched()).commit == second
    third = desk.remote.commit({"offgridd.yaml": models("a", "b")})
    assert (await desk.fetched()).commit == third
    assert [(number, commit) for number, _, _, commit in desk.state.history()] == [(3, third), (2, second)]
    assert first not in {commit for *_, commit in desk.state.history()}
    assert desk.names() == ["a", "b"]


async def test_after_a_restart_what_was_in_effect_is_without_the_remote(desk: Desk) -> None:
    desk.remote.commit({"offgridd.yaml": models("a")})
    desk.write()
    await desk.intake.start()
    await desk.fetched()
    commit = desk.remote.commit({"README": "more"})
    await desk.fetched()
    shutil.rmtree(desk.remote.folder)
    seen = await desk.restart()
    assert (seen.generation, desk.names(), desk.facts.from_last_good) == (2, ["a"], False)
    assert (await desk.fetched()).commit == commit
    status, reason, message = desk.condition("SourceVerified")
    assert (status, reason) == ("Unknown", "RemoteUnavailable")
    assert f"commit {commit[:12]} of {desk.remote.url} is in effect" in message
    assert desk.condition("Ready")[0] == "True"


async def test_an_edit_of_the_host_needs_no_remote(desk: Desk) -> None:
    desk.remote.commit({"offgridd.yaml": models("a")})
    desk.write()
    await desk.intake.start()
    await desk.fetched()
    shutil.rmtree(desk.remote.folder)
    desk.write(server="{ready: listening}")
    seen = await desk.intake.take()
    assert (seen.changed, seen.notes, desk.names()) == (True, (), ["a"])
    assert desk.intake.desired is not None
    assert desk.intake.desired.server.ready == "listening"


async def test_a_rewind_is_refused_also_after_a_restart_until_it_is_allowed(desk: Desk) -> None:
    first = desk.remote.commit({"offgridd.yaml": models("a")})
    desk.write()
    await desk.intake.start()
    await desk.fetched()
    second = desk.remote.commit({"offgridd.yaml": models("b")})
    await desk.fetched()
    desk.remote.git("reset", "-q", "--hard", first)
    for _ in range(2):
        facts = await desk.fetched()
        assert (facts.commit, facts.reason, desk.names()) == (second, "NotFastForward", ["b"])
        assert desk.condition("SourceVerified")[:2] == ("False", "NotFastForward")
        await desk.restart()
    facts = await desk.fetched(rewind=True)
    assert (facts.commit, facts.reason, desk.names()) == (first, "", ["a"])


async def test_a_commit_whose_manifest_is_refused_leaves_the_one_before(desk: Desk) -> None:
    good = desk.remote.commit({"offgridd.yaml": models("a")})
    desk.write()
    await desk.intake.start()
    await desk.fetched()
    bad = desk.remote.commit({"offgridd.yaml": models("a") + "server: {}\n"})
    facts = await desk.fetched()
    assert (facts.commit, desk.names()) == (good, ["a"])
    status, reason, message = desk.condition("Accepted")
    assert (status, reason) == ("False", "ConflictingFields")
    assert f"git:{bad}/offgridd.yaml:4" in message
    mended = desk.remote.commit({"offgridd.yaml": models("b")})
    assert (await desk.fetched()).commit == mended
    assert desk.names() == ["b"]


async def test_another_repository_waits_until_it_is_fetched(desk: Desk) -> None:
    desk.remote.commit({"offgridd.yaml": models("a")})
    desk.write()
    await desk.intake.start()
    await desk.fetched()
    other = GitRepo(desk.folder / "other")
    desk.write(url=other.url)
    seen = await desk.intake.take()
    assert (seen.changed, desk.names()) == (False, ["a"])
    assert seen.notes == (f"it waits until {other.url} is fetched",)
    assert desk.condition("Accepted")[:2] == ("Unknown", "Waiting")
    facts = await desk.fetched()
    assert (facts.commit, facts.reason, desk.names()) == ("", "RemoteUnavailable", ["a"])
    await desk.restart()
    assert desk.names() == ["a"]
    commit = other.commit({"offgridd.yaml": models("b")})  # it follows nothing that is known
    assert (await desk.fetched()).commit == commit
    assert (desk.names(), desk.condition("Accepted")[0]) == (["b"], "True")


async def test_another_folder_of_it_is_read_without_the_remote(desk: Desk) -> None:
    commit = desk.remote.commit({"a/offgridd.yaml": models("a"), "b/offgridd.yaml": models("b")})
    desk.write(path="a")
    await desk.intake.start()
    await desk.fetched()
    shutil.rmtree(desk.remote.folder)
    desk.write(path="b")
    seen = await desk.intake.take()
    assert (seen.changed, desk.names()) == (True, ["b"])
    assert (await desk.fetched()).commit == commit
    desk.write(path="c")
    await desk.intake.take()
    assert desk.names() == ["b"]
    assert desk.condition("SourceVerified")[:2] == ("False", "ManifestMissing")


async def test_signatures_that_are_asked_for_later_count_at_once(desk: Desk) -> None:
    key = desk.folder / "key"
    signers = desk.folder / "signers"
    signers.write_text(f"a {keypair(key)}\n")
    desk.remote.commit({"offgridd.yaml": models("a")})
    desk.write()
    await desk.intake.start()
    await desk.fetched()
    verify = f"{{allowedSigners: {signers}}}"
    desk.write(verify=verify)
    await desk.intake.take()
    assert desk.condition("SourceVerified")[:2] == ("False", "UnsignedCommit")
    assert (desk.names(), desk.condition("Accepted")[1]) == (["a"], "Waiting")
    signed = desk.remote.commit({"offgridd.yaml": models("b")}, key)
    facts = await desk.fetched()
    assert (facts.commit, facts.signed, desk.names()) == (signed, True, ["b"])
    assert desk.condition("SourceVerified")[:2] == ("True", "Signed")
    desk.remote.commit({"offgridd.yaml": models("evil")})
    await desk.fetched()
    assert (desk.names(), desk.condition("SourceVerified")[1]) == (["b"], "UnsignedCommit")
    await desk.restart()
    assert desk.names() == ["b"]
    signers.write_text("# nobody any more\n")
    desk.remote.git("reset", "-q", "--hard", signed)
    facts = await desk.fetched()
    assert (facts.commit, facts.reason, desk.names()) == (signed, "UnknownSigner", ["b"])


async def test_without_git_nothing_is_followed_any_more(desk: Desk) -> None:
    desk.remote.commit({"offgridd.yaml": models("a")})
    desk.write()
    await desk.intake.start()
    await desk.fetched()
    desk.manifest.write_text(models("own"))
    await desk.intake.take()
    assert (desk.names(), desk.follow.facts, desk.facts.git) == (["own"], None, None)
    assert desk.condition("SourceVerified")[:2] == ("True", "LocalFile")
    assert desk.state.history()[0][-1] == ""


async def test_offline_asks_only_this_host(desk: Desk) -> None:
    desk.remote.commit({"offgridd.yaml": models("a")})
    desk.write(server="{offline: true}")
    await desk.intake.start()
    assert (await desk.fetched()).reason == ""
    desk.write(server="{offline: true}", url="https://127.0.0.1:9/r")
    await desk.intake.take()
    assert (await desk.fetched()).reason == "Offline"
    assert desk.condition("SourceVerified")[:2] == ("Unknown", "Offline")
    assert desk.names() == ["a"]


async def test_what_is_due_is_asked_and_taken_by_itself(desk: Desk) -> None:
    desk.remote.commit({"offgridd.yaml": models("a")})
    desk.write(interval="1s")
    await desk.intake.start()
    took = anyio.Event()

    async def reload() -> None:
        await desk.intake.take()
        nonlocal took
        took.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(desk.follow.run, reload)
            await took.wait()  # at once, not after an interval
            assert desk.names() == ["a"]
            took = anyio.Event()
            desk.remote.commit({"offgridd.yaml": models("b")})
            await took.wait()
            assert desk.names() == ["b"]
            took = anyio.Event()
            other = GitRepo(desk.folder / "other")
            other.commit({"offgridd.yaml": models("c")})
            desk.write(url=other.url, interval="1h")
            await desk.intake.take()
            await took.wait()  # another one is asked at once
            assert desk.names() == ["c"]
            group.cancel_scope.cancel()


async def test_an_edit_while_it_is_asked_is_not_answered_with_the_other_ones_files(desk: Desk) -> None:
    desk.remote.commit({"offgridd.yaml": models("a")})
    other = GitRepo(desk.folder / "other")
    other.commit({"offgridd.yaml": models("b")})
    desk.write()
    await desk.intake.start()
    async with anyio.create_task_group() as group:
        group.start_soon(desk.follow.fetch)
        await anyio.lowlevel.checkpoint()  # it is on its way
        desk.write(url=other.url)
        await desk.intake.take()
    assert not desk.follow.news()
    await desk.fetched()
    assert desk.names() == ["b"]
    assert replace(desk.facts, git=None, pending=False) == ManifestFacts()


class Answers:
    """A port that gives what it is told to: only the order of things is of interest."""

    def __init__(self) -> None:
        self.next: list[Fetched] = []

    async def fetch(self, spec: GitSpec, accepted: str, *, rewind: bool = False) -> Fetched:
        return self.next.pop(0) if self.next else Fetched(reason="RemoteUnavailable", message="no more")

    async def read(self, spec: GitSpec, commit: str) -> Fetched:
        return Fetched(reason="ManifestMissing", message="gone")


def commit(letter: str, *, signed: bool = False) -> Fetched:
    return Fetched(letter * 40, ((f"git:{letter * 40}/offgridd.yaml", b""),), signed)


async def held(follow: Follow) -> str:
    return commit_of(await follow.files(follow.spec) or ())[:1]


async def test_what_is_in_effect_is_known_also_where_another_one_came_meanwhile() -> None:
    port = Answers()
    follow = Follow(port)
    await follow.files(GitSpec("file:///r"))
    port.next = [commit("a"), commit("b")]
    await follow.fetch()
    await follow.fetch()  # while the first is being taken
    follow.took("a" * 40)
    assert (follow.commit, follow.news(), await held(follow)) == ("a" * 40, True, "b")


async def test_a_signature_is_said_only_of_the_commit_that_bears_it() -> None:
    port = Answers()
    follow = Follow(port)
    spec = GitSpec("file:///r", signers="/signers")
    follow.restore(replace(spec, signers=None), commit("a").files)
    await follow.files(spec)
    port.next = [commit("b", signed=True)]
    facts = await follow.fetch()
    assert facts is not None
    assert (facts.commit[:1], facts.signed) == ("a", False)
    follow.took("b" * 40)
    assert (follow.commit[:1], follow.facts and follow.facts.signed) == ("b", True)


async def test_what_waits_is_dropped_when_its_signature_counts_no_more() -> None:
    port = Answers()
    follow = Follow(port)
    follow.restore(GitSpec("file:///r", signers="/signers"), commit("a").files)
    port.next = [commit("b", signed=True), Fetched(reason="UnknownSigner", message="no")]
    await follow.fetch()
    assert await held(follow) == "b"  # such as one whose manifest was refused
    await follow.fetch()
    assert (await held(follow), follow.news()) == ("a", False)


async def test_a_commit_that_was_rewound_comes_again(desk: Desk) -> None:
    first = desk.remote.commit({"offgridd.yaml": models("a")})
    second = desk.remote.commit({"offgridd.yaml": models("b")})
    desk.write(interval="1s")
    await desk.intake.start()
    took = anyio.Event()

    async def reload() -> None:
        await desk.intake.take()
        took.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(desk.follow.run, reload)
            await took.wait()
            assert desk.follow.commit == second
            desk.remote.git("reset", "-q", "--hard", first)
            await desk.fetched(rewind=True)
            assert desk.follow.commit == first
            took = anyio.Event()
            desk.remote.git("reset", "-q", "--hard", second)
            await took.wait()
            assert desk.names() == ["b"]
            group.cancel_scope.cancel()


async def test_who_is_online_again_asks_at_once() -> None:
    port = Answers()
    follow = Follow(port)
    spec = GitSpec("https://git.example.com/r", interval=3600.0)
    await follow.files(spec, offline=True)
    port.next = [commit("a")]
    taken = anyio.Event()

    async def reload() -> None:
        taken.set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(follow.run, reload)
            await anyio.wait_all_tasks_blocked()
            assert follow.facts is not None
            assert follow.facts.reason == "Offline"
            await follow.files(spec, offline=False)
            await taken.wait()
            group.cancel_scope.cancel()


async def test_when_another_repository_answered_last_is_not_said_of_this_one() -> None:
    port = Answers()
    follow = Follow(port)
    port.next = [commit("a")]
    await follow.files(GitSpec("file:///one"))
    await follow.fetch()
    facts = await follow.fetch()
    assert facts is not None
    assert "no more; it answered last at" in facts.message
    await follow.files(GitSpec("file:///two"))
    facts = await follow.fetch()
    assert facts is not None
    assert facts.message == "no more"


class Hangs(Answers):
    """The first one who is asked does not answer."""

    async def fetch(self, spec: GitSpec, accepted: str, *, rewind: bool = False) -> Fetched:
        if spec.url == "file:///one":
            await anyio.sleep_forever()
        return await super().fetch(spec, accepted, rewind=rewind)


async def test_another_one_is_asked_though_the_one_before_hangs() -> None:
    port = Hangs()
    port.next = [commit("b")]
    follow = Follow(port)
    await follow.files(GitSpec("file:///one"))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(follow.fetch)
            await anyio.wait_all_tasks_blocked()
            await follow.files(GitSpec("file:///two"))
            await follow.fetch()
    assert await held(follow) == "b"

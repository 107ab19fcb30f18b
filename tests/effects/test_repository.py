"""The repository as the daemon asks it: the real process, real remotes, signatures made by git and ssh-keygen."""

from __future__ import annotations

import base64
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import anyio
import anyio.to_thread
import pytest
from dulwich.objects import Commit, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo
from dulwich.server import DictBackend
from dulwich.web import make_wsgi_chain
from support.gitrepo import GitRepo, keypair
from support.lyinggit import lying_git

from offgridd.core.desired import GitSpec, Secret
from offgridd.core.gitsource import Fetched
from offgridd.effects import repository
from offgridd.effects.repository import Repository

TEXT = "apiVersion: offgridd/v1\nmodels: {}\n"
FILES = {"hosts/a/offgridd.yaml": TEXT, "hosts/a/conf.d/20.yaml": "b", "hosts/a/conf.d/10.yaml": "a",
         "hosts/a/conf.d/.hidden.yaml": "h", "hosts/a/conf.d/no.txt": "n", "hosts/a/offgridd.lock": "l"}  # fmt: skip


@pytest.fixture
def remote(tmp_path: Path) -> GitRepo:
    return GitRepo(tmp_path / "remote")


@pytest.fixture
def ours(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "state" / "git")


async def asked(ours: Repository, remote: GitRepo, accepted: str = "", *, rewind: bool = False, **spec: Any) -> Fetched:
    return await ours.fetch(GitSpec(remote.url, **{"path": "hosts/a", **spec}), accepted, rewind=rewind)


async def test_the_files_of_the_folder_come_in_the_order_of_a_hosts_own(ours: Repository, remote: GitRepo) -> None:
    commit = remote.commit(FILES)
    found = await asked(ours, remote)
    assert (found.commit, found.reason, found.signed) == (commit, "", False)
    names = ["offgridd.yaml", "conf.d/10.yaml", "conf.d/20.yaml", "offgridd.lock"]
    assert found.files == tuple((f"git:{commit}/hosts/a/{n}", FILES[f"hosts/a/{n}"].encode()) for n in names)


async def test_a_manifest_may_stand_at_the_root(ours: Repository, remote: GitRepo) -> None:
    commit = remote.commit({"offgridd.yaml": TEXT})
    found = await asked(ours, remote, path=".")
    assert found.files == ((f"git:{commit}/offgridd.yaml", TEXT.encode()),)


async def test_branches_tags_and_what_head_names(ours: Repository, remote: GitRepo) -> None:
    first = remote.commit(FILES)
    remote.git("tag", "light")
    remote.git("tag", "-a", "-m", "t", "heavy")
    remote.git("checkout", "-q", "-b", "other")
    second = remote.commit({"hosts/a/offgridd.yaml": TEXT + "#"})
    found = {ref: (await asked(ours, remote, ref=ref)).commit for ref in ("main", "light", "heavy", "other", None)}
    assert found == {"main": first, "light": first, "heavy": first, "other": second, None: second}
    missing = await asked(ours, remote, ref="gone")
    assert (missing.reason, "no such branch or tag" in missing.message) == ("RemoteUnavailable", True)


async def test_only_what_follows_the_accepted_commit_is_taken(ours: Repository, remote: GitRepo) -> None:
    first = remote.commit(FILES)
    second = remote.commit({"x": "1"})
    assert (await asked(ours, remote, first)).commit == second
    other = remote.commit({"x": "2"}, amend=True)
    refused = await asked(ours, remote, second)
    assert (refused.reason, refused.files) == ("NotFastForward", ())
    assert "--allow-rewind" in refused.message
    assert (await asked(ours, remote, first)).commit == other
    assert (await asked(ours, remote, second, rewind=True)).commit == other
    remote.git("reset", "-q", "--hard", first)
    assert (await asked(ours, remote, other)).reason == "NotFastForward"


async def test_repositories_of_both_hashes_are_followed_one_after_the_other(
    ours: Repository, remote: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DEFAULT_HASH", "sha256")
    other = GitRepo(tmp_path / "other")
    commits = [remote.commit(FILES), other.commit(FILES)]
    assert [len(one) for one in commits] == [40, 64]
    for one, commit in ((remote, commits[0]), (other, commits[1]), (remote, commits[0])):
        assert (await asked(ours, one)).commit == commit


async def test_a_merge_follows_both_of_its_parents(ours: Repository, remote: GitRepo) -> None:
    first = remote.commit(FILES)
    remote.git("checkout", "-q", "-b", "side")
    side = remote.commit({"s": ""})
    remote.git("checkout", "-q", "main")
    remote.commit({"m": ""})
    remote.git("merge", "-q", "--no-edit", "side")
    for accepted in (first, side):
        assert (await asked(ours, remote, accepted)).reason == ""


async def test_without_the_remote_what_was_fetched_can_be_read(ours: Repository, remote: GitRepo) -> None:
    commit = remote.commit({**FILES, "hosts/b/offgridd.yaml": "b"})
    fetched = await asked(ours, remote)
    shutil.rmtree(remote.folder)
    gone = await asked(ours, remote, commit)
    assert (gone.reason, gone.files) == ("RemoteUnavailable", ())
    assert "there is no repository" in gone.message
    spec = GitSpec(remote.url, path="hosts/a")
    assert await ours.read(spec, commit) == fetched
    assert (await ours.read(GitSpec(remote.url, path="hosts/b"), commit)).files[0][1] == b"b"
    assert (await ours.read(GitSpec(remote.url, path="hosts/c"), commit)).reason == "ManifestMissing"
    assert (await ours.read(spec, "0" * 40)).reason == "ManifestMissing"


@pytest.mark.parametrize(
    ("name", "says"),
    [("offgridd.yaml", "no plain file"), ("conf.d", "no folder"), ("offgridd.lock", "no plain file")],
)
async def test_links_in_the_repository_are_not_followed(
    name: str, says: str, ours: Repository, remote: GitRepo, tmp_path: Path
) -> None:
    outside = tmp_path / "secret"
    outside.write_text("secret")
    remote.commit({"hosts/a/offgridd.yaml": TEXT})
    place = remote.folder / "hosts" / "a" / name
    place.unlink(missing_ok=True)
    place.symlink_to(outside)
    remote.commit({})
    found = await asked(ours, remote)
    assert (found.reason, found.files) == ("ManifestMissing", ())
    assert says in found.message


async def test_a_folder_that_is_another_repository_is_refused(
    ours: Repository, remote: GitRepo, tmp_path: Path
) -> None:
    inner = GitRepo(tmp_path / "inner")
    inner.commit(FILES)
    remote.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner.url, "sub")
    remote.commit({})
    found = await asked(ours, remote, path="sub/hosts/a")
    assert (found.reason, "no folder" in found.message) == ("ManifestMissing", True)


async def test_more_than_a_manifest_may_hold_is_refused(ours: Repository, remote: GitRepo) -> None:
    remote.commit(FILES | {f"hosts/a/conf.d/{n:04}.yaml": "" for n in range(1100)})
    found = await asked(ours, remote)
    assert (found.reason, "too large" in found.message) == ("ManifestMissing", True)


async def test_an_empty_remote_says_so(ours: Repository, remote: GitRepo) -> None:
    found = await asked(ours, remote)
    assert (found.reason, "cannot find a commit" in found.message) == ("RemoteUnavailable", True)


@pytest.mark.parametrize("harm", ["empty", "garbage", "no objects"])
async def test_a_copy_that_is_damaged_is_made_anew(
    harm: str, ours: Repository, remote: GitRepo, tmp_path: Path
) -> None:
    commit = remote.commit(FILES)
    await asked(ours, remote)
    mirror = tmp_path / "state" / "git" / "mirror"
    for pack in mirror.glob("objects/pack/*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(b"" if harm == "empty" else b"x" * pack.stat().st_size)
    if harm == "no objects":
        shutil.rmtree(mirror / "objects")
    assert (await ours.read(GitSpec(remote.url, path="hosts/a"), commit)).reason == "ManifestMissing"
    assert (await asked(ours, remote, commit)).commit == commit


async def test_what_a_kill_left_is_removed(ours: Repository, remote: GitRepo, tmp_path: Path) -> None:
    commit = remote.commit(FILES)
    await asked(ours, remote)
    objects = tmp_path / "state" / "git" / "mirror" / "objects"
    for left in ("tmp_pack_left", "pack/tmpleft.pack"):  # where dulwich writes what it receives
        (objects / left).write_bytes(b"half")
    assert (await asked(ours, remote, commit)).reason == ""
    assert not list(objects.rglob("tmp*"))


async def test_pieces_are_joined(ours: Repository, remote: GitRepo, tmp_path: Path) -> None:
    commit = remote.commit(FILES)
    await asked(ours, remote)
    packs = tmp_path / "state" / "git" / "mirror" / "objects" / "pack"
    one = next(packs.glob("pack-*.pack"))
    for number in range(101):  # as after so many fetches
        for end in (".pack", ".idx"):
            shutil.copy(one.with_suffix(end), packs / f"pack-{number:040x}{end}")
    assert (await asked(ours, remote, commit)).commit == commit
    assert len(list(packs.iterdir())) == 2
    assert {one.name for one in (tmp_path / "state" / "git").iterdir()} == {"lock", "mirror"}


async def test_pieces_that_can_not_be_joined_any_more_stay(ours: Repository, remote: GitRepo, tmp_path: Path) -> None:
    commit = remote.commit(FILES)
    fetched = await asked(ours, remote)
    packs = tmp_path / "state" / "git" / "mirror" / "objects" / "pack"
    one = next(packs.glob("*.pack"))
    for number in range(101):
        for end in (".pack", ".idx"):
            shutil.copy(one.with_suffix(end), packs / f"pack-{number:040x}{end}")
    remote.folder.rename(tmp_path / "away")
    assert (await asked(ours, remote, commit)).reason == "RemoteUnavailable"
    assert await ours.read(GitSpec(remote.url, path="hosts/a"), commit) == fetched


async def test_what_was_fetched_is_read_while_a_remote_hangs(ours: Repository, remote: GitRepo) -> None:
    commit = remote.commit(FILES)
    fetched = await asked(ours, remote)
    with socket.create_server(("127.0.0.1", 0)) as server, anyio.fail_after(repository.READ):
        async with anyio.create_task_group() as group:
            group.start_soon(ours.fetch, GitSpec(f"http://127.0.0.1:{server.getsockname()[1]}/r"), commit)
            connection, _ = await anyio.to_thread.run_sync(server.accept)  # it asks, and has the lock
            with connection:
                assert await ours.read(GitSpec(remote.url, path="hosts/a"), commit) == fetched
                connection.setblocking(False)
                assert connection.recv(1000).startswith(b"GET ")
                with pytest.raises(BlockingIOError):  # it still waits
                    connection.recv(1)
                group.cancel_scope.cancel()


async def test_a_folder_that_can_not_be_written_says_so(remote: GitRepo, tmp_path: Path) -> None:
    remote.commit(FILES)
    (tmp_path / "file").write_text("")
    found = await asked(Repository(tmp_path / "file" / "git"), remote)
    assert (found.reason, "cannot keep what" in found.message) == ("RemoteUnavailable", True)


async def test_what_is_larger_than_is_taken_says_that_there_is_no_room(
    ours: Repository, remote: GitRepo, tmp_path: Path
) -> None:
    commit = remote.commit(FILES)
    fetched = await asked(ours, remote)
    remote.commit({"noise": random.Random(1).randbytes(60_000).hex()})
    script = f"ulimit -f 16; exec {sys.executable} -I -m offgridd.effects.git.child"  # 16 KiB a file
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repository, "PROGRAM", ("bash", "-c", script))
        found = await asked(ours, remote, commit)
    assert (found.reason, found.message.split(": ")[-1]) == (
        "RemoteUnavailable",
        "File too large; make room, or it smaller",
    )
    assert await ours.read(GitSpec(remote.url, path="hosts/a"), commit) == fetched


async def test_a_name_that_no_file_can_have_is_refused(ours: Repository, remote: GitRepo) -> None:
    remote.commit({"conf.d/30.yaml": "c", "offgridd.yaml": TEXT})
    with Repo(str(remote.folder)) as repo:
        commit = repo[repo.head()]
        assert isinstance(commit, Commit)
        tree = repo[commit.tree]
        assert isinstance(tree, Tree)
        below = repo[tree[b"conf.d"][1]]
        assert isinstance(below, Tree)
        below.add(b"x" * 300 + b".yaml", *below[b"30.yaml"])
        tree.add(b"conf.d", tree[b"conf.d"][0], below.id)
        commit.tree = tree.id
        for one in (below, tree, commit):
            repo.object_store.add_object(one)
        repo.refs[Ref(b"refs/heads/main")] = commit.id
    found = await asked(ours, remote, path=".")
    assert (found.reason, "a name in it is none of a file" in found.message) == ("ManifestMissing", True)


# Remotes that lie


def packed(remote: GitRepo, *objects: str) -> bytes:
    """The pack of just these, as git makes it."""
    argv = ["git", "pack-objects", "--stdout", "-q"]
    return subprocess.run(
        argv, cwd=remote.folder, input="\n".join(objects).encode(), capture_output=True, check=True, timeout=60
    ).stdout


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("no tree", "an object is missing"),
        ("no parent", "an object is missing"),
        ("cut", "it is damaged"),
        ("no pack", "it is damaged"),
        ("error", "we will not: *** ***"),
    ],
)
async def test_what_a_remote_sends_that_lies_harms_nothing(
    harm: str, says: str, ours: Repository, remote: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TOKEN", "sesame")
    commit = remote.commit({"offgridd.yaml": TEXT})
    fetched = await asked(ours, remote, path=".")
    skipped = remote.commit({"x": "1"})
    tip = remote.commit({"y": "2"})
    with lying_git() as liar:
        liar.head, spec = tip, GitSpec(liar.url, token=Secret("env", "GIT_TOKEN"))
        whole = packed(remote, *remote.git("rev-list", "--objects", "--no-object-names", tip).split())
        shown = base64.b64encode(b"x-token-auth:sesame")
        liar.error = b"we will not: sesame " + shown if harm == "error" else b""
        liar.pack = {
            "no tree": packed(remote, tip, skipped),
            "no parent": packed(remote, tip, f"{tip}^{{tree}}", f"{tip}:offgridd.yaml"),
            "cut": whole[:-7],
            "no pack": b"PACK" + b"x" * 100,
        }.get(harm, b"")
        found = await ours.fetch(spec, commit)
        assert (found.reason, found.files) == ("RemoteUnavailable", ())
        assert says in found.message
        assert await ours.read(GitSpec(remote.url), commit) == fetched
        assert {one.name for one in (tmp_path / "state" / "git").iterdir()} == {"lock", "mirror"}
        liar.error, liar.pack = b"", whole
        assert (await ours.fetch(spec, commit)).commit == tip


async def test_a_shallow_clone_says_what_it_lacks(ours: Repository, remote: GitRepo, tmp_path: Path) -> None:
    remote.commit(FILES)
    remote.commit({"x": "1"})
    remote.git("clone", "-q", "--depth", "1", remote.url, str(tmp_path / "shallow"))
    found = await ours.fetch(GitSpec(f"file://{tmp_path}/shallow"), "")
    assert (found.reason, "no shallow clone" in found.message) == ("RemoteUnavailable", True)


# Signatures


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("keys")
    made = {"good": "ed25519", "other": "ed25519", "rsa": "rsa", "ecdsa": "ecdsa"}
    for name, kind in made.items():
        keypair(folder / name, kind)
    return {name: folder / name for name in made}


def allow(folder: Path, *lines: str) -> str:
    path = folder / "signers"
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def public(key: Path) -> str:
    return key.with_name(key.name + ".pub").read_text().strip()


@pytest.mark.parametrize("kind", ["good", "rsa"])
async def test_a_commit_signed_by_an_allowed_key_is_taken(
    kind: str, ours: Repository, remote: GitRepo, keys: dict[str, Path], tmp_path: Path
) -> None:
    commit = remote.commit(FILES, keys[kind])
    signers = allow(tmp_path, "# who may", f'a@example.com namespaces="git" {public(keys[kind])}')
    remote.git("-c", f"gpg.ssh.allowedSignersFile={signers}", "verify-commit", commit)  # as git itself judges
    found = await asked(ours, remote, signers=signers)
    assert (found.commit, found.signed) == (commit, True)
    assert await ours.read(GitSpec(remote.url, path="hosts/a", signers=signers), commit) == found


@pytest.mark.parametrize(
    ("line", "signer", "reason"),
    [
        ("a {good}", None, "UnsignedCommit"),
        ("a {good}", "other", "UnknownSigner"),
        ("a {good}", "ecdsa", "UnknownSigner"),
        ("a {ecdsa}", "ecdsa", "UnknownSigner"),  # which the library can not check
        ("a {ecdsa}\nb {good}", "good", ""),
        ("", "good", "UnknownSigner"),
        ('a namespaces="file" {good}', "good", "UnknownSigner"),
        ('a namespaces="file,git" {good}', "good", ""),
        ("a cert-authority {good}", "good", "UnknownSigner"),
        ('a valid-before="20200101" {good}', "good", "UnknownSigner"),
        ('a valid-before="20990101Z" {good}', "good", ""),
        ('a valid-after="20990101" {good}', "good", "UnknownSigner"),
        ('a valid-after="20200101120000Z",valid-before="209901011200Z" {good}', "good", ""),
        ('a valid-after="yesterday" {good}', "good", "SignersUnreadable"),
        ("a nonsense", "good", "SignersUnreadable"),
        ("nonsense", "good", "SignersUnreadable"),
        ("a ssh-ed25519 AAAA", "good", "SignersUnreadable"),
        ('a unknown-option="1" {good}', "good", "SignersUnreadable"),
    ],
)
async def test_whose_commits_are_taken(
    line: str, signer: str | None, reason: str, ours: Repository, remote: GitRepo, keys: dict[str, Path], tmp_path: Path
) -> None:
    remote.commit(FILES, keys[signer] if signer else None)
    signers = allow(tmp_path, line.format(**{name: public(key) for name, key in keys.items()}))
    found = await asked(ours, remote, signers=signers)
    assert (found.reason, bool(found.files)) == (reason, not reason), found.message


async def test_signers_that_are_gone_take_nothing(ours: Repository, remote: GitRepo, tmp_path: Path) -> None:
    remote.commit(FILES)
    found = await asked(ours, remote, signers=str(tmp_path / "gone"))
    assert (found.reason, "bring the file back" in found.message) == ("SignersUnreadable", True)


async def test_what_nobody_writes_keeps_nobody_waiting(ours: Repository, remote: GitRepo, tmp_path: Path) -> None:
    """A FIFO in the place of a file that the host names; the token's is opened by the daemon itself."""
    remote.commit(FILES)
    os.mkfifo(tmp_path / "fifo")
    with anyio.fail_after(20):
        found = await asked(ours, remote, signers=str(tmp_path / "fifo"))
        assert (found.reason, "not a regular file" in found.message) == ("SignersUnreadable", True)
        found = await asked(ours, remote, token=Secret("file", str(tmp_path / "fifo")))
        assert (found.reason, "cannot read the token" in found.message) == ("RemoteUnavailable", True)


async def test_an_altered_commit_is_refused(
    ours: Repository, remote: GitRepo, keys: dict[str, Path], tmp_path: Path
) -> None:
    """The message of a signed commit is changed, its signature kept: another object, which git refuses, too."""
    commit = remote.commit(FILES, keys["good"])
    raw = remote.git("cat-file", "commit", commit) + "and more\n"
    place = tmp_path / "altered"
    place.write_text(raw)
    altered = remote.git("hash-object", "-t", "commit", "-w", str(place))
    remote.git("update-ref", "refs/heads/main", altered)
    found = await asked(ours, remote, signers=allow(tmp_path, f"a {public(keys['good'])}"))
    assert (found.reason, found.files) == ("BadSignature", ())


@pytest.mark.parametrize(
    "signature",
    [
        "-----BEGIN SSH SIGNATURE-----\n AAAA\n -----END SSH SIGNATURE-----",
        "-----BEGIN PGP SIGNATURE-----\n \n x",
        "nothing known",
    ],
)
async def test_signatures_that_are_none_are_refused(
    signature: str, ours: Repository, remote: GitRepo, keys: dict[str, Path], tmp_path: Path
) -> None:
    commit = remote.commit(FILES)
    head, _, message = remote.git("cat-file", "commit", commit).partition("\n\n")
    place = tmp_path / "forged"
    place.write_text(f"{head}\ngpgsig {signature}\n\n{message}\n")
    forged = remote.git("hash-object", "-t", "commit", "-w", "--literally", str(place))
    remote.git("update-ref", "refs/heads/main", forged)
    found = await asked(ours, remote, signers=allow(tmp_path, f"a {public(keys['good'])}"))
    assert found.reason in ("BadSignature", "UnknownSigner")
    assert found.files == ()


# Over HTTP


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web(remote: GitRepo, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The remote behind HTTP, for those who have the token; `/moved` is sent on to it."""
    remote.commit(FILES)
    real = make_wsgi_chain(DictBackend({"/r": Repo(str(remote.folder))}))

    def guarded(environ: dict[str, Any], start: Any) -> Any:
        if environ["PATH_INFO"].startswith("/moved"):
            start(
                "302 Found",
                [("Location", environ["PATH_INFO"].replace("/moved", "/r") + "?" + environ["QUERY_STRING"])],
            )
            return [b""]
        kind, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if kind != "Basic" or base64.b64decode(given).decode().rpartition(":")[2] != "sesame":
            start("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="r"')])
            return [b""]
        return real(environ, start)

    server: WSGIServer = make_server("127.0.0.1", 0, guarded, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("GIT_TOKEN", "sesame")
    monkeypatch.setenv("BAD_TOKEN", "wrong")
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_token_opens_a_private_repository(ours: Repository, remote: GitRepo, web: str) -> None:
    spec = GitSpec(f"{web}/r", path="hosts/a", token=Secret("env", "GIT_TOKEN"))
    found = await ours.fetch(spec, "")
    assert (found.commit, len(found.files)) == (remote.git("rev-parse", "HEAD"), 4)
    newer = remote.commit({"hosts/a/offgridd.yaml": TEXT + "#"})
    assert (await ours.fetch(spec, found.commit)).commit == newer


@pytest.mark.parametrize(
    ("path", "token", "says"),
    [
        ("r", None, "another token"),
        ("r", Secret("env", "BAD_TOKEN"), "another token"),
        ("r", Secret("env", "NO_SUCH_TOKEN"), "NO_SUCH_TOKEN is not set"),
        ("other", Secret("env", "GIT_TOKEN"), "there is no repository"),
        ("moved", Secret("env", "GIT_TOKEN"), "cannot fetch"),
    ],
)
async def test_what_does_not_open_it(path: str, token: Secret | None, says: str, ours: Repository, web: str) -> None:
    found = await ours.fetch(GitSpec(f"{web}/{path}", path="hosts/a", token=token), "")
    assert (found.reason, found.files) == ("RemoteUnavailable", ())
    assert says in found.message
    assert "sesame" not in found.message


async def test_a_host_that_says_nothing_is_given_up(ours: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "FETCH", 2)
    with socket.create_server(("127.0.0.1", 0)) as server:  # it takes the connection, and that is all
        found = await ours.fetch(GitSpec(f"http://127.0.0.1:{server.getsockname()[1]}/r"), "")
    assert (found.reason, "not done in 2 s" in found.message) == ("RemoteUnavailable", True)


async def test_a_host_that_is_not_there(ours: Repository) -> None:
    found = await ours.fetch(GitSpec("http://127.0.0.1:9/r"), "")
    assert found.reason == "RemoteUnavailable"
    assert found.message.startswith("cannot fetch from http://127.0.0.1:9/r: ")
    assert found.message.endswith("Connection refused")


async def test_the_process_is_our_own_code_and_nothing_that_stands_in_its_way(
    ours: Repository, remote: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.commit(FILES)
    (tmp_path / "dulwich.py").write_text("raise SystemExit('a folder of others was searched')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert (await asked(ours, remote)).reason == ""

"""A daemon whose models come from a repository: what operators push, see and allow."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.gitrepo import GitRepo, keypair
from support.rig import Rig, until
from support.tinymodel import CONTROL, model

OFFGRID = str(Path(sys.executable).with_name("offgrid"))


class Fleet:
    """A rig and the repository that it follows; a commit declares one file under some names."""

    def __init__(self, folder: Path) -> None:
        self.rig = Rig(folder, "fake", {"OFFGRIDD_STORE_ROOTS": str(folder), "OFFGRIDD_LOG_LEVEL": "info"})
        self.key = folder / "key"
        (folder / "signers").write_text(f"a {keypair(self.key)}\n")
        (folder / "a.gguf").write_bytes(model(spec=CONTROL))
        self.remote = GitRepo(folder / "remote")
        self.folder = folder

    def declare(self, interval: str = "1h", more: str = "") -> None:
        verify = f"verify: {{allowedSigners: {self.folder}/signers}}"
        text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{self.rig.port}"]}}
git: {{url: "{self.remote.url}", path: host, interval: {interval}, {verify}}}
{more}"""
        new = self.rig.manifest.with_suffix(".new")
        new.write_text(text)
        new.rename(self.rig.manifest)

    def push(self, *names: str, signed: bool = True, more: str = "", amend: bool = False) -> str:
        listed = "".join(
            f"  {n}: {{source: {{file: {self.folder}/a.gguf}}, context: 256, threads: 1}}\n" for n in names
        )
        text = f"apiVersion: offgridd/v1\nmodels:\n{listed}{more}"
        return self.remote.commit({"host/offgridd.yaml": text}, self.key if signed else None, amend=amend)

    def offgrid(self, *args: str) -> subprocess.CompletedProcess[str]:
        argv = [OFFGRID, "--host", str(self.rig.socket), *args]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60)

    def models(self) -> list[str]:
        return [one["name"] for one in self.rig.status()["models"]]

    def condition(self, kind: str) -> tuple[str, str]:
        found = next(c for c in self.rig.status()["conditions"] if c["type"] == kind)
        return found["status"], found["reason"]

    def git(self) -> dict[str, Any]:
        found: dict[str, Any] = self.rig.status()["git"]
        return found


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.rig.stop()
    made.rig.api.close()


@pytest.mark.timeout(180)
def test_from_the_first_commit_to_one_that_is_allowed_to_go_back(fleet: Fleet) -> None:
    first = fleet.push("a")
    fleet.declare()
    fleet.rig.start()
    until(lambda: fleet.models() == ["a"] and fleet.rig.is_ready())
    assert fleet.git().items() >= {"url": fleet.remote.url, "ref": None, "commit": first}.items()
    assert fleet.condition("SourceVerified") == ("True", "Signed")
    pids = fleet.rig.pids()

    second = fleet.push("a", "b")
    done = fleet.offgrid("reload", "--wait")
    assert (done.returncode, done.stdout, done.stderr) == (0, "generation 3\n", "")
    until(lambda: fleet.models() == ["a", "b"] and fleet.rig.is_ready())
    assert pids[0] in fleet.rig.pids()

    fleet.push("evil", signed=False)
    done = fleet.offgrid("reload")
    assert done.returncode == 1
    assert "it is not signed; sign it with ssh" in done.stderr
    assert (fleet.models(), fleet.condition("SourceVerified")) == (["a", "b"], ("False", "UnsignedCommit"))

    fleet.remote.git("reset", "-q", "--hard", first)
    done = fleet.offgrid("reload")
    assert (done.returncode, "offgrid reload --allow-rewind" in done.stderr) == (1, True)
    assert (fleet.models(), fleet.git()["commit"]) == (["a", "b"], second)
    assert fleet.rig.is_ready()  # what serves is as it was declared
    done = fleet.offgrid("reload", "--allow-rewind")
    assert (done.returncode, fleet.models(), fleet.git()["commit"]) == (0, ["a"], first)

    shown = [line.split() for line in fleet.offgrid("history").stdout.splitlines()]
    assert [(row[0], row[-1]) for row in shown] == [
        ("GENERATION", "COMMIT"),
        ("4", first[:12]),
        ("3", second[:12]),
        ("2", first[:12]),
    ]
    config = fleet.offgrid("config").stdout
    assert f"git:{first}/host/offgridd.yaml:3" in config
    events = fleet.offgrid("events").stdout
    assert all(reason in events for reason in ("Fetching", "Signed", "UnsignedCommit"))


@pytest.mark.timeout(180)
def test_what_is_pushed_is_taken_by_itself_and_stays_when_the_remote_goes(fleet: Fleet) -> None:
    fleet.push("a")
    fleet.declare(interval="1s")
    fleet.rig.start()
    until(lambda: fleet.models() == ["a"])
    last = fleet.push("b")
    until(lambda: fleet.models() == ["b"] and fleet.rig.is_ready())
    bad = fleet.push("b", more="    nonsense: 1\n")
    until(lambda: fleet.condition("Accepted")[0] == "False")
    assert (fleet.models(), fleet.git()["commit"]) == (["b"], last)
    assert bad in fleet.offgrid("status").stdout  # where the mistake stands
    shutil.rmtree(fleet.remote.folder)
    until(lambda: fleet.condition("SourceVerified") == ("Unknown", "RemoteUnavailable"))
    fleet.rig.kill()
    fleet.rig.start()
    until(lambda: fleet.models() == ["b"] and fleet.rig.is_ready())
    assert fleet.git()["commit"] == last
    done = fleet.offgrid("reload")
    assert (done.returncode, done.stdout) == (0, "generation 3 (no change)\n")
    assert "there is no repository" in done.stderr


def test_what_stands_in_the_repository_is_not_written_beside_it(fleet: Fleet) -> None:
    fleet.push("a")
    fleet.declare()
    fleet.rig.start()
    until(lambda: fleet.models() == ["a"])
    manifest = str(fleet.rig.manifest)
    assert fleet.offgrid("plan", manifest).stdout == "no changes\n"
    done = fleet.offgrid("lock", manifest)
    assert (done.returncode, "run offgrid lock in a work tree of it" in done.stderr) == (1, True), done
    fleet.declare(interval="2h")
    fleet.offgrid("reload")
    assert fleet.models() == ["a"]
    fleet.declare(more="models: {}\n")
    done = fleet.offgrid("check", manifest)
    assert (done.returncode, "'git' says that the repository has them" in done.stderr) == (1, True)
    text = fleet.rig.manifest.read_text().replace("models: {}", "").replace(fleet.remote.url, "file:///other")
    other = fleet.folder / "other.yaml"
    other.write_text(text)
    done = fleet.offgrid("plan", str(other))
    assert (done.returncode, done.stdout) == (6, "git\n")
    body = json.dumps({"files": [{"name": "git:x", "text": text}]}).encode()
    assert fleet.rig.admin.json("POST", "/v1/plan", body)["valid"]


def asking(pid: int) -> list[int]:
    """The processes of a daemon that ask a repository."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in children if b"effects.git.child" in Path(f"/proc/{one}/cmdline").read_bytes()]


def test_who_asks_a_remote_that_hangs_ends_with_the_daemon_and_shows_no_token(fleet: Fleet) -> None:
    fleet.rig.env["GIT_TOKEN"] = "sesame"
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/r"
        fleet.rig.manifest.write_text(f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{fleet.rig.port}"]}}
git: {{url: "{url}", interval: 1h, token: {{env: GIT_TOKEN}}}}
""")
        for end in (fleet.rig.stop, fleet.rig.kill):
            fleet.rig.start()
            connection, _ = server.accept()
            with connection:
                assert b"authorization: basic" in connection.recv(10_000).lower()
                assert fleet.rig.process is not None
                (pid,) = asking(fleet.rig.process.pid)
                assert not any(b"sesame" in Path(f"/proc/{pid}/{at}").read_bytes() for at in ("cmdline", "environ"))
                end()
                until(partial(gone, pid))
    assert "sesame" not in (fleet.folder / "log").read_text()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True

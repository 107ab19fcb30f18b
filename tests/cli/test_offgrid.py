"""The command line as a process, against a daemon whose engine is the deterministic one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from support.rig import Rig, until

OFFGRID = str(Path(sys.executable).with_name("offgrid"))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("cli"), "fake")
    made.write(context=8192)
    made.start()
    yield made
    assert made.stop() == 0
    made.api.close()


def offgrid(rig: Rig, *args: str, text: str = "") -> subprocess.CompletedProcess[str]:
    argv = [OFFGRID, "--host", str(rig.socket), *args]
    return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=30)


@pytest.fixture
def terminal(rig: Rig) -> Iterator[pexpect.spawn]:
    made = pexpect.spawn(OFFGRID, ["--host", str(rig.socket), "run", "smol"], timeout=20, encoding="utf-8", echo=False)
    made.expect_exact(">>> ")
    yield made
    made.close(force=True)


def test_status_is_a_table_with_reasons(rig: Rig) -> None:
    done = offgrid(rig, "status")
    assert done.returncode == 0
    (pid,) = rig.pids()
    header, row = done.stdout.splitlines()[-2:]
    assert header.split() == ["MODEL", "READY", "REASON", "CONTEXT", "THREADS", "RUNNING", "PID"]
    assert row.split() == ["smol", "True", "Ready", "8192", "1", "0", str(pid)]
    assert json.loads(offgrid(rig, "status", "--json").stdout)["models"][0]["name"] == "smol"


def test_watch_prints_again_when_something_changes(rig: Rig) -> None:
    argv = [OFFGRID, "--host", str(rig.socket), "status", "--watch"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as watch:
        try:
            assert watch.stdout is not None
            lines = iter(watch.stdout.readline, "")
            next(line for line in lines if line.startswith("smol   True"))
            os.kill(rig.pids()[0], signal.SIGKILL)
            next(line for line in lines if line.startswith("smol   False  WorkerCrashed"))
            next(line for line in lines if line.startswith("smol   True"))
            watch.send_signal(signal.SIGINT)
            assert watch.wait(10) == 0
        finally:
            watch.kill()


def test_plan_says_what_an_edit_would_do_and_does_nothing(rig: Rig, tmp_path: Path) -> None:
    text, edited = rig.manifest.read_text(), tmp_path / "edited.yaml"
    edited.write_text(text)
    assert (offgrid(rig, "plan", str(edited)).returncode, offgrid(rig, "plan", str(edited)).stdout) == (
        0,
        "no changes\n",
    )
    edited.write_text(text.replace("context: 8192", "context: 512"))
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "10.yaml").write_text("models: {smol: {aliases: [other]}}\n")
    done = offgrid(rig, "plan", str(edited))
    assert (done.returncode, done.stdout.split()) == (6, ["reload", "smol"])
    (tmp_path / "conf.d" / "10.yaml").write_text("modles: {}\n")
    done = offgrid(rig, "plan", str(edited))
    assert done.returncode == 1
    assert "10.yaml:1" in done.stderr
    assert "models" in done.stderr, "the nearest name"
    (tmp_path / "conf.d" / "10.yaml").write_bytes(b"# caf\xe9\n{}\n")
    done = offgrid(rig, "plan", str(edited))
    assert (done.returncode, "10.yaml: it is not UTF-8" in done.stderr) == (1, True)
    assert rig.status()["generation"] == 1


def test_check_needs_no_daemon(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("apiVersion: offgridd/v1\nmodels: {}\n")
    argv = [OFFGRID, "--host", "127.0.0.1:1", "check", str(path)]
    assert subprocess.run(argv, capture_output=True, timeout=30).returncode == 0
    path.write_text("apiVersion: offgridd/v1\nmodels: [\n")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"{path}:" in done.stderr
    path.unlink()
    assert subprocess.run(argv, capture_output=True, timeout=30).returncode == 1


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["run", "nothing"], 1, "cannot find the model"),
        (["logs", "nothing"], 1, "cannot find the model"),
        (["reconcile", "nothing"], 1, "cannot find the model"),
        (["plan", "/nowhere"], 1, "cannot read /nowhere"),
        (["logs", "\udcff"], 1, "cannot find the model"),
        (["inspect", "\udcff"], 1, "cannot find the model"),
        (["reconcile", "\udcff"], 1, "cannot find the model"),
        (["jobs", "--cancel", "\udcff"], 1, "cannot "),
        (["frobnicate"], 2, "invalid choice"),
    ],
)
def test_each_failure_is_one_line_and_its_code(rig: Rig, args: list[str], code: int, said: str) -> None:
    done = offgrid(rig, *args, text="hi")
    assert done.returncode == code
    assert said in done.stderr
    assert code == 2 or len(done.stderr.splitlines()) == 1


def test_what_is_piped_in_has_to_be_text(rig: Rig) -> None:
    argv = [OFFGRID, "--host", str(rig.socket), "run", "smol"]
    done = subprocess.run(argv, input=b"\xff", capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (1, b"offgrid: cannot ask that: the input is not UTF-8\n")


@pytest.mark.parametrize("args", [["status"], ["schema"], ["plan", "MANIFEST"], ["events"]])
def test_an_output_that_takes_nothing_is_one_line(rig: Rig, args: list[str]) -> None:
    argv = [OFFGRID, "--host", str(rig.socket), *(str(rig.manifest) if one == "MANIFEST" else one for one in args)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (1, "offgrid: cannot go on: No space left on device\n")


def test_ends_that_were_closed_lead_nowhere(rig: Rig) -> None:
    shell = ["sh", "-c", 'exec "$@" <&- >&-', "sh", OFFGRID, "--host", str(rig.socket)]
    for args in (["status"], ["run", "smol"], ["load", "smol"]):
        done = subprocess.run([*shell, *args], stderr=subprocess.PIPE, text=True, timeout=30)
        assert "Traceback" not in done.stderr
    watch = subprocess.Popen([*shell, "status", "--watch"], stderr=subprocess.PIPE, text=True)
    with watch:
        until(lambda: watch.poll() is not None or any(one.startswith("socket:") for one in descriptors(watch.pid)))
        watch.send_signal(signal.SIGINT)
        assert watch.wait(10) in (0, 130)
        assert watch.stderr is not None
        assert "Traceback" not in watch.stderr.read()


def test_ctrl_c_while_it_is_still_loading_is_130(rig: Rig) -> None:
    argv = [sys.executable, "-X", "importtime", OFFGRID, "--host", str(rig.socket), "wait", "--for=Ready=false"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if line.endswith(" offgridd.places\n"))
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.stderr.read()
        assert process.wait(10) == 130


def test_no_daemon_is_3_and_what_is_no_daemon_too(tmp_path: Path) -> None:
    argv = [OFFGRID, "--host", str(tmp_path / "none.sock"), "status"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)


def test_logs_and_reload(rig: Rig) -> None:
    assert offgrid(rig, "logs", "smol").returncode == 0
    assert offgrid(rig, "reload", "--wait").stdout == "generation 1 (no change)\n"
    good = rig.manifest.read_text()
    rig.manifest.write_text("models: [")
    done = offgrid(rig, "reload", "--wait")
    assert done.returncode == 1
    assert "offgridd.yaml:2:1: cannot read this as YAML" in done.stderr
    rig.manifest.write_text(good)
    assert offgrid(rig, "reload").returncode == 0


def test_run_with_piped_input(rig: Rig) -> None:
    body = {"model": "smol", "messages": [{"role": "user", "content": "hello"}]}
    wanted = rig.admin.json("POST", "/v1/chat/completions", json.dumps(body).encode())["choices"][0]["message"][
        "content"
    ]
    done = offgrid(rig, "run", "smol", text="hello")
    assert (done.returncode, done.stdout) == (0, wanted + "\n")
    assert offgrid(rig, "run", "smol", text="").returncode == 1


def _interrupt_prompt(terminal: pexpect.spawn) -> None:
    """Presses Ctrl-C until there is a new prompt. Python looks for signals before readline waits for a key, not as it
    begins to wait: one that comes between the two is answered with the next (CPython's readline_until_enter_or_signal).
    """
    for _ in range(3):
        terminal.sendintr()
        if terminal.expect_exact([">>> ", pexpect.TIMEOUT], timeout=5) == 0:
            return
    pytest.fail("Ctrl-C at the prompt gave no new one")


def test_ctrl_c_stops_the_answer_and_not_the_program(rig: Rig, terminal: pexpect.spawn) -> None:
    terminal.sendline("tell me more")
    terminal.expect("[a-z ]{40}")
    terminal.sendintr()
    terminal.expect_exact(">>> ")
    until(lambda: idle(rig.pids()[0]))
    terminal.sendline("again")
    terminal.expect("[a-z ]{40}")
    terminal.sendintr()
    terminal.expect_exact(">>> ")
    _interrupt_prompt(terminal)
    terminal.sendline("clear")
    terminal.expect_exact(">>> ")
    terminal.sendline("exit")
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 0


def test_end_of_input_ends_with_0(terminal: pexpect.spawn) -> None:
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 0


def idle(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@pytest.mark.parametrize(
    "form", ["http://127.0.0.1:{}", "http://127.0.0.1:{}/", "http://127.0.0.1:{}/v1", "127.0.0.1:{}"]
)
def test_an_address_is_understood_as_it_is_shown(rig: Rig, form: str) -> None:
    argv = [OFFGRID, "--host", form.format(rig.port), "status"]
    assert subprocess.run(argv, capture_output=True, timeout=30).returncode == 0


def test_a_socket_in_its_own_folder_needs_no_slash(rig: Rig) -> None:
    argv = [OFFGRID, "--host", rig.socket.name, "status"]
    assert subprocess.run(argv, capture_output=True, timeout=30, cwd=rig.socket.parent).returncode == 0


def test_a_piped_answer_that_is_stopped_is_no_success(rig: Rig) -> None:
    os.kill(rig.pids()[0], signal.SIGSTOP)
    pipe = subprocess.PIPE
    with subprocess.Popen([OFFGRID, "--host", str(rig.socket), "run", "smol"], stdin=pipe, stdout=pipe) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(b"hello")
            process.stdin.close()
            until(lambda: any(path.startswith("socket:") for path in descriptors(process.pid)))
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
        finally:
            process.kill()  # else leaving waits for it, and nobody learns what went wrong
    os.kill(rig.pids()[0], signal.SIGCONT)


def descriptors(pid: int) -> list[str]:
    """What they lead to; those that are closed meanwhile are left out."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(path))
    return found

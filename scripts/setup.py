#!/usr/bin/env python3
"""Makes `.venv` from nothing but Python 3.11, pip and a C++ compiler. Stdlib only; safe to run again.

1. uv, into `.cache/uv` (a bare Debian refuses `pip install` outside an environment and may lack venv).
2. `.venv`, with exactly what requirements.lock names, each file checked against its sha256.
3. llama-cpp-python, which is published as source only: built once, visibly, and its wheel kept.
4. this package itself, editable.

Environment: OFFGRIDD_CACHE (default ~/.cache/offgridd) keeps the wheels between checkouts; CMAKE_ARGS goes to the
build and into the wheel's key (`CMAKE_ARGS=-DGGML_CUDA=on make setup` builds for CUDA).
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV_VERSION = "0.13.9"
UV = ROOT / ".cache" / "uv" / "bin" / "uv"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements.lock"
LLAMA_LOCK = ROOT / "llama-cpp.lock"
# ggml's kernels for AMX end with SIGILL when GCC compiles them: docs/decisions/0012-no-amx.md.
NO_AMX = "-U__AMX_INT8__"


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def fail(text: str) -> None:
    raise SystemExit(f"setup: {text}")


def run(*argv: str | Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run([str(a) for a in argv], cwd=ROOT, env={**os.environ, **(env or {})})
    if done.returncode:
        fail(f"cannot go on: {Path(argv[0]).name} ended with {done.returncode}; its output is above")


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def stamp_is(name: str, value: str) -> bool:
    path = VENV / f".{name}"
    return path.is_file() and path.read_text() == value


def write_stamp(name: str, value: str) -> None:
    (VENV / f".{name}").write_text(value)


def ensure_uv() -> None:
    if UV.is_file() and UV_VERSION in subprocess.run([UV, "--version"], capture_output=True, text=True).stdout:
        return
    say(f"installing uv {UV_VERSION} into .cache/uv")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    run(*pip, "--target", UV.parent.parent, f"uv=={UV_VERSION}", env={"PIP_ROOT_USER_ACTION": "ignore"})


def ensure_venv() -> None:
    key = digest(LOCK.read_text(), platform.python_version(), str(VENV))
    if PYTHON.exists() and stamp_is("locked", key):
        return
    say("making .venv from requirements.lock")
    run(UV, "venv", "--quiet", "--clear", "--python", sys.executable, VENV)
    run(UV, "pip", "sync", "--quiet", "--python", PYTHON, "--require-hashes", LOCK)
    write_stamp("locked", key)


def cpu_flags() -> str:
    """The instruction sets the wheel is built for (-march=native): another CPU may not run it."""
    try:
        found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return " ".join(sorted(found.group(1).split())) if found else platform.processor()


def wheel_folder() -> tuple[Path, str]:
    """Where the wheel of this version, build options, Python and CPU belongs, and the key in its name."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}-{platform.machine()}"
    key = digest(LLAMA_LOCK.read_text(), os.environ.get("CMAKE_ARGS", ""), tag, cpu_flags(), NO_AMX)
    home = (
        os.environ.get("OFFGRIDD_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "offgridd"
    )
    return Path(home) / "wheels" / key, key


def build_wheel(folder: Path) -> Path:
    if not (shutil.which("c++") or shutil.which("g++") or os.environ.get("CXX")):
        fail("cannot build llama-cpp-python: no C++ compiler; do: apt-get install g++ (or set CXX)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    say("building llama-cpp-python (once; about 5 minutes on two idle cores)")
    began = time.monotonic()
    pip = [
        PYTHON,
        "-m",
        "pip",
        "wheel",
        "--verbose",
        "--no-deps",
        "--no-binary",
        "llama-cpp-python",
        "--require-hashes",
    ]
    flags = {name: f"{os.environ.get(name, '')} {NO_AMX}".strip() for name in ("CFLAGS", "CXXFLAGS")}
    run(*pip, "--no-cache-dir", "--wheel-dir", part, "--requirement", LLAMA_LOCK, env=flags)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    say(f"built in {time.monotonic() - began:.0f} s; kept in {folder}")
    return next(folder.glob("*.whl"))


def ensure_llama() -> None:
    folder, key = wheel_folder()
    if stamp_is("llama", key):
        return
    wheel = next(folder.glob("*.whl"), None) if folder.is_dir() else None
    if wheel:
        say(f"using the llama-cpp-python wheel in {folder}")
    # --no-build: this very wheel or nothing. uv must never compile another one, unseen and unpinned.
    install = [UV, "pip", "install", "--quiet", "--python", PYTHON, "--no-deps", "--no-build", "--reinstall"]
    run(*install, wheel or build_wheel(folder))
    write_stamp("llama", key)


def ensure_package() -> None:
    key = digest((ROOT / "pyproject.toml").read_text(), str(ROOT))
    if stamp_is("package", key):
        return
    run(UV, "pip", "install", "--quiet", "--python", PYTHON, "--no-deps", "--editable", ROOT)
    write_stamp("package", key)


def main() -> None:
    if sys.version_info < (3, 11):
        fail(f"cannot use Python {platform.python_version()}: 3.11 or newer is needed; do: make PYTHON=python3.11")
    ensure_uv()
    ensure_venv()
    ensure_llama()
    ensure_package()


if __name__ == "__main__":
    main()

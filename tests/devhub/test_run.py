"""`offgridd dev-hub` as a process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx2

OFFGRIDD = str(Path(sys.executable).with_name("offgridd"))


def test_it_says_what_it_serves_and_where_and_ends_when_told(tmp_path: Path) -> None:
    (tmp_path / "acme/Tiny-GGUF").mkdir(parents=True)
    (tmp_path / "acme/Tiny-GGUF/tiny-Q8_0.gguf").write_bytes(b"GGUF")
    argv = [OFFGRIDD, "dev-hub", str(tmp_path), "--port", "0", "--rate", "100"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "  acme/Tiny-GGUF  1 files, 4 bytes\n"
            base = process.stdout.readline().split()[2].rstrip(";")
            path = f"{base}/acme/Tiny-GGUF/resolve/main/tiny-Q8_0.gguf"
            assert httpx2.get(path, follow_redirects=True).content == b"GGUF"
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


def test_what_can_not_be_served_is_one_line() -> None:
    done = subprocess.run([OFFGRIDD, "dev-hub", "/nowhere"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.startswith("offgridd: cannot serve /nowhere")
    done = subprocess.run(
        [OFFGRIDD, "dev-hub", "/tmp", "--host", "192.0.2.1"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "cannot listen on 192.0.2.1:8611" in done.stderr

"""A stream that has nothing to say for longer than a minute is not cut, and its client hears that we are there."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hubs import Local, local_hub
from support.rig import Rig, until
from support.tinymodel import CONTROL, model

RATE, SECONDS = 2000, 75.0  # bytes a second, and how long the file takes


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Local]:
    with local_hub(tmp_path / "hub") as made:
        file = model(spec=CONTROL)
        made.put("acme/Tiny-GGUF", {"tiny-Q8_0.gguf": file + bytes(int(RATE * SECONDS) - len(file))})
        yield made


@pytest.fixture
def rig(tmp_path: Path, hub: Local) -> Iterator[Rig]:
    (tmp_path / "d").mkdir()
    made = Rig(tmp_path / "d", "fake")
    made.manifest.write_text(
        f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{made.port}"], ready: listening}}
defaults: {{endpoint: "{hub.base}"}}
store: {{rate: {RATE}, min_free: 0}}
models:
  slow: {{source: {{hf: acme/Tiny-GGUF}}, quant: Q8_0, context: 64, threads: 1}}
"""
    )
    made.start()
    yield made
    made.stop()
    made.api.close()


@pytest.mark.timeout(180)
def test_a_stream_waits_for_longer_than_a_minute_and_is_answered(rig: Rig) -> None:
    until(lambda: rig.status()["models"][0]["download"])
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=30)  # of silence
    body = {"model": "slow", "messages": [{"role": "user", "content": "a"}], "max_tokens": 3, "stream": True}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert (response.status, time.monotonic() - began < 10) == (200, True)
    pings, lines = 0, list[bytes]()
    while line := response.readline():
        pings += line.startswith(b":")
        lines += [line] if line.startswith(b"data: ") else []
    connection.close()
    assert lines[-1] == b"data: [DONE]\n"
    assert b'"finish_reason":"length"' in lines[-2]
    assert time.monotonic() - began > 60
    assert pings >= 5

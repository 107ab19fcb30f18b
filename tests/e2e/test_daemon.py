"""The daemon as a process, on the real small model, with the official client."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from support.rig import Rig, until

from offgridd.cli.client import CliError

PARIS = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
LONG = [{"role": "user", "content": "Tell me a long story about a lighthouse."}]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    made.write()
    made.start()
    yield made
    made.stop()
    made.api.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_streamed_answer_to_the_official_client(rig: Rig) -> None:
    stream = rig.api.chat.completions.create(
        model="smol", messages=PARIS, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "Paris" in "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens > 0
    whole = rig.api.chat.completions.create(model="smol", messages=PARIS, temperature=0)
    assert whole.choices[0].message.content == "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def test_an_alias_is_live_and_a_context_reloads_behind_a_running_stream(rig: Rig) -> None:
    (pid,) = rig.pids()
    stream = rig.api.chat.completions.create(model="smol", messages=LONG, temperature=0, stream=True, max_tokens=150)
    first = next(iter(stream))
    rig.write(alias="two")
    until(lambda: rig.status()["observedGeneration"] == 2)
    assert rig.pids() == [pid]
    assert rig.api.models.retrieve("two").id == "smol"
    rig.write(alias="two", context=1024)
    chunks = [first, *stream]
    assert chunks[-1].choices[0].finish_reason == "length", "the old stream ends whole"
    until(lambda: rig.pids() not in ([pid], []) and len(rig.pids()) == 1)
    assert rig.api.models.retrieve("smol").context_length == 1024


def test_a_bad_edit_changes_nothing_and_is_said(rig: Rig) -> None:
    (pid,) = rig.pids()
    rig.manifest.write_text("models: [")
    accepted = until(lambda: next((c for c in rig.status()["conditions"] if c["status"] == "False"), None))
    assert (accepted["type"], accepted["reason"]) == ("Accepted", "ParseError")
    assert f"{rig.manifest}:" in accepted["message"]
    assert rig.pids() == [pid]
    assert rig.api.chat.completions.create(model="one", messages=PARIS, temperature=0).choices
    with pytest.raises(CliError):
        rig.admin.json("GET", "/v1/nothing")
    assert rig.admin.json("POST", "/v1/reload")["accepted"] is False
    rig.write()
    until(rig.is_ready)
    assert rig.pids() == [pid]


def test_a_killed_worker_ends_its_stream_with_an_error_and_comes_back(rig: Rig) -> None:
    (pid,) = rig.pids()
    endless = {"logit_bias": {"0": -100, "2": -100, "4": -100}, "max_tokens": 1000}  # none of its ends is chosen
    body = json.dumps({"model": "smol", "messages": LONG, "stream": True, **endless}).encode()
    with rig.admin.open("POST", "/v1/chat/completions", body) as response:
        while not re.search(rb'"content":"[^"]', response.readline()):
            pass  # before its first token another worker may take it over
        os.kill(pid, signal.SIGKILL)
        rest = response.read().decode()
    assert '"code":"worker_crashed"' in rest
    assert "[DONE]" not in rest
    until(lambda: rig.is_ready() and rig.pids() not in ([pid], []))


def test_a_killed_daemon_leaves_no_orphan_and_converges_again(rig: Rig) -> None:
    (pid,) = rig.pids()
    assert rig.process is not None
    rig.process.kill()
    rig.process.wait(10)
    until(lambda: not alive(pid), 5)
    rig.start()
    assert rig.status()["generation"] == 1
    assert rig.pids() != [pid]


def test_a_second_daemon_is_refused_naming_the_pid(rig: Rig) -> None:
    assert rig.process is not None
    argv = [sys.executable, "-m", "offgridd", "serve", "--manifest", str(rig.manifest)]
    done = subprocess.run(
        [*argv, "--state-dir", str(rig.folder / "state"), "--admin-socket", str(rig.folder / "b.sock")],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 78
    assert str(rig.process.pid) in done.stderr


def test_requests_that_can_not_be_served_say_why(rig: Rig) -> None:
    with pytest.raises(openai.NotFoundError, match="cannot find the model"):
        rig.api.chat.completions.create(model="other", messages=PARIS)
    with pytest.raises(openai.BadRequestError, match="context") as caught:
        rig.api.chat.completions.create(model="smol", messages=[{"role": "user", "content": "word " * 3000}])
    assert caught.value.code == "context_length_exceeded"
    assert "2048" in str(caught.value)
    with pytest.raises(openai.PermissionDeniedError, match="admin socket"):
        rig.api.post("/reload", cast_to=object)


def test_choices_and_logprobs(rig: Rig) -> None:
    asked = {"model": "smol", "messages": PARIS, "temperature": 0, "max_tokens": 6, "logprobs": True, "top_logprobs": 3}
    whole = rig.api.chat.completions.create(**asked, n=2)
    assert [c.index for c in whole.choices] == [0, 1]
    for choice in whole.choices:
        tokens = choice.logprobs.content
        assert "".join(t.token for t in tokens) == choice.message.content
        assert all(t.token == t.top_logprobs[0].token and len(t.top_logprobs) == 3 for t in tokens), "greedy: the best"
        assert all(t.logprob <= 0 for t in tokens)
    assert whole.usage.completion_tokens == 12
    texts = {0: "", 1: ""}
    for chunk in rig.api.chat.completions.create(**asked, n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == {c.index: c.message.content for c in whole.choices}
    with pytest.raises(openai.BadRequestError, match="there is no token 9999999"):
        rig.api.chat.completions.create(model="smol", messages=PARIS, logit_bias={"9999999": 1})


SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "sure": {"type": "boolean"}},
    "required": ["city", "sure"],
    "additionalProperties": False,
}


def test_an_answer_matches_its_schema_and_what_can_not_be_honoured_is_refused(rig: Rig) -> None:
    (pid,) = rig.pids()
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
    for temperature in (0, 2):
        made = rig.api.chat.completions.create(
            model="smol", messages=PARIS, response_format=wanted, temperature=temperature, max_tokens=200
        )
        found = json.loads(made.choices[0].message.content)
        assert (set(found), made.choices[0].finish_reason) == ({"city", "sure"}, "stop")
    bad = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "http://127.0.0.1:1/x"}}}
    with pytest.raises(openai.BadRequestError) as caught:
        rig.api.chat.completions.create(model="smol", messages=PARIS, response_format=bad)
    assert caught.value.code == "invalid_schema"
    with pytest.raises(openai.BadRequestError) as caught:
        rig.api.chat.completions.create(model="smol", messages=PARIS, extra_body={"grammar": "root ::= ["})
    assert caught.value.code == "invalid_grammar"
    assert rig.pids() == [pid]


def test_sigterm_ends_with_zero(rig: Rig) -> None:
    pids = rig.pids()
    assert rig.stop() == 0
    assert not any(alive(p) for p in pids)


def leave_in_mid_stream(rig: Rig) -> None:
    body = json.dumps({"model": "smol", "messages": LONG, "stream": True, "max_tokens": 1900}).encode()
    with rig.admin.open("POST", "/v1/chat/completions", body) as response:
        while b'"content":"' not in response.readline():
            pass


def test_a_client_that_leaves_frees_its_slot(rig: Rig) -> None:
    (pid,) = rig.pids()
    for _ in range(3):
        leave_in_mid_stream(rig)
    began = time.monotonic()
    rig.api.chat.completions.create(model="smol", messages=PARIS, max_tokens=4)
    assert time.monotonic() - began < 10, "1,900 tokens each would take far longer"
    until(lambda: is_idle(pid))


def is_idle(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_sigterm_after_clients_left_ends_with_zero_and_no_traceback(rig: Rig) -> None:
    leave_in_mid_stream(rig)
    rig.api.chat.completions.create(model="smol", messages=PARIS, max_tokens=2)
    assert rig.stop() == 0
    assert "Traceback" not in (rig.folder / "log").read_text()


def test_sigterm_lets_a_running_stream_end_whole(rig: Rig) -> None:
    body = json.dumps({"model": "smol", "messages": LONG, "stream": True, "max_tokens": 200}).encode()
    assert rig.process is not None
    with rig.admin.open("POST", "/v1/chat/completions", body) as response:
        while b'"content":"' not in response.readline():
            pass
        rig.process.send_signal(signal.SIGTERM)
        assert response.read().endswith(b"data: [DONE]\n\n")
    assert rig.process.wait(45) == 0

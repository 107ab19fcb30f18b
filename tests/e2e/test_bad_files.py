"""Bad files that reach a worker: each ends with its reason, and the daemon and its other models do not notice."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from support import badfiles
from support.rig import Rig, until

from offgridd.cli.client import CliError

REACH = [c for c in badfiles.CASES if c[1] == "template" or c[0] in (
    "control_good.gguf", "mod_arch_unknown.gguf", "mod_missing_tensor.gguf", "tok_model_unknown.gguf")]  # fmt: skip


@pytest.mark.timeout(240)
def test_each_ends_with_a_reason_and_the_good_one_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFGRIDD_STORE_ROOTS", json.dumps([str(tmp_path)]))
    rig = Rig(tmp_path)
    lines = ["apiVersion: offgridd/v1", f"server: {{listen: ['127.0.0.1:{rig.port}']}}", "models:"]
    for name, _, _, build in REACH:
        badfiles.write(str(tmp_path), name, build)
        key = name.removesuffix(".gguf").replace("_", "-")
        lines.append(
            f"  {key}: {{source: {{file: {tmp_path / name}}}, threads: 1, preload: {str('good' in name).lower()}}}"
        )
    rig.manifest.write_text("\n".join(lines) + "\n")
    rig.start()
    try:
        (good,) = rig.pids()
        for name, expect, _, _ in REACH:
            key = name.removesuffix(".gguf").replace("_", "-")
            body = {"model": key, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
            began = time.monotonic()
            try:
                rig.admin.json("POST", "/v1/chat/completions", json.dumps(body).encode())
                said = "answered"
            except CliError as error:
                said = str(error)
            print(f"{key:<24} {expect:<9} {time.monotonic() - began:5.1f} s  {said[:140]}")
            assert (said == "answered") == (expect == "accept"), said
            assert "SSTI-" not in said, "no template code ran"
            assert time.monotonic() - began < 25, "past the helper's start and render deadlines"
        assert good in rig.pids()
        assert rig.ready()
    finally:
        until(lambda: rig.stop() == 0)
        rig.api.close()

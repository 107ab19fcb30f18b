"""`hf:` in a manifest is enough: found, fetched, verified and served, whatever happens on the way."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hubs import Local, local_hub
from support.rig import Rig, until
from support.tinymodel import CONTROL, model

from offgridd.core.kernels import speed_note
from offgridd.effects.cpu import features

REPO, FILE = "acme/Tiny-GGUF", "tiny-Q8_0.gguf"
DATA = model(spec=CONTROL) + bytes(3 << 20)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Local]:
    with local_hub(tmp_path / "hub") as made:
        made.put(REPO, {FILE: DATA, "tiny-Q4_K_M.gguf": DATA[:-1], "README.md": b"# Tiny\n"})
        made.put("acme/Gated-GGUF", {FILE: DATA}, gated="manual")
        yield made


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, "fake", {"OUR_TOKEN": "hf_granted", "HF_TOKEN": "hf_of_the_user"})
    yield made
    if made.process is not None:
        assert made.stop() == 0
    made.api.close()


def declare(
    rig: Rig, endpoint: str, model: str = f"source: {{hf: {REPO}}}, quant: Q8_0", server: str = "", store: str = ""
) -> None:
    text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]{server}}}
defaults: {{endpoint: "{endpoint}"}}
store: {{min_free: 0{store}}}
models: {{tiny: {{{model}, context: 64}}}}
"""
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)


def tiny(rig: Rig) -> dict[str, Any]:
    found: dict[str, Any] = rig.status()["models"][0]
    return found


def condition(rig: Rig, kind: str) -> tuple[str, str]:
    found = next(c for c in tiny(rig)["conditions"] if c["type"] == kind)
    return found["status"], found["reason"]


def blob(rig: Rig, sha: str = SHA) -> Path:
    return rig.folder / "state/blobs" / f"sha256-{sha}"


def test_declared_is_found_fetched_and_served(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base)
    rig.start()
    until(rig.is_ready)
    answer = rig.api.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
    assert answer.choices[0].message.content
    assert blob(rig).read_bytes() == DATA
    assert hub.seen.sent[""] == len(DATA)
    found = tiny(rig)
    assert [condition(rig, kind) for kind in ("Resolved", "Downloaded", "Verified")] == [
        ("True", "Pinned"), ("True", "InStore"), ("True", "DigestKnown")]  # fmt: skip
    assert found["source"]["pinned"]["files"] == [FILE]
    assert found["source"]["pinned"]["why"] == f"Q8_0 was asked for; {speed_note('Q8_0', features())}".removesuffix(
        "; "
    )
    assert found["download"] is None
    assert all("hf_of_the_user" not in str(headers) for _, _, headers in hub.seen.requests)
    assert rig.api.chat.completions.create(
        model=f"{REPO}:Q8_0", messages=[{"role": "user", "content": "Hi"}], max_tokens=4
    )


def test_what_was_fetched_once_works_without_the_hub(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base)
    rig.start()
    until(rig.is_ready)
    assert rig.stop() == 0
    hub.seen.requests.clear()
    rig.start()
    until(rig.is_ready)
    assert hub.seen.requests == []
    assert rig.stop() == 0
    for file in (rig.folder / "state").glob("state.db*"):  # what it meant is noted beside the blob, too
        file.unlink()
    declare(rig, "http://127.0.0.1:9")
    rig.start()
    until(rig.is_ready)


@pytest.mark.parametrize(
    ("model", "kind", "reason"),
    [
        (f"source: {{hf: {REPO}}}, max_size: 1MB", "Resolved", "TooLarge"),
        (f"source: {{hf: {REPO}}}, quant: Q6_K", "Resolved", "QuantNotFound"),
        (f"source: {{hf: {REPO}, file: nope.gguf}}", "Resolved", "FileNotInRepo"),
        (f"source: {{hf: {REPO}, revision: nope}}", "Resolved", "RevisionNotFound"),
        ("source: {hf: acme/Nothing}", "Resolved", "RepoNotFound"),
        ("source: {hf: acme/Gated-GGUF}", "Downloaded", "Gated"),
        (f"source: {{hf: {REPO}, file: {FILE}}}, sha256: {'0' * 64}", "Verified", "DigestMismatch"),
    ],
)
def test_what_can_not_be_had_has_a_reason_and_costs_no_byte(
    rig: Rig, hub: Local, model: str, kind: str, reason: str
) -> None:
    declare(rig, hub.base, model)
    rig.start()
    assert until(lambda: condition(rig, kind)[0] == "False" and condition(rig, kind)) == ("False", reason)
    assert hub.seen.sent[""] == 0
    declare(rig, hub.base)
    until(rig.is_ready)


def test_a_list_of_quants_is_an_order(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base, f"source: {{hf: {REPO}}}, quant: [Q6_K, Q8_0]")
    rig.start()
    until(rig.is_ready)
    assert tiny(rig)["source"]["pinned"]["quant"] == "Q8_0"


def test_a_token_opens_what_is_gated_and_goes_to_its_endpoint_only(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base, "source: {hf: acme/Gated-GGUF}, token: {env: OUR_TOKEN}")
    rig.start()  # the endpoint stands in defaults, the token in the model: it belongs to another endpoint
    until(lambda: condition(rig, "Downloaded") == ("False", "Gated"))
    declare(rig, hub.base, f"source: {{hf: acme/Gated-GGUF}}, token: {{env: OUR_TOKEN}}, endpoint: '{hub.base}'")
    until(rig.is_ready)
    with_token = [path for _, path, headers in hub.seen.requests if headers.get("authorization")]
    assert with_token
    assert all(path.startswith(("/api/", "/acme/Gated-GGUF/resolve/")) for path in with_token)


def test_offline_asks_nobody_until_it_is_over(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base, server=", offline: true")
    rig.start()
    until(lambda: condition(rig, "Resolved") == ("False", "Offline"))
    assert hub.seen.requests == []
    declare(rig, hub.base)
    until(rig.is_ready)


def test_a_download_does_not_hold_up_the_start_and_is_seen_in_status(rig: Rig, tmp_path: Path) -> None:
    with local_hub(tmp_path / "slow", rate=1 << 20) as slow:
        slow.put(REPO, {FILE: DATA})
        declare(rig, slow.base)
        rig.start()
        found = until(lambda: tiny(rig)["download"])
        assert found["size"] == len(DATA)
        assert condition(rig, "Downloaded") == ("Unknown", "Progressing")
        until(rig.is_ready)


def test_limits_reach_a_download_that_is_running(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base, store=", rate: 1KB, connections: 1")
    rig.start()
    until(lambda: (tiny(rig)["download"] or {"bytes": 0})["bytes"] > 0)
    declare(rig, hub.base)
    until(rig.is_ready)
    assert hub.seen.sent[""] == len(DATA), "it was not begun anew"


def test_a_hub_that_crawls_is_told_and_left_for_another(rig: Rig, hub: Local) -> None:
    declare(rig, hub.url(crawl=2000), store=", min_rate: 1MB/s over 1s")
    rig.start()
    until(lambda: condition(rig, "Downloaded") == ("False", "TooSlow"))
    declare(rig, hub.base)
    until(rig.is_ready)


def test_kill_9_in_mid_download_and_again(rig: Rig, tmp_path: Path) -> None:
    big = DATA + os.urandom(24 << 20)
    with local_hub(tmp_path / "slow", rate=8 << 20) as slow:
        slow.put(REPO, {FILE: big})
        declare(rig, slow.base)
        rig.start()
        until(lambda: (tiny(rig)["download"] or {"bytes": 0})["bytes"] > 9 << 20)
        rig.kill()
        rig.start()
        until(rig.is_ready)
        assert hashlib.sha256(big).hexdigest() in {p.name[7:] for p in (rig.folder / "state/blobs").iterdir()}
        assert os.listdir(rig.folder / "state/partial") == []


@pytest.mark.parametrize("damage", ["deleted", "truncated", "changed", "header"])
def test_a_blob_that_was_damaged_while_nobody_looked_is_fetched_again(rig: Rig, hub: Local, damage: str) -> None:
    declare(rig, hub.base, f"source: {{hf: {REPO}}}, quant: Q8_0, sha256: {SHA}")
    rig.start()
    until(rig.is_ready)
    assert rig.stop() == 0
    match damage:
        case "deleted":
            blob(rig).unlink()
        case "truncated":
            os.truncate(blob(rig), len(DATA) // 2)
        case "header":
            with blob(rig).open("r+b") as file:
                file.write(b"XXXX")
        case "changed":
            with blob(rig).open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"x")
    rig.start()
    until(rig.is_ready)
    assert blob(rig).read_bytes() == DATA


def test_one_file_for_two_models_is_fetched_once(rig: Rig, hub: Local) -> None:
    text = f"quant: Q8_0, context: 64}}, other: {{source: {{hf: {REPO}, file: {FILE}}}"
    declare(rig, hub.base, f"source: {{hf: {REPO}}}, {text}")
    rig.start()
    until(rig.is_ready)
    assert len(rig.status()["models"]) == 2
    assert hub.seen.sent[""] == len(DATA)


def test_a_hub_whose_digest_is_wrong_is_not_believed_nor_asked_for_ever(rig: Rig, hub: Local) -> None:
    declare(rig, hub.url(corrupt=1))
    rig.start()
    until(lambda: condition(rig, "Verified") == ("False", "DigestMismatch") and not retries(rig))
    assert hub.seen.sent["/corrupt=1"] == 2 * len(DATA)
    declare(rig, hub.base)
    until(rig.is_ready)


def retries(rig: Rig) -> bool:
    message = next(c for c in tiny(rig)["conditions"] if c["type"] == "Verified")["message"]
    return "fetched 2 times" not in message


def test_a_mirror_changes_nothing_that_runs(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base)
    rig.start()
    until(rig.is_ready)
    before = rig.pids()
    hub.seen.requests.clear()
    declare(rig, hub.url(drop=1000))
    until(lambda: tiny(rig)["source"]["endpoint"].endswith("drop=1000"))
    assert (rig.pids(), hub.seen.requests) == (before, [])


def test_the_hub_library_is_not_loaded_where_no_hub_is_declared() -> None:
    text = "import sys, offgridd.daemon; print([m for m in ('huggingface_hub', 'httpx2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "[]"

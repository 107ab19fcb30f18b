"""The real client of Hugging Face against the dev hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from offgridd.devhub.repos import Repos
from offgridd.devhub.routes import Hub
from offgridd.devhub.serve import part_of, serving

WEIGHTS = bytes(range(256)) * 5000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hub")
    for name, about in {
        "acme/Tiny-GGUF": {"downloads": 7, "likes": 1, "tags": ["gguf", "license:mit"]},
        "acme/Other-GGUF": {"downloads": 9, "gguf": {"total": 7, "architecture": "llama", "context_length": 4096}},
        "zoo/Gated-GGUF": {"gated": "manual", "downloads": 8},
        "zoo/Hidden-GGUF": {"private": True},
    }.items():
        repo = made / name
        (repo / "BF16").mkdir(parents=True)
        (repo / ".hub.json").write_text(json.dumps(about))
        (repo / "README.md").write_text("# Read me\n")
        (repo / "tiny-Q8_0.gguf").write_bytes(WEIGHTS)
        (repo / "BF16/tiny BF16.gguf").write_bytes(WEIGHTS[:1000])
    return made


@pytest.fixture(scope="module")
def hub(folder: Path) -> Iterator[str]:
    with serving(Hub(Repos(folder), page=2)) as (base, _):
        yield base


@pytest.fixture
def api(hub: str, monkeypatch: pytest.MonkeyPatch) -> HfApi:
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    return HfApi(endpoint=hub, token=False)


def test_models_are_listed_over_pages_in_the_order_that_was_asked(api: HfApi) -> None:
    found = list(api.list_models(sort="downloads"))
    assert [m.id for m in found] == ["acme/Other-GGUF", "zoo/Gated-GGUF", "acme/Tiny-GGUF"]
    assert found[1].gated == "manual"
    assert [m.id for m in api.list_models(search="tiny")] == ["acme/Tiny-GGUF"]
    assert [m.id for m in api.list_models(author="zoo")] == ["zoo/Gated-GGUF"]
    assert [m.id for m in api.list_models(filter=["gguf", "license:mit"])] == ["acme/Tiny-GGUF"]
    assert [m.id for m in api.list_models(gated=False, sort="likes")] == ["acme/Tiny-GGUF", "acme/Other-GGUF"]
    (one,) = api.list_models(search="other", expand=["gguf", "siblings"])
    assert one.gguf is not None
    assert one.gguf["context_length"] == 4096
    assert [s.rfilename for s in one.siblings or []] == ["BF16/tiny BF16.gguf", "README.md", "tiny-Q8_0.gguf"]
    assert len(list(api.list_models(limit=1))) == 1


def test_a_model_with_its_files(api: HfApi) -> None:
    found = api.model_info("acme/Tiny-GGUF", files_metadata=True)
    weights = next(s for s in found.siblings or [] if s.rfilename == "tiny-Q8_0.gguf")
    assert weights.lfs is not None
    assert (weights.size, weights.lfs.sha256) == (len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest())
    assert api.model_info("acme/Tiny-GGUF", revision=found.sha).sha == found.sha


def test_the_tree_in_pages_with_folders_and_sha256(api: HfApi) -> None:
    found = {e.path: e for e in api.list_repo_tree("acme/Tiny-GGUF", recursive=True)}
    assert list(found) == ["BF16", "BF16/tiny BF16.gguf", "README.md", "tiny-Q8_0.gguf"]
    assert found["tiny-Q8_0.gguf"].lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()  # type: ignore[union-attr]
    assert found["README.md"].lfs is None  # type: ignore[union-attr]
    assert [e.path for e in api.list_repo_tree("acme/Tiny-GGUF")] == ["BF16", "README.md", "tiny-Q8_0.gguf"]
    assert [e.path for e in api.list_repo_tree("acme/Tiny-GGUF", "BF16")] == ["BF16/tiny BF16.gguf"]
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree("acme/Tiny-GGUF", "nowhere"))
    (one,) = api.get_paths_info("acme/Tiny-GGUF", ["README.md", "nope"])
    assert one.path == "README.md"
    assert [b.name for b in api.list_repo_refs("acme/Tiny-GGUF").branches] == ["main"]


@pytest.mark.parametrize("file", ["tiny-Q8_0.gguf", "README.md", "BF16/tiny BF16.gguf"])
def test_files_are_downloaded(hub: str, folder: Path, tmp_path: Path, file: str) -> None:
    path = hf_hub_download("acme/Tiny-GGUF", file, endpoint=hub, cache_dir=tmp_path, token=False)
    assert Path(path).read_bytes() == (folder / "acme/Tiny-GGUF" / file).read_bytes()


def test_what_is_missing_is_told_as_the_hub_does(api: HfApi, hub: str, tmp_path: Path) -> None:
    for repo in ("acme/Nothing", "zoo/Hidden-GGUF"):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info(repo)
        with pytest.raises(RepositoryNotFoundError):
            HfApi(endpoint=hub, token="hf_somebody").model_info(repo)
    with pytest.raises(RevisionNotFoundError):
        api.model_info("acme/Tiny-GGUF", revision="nope")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("acme/Tiny-GGUF", "nope.gguf", endpoint=hub, cache_dir=tmp_path, token=False)
    with pytest.raises(HfHubHTTPError) as refused:
        HfApi(endpoint=hub, token="nonsense").model_info("acme/Tiny-GGUF")
    assert refused.value.response is not None
    assert refused.value.response.status_code == 401


@pytest.mark.parametrize("token", [False, "hf_somebody"])
def test_gated_files_need_a_token_that_was_granted(hub: str, tmp_path: Path, token: str | bool) -> None:
    with pytest.raises(GatedRepoError):
        hf_hub_download("zoo/Gated-GGUF", "tiny-Q8_0.gguf", endpoint=hub, cache_dir=tmp_path, token=token)
    assert HfApi(endpoint=hub, token=token).model_info("zoo/Gated-GGUF").gated == "manual"
    path = hf_hub_download("zoo/Gated-GGUF", "tiny-Q8_0.gguf", endpoint=hub, cache_dir=tmp_path, token="hf_granted")
    assert Path(path).read_bytes() == WEIGHTS


def test_a_changed_file_is_a_new_commit_and_the_old_one_stays(folder: Path, hub: str, api: HfApi) -> None:
    repo = folder / "acme/Moving-GGUF"
    repo.mkdir()
    contents = [folder / f".content{i}" for i in (1, 2)]
    for i, content in enumerate(contents):
        content.write_bytes(bytes([i]) * 1000)
    (repo / "m-Q8_0.gguf").symlink_to(contents[0])
    before = api.model_info("acme/Moving-GGUF").sha
    (repo / "m-Q8_0.gguf").unlink()
    (repo / "m-Q8_0.gguf").symlink_to(contents[1])
    after = api.model_info("acme/Moving-GGUF").sha
    assert before != after
    for sha, content in zip((before, after), contents, strict=True):
        found = httpx2.get(f"{hub}/acme/Moving-GGUF/resolve/{sha}/m-Q8_0.gguf", follow_redirects=True)
        assert found.content == content.read_bytes()


def test_ranges_of_large_and_small_files(hub: str) -> None:
    for name, size in (("tiny-Q8_0.gguf", len(WEIGHTS)), ("README.md", 10)):
        url = f"{hub}/acme/Tiny-GGUF/resolve/main/{name}"
        with httpx2.Client(follow_redirects=True) as client:
            found = client.get(url, headers={"Range": "bytes=2-5"})
            assert (found.status_code, len(found.content)) == (206, 4)
            assert found.headers["content-range"] == f"bytes 2-5/{size}"
            found = client.get(url, headers={"Range": f"bytes={size}-"})
            assert (found.status_code, found.headers["content-range"]) == (416, f"bytes */{size}")


def test_a_client_that_reads_more_slowly_than_the_hub_sends_gets_all_of_it(tmp_path: Path) -> None:
    repo, data = tmp_path / "acme/Big-GGUF", bytes(48 << 20)  # more than any socket holds
    repo.mkdir(parents=True)
    (repo / "big-Q8_0.gguf").write_bytes(data)
    with serving(Hub(Repos(tmp_path))) as (base, _), httpx2.Client(follow_redirects=True) as client:
        assert client.get(f"{base}/acme/Big-GGUF/resolve/main/big-Q8_0.gguf").content == data


@pytest.mark.parametrize(
    ("header", "found"),
    [(None, (0, 10)), ("bytes=0-", (0, 10)), ("bytes=3-4", (3, 5)), ("bytes=3-99", (3, 10)), ("bytes=-4", (6, 10)),
     ("bytes=-99", (0, 10)), ("bytes=10-", None), ("bytes=-0", None), ("bytes=5-4", None), ("lines=1-2", (0, 10)),
     ("bytes=1-2,4-5", (0, 10))],
)  # fmt: skip
def test_the_part_that_a_range_means(header: str | None, found: tuple[int, int] | None) -> None:
    assert part_of(header, 10) == found


def test_nonsense_is_an_error_and_not_the_end(hub: str) -> None:
    assert httpx2.get(f"{hub}/api/models?limit=many").status_code == 400
    assert httpx2.get(f"{hub}/api/models?sort=colour").status_code == 400
    assert httpx2.get(f"{hub}/nowhere").status_code == 404
    assert httpx2.get(f"{hub}/acme/../resolve/main/x").status_code in (401, 404)
    assert httpx2.get(f"{hub}/acme/Tiny-GGUF/resolve/main/.hub.json").status_code == 404
    assert httpx2.get(f"{hub}/api/models").status_code == 200

"""Real listings with their expected answers, and made-up repositories of every layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridd.core.choice import Choice, Wanted, choose
from offgridd.core.errors import Failure
from offgridd.core.variants import Listing, RepoFile, Variant, sort_files

LISTINGS = sorted((Path(__file__).parents[1] / "data/listings").glob("*.json"))


def read(path: Path) -> tuple[Listing, dict[str, Any]]:
    found = json.loads(path.read_text())
    return sort_files(RepoFile(f["path"], f["size"]) for f in found["files"]), found["expected"]


def shown(variant: Variant) -> dict[str, Any]:
    quant = variant.quant
    return {
        "quant": quant and quant.name, "token": quant and quant.token, "files": list(variant.files),
        "shards": variant.shards, "complete": variant.complete, "total_bytes": variant.total_bytes,
        "mainline_loadable": variant.loadable,
    }  # fmt: skip


def chosen(listing: Listing, **wanted: Any) -> str | None:
    found = choose(listing.variants, Wanted(**wanted))
    return found.variant.filename if isinstance(found, Choice) else None


def test_all_listings_are_here() -> None:
    assert len(LISTINGS) == 21


@pytest.mark.parametrize("path", LISTINGS, ids=lambda p: p.stem)
def test_a_real_listing(path: Path) -> None:
    listing, expected = read(path)
    assert [shown(v) for v in listing.variants] == expected["variants"]
    assert {kind: sorted(paths) for kind, paths in listing.companions.items()} == expected["companions"]
    assert chosen(listing) == expected["best_default"]
    for fit in expected["fit"]:
        found = chosen(listing, most=fit["max_bytes"])
        assert found in (fit["accept"] or [None])


@pytest.mark.parametrize("path", LISTINGS, ids=lambda p: p.stem)
def test_what_must_not_be_picked_is_not_at_any_limit(path: Path) -> None:
    listing, expected = read(path)
    limits = [None, *(v.total_bytes for v in listing.variants if v.total_bytes is not None)]
    assert not {chosen(listing, most=most) for most in limits} & set(expected["never_pick"])


QUANTS = ["Q4_K_M", "Q8_0", "UD-Q4_K_XL", "IQ2_XXS", "BF16", "F16", "MXFP4", "Q5_K_S"]


@st.composite
def repositories(draw: st.DrawFn) -> tuple[list[RepoFile], dict[str, int]]:
    """Files of a repository, and of each quant in it the number of shards."""
    stem = draw(st.sampled_from(["Foo-7B", "foo.bar-1.5b-it", "Some Model", "Q3.5-9B", "Foo-MTP-2B"]))
    made: dict[str, int] = {}
    files: list[RepoFile] = []
    for quant in draw(st.lists(st.sampled_from(QUANTS), min_size=1, unique=True)):
        made[quant] = count = draw(st.integers(1, 5))
        folder = draw(st.sampled_from(["", f"{quant}/", f"{quant}-GGUF/", f"{stem}-{quant}.gguf/", "gguf/"]))
        named = draw(st.sampled_from([f"{stem}-{quant}", f"{stem}.{quant.lower()}", f"{quant}-GGUF"]))
        size = st.integers(1, 1 << 40)
        if count == 1 and draw(st.booleans()):
            files.append(RepoFile(f"{folder}{named}.gguf", draw(size)))
        else:
            files += [RepoFile(f"{folder}{named}-{i:05}-of-{count:05}.gguf", draw(size)) for i in range(1, count + 1)]
    beside = ["mmproj-F16.gguf", f"{stem}-mmproj.gguf", "imatrix.gguf", f"{stem}.imatrix.gguf", "mtp-foo.gguf",
              "eagle3-foo-F16.gguf", "README.md", ".gitattributes", "imatrix.dat", "vision/x-F16.gguf"]  # fmt: skip
    files += [RepoFile(path, 10) for path in draw(st.lists(st.sampled_from(beside), unique=True))]
    return draw(st.permutations(files)), made


@given(repositories())
def test_every_file_is_told_apart_in_any_order(made: tuple[list[RepoFile], dict[str, int]]) -> None:
    files, quants = made
    listing = sort_files(files)
    assert {v.quant.name: v.shards for v in listing.variants if v.quant} == quants
    assert all(v.complete for v in listing.variants)
    sizes = {f.path: f.size or 0 for f in files}
    assert all(v.total_bytes == sum(sizes[path] for path in v.files) for v in listing.variants)
    used = [path for v in listing.variants for path in v.files] + [p for c in listing.companions.values() for p in c]
    assert sorted(used) == sorted(f.path for f in files if f.path.endswith(".gguf"))
    assert sort_files(sorted(files, key=lambda f: f.path)) == listing


@given(repositories(), st.data())
def test_a_lost_shard_makes_a_variant_incomplete_and_never_chosen(
    made: tuple[list[RepoFile], Mapping[str, int]], data: st.DataObject
) -> None:
    files, _ = made
    shards = [f for f in files if "-of-" in f.path and not f.path.endswith("-00001-of-00001.gguf")]
    if not shards:
        return
    lost = data.draw(st.sampled_from(shards))
    listing = sort_files(f for f in files if f != lost)
    stem = lost.path.rsplit("-", 3)[0]
    broken = [v for v in listing.variants if v.filename.startswith(stem + "-0")]
    assert all(not v.complete and v.total_bytes is None for v in broken)
    found = choose(listing.variants, Wanted())
    assert isinstance(found, Failure) or found.variant.complete


@given(repositories(), st.integers(0, 1 << 43))
def test_the_limit_is_kept_and_a_reason_given(made: tuple[list[RepoFile], Mapping[str, int]], most: int) -> None:
    listing = sort_files(made[0])
    found = choose(listing.variants, Wanted(most=most))
    sizes = [v.total_bytes for v in listing.variants if v.total_bytes is not None]
    if isinstance(found, Choice):
        assert (found.variant.total_bytes or 0) <= most
        assert found.why
    else:
        assert found.reason == "TooLarge"
        assert min(sizes) > most


def test_sizes_that_are_not_known_pass_no_limit() -> None:
    listing = sort_files([RepoFile("a-Q4_K_M.gguf"), RepoFile("a-Q8_0.gguf", 10)])
    assert chosen(listing) == "a-Q4_K_M.gguf"
    assert chosen(listing, most=100) == "a-Q8_0.gguf"

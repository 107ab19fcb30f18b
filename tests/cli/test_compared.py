"""`offgrid plan --against`: real repositories, and what a reviewer reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dulwich import porcelain

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
FIRST = """apiVersion: offgridd/v1
server: {ready: listening}
models:
  a: {source: {file: /m/a.gguf}, context: 512, description: one}
  b: {source: {file: /m/b.gguf}}
  gone: {source: {file: /m/gone.gguf}}
"""
SECOND = """apiVersion: offgridd/v1
server: {ready: settled}
store: {connections: 4}
models:
  a: {source: {file: /m/a.gguf}, context: 1024, threads: 2}
  b: {source: {file: /m/b.gguf}, description: other}
  new: {source: {file: /m/new.gguf}}
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A work tree whose folder `host` holds a manifest with a fragment, committed as v1 on the branch main."""
    porcelain.init(tmp_path)
    folder = tmp_path / "host"
    (folder / "conf.d").mkdir(parents=True)
    (folder / "offgridd.yaml").write_text(FIRST)
    (folder / "conf.d" / "10.yaml").write_text("models: {b: {priority: 1}}\n")
    commit(tmp_path, "first")
    porcelain.tag_create(tmp_path, "v1")
    return folder


def commit(root: Path, message: str) -> str:
    porcelain.add(root)
    me = b"a <a@example.com>"
    return porcelain.commit(root, message.encode(), author=me, committer=me).decode()


def plan(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([OFFGRID, "plan", *args], cwd=folder, capture_output=True, text=True, timeout=60)


def test_without_a_change_there_is_nothing_to_review(tree: Path) -> None:
    done = plan(tree, "--against", "v1")
    assert (done.returncode, done.stdout) == (0, "no changes\n"), done.stderr
    assert "No changes." in plan(tree, "--against", "HEAD", "--output", "markdown").stdout


def test_each_model_has_its_class_and_its_fields(tree: Path) -> None:
    (tree / "offgridd.yaml").write_text(SECOND)
    done = plan(tree, "--against", "v1")
    assert done.returncode == 6
    assert done.stdout.splitlines() == [
        "reload   a: context, threads, description",
        "live     b: description",
        "remove   gone: drains and stops",
        "add      new: is added",
        "server   ready",
        "store    connections",
    ]
    shown = plan(tree, "--against", "v1", "--output", "markdown").stdout
    assert "| `a` | reload | `context`, `threads`, `description` | its worker is replaced |  |" in shown
    assert "`store`: `connections` (live)" in shown
    found = json.loads(plan(tree, "--against", "v1", "--output", "json").stdout)
    assert found["models"][0]["change"] == {"model": "a", "kind": "reload"}
    assert len(found["against"]) == 40


def test_fragments_of_then_are_read_too(tree: Path) -> None:
    (tree / "conf.d" / "10.yaml").unlink()
    assert plan(tree, "--against", "v1").stdout == "live     b: priority\n"


def test_any_name_of_a_commit_will_do(tree: Path) -> None:
    (tree / "offgridd.yaml").write_text(SECOND)
    second = commit(tree.parent, "second")
    for ref in (second, second[:10], "HEAD", "refs/heads/master"):
        assert plan(tree, "--against", ref).returncode == 0, ref
    assert plan(tree.parent, "host/offgridd.yaml", "--against", "v1").returncode == 6


def test_bytes_come_from_the_lock(tree: Path) -> None:
    source = "source: {hf: o/r}"
    (tree / "offgridd.yaml").write_text(FIRST.replace("models:", f"models:\n  hub: {{{source}}}"))
    lock = f"""lockVersion: 1
models:
  hub:
    source: {{hf: o/r}}
    asked: [auto]
    quant: Q8_0
    endpoint: https://huggingface.co
    commit: {"a" * 40}
    files:
      - {{path: m-Q8_0.gguf, size: 5000000, sha256: {"b" * 64}}}
"""
    (tree / "offgridd.lock").write_text(lock)
    done = plan(tree, "--against", "v1")
    assert done.stdout == "add      hub: is added; 5 MB to fetch\n", done.stderr


@pytest.mark.parametrize(
    ("ref", "says"),
    [("v2", "it names no commit here"), ("", "it names no commit here"), ("v1:host", "names no commit")],
)
def test_what_is_no_commit_is_one_line(tree: Path, ref: str, says: str) -> None:
    done = plan(tree, "--against", ref)
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_can_not_be_compared_says_why(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (tree / "offgridd.yaml").unlink()
    os.symlink("other.yaml", tree / "offgridd.yaml")
    (tree / "other.yaml").write_text(FIRST)
    commit(tree.parent, "a link")
    assert "it is no plain file" in plan(tree, "--against", "HEAD").stderr
    (tree / "other.yaml").write_text("models: [")
    done = plan(tree, "--against", "v1")
    assert done.returncode == 1
    assert "cannot read this as YAML" in done.stderr
    elsewhere = tmp_path_factory.mktemp("none")
    (elsewhere / "offgridd.yaml").write_text(FIRST)
    assert "it lies in no Git work tree" in plan(elsewhere, "--against", "HEAD").stderr

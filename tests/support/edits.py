"""How editors, deployers and kubelets change a file. Each one gives the manifest `path` the content `text`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

Edit = Callable[[Path, str], None]


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def rename_over(path: Path, text: str) -> None:
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)


def vim(path: Path, text: str) -> None:
    path.rename(path.with_name("m.yaml~"))
    path.write_text(text)


def recreate(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def relink(link: Path, to: str) -> None:
    new = link.with_name("link.new")
    new.symlink_to(to)
    new.rename(link)


def config_map(path: Path, text: str) -> None:
    """As a kubelet swaps it: m.yaml -> ..data/m.yaml, ..data -> ..N."""
    folder, data = path.parent, path.parent / "..data"
    old = os.readlink(data) if data.is_symlink() else None
    put(folder / f"..{text}" / path.name, text)
    relink(data, f"..{text}")
    if old:
        shutil.rmtree(folder / old)
    if not path.is_symlink():
        path.symlink_to(f"..data/{path.name}")


def repoint(path: Path, text: str) -> None:
    """The manifest is a symlink that is pointed at another folder."""
    put(path.parent.parent / text / "other.yaml", text)
    relink(path, f"../{text}/other.yaml")


def release(path: Path, text: str) -> None:
    """The folder is a symlink that is pointed at another one."""
    put(path.parent.parent / f"release-{text}" / path.name, text)
    relink(path.parent, f"release-{text}")


def new_folder(path: Path, text: str) -> None:
    shutil.rmtree(path.parent)
    put(path, text)


def new_grandparent(path: Path, text: str) -> None:
    above = path.parent.parent
    above.rename(above.with_name(f"old-{text}"))
    put(path, text)


def target(edit: Edit) -> Edit:
    """The manifest is a symlink into another folder, where `edit` happens."""

    def edited(path: Path, text: str) -> None:
        real = path.parent.parent / "elsewhere" / "real.yaml"
        if not path.is_symlink():
            put(real, "")
            path.parent.mkdir()
            path.symlink_to(real)
        edit(real, text)

    return edited

"""What `offgridd install` refuses before it writes anything; the rest of it is tested under a real systemd."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from offgridd import install
from offgridd.install import InstallError, Wanted


def write(*_: object) -> None:
    raise AssertionError("it writes")


@pytest.mark.parametrize("name", ["my env", "100%", "$HOME", 'a"b'])
def test_a_path_that_systemd_would_read_otherwise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_write", write)
    with pytest.raises(InstallError, match=r"cannot name .* in a unit"):
        install.install(Wanted(user=True, bin=Path("/opt") / name / "bin"))


def test_an_environment_that_points_at_a_checkout_nobody_else_may_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(install, "HERE", tmp_path)
    monkeypatch.setattr(install, "_write", write)
    with pytest.raises(InstallError, match=f"cannot run the service from {tmp_path}"):
        install.install(Wanted())

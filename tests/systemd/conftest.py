"""Two machines: this one's own systemd, and that of Debian 13. One of each for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sdrig import SystemdRig, trixie


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("systemd")


@pytest.fixture(scope="session", params=["own", "trixie"])
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdRig]:
    assert os.geteuid() == 0, "cannot make namespaces: run make test-systemd as root"
    assert Path("/lib/systemd/systemd").exists(), "cannot run systemd: install the package systemd"
    folder = tmp_path_factory.mktemp("rig") / request.param
    folder.mkdir()
    made = SystemdRig(folder, Path("/") if request.param == "own" else trixie())
    made.up()
    yield made
    made.down()

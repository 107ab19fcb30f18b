"""Host settings: what flags and variables mean, and that what is written of them is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from offgridd import places
from offgridd.settings import Settings, SettingsRefused, load

DOCS = Path(__file__).parents[1] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"OFFGRIDD_{name.upper()}", raising=False)


@pytest.mark.parametrize(
    ("given", "roots"),
    [
        ("/srv/models", ["/srv/models"]), ("/srv/a b:/mnt/c:", ["/srv/a b", "/mnt/c"]), ("", []),
        ('["/srv/a:b", "/mnt"]', ["/srv/a:b", "/mnt"]),
    ],
)  # fmt: skip
def test_store_roots_are_written_as_path_is(monkeypatch: pytest.MonkeyPatch, given: str, roots: list[str]) -> None:
    monkeypatch.setenv("OFFGRIDD_STORE_ROOTS", given)
    assert load({}).store_roots == tuple(map(Path, roots))
    assert load({"store_roots": [Path("/flag")]}).store_roots == (Path("/flag"),)


@pytest.mark.parametrize(("given", "private"), [("0", False), ("false", False), ("no", False), ("1", True)])
def test_private_moves_the_state_when_it_is_true_and_not_when_it_is_said(
    monkeypatch: pytest.MonkeyPatch, given: str, private: bool
) -> None:
    monkeypatch.setenv("OFFGRIDD_PRIVATE", given)
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/of-systemd")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/of-systemd")
    made = load({})
    assert made.private == private
    assert made.state_dir == (places.user_state() if private else Path("/var/lib/of-systemd"))
    assert made.admin_socket.parent == (places.user_runtime() if private else Path("/run/of-systemd"))
    assert load({"state_dir": Path("/mine")}).state_dir == Path("/mine")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STORE_ROOTS", "[1"), ("PRIVATE", "perhaps"), ("LINGER", "nan"), ("LINGER", "-1"), ("LOG_LEVEL", "loud"),
        ("ENGINE", "steam"),
    ],
)  # fmt: skip
def test_a_variable_that_can_not_be_used_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"OFFGRIDD_{name}", value)
    with pytest.raises(SettingsRefused, match=f"^cannot use OFFGRIDD_{name}: .*docs/settings.md") as caught:
        load({})
    assert "\n" not in str(caught.value)


def offgridd(*args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "offgridd", "serve", *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30)


def test_the_program_says_one_line_and_78() -> None:
    done = offgridd("--log-level", "loud")
    assert (done.returncode, len(done.stderr.splitlines())) == (78, 1), done.stderr
    assert done.stderr.startswith("offgridd: cannot use --log-level: ")


def test_flags_reach_the_daemon(tmp_path: Path) -> None:
    """A group that does not exist is found out late: all that comes before was accepted."""
    args = ["--private", "--state-dir", tmp_path / "s", "--admin-socket", tmp_path / "a.sock", "--log-level", "ERROR"]
    more = ["--store-root", "/a", "--store-root", "/b", "--admin-group", "offgridd-no-such-group"]
    done = offgridd(*map(str, args), *more)
    assert done.returncode == 1
    assert "offgridd-no-such-group" in done.stderr


def rows() -> dict[str, tuple[str, str]]:
    """From docs/settings.md: name -> its flag and its default."""
    cells = [
        line.strip("|").split(" | ") for line in DOCS.read_text().splitlines() if "`OFFGRIDD_" in line and "|" in line
    ]
    return {row[1].strip("` ").removeprefix("OFFGRIDD_").lower(): (row[0].strip("` |"), row[2]) for row in cells}


def test_the_table_names_every_setting_flag_and_default() -> None:
    table = rows()
    assert set(table) == set(Settings.model_fields)
    flags = set(re.findall(r"--[a-z-]+", offgridd("--help").stdout)) - {"--help"}
    assert {flag for flag, _ in table.values() if flag} == flags
    for name, field in Settings.model_fields.items():
        if field.default_factory is None and field.default not in (None, ()):
            assert table[name][1].strip("`").lower() == str(field.default).lower(), name

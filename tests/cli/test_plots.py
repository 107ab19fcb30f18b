"""Charts in a terminal and plots in files: no wider than asked, no colour unasked for, nothing of evil names."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support.records import record

from offgridd.cli import plots
from offgridd.cli.benchmark import _side_by_side, _values
from offgridd.cli.chart import chart
from offgridd.cli.client import CliError
from offgridd.cli.machines import whence
from offgridd.core.svg import Panel, Series

EVIL = "\x1b]0;owned\x07\x1b[2J" + "long " * 40
PANEL = Panel("speed", (Series("pp512", ((1.8e9, 5.0), (1.8e9 + 9e5, 7.0))), Series(EVIL, ((1.8e9 + 10, 6.0),))))
RECORDS = [record(number, results__0__generation_tps__median=2.0 + number) for number in range(3)]


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("panel", [PANEL, Panel("one", (Series("a", ((0.0, 0.0),)),))])
def test_a_chart_is_no_wider_than_the_terminal_and_has_no_command(width: int, panel: Panel) -> None:
    text = chart(panel, width, coloured=False)
    assert max(map(len, text.splitlines())) <= width
    assert text.replace("\n", "").isprintable()
    assert panel.title in text
    assert "*" in text


def test_colours_are_the_only_commands() -> None:
    text = chart(PANEL, 80, coloured=True)
    assert "\x1b[38;5;" in text
    assert "\x1b]" not in text
    assert "\x1b[2J" not in text


def test_a_history_is_drawn_only_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    plots.history(RECORDS, None, whence)
    assert capsys.readouterr().out == "", "no terminal, and none asked for"
    plots.history(RECORDS, plots.TERMINAL, whence)
    out = capsys.readouterr().out
    assert ("prompt, tokens/s" in out, "generation, tokens/s" in out, "\x1b" in out) == (True, True, False)
    plots.history([], plots.TERMINAL, whence)
    assert capsys.readouterr().out == ""


def test_a_history_as_a_file_has_a_point_for_each_result_that_counts(tmp_path: Path) -> None:
    others = [record(8, results__0__disturbed=True), record(9, model="<evil>", imported=True)]
    plots.history([*RECORDS, *others], str(tmp_path / "h.svg"), whence)
    root = ET.parse(tmp_path / "h.svg").getroot()
    assert len([one for one in root.iter() if one.tag.endswith("circle")]) == 2 * 4
    words = "".join(root.itertext())
    assert "<evil>" in words
    assert "imported: A processor, 2 cores" in words


def test_models_side_by_side_have_their_runs_as_dots(tmp_path: Path) -> None:
    plots.side_by_side(RECORDS[:2], str(tmp_path / "c.SVG"), _values)
    root = ET.parse(tmp_path / "c.SVG").getroot()
    assert len([one for one in root.iter() if one.tag.endswith("circle")]) == 3 * 2 * 4, "figures, models, runs"


@pytest.mark.parametrize("name", ["a.png", "a", "smol", "-", "", "svg", "/tmp/.svg/x"])
def test_what_is_no_svg_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(CliError, match=r"only \.svg is written; a \.png is made of that by rsvg-convert"):
        plots.check(name)


def test_too_few_runs_can_not_tell() -> None:
    few = record(1, runs=RECORDS[0]["runs"][:3])
    assert all(line.endswith("too few runs to tell") for line in _side_by_side([RECORDS[0], few])[1:])
    assert all(line.endswith("within noise") for line in _side_by_side(RECORDS[:2])[1:])
    assert _side_by_side([*RECORDS[:2], few])[1].endswith("within noise, too few runs to tell")

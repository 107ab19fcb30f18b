"""Plots are valid XML whatever the names are, and say what the data says."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridd.core.svg import WIDTH, Bar, Bars, Panel, Series, over_time, side_by_side, ticks

NUMBER = st.floats(0, 1e15)
TIME = st.floats(0, 253402300800, exclude_max=True)
SERIES = st.builds(Series, st.text(), st.lists(st.tuples(TIME, NUMBER), min_size=1, max_size=5).map(tuple))
PANELS = st.lists(st.builds(Panel, st.text(), st.lists(SERIES, min_size=1, max_size=10).map(tuple)), max_size=3)
BAR = st.builds(Bar, st.text(), NUMBER, st.lists(NUMBER, max_size=5).map(tuple))
GROUPS = st.lists(st.builds(Bars, st.text(), st.lists(BAR, min_size=1, max_size=5).map(tuple)), max_size=3)
EVIL = "</text><script>alert(1)</script>&\"'\x1b[31m\x00"


def shapes(text: str, kind: str) -> list[dict[str, str]]:
    return [dict(found.attrib) for found in ET.fromstring(text).iter(f"{{http://www.w3.org/2000/svg}}{kind}")]


def inside(text: str) -> None:
    """Every dot and every bar is within the picture."""
    height = float(ET.fromstring(text).attrib["height"])
    for one in shapes(text, "circle"):
        assert 0 <= float(one["cx"]) <= WIDTH
        assert 0 <= float(one["cy"]) <= height
    for one in shapes(text, "rect")[1:]:
        assert 0 <= float(one["x"]) + float(one["width"]) <= WIDTH


@given(st.text(), PANELS)
def test_lines_are_valid_whatever_the_names(title: str, panels: list[Panel]) -> None:
    text = over_time(title, panels)
    inside(text)
    points = sum(len(series.points) for panel in panels for series in panel.series)
    assert len(shapes(text, "circle")) == points


@given(st.text(), GROUPS)
def test_bars_are_valid_whatever_the_names(title: str, groups: list[Bars]) -> None:
    text = side_by_side(title, groups)
    inside(text)
    assert len(shapes(text, "circle")) == sum(len(bar.dots) for group in groups for bar in group.bars)


def test_a_name_is_text_and_nothing_else() -> None:
    for text in (
        over_time(EVIL, [Panel(EVIL, (Series(EVIL, ((1.0, 2.0),)),))]),
        side_by_side(EVIL, [Bars("b", (Bar("x", 1.0, ()),)), Bars(EVIL, (Bar("y", 1.0, ()),))]),
    ):
        assert shapes(text, "script") == []
        assert "alert(1)" in "".join(ET.fromstring(text).itertext())
        assert "\x1b" not in text


def test_bars_are_as_long_as_they_are_worth() -> None:
    bars = shapes(side_by_side("t", [Bars("g", (Bar("a", 50.0, (40.0, 60.0)), Bar("b", 25.0, ())))]), "rect")[1:]
    assert float(bars[0]["width"]) == pytest.approx(2 * float(bars[1]["width"]), abs=0.2)
    assert "prefers-color-scheme:dark" in side_by_side("t", [])


@given(NUMBER, NUMBER)
def test_ticks_are_few_and_hold_the_data(one: float, other: float) -> None:
    low, high = sorted((one, other))
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    assert found[0] <= low + 1e-6 * high + 1e-9
    assert found[-1] >= high - 1e-6 * high - 1e-9


def test_one_moment_is_named_once_also_the_last_one_there_is() -> None:
    text = over_time("t", [Panel("p", (Series("s", ((253402300799.5, 2.0),)),))])
    assert text.count("9999-12-31T23:59:59Z") == 1

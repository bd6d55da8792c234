"""Drawings over windows: what they draw is what they were given, and a name in them is no more than a name."""

from __future__ import annotations

import datetime as dt
from xml.etree import ElementTree as ET

import pytest

from ponte.pages.manual import read_card
from ponte.pages.timelines import Line, heat_map, lines

WEEKS = [dt.date(2024, 1, 1) + dt.timedelta(weeks=n) for n in range(4)]


def test_a_heat_map_has_a_cell_for_each_figure_the_darker_the_further() -> None:
    cells = {week: (value, f"{value}") for week, value in zip(WEEKS, (0.1, 0.6, 1.5, None), strict=True)}
    root = ET.fromstring(heat_map({"<b>": cells, "y" * 90: {WEEKS[3]: (9.0, "far")}}, WEEKS, label="drift"))  # noqa: S314
    assert [one.attrib["class"] for one in root.iter("rect")] == ["heat0", "heat1", "heat3", "heat4"]
    texts = ["".join(one.itertext()) for one in root.iter("text")]
    assert texts[0] == "<b><b>"
    assert max(len(one.findall("title")[0].tail or "") for one in root.iter("text") if one.findall("title")) <= 26


def test_lines_lie_higher_the_greater_the_figure_with_a_gap_where_there_is_none() -> None:
    points = [(week, value, None, None) for week, value in zip(WEEKS, (0.5, None, 0.7, 0.9), strict=True)]
    root = ET.fromstring(lines([Line("a", points)], bound=0.6, label="quality"))  # noqa: S314 - our own
    heights = [float(one.attrib["cy"]) for one in root.iter("circle")]
    assert heights == sorted(heights, reverse=True)
    assert len(heights) == 3
    [drawn] = root.iter("polyline")
    assert len(drawn.attrib["points"].split()) == 2
    [bound] = [one for one in root.iter("line") if one.get("class") == "bound"]
    assert heights[0] > float(bound.attrib["y1"]) > heights[1]


def test_intervals_are_drawn_from_end_to_end() -> None:
    root = ET.fromstring(lines([Line("a", [(WEEKS[0], 0.5, 0.4, 0.8)])], bound=None, label="q"))  # noqa: S314
    [ends] = [one for one in root.iter("line") if "ends" in one.attrib["class"]]
    [dot] = root.iter("circle")
    assert float(ends.attrib["y1"]) > float(dot.attrib["cy"]) > float(ends.attrib["y2"])
    assert lines([Line("a", [(WEEKS[0], None, None, None)])], bound=1.0, label="q") == ""


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>1</script>",
        "[x](javascript:alert(1))",
        "![x](https://elsewhere/x.png)",
        "<img src=x onerror=y>",
        "[a]: data:text/html,x",
    ],
)
def test_nothing_of_a_card_runs(hostile: str) -> None:
    html = read_card(f"# Card\n\n{hostile}\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")
    assert html.startswith("<h2>Card</h2>")
    assert "<td>1</td>" in html
    assert not any(bad in html for bad in ("<script", "<img src=x", 'href="javascript', 'href="data'))

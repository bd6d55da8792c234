"""Small drawings: what they draw is what they were given, and a text in them is no more than a text."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from ponte.pages.charts import histogram


def bars(drawing: str, kind: str) -> list[tuple[float, float]]:
    """Return y and height of each rectangle of a kind, from left to right."""
    root = ET.fromstring(drawing)  # noqa: S314 - our own
    found = [one for one in root.iter("rect") if one.get("class") == kind]
    return [(float(one.attrib["y"]), float(one.attrib["height"])) for one in found]


def test_bars_of_a_histogram_are_as_high_as_their_shares_and_bands_span_the_weeks_before() -> None:
    drawing = histogram([0.1, 0.4, 0.5], [[0.2, 0.4, 0.4], [0.3, 0.4, 0.3]], edges=["1", "2"], label="scores")
    of_batch, before = bars(drawing, "bar"), bars(drawing, "band")
    floor = of_batch[0][0] + of_batch[0][1]
    unit = of_batch[2][1] / 0.5
    assert [high / unit for _, high in of_batch] == pytest.approx([0.1, 0.4, 0.5], abs=0.002)
    assert [(floor - y - high) / unit for y, high in before] == pytest.approx([0.2, 0.4, 0.3], abs=0.01)
    assert [(floor - y) / unit for y, _ in before] == pytest.approx([0.3, 0.4, 0.4], abs=0.01)
    assert all(high > 1 for _, high in before), "a week like the others is seen, too"


@pytest.mark.parametrize("size", [1, 2, 40])
def test_a_histogram_of_any_size_has_its_bars_and_not_too_many_words(size: int) -> None:
    drawing = histogram([1 / size] * size, [], edges=[str(i) for i in range(size - 1)], label="scores")
    assert len(bars(drawing, "bar")) == size
    assert bars(drawing, "band") == []
    assert len(re.findall("<text", drawing)) <= 3 + 5


def test_a_histogram_without_rows_is_empty_and_no_error() -> None:
    assert bars(histogram([0.0, 0.0], [[0.0, 0.0]], edges=["1"], label="scores"), "bar") == [(168.0, 0.0), (168.0, 0.0)]


def test_words_in_a_histogram_are_words() -> None:
    hostile = "\"><script>alert('1')</script>"
    drawing = histogram([0.5, 0.5], [], edges=[hostile], label=hostile)
    assert "<script" not in drawing
    root = ET.fromstring(drawing)  # noqa: S314 - our own
    assert root.get("aria-label") == hostile
    assert hostile in [one.text for one in root.iter("text")]

"""Drawings over the windows of a model: a strip of squares, a heat map, and lines with their intervals."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import markupsafe

from ponte.pages.formats import number

#: Units of a cell of the heat map, and of the room for names on its left.
_CELL, _ROW, _NAMES = 14, 16, 170
#: Of the lines over time.
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 220, 52, 24, 8
#: A label of the axis of time takes so many units.
_LABEL = 90
#: Statistic of a column → its colour's place, 0 to 4: at 1 it is as far as one in forty quiet weeks.
_STEPS = (0.5, 0.75, 1.0, 2.0)
_LONGEST = 26
#: From so many points of a line on, its dots are small.
_CROWD = 60


@dataclass(frozen=True, slots=True)
class Line:
    """A line of figures over windows."""

    label: str
    #: First day of the window, value, and the ends of its interval; each may be None.
    points: Sequence[tuple[dt.date, float | None, float | None, float | None]]


def heat_map(
    rows: Mapping[str, Mapping[dt.date, tuple[float | None, str]]], windows: Sequence[dt.date], *, label: str
) -> markupsafe.Markup:
    """Return a cell per row and window, the darker the further; one that a row lacks is empty.

    rows : name → window → (statistic, what a pointer shows). label : what a screen reader says.
    """
    width, height = _NAMES + len(windows) * _CELL, (len(rows) + 1) * _ROW
    drawn = []
    for place, (name, cells) in enumerate(rows.items()):
        y = place * _ROW
        shown = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
        drawn.append(
            markupsafe.Markup('<text x="{}" y="{}" text-anchor="end"><title>{}</title>{}</text>').format(
                _NAMES - 6, y + 11, name[:300], shown
            )
        )
        for column, window in enumerate(windows):
            found = cells.get(window)
            if found is None or found[0] is None:
                continue
            step = sum(found[0] >= edge for edge in _STEPS)
            drawn.append(
                markupsafe.Markup(
                    '<rect class="heat{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
                ).format(step, _NAMES + column * _CELL, y, _CELL - 1, _ROW - 1, found[1])
            )
    every = -(-_LABEL // _CELL)
    text = markupsafe.Markup('<text x="{}" y="{}">{}</text>')
    drawn += [
        text.format(_NAMES + column * _CELL, height - 3, windows[column])
        for column in range(0, len(windows), every)
        if (len(windows) - column) * _CELL >= _LABEL * 2 // 3 or not column
    ]
    width = max(width, _NAMES + _LABEL)
    return markupsafe.Markup(
        '<svg class="heat" viewBox="0 0 {} {}" width="{}" role="img" aria-label="{}"><title>{}</title>{}</svg>'
    ).format(width, height, width, label, label, markupsafe.Markup("").join(drawn))


def lines(found: Sequence[Line], *, bound: float | None, label: str) -> markupsafe.Markup:
    """Return lines over time with bars for their intervals, and the bound as a dashed line.

    A window whose figure is None leaves a gap. An empty figure when there is nothing to draw.
    """
    known = [point for line in found for point in line.points if point[1] is not None]
    if not known:
        return markupsafe.Markup("")
    values = [v for _, *three in known for v in three if v is not None] + ([] if bound is None else [bound])
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    low, high = low - room, high + room
    days = [point[0].toordinal() for point in known]
    first, span = min(days), (max(days) - min(days)) or 1

    def x(day: dt.date) -> float:
        return _LEFT + 8 + (day.toordinal() - first) / span * (_WIDTH - _LEFT - 16)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    drawn = []
    for mark in (low + room, (low + high) / 2, high - room):
        drawn.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>')
        drawn.append(f'<text x="{_LEFT - 5}" y="{y(mark) + 3:.1f}" text-anchor="end">{number(mark)}</text>')
    for share in (0.0, 0.5, 1.0):
        day = dt.date.fromordinal(first + round(share * span))
        anchor = {0.0: "start", 0.5: "middle", 1.0: "end"}[share]
        drawn.append(f'<text x="{x(day):.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{day}</text>')
    if bound is not None:
        drawn.append(f'<line class="bound" x1="{_LEFT}" x2="{_WIDTH}" y1="{y(bound):.1f}" y2="{y(bound):.1f}"/>')
    for place, line in enumerate(found):
        drawn += _drawn(line, place, x, y)
    return markupsafe.Markup(
        '<svg class="lines" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>'
    ).format(
        _WIDTH,
        _HEIGHT,
        label,
        label,
        markupsafe.Markup("".join(drawn)),  # noqa: S704 - numbers and days
    )


def _drawn(line: Line, place: int, x: Callable[[dt.date], float], y: Callable[[float], float]) -> list[str]:
    found: list[str] = []
    piece: list[str] = []
    dot = 2 if len(line.points) < _CROWD else 1.2
    for day, value, low, high in line.points:
        if value is None:
            piece = _ended(piece, place, found)
            continue
        piece.append(f"{x(day):.1f},{y(value):.1f}")
        if low is not None and high is not None:
            at = f'x1="{x(day):.1f}" x2="{x(day):.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}"'
            found.append(f'<line class="ends s{place}" {at}/>')
        found.append(f'<circle class="s{place}" cx="{x(day):.1f}" cy="{y(value):.1f}" r="{dot}"/>')
    _ended(piece, place, found)
    return found


def _ended(piece: list[str], place: int, found: list[str]) -> list[str]:
    if len(piece) > 1:
        found.append(f'<polyline class="s{place}" points="{" ".join(piece)}"/>')
    return []


#: What templates may call.
TIMELINES: Mapping[str, Callable[..., markupsafe.Markup]] = {"heat_map": heat_map, "lines": lines}

"""Small drawings that stand in the text of a page: plain SVG in the page's own colours, without scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import markupsafe

from ponte.pages.formats import percent

#: Of a small line, in its own units.
WIDTH, HEIGHT, MARGIN = 120, 28, 3


def sparkline(values: Sequence[float | None], *, bound: float | None = None, label: str) -> markupsafe.Markup:
    """Return a line over the windows, oldest first; None leaves a gap.

    bound : drawn as a dashed line across.
    label : what a screen reader says, and a pointer shows.
    """
    known = [v for v in [*values, bound] if v is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    span = (high - low) or 1.0

    def at(position: int, value: float) -> tuple[float, float]:
        step = (WIDTH - 2 * MARGIN) / max(1, len(values) - 1)
        return MARGIN + position * step, HEIGHT - MARGIN - (value - low) / span * (HEIGHT - 2 * MARGIN)

    pieces: list[list[tuple[float, float]]] = [[]]
    for position, value in enumerate(values):
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append(at(position, value))
    drawn = [
        '<polyline points="{}"/>'.format(" ".join(f"{x:.1f},{y:.1f}" for x, y in piece))
        if len(piece) > 1
        else f'<circle cx="{piece[0][0]:.1f}" cy="{piece[0][1]:.1f}" r="1.5"/>'
        for piece in pieces
        if piece
    ]
    if bound is not None:
        y = at(0, bound)[1]
        drawn.append(f'<line class="bound" x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}"/>')
    return markupsafe.Markup(
        '<svg class="spark" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>'
    ).format(WIDTH, HEIGHT, label, label, markupsafe.Markup("".join(drawn)))  # noqa: S704 - numbers


#: Of a histogram, in units that are a pixel or so on a phone: letters are of one size there and on a large screen.
_BARS_WIDTH, _BARS_HEIGHT, _BARS_TOP, _BARS_BOTTOM, _BARS_LEFT = 400, 190, 8, 22, 42
#: Edges between bins that have room to be written.
_MOST_EDGES = 5


def histogram(
    shares: Sequence[float], before: Sequence[Sequence[float]], *, edges: Sequence[str], label: str
) -> markupsafe.Markup:
    """Return bars, one per bin, with what they were in the weeks before: a band from the least to the greatest share.

    shares : of rows, 0 to 1. before : the same of each week. edges : between the bins as they are written, one fewer.
    Bins are drawn equally wide, whatever values they span.
    """
    top = max((share for row in (shares, *before) for share in row), default=0.0) or 1.0
    width = (_BARS_WIDTH - _BARS_LEFT) / max(1, len(shares))
    floor = _BARS_HEIGHT - _BARS_BOTTOM

    def y(share: float) -> float:
        return floor - share / top * (floor - _BARS_TOP)

    marks = (0.0, top / 2, top)
    drawn = [
        f'<line class="grid" x1="{_BARS_LEFT}" x2="{_BARS_WIDTH}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>'
        for mark in marks
    ]
    for place, share in enumerate(shares):
        x = _BARS_LEFT + place * width
        drawn.append(_bar("bar", x + 0.04 * width, y(share), 0.92 * width, floor))
        usual = [row[place] for row in before]
        if usual:
            # A line where all weeks were alike, too.
            drawn.append(_bar("band", x + 0.41 * width, y(max(usual)) - 0.7, 0.18 * width, y(min(usual)) + 0.7))
    every = -(-len(edges) // _MOST_EDGES) or 1
    texts = [
        markupsafe.Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            _BARS_LEFT + (place + 1) * width, _BARS_HEIGHT - 8, text
        )
        for place, text in enumerate(edges)
        if place % every == 0
    ]
    for mark in marks:
        text = markupsafe.Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>')
        texts.append(text.format(_BARS_LEFT - 4, y(mark) + 3, percent(mark)))
    return markupsafe.Markup(
        '<svg class="bars" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}{}</svg>'
    ).format(
        _BARS_WIDTH, _BARS_HEIGHT, label, label,
        markupsafe.Markup("".join(drawn)), markupsafe.Markup("").join(texts),  # noqa: S704 - numbers
    )  # fmt: skip


def _bar(kind: str, x: float, top: float, width: float, bottom: float) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{bottom - top:.1f}"/>'


#: What templates may call.
CHARTS: Mapping[str, Callable[..., markupsafe.Markup]] = {"sparkline": sparkline, "histogram": histogram}

"""Small drawings that stand in the text of a page: plain SVG in the page's own colours, without scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import markupsafe

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


#: What templates may call.
CHARTS: Mapping[str, Callable[..., markupsafe.Markup]] = {"sparkline": sparkline}

"""A matplotlib figure → a piece of SVG that stands in an HTML page: small, repeatable, in the page's own colours."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, GRID, ACCENT, SECOND = "#1b1e24", "#69707c", "#d8dde4", "#2c6e9b", "#b9642f"
#: Colours of several curves in one plot; readable on dark and on light.
SERIES = ("#2c6e9b", "#d08a1d", "#2f9e77", "#c4527c", "#7c68c4", "#5a8f29", "#b9642f", "#7d8590")
#: These become the page's variables, so that a plot follows its dark and its light colours.
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", ACCENT: "accent", SECOND: "second"}
LONGEST_NAME = 24

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, in the page's font, and found by a search
    "text.parse_math": False,  # a $ in a name is a $
    "axes.unicode_minus": True,
    "font.size": 9,
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False,
    "lines.linewidth": 1.8, "axes.linewidth": 0.8,
}  # fmt: skip


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of that size in inches, in Ponte's style whatever matplotlib is set to outside."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(), warnings.catch_warnings():
        # Widths are measured with matplotlib's own font; the page is shown with the reader's, which has the glyph.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield Figure(figsize=(width, height), layout="constrained")


def to_svg(drawing: Figure, *, title: str, caption: str) -> str:
    """Return the figure as one `<svg>` element, the same for the same figure; call it inside `figure`."""
    import matplotlib as mpl

    mpl.rcParams["svg.hashsalt"] = title  # ids differ between plots of one page, and only there
    target = io.StringIO()
    drawing.savefig(target, format="svg", transparent=True)
    text = target.getvalue()
    text = text[text.index("<svg") :]
    # The metadata hold the date.
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r'style="[^"]*"', _in_page_colours, text)
    text = re.sub(r"\n\s*", "\n", text).strip()
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    # Without width and height it takes the width that the page gives it.
    attributes = f'xmlns:xlink="http://www.w3.org/1999/xlink" {box[0]} role="img"'
    label = html.escape(f"{title}. {caption}", quote=True)
    return f'<svg {attributes} aria-label="{label}">{text[text.index(">") + 1 :]}'


def _in_page_colours(style: re.Match[str]) -> str:
    return re.sub("|".join(VARIABLES), lambda found: f"var(--{VARIABLES[found[0]]})", style[0])


def shown(value: Any) -> str:
    """Return a value as a label of an axis: one line, not too long, nothing that is no character.

    >>> shown("a very long name of an airline from somewhere")
    'a very long name of an …'
    """
    text = "".join(c if c.isprintable() else " " for c in str(value))
    text = text.strip() or "(empty)"
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 2].rstrip()} …"

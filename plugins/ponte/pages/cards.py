"""The card of a model, which its author writes in Markdown → HTML in which nothing of it can run."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

#: Characters of a card that are shown; no page grows without end.
MOST = 100_000


def to_html(text: str) -> str:
    """Return a card as HTML: tables, lists, code; HTML in it is text, and links that run something are none.

    >>> to_html("# Delay\\n<script>no</script> [go](javascript:x)")
    '<h2>Delay</h2>\\n<p>&lt;script&gt;no&lt;/script&gt; [go](javascript:x)</p>\\n'
    """
    return str(_parser().render(text[:MOST]))


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.core.ruler.push("headings", _lower)
    return parser


def _lower(state: object) -> None:
    """Make each heading one level lower: the page has its own first."""
    for token in state.tokens:  # type: ignore[attr-defined]
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"

"""Markdown → HTML in which nothing can run: Ponte's documentation, and the cards of models.

Links and anchors of the documentation are as they are in the repository.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import markupsafe

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

#: The folder of the documentation, in a checkout and in the image.
DOCS = Path(__file__).parents[3] / "docs"
_FIRST = "README.md"
#: Characters of a card that are shown; no page grows without end.
LONGEST_CARD = 100_000
#: What may be wider than the page, and how it is so that a keyboard can scroll it.
_SCROLLED = {
    "<pre>": '<pre tabindex="0">',
    "<table>": '<div class="wide" tabindex="0"><table>',
    "</table>": "</table></div>",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A page of the documentation."""

    title: str
    html: markupsafe.Markup


def read_document(path: str) -> Document | str | None:
    """Return the page at a path below DOCS, the first one for ""; the text of another file; None: there is none.

    Pictures are in the page itself: the headers of all pages let nothing be loaded.
    """
    file = (DOCS / (path or _FIRST)).resolve()
    if not file.is_relative_to(DOCS.resolve()) or not file.is_file():
        return None
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
    return _page(text, file) if file.suffix == ".md" else text


def read_card(text: str) -> markupsafe.Markup:
    """Return the card of a model, which its author writes; headings are one level lower, below those of the page.

    >>> str(read_card("# Delay\\n<script>no</script> [go](javascript:x)"))
    '<h2>Delay</h2>\\n<p>&lt;script&gt;no&lt;/script&gt; [go](javascript:x)</p>\\n'
    """
    parser = _parser()
    tokens = parser.parse(text[:LONGEST_CARD])
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
    return markupsafe.Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704 - without HTML in it


def anchor(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading.

    >>> anchor("What `ponte` is, in short")
    'what-ponte-is-in-short'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _page(text: str, file: Path) -> Document:
    parser = _parser()
    tokens = parser.parse(text)
    title = file.stem
    for opening, content in pairwise(tokens):
        if opening.type == "heading_open":
            words = "".join(part.content for part in content.children or ())
            opening.attrSet("id", anchor(words))
            title = words if opening.tag == "h1" else title
    for token in tokens:
        for part in token.children or ():
            _put_in(part, file)
    html = parser.renderer.render(tokens, parser.options, {})
    for element, scrolled in _SCROLLED.items():
        html = html.replace(element, scrolled)
    return Document(title=title, html=markupsafe.Markup(html))  # noqa: S704 - of our own Markdown, without HTML in it


def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # Without HTML of its own: a page is what its Markdown says.
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def _put_in(token: Token, file: Path) -> None:
    """Put the file of a picture into its address."""
    if token.type == "image" and (source := str(token.attrGet("src"))).endswith(".png"):
        picture = (file.parent / source).resolve()
        if picture.is_relative_to(DOCS.resolve()) and picture.is_file():
            token.attrSet("src", f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}")

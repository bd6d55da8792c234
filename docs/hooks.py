"""What mkdocs does on its way from docs/ to the site; named in mkdocs.yml."""

from __future__ import annotations

import posixpath
import re
from typing import Any

#: The order of the folders, and what the site calls them. The alphabet would begin with the decisions.
SECTIONS = {"tutorial": "Tutorials", "how-to": "How-to", "reference": "Reference", "explanation": "Explanation",
            "adr": "Decisions"}  # fmt: skip
LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the page; what is linked outside of docs/ is no part of the site, so its path is told instead."""
    folder = posixpath.dirname(page.file.src_uri)

    def told(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, link[2]))
        return link[0] if path.startswith("docs/") else f"{link[1]} (`{path}`)"

    return LINK.sub(told, markdown)


def on_nav(nav: Any, **_: Any) -> Any:
    """Return the navigation in the order of SECTIONS, with pages that lie in no folder first."""
    names = {page.file.src_uri.split("/")[0] for page in nav.pages if "/" in page.file.src_uri}
    unknown = names - SECTIONS.keys()
    if unknown:
        raise KeyError(f"docs/hooks.py has no place for the folders {sorted(unknown)}")
    order = list(SECTIONS)

    def place(item: Any) -> int:
        if not item.is_section:
            return -1
        first = next(iter(page for page in nav.pages if page.parent is item), None)
        return order.index(first.file.src_uri.split("/")[0]) if first else len(order)

    nav.items.sort(key=place)
    for item in nav.items:
        if item.is_section:
            item.title = SECTIONS[order[place(item)]]
    return nav

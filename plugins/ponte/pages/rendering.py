"""A template and facts → HTML. Every text is escaped; a fact that is missing is an error."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from ponte.model.spec import METRICS
from ponte.pages import formats
from ponte.pages.charts import CHARTS
from ponte.pages.plots import metric_name
from ponte.pages.timelines import TIMELINES

if TYPE_CHECKING:
    import jinja2

#: A link and its words. In all pages "<" and ">" of a value are escaped.
_LINK = re.compile(r'<a\b[^<>]*?\shref="(?P<to>[^"]*)"[^<>]*>(?P<words>.*?)</a>', re.DOTALL)
_FOLDER = Path(__file__).parent / "templates"
#: Names of figures that a rule may be about.
FIGURES = frozenset(name for names in METRICS.values() for name in names)


def render(template: str, /, **facts: Any) -> str:
    """Return the page that `templates/<template>` makes of the facts. The same arguments give the same text."""
    return _templates().get_template(template).render(**facts)


def stylesheet(name: str = "style.css") -> str:
    """Return a stylesheet: the one that all pages and kept reports share, or `pages.css` of what is around them."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def address(base: str, *parts: object, **fields: object) -> str:
    """Return the address of a page below `base`, each part and field quoted; fields that are None are left out.

    >>> address("/ponte", "model", "a/b", version=3, window=None)
    '/ponte/model/a%2Fb?version=3'
    """
    path = "/".join([base, *(quote(str(part), safe="") for part in parts)])
    query = urlencode({name: value for name, value in fields.items() if value is not None})
    return f"{path}?{query}" if query else path


def rule_words(rule: str) -> str:
    """Return a rule of the gate with its figures and baselines as people call them.

    >>> rule_words("roc_auc is better than baseline:carrier")
    'ROC AUC is better than the mean by carrier'
    """
    return " ".join(_called(word) for word in rule.split(" "))


def _called(word: str) -> str:
    kind, mark, by = word.partition(":")
    if mark and kind == "baseline":
        return "a constant" if by == "constant" else f"the mean by {by}"
    return metric_name(word) if word in FIGURES else word


def kept_in(page: str, base: str) -> str:
    """Return a page for a frame that lets nobody out: of a link that leads out of `base`, only its words are left.

    Where it leads is the title of the words. Links of the page to itself and relative ones stay.

    >>> kept_in('<a href="/ponte/a">a</a> <a class="go" href="/dags/x">x</a>', "/ponte")
    '<a href="/ponte/a">a</a> <span title="/dags/x">x</span>'
    """
    stays = re.compile(rf"{re.escape(base)}/|(?![a-z][a-z0-9+.-]*:|/)", re.IGNORECASE)

    def worded(link: re.Match[str]) -> str:
        return link[0] if stays.match(link["to"]) else f'<span title="{link["to"]}">{link["words"]}</span>'

    return _LINK.sub(worded, page)


@cache
def _templates() -> jinja2.Environment:
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "number": formats.number, "moment": formats.moment, "rows": formats.rows, "percent": formats.percent,
        "out_of": formats.out_of, "duration": formats.duration, "retold": formats.retold, "rule_words": rule_words,
    }  # fmt: skip
    found.globals |= {"title": metric_name, "compared": formats.compared, "address": address, **CHARTS, **TIMELINES}
    return found

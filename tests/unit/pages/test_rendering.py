"""What is done to a whole page, whatever is on it."""

from __future__ import annotations

import pytest

from ponte.pages.rendering import kept_in


@pytest.mark.parametrize("base", ["/ponte", "/airflow/ponte"])
@pytest.mark.parametrize(
    ("to", "stays"),
    [
        ("{}/", True),
        ("{}/model/x?a=1&amp;b=2", True),
        ("#main", True),
        ("../reference/tables.md#x", True),
        ("", True),
        ("{}", False),
        ("{}x/", False),
        ("/", False),
        ("/dags/x/runs/ponte/", False),
        ("//example.com/ponte/", False),
        ("https://example.com/ponte/", False),
        ("MAILTO:x", False),
    ],
)
def test_a_link_that_leads_out_is_its_words(base: str, to: str, stays: bool) -> None:
    to = to.format(base)
    page = f'<p>a <a\nclass="b" href="{to}" title="c"><b>d</b>\ne</a> <a href="{base}/">f</a> <a id="x">g</a> href="/h"'
    linked = f'<a\nclass="b" href="{to}" title="c"><b>d</b>\ne</a>'
    assert kept_in(page, base) == (page if stays else page.replace(linked, f'<span title="{to}"><b>d</b>\ne</span>'))

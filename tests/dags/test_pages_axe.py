"""Every page by axe-core, in the light and in the dark, wide and narrow: no serious finding, and nothing overflows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from tests.dags.browsing import Open, pages
from tests.dags.version_world import two_versions

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from tests.conftest import Cluster, Template

#: Below /ponte; of the model `visits` with versions 1 and 2 and the window 2024-02-12.
ADDRESSES = (
    "/",
    "/model/visits",
    "/model/visits/2024-02-12",
    "/tab/visits__score",
    "/docs/how-to/operate.md",
    "/act/roll-back/visits?version=2&window=2024-02-12",
    "/act/score/visits",
    "/act/alarm/visits",
    "/report/visits",
    "/report/visits/1",
    "/report/visits/2",
    "/model/visits/compare?a=1&b=2",
)
WORST = ("serious", "critical")


@pytest.fixture(scope="module")
def client(
    airflow_db: None, server: Cluster, scored_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Open]:
    with scored_template.copy(server, tmp_path_factory.mktemp("axe")) as world:
        two_versions(world)
        with pages(world.db, world.store) as log_in:
            yield log_in


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_page_can_be_read_by_everybody(client: Open, page: Page, address: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    answer = client("admin").get(f"/ponte{address}")
    assert answer.status_code == 200, answer.text
    page.set_content(answer.text)
    title = page.title()
    for scheme, width in (("light", 1440), ("dark", 390)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 900})
        found = [
            f"{scheme} {v['id']}: {v['help']}: {node['html'][:200]} {[c['message'] for c in node['any']]}"
            for v in Axe().run(page).response["violations"]
            if v["impact"] in WORST
            for node in v["nodes"]
        ]
        assert not found, "\n".join(found)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{address} overflows at {width}"
    assert page.title() == title != "ran"

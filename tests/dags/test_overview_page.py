"""The overview in Airflow's web server: who sees what, what hostile names do to it, how people get there."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from tests.bench import stand
from tests.dags.browsing import Open, pages

from ponte.storage.database import Database

if TYPE_CHECKING:
    from tests.conftest import Cluster

PAGE = "/ponte/"
MODELS = 20
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def hostile(server: Cluster, migrated: str, airflow_db: None) -> Iterator[Database]:
    """A stand whose names and texts would like to be more than that, known to Airflow."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session

    with server.database(migrated) as (_, url):
        stand.fill(url, models=MODELS, windows=8, today=NOW.date(), hostile=True)
        db = Database(url)
        with db.begin() as connection:
            names = list(connection.execute(sa.text("SELECT DISTINCT model FROM ponte.version ORDER BY 1")).scalars())
        stand.register(names, now=NOW)
        yield db
    with create_session() as session:
        for dag in session.scalars(sa.select(DagModel).where(DagModel.bundle_name == "stand")):
            session.delete(dag)


@pytest.fixture
def client(hostile: Database) -> Iterator[Open]:
    with pages(hostile) as log_in:
        yield log_in


def _rows(text: str) -> int:
    return text.count('<th scope="row">')


def test_who_may_read_no_dag_sees_no_model(client: Open) -> None:
    answer = client("").get(PAGE)
    assert answer.status_code == 200
    assert "There is no model that you may see" in answer.text
    assert _rows(answer.text) == 0
    assert "churn" not in answer.text


def test_a_user_sees_the_models_whose_training_dag_he_may_read(client: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    browser = client("viewer")
    assert _rows(browser.get(PAGE).text) >= MODELS  # DAGs of other tests are in Airflow's database, too

    def only(*, dag_ids: set[str], **_: Any) -> set[str]:
        return {name for name in dag_ids if name in ("energy_at__train", "staff_at__score")}

    monkeypatch.setattr(get_auth_manager(), "filter_authorized_dag_ids", only)
    text = browser.get(PAGE).text
    assert _rows(text) == 1
    assert "energy_at" in text
    assert "staff_at" not in text


def test_without_a_login_a_browser_is_sent_there_and_back(client: Open) -> None:
    assert client(None).get(PAGE).status_code == 401
    answer = client(None, below="/airflow").get("/airflow/ponte/?sort=rows", headers={"accept": "text/html"})
    assert answer.status_code == 307
    assert answer.headers["location"] == "/airflow/api/v2/auth/login?next=%2Fairflow%2Fponte%2F%3Fsort%3Drows"


def test_hostile_names_and_texts_stay_text_and_short(client: Open) -> None:
    answer = client("viewer").get(PAGE)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    text = answer.text
    # What a browser would take for an element, but for those of the template.
    assert not re.findall(r"<(?:script|img|b|i)\b", text)
    assert "&lt;script&gt;document.title=" in text
    assert "{{ 7 * 7 }}{% raw %}" in text
    assert not [value for value in re.findall(r'(?:title|aria-label)="([^"]*)"', text) if len(value) > 1500]
    assert len(text) < 150_000
    # Each address leads below /ponte/ or into Airflow, whatever a name has in it.
    assert {re.sub(r"^(/ponte/|/dags/|/$|#main$).*", r"\1", link) for link in re.findall(r'href="([^"]*)"', text)} <= {
        "/ponte/",
        "/dags/",
        "/",
        "#main",
    }
    assert "/ponte/model/a%2Fb%3Fc%3Dd%26e%23f%2500" in text


def test_links_sort_and_filter_and_keep_each_other(client: Open) -> None:
    browser = client("viewer")
    text = browser.get(PAGE, params={"tag": "money", "sort": "cost"}).text
    assert 0 < _rows(text) < MODELS
    assert 'href="/ponte/?sort=rows&amp;tag=money"' in text
    assert 'href="/ponte/?sort=cost&amp;tag=people"' in text
    assert 'href="/ponte/?sort=cost"' in text
    assert _rows(browser.get(PAGE, params={"owner": "nobody"}).text) == 0


def test_airflow_tells_what_is_late_by_the_schedule_of_the_folder(
    client: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`staff_at` is scored on Mondays, and its batch of the week is still being made."""
    from ponte.web import overview

    folder = tmp_path / "staff_at"
    folder.mkdir()
    text = (Path(__file__).parents[2] / "include" / "models" / "flight_delay" / "model.toml").read_text()
    (folder / "model.toml").write_text(text)
    monkeypatch.setenv("PONTE_MODELS", str(tmp_path))
    week = NOW.date() - dt.timedelta(days=NOW.weekday())
    since = dt.datetime.combine(week, dt.time(12), dt.UTC)  # six hours, `[monitoring] late_hours`, after six
    for now in (since - dt.timedelta(hours=1), since + dt.timedelta(hours=1)):
        found = overview.planned(frozenset({"staff_at"}), now=now)["staff_at"]
        assert (found.due_window, found.due_since) == (week, since)
    assert overview.planned(frozenset({"churn_be"}), now=NOW)["churn_be"].due_window is None  # no folder


def test_the_menu_leads_to_whole_pages_and_its_docs_to_the_documentation(client: Open) -> None:
    """An address without a slash stands below the path that Airflow has; one with `url_route` would be a frame."""
    from ponte_plugin import PontePlugin

    browser = client("viewer")
    in_menu = [view for view in PontePlugin.external_views if view["destination"] == "nav"]
    assert [view["name"] for view in in_menu if view["category"] == "browse"] == ["Ponte"]
    for view in in_menu:
        assert "url_route" not in view
        # Seen in a browser: at the top level, and without a category, a link is a <button href>, a dead one.
        assert view["category"] in {"browse", "docs", "admin", "user"}
        assert not view.get("nav_top_level")
        assert not view["href"].startswith("/")
        assert browser.get(f"/{view['href']}").status_code == 200


def test_the_documentation_leads_from_page_to_page_and_nowhere_else(client: Open) -> None:
    browser = client("")
    text = browser.get("/ponte/docs/").text
    assert '<a href="how-to/operate.md">' in text
    assert 'id="the-tree"' in browser.get("/ponte/docs/explanation/architecture.md").text
    assert browser.get("/ponte/docs/examples/own_dags.py").headers["content-type"].startswith("text/plain")
    assert 'src="data:image/png;base64,' in browser.get("/ponte/docs/how-to/operate.md").text
    for path in ("nothing.md", "..%2Frequirements.in", "%2Fetc%2Fpasswd", "images/report.png"):
        assert browser.get(f"/ponte/docs/{path}").status_code == 404
    assert client(None).get("/ponte/docs/").status_code == 401


def _acts(text: str) -> set[str]:
    """Return the models for which there is a link to a form, as they are in addresses."""
    return set(re.findall(r'href="/ponte/act/[\w-]+/([^"?]*)', text))


def test_only_who_may_decide_about_a_model_is_led_to_its_forms(client: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others see the same states; and it takes one more question to Airflow, however many models there are."""
    from airflow.api_fastapi.app import get_auth_manager

    by_admin, by_viewer = (client(role).get(PAGE).text for role in ("admin", "viewer"))
    assert len(_acts(by_admin)) > MODELS / 4
    assert not _acts(by_viewer)
    assert 'class="go" href="/ponte/report/' in by_viewer, "what is only to be read"
    for mark in ('class="state bad"', 'class="state wait"', 'class="state quiet"'):
        assert by_viewer.count(mark) == by_admin.count(mark)

    mine = min(name for name in _acts(by_admin) if "%" not in name)
    asked = []
    manager = get_auth_manager()
    of_all = manager.filter_authorized_dag_ids

    def only(*, dag_ids: set[str], **question: Any) -> set[str]:
        asked.append(question["method"])
        found = of_all(dag_ids=dag_ids, **question)
        return found if question["method"] == "GET" else found & {f"{mine}__train"}

    monkeypatch.setattr(manager, "filter_authorized_dag_ids", only)
    assert _acts(client("admin").get(PAGE).text) == {mine}
    assert sorted(asked) == ["GET", "PUT"]

"""The pages of a window and of a model in Airflow's web server, as a browser gets them."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from tests.dags.browsing import Open, pages

from ponte.storage.database import Database

if TYPE_CHECKING:
    from tests.conftest import Cluster

TODAY = dt.date(2024, 6, 12)
NEWEST = "2024-06-10"
LONG = 100_000

# A batch of 1,000 shards and 500 columns, in the words of somebody who would like to be more than words.
HOSTILE = """
INSERT INTO ponte.check_result
    (batch_id, position, expectation, arguments, on_failure, outcome, element_count, unexpected_count, detail)
SELECT :id, 100 + p, 'expect_<b>' || p, jsonb_build_object('column', p || repeat('<i>"', 1000)), 'quarantine',
       CASE WHEN p % 2 = 0 THEN 'failed' ELSE 'passed' END, 1000, 1 - p % 2, repeat('<u>', 1000)
FROM generate_series(1, 500) AS p;
INSERT INTO ponte.shard (batch_id, shard, first_page, end_page, row_count)
SELECT :id, s, s, s + 1, 5 FROM generate_series(2, 1001) AS s;
INSERT INTO ponte.receipt (model, step, batch_id, row_count, seconds, cpu_seconds, peak_bytes)
SELECT model, 'score', :id, 5, 1, 1, 1 FROM generate_series(2, 1001), ponte.batch WHERE batch_id = :id;
INSERT INTO ponte.batch_count (batch_id, shard, family, column_name, counts)
SELECT :id, s, 'answers', 'score', array_fill(s, ARRAY[11]) FROM generate_series(2, 1001) AS s;
UPDATE ponte.guard_result SET got = repeat('<script>alert(1)</script>', :long / 25), expected = repeat('W', :long)
WHERE batch_id = :id;
UPDATE ponte.batch_profile SET class_shares = jsonb_build_object(repeat('<b>', :long / 3), 1.0) WHERE batch_id = :id;
UPDATE ponte.batch SET run_id = repeat('/?#&"<', 40), version_reason = repeat('W', :long) WHERE batch_id = :id;
INSERT INTO ponte.publication_event (model, window_start, batch_id, previous_batch_id, row_count, actor, reason)
SELECT model, window_start, batch_id, batch_id, 1, repeat('<a href=x>', :long / 10),
       repeat('<img src=x onerror="alert(1)">', :long / 30)
FROM ponte.batch WHERE batch_id = :id;
"""


@pytest.fixture(scope="module")
def stand(server: Cluster, migrated: str) -> Iterator[Database]:
    """The owner's database of a stand whose names and texts are hostile."""
    from tests.bench.stand import fill

    with server.database(migrated) as (_, url):
        fill(url, models=12, windows=15, today=TODAY, hostile=True)
        yield Database(url)


@pytest.fixture
def client(airflow_db: None, stand: Database) -> Iterator[Open]:
    with pages(stand) as log_in:
        yield log_in


class Page(HTMLParser):
    """Elements of a page, and its links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def links(self, start: str) -> list[str]:
        """Return the addresses that begin so."""
        return [value for name, value in self.attributes if name == "href" and value.startswith(start)]


def model_of(stand: Database, kind: str) -> str:
    """Return the name of the model of that kind."""
    from tests.bench.stand import KINDS

    number = next(n for n, name in KINDS.items() if name == kind)
    with stand.begin() as connection:
        query = sa.text("SELECT min(model) FROM ponte.batch WHERE batch_id / 10000 = :place")
        return str(connection.execute(query, {"place": number - 1}).scalar_one())


def address(model: str, window: str = NEWEST, **query: Any) -> str:
    """Return the address of the page of a window."""
    fields = "&".join(f"{name}={value}" for name, value in query.items())
    return f"/ponte/model/{quote(model, safe='')}/{window}" + (f"?{fields}" if fields else "")


def test_buttons_lead_to_forms_and_only_for_those_who_may_decide(client: Open, stand: Database) -> None:
    model = model_of(stand, "guard")
    forms = f"/airflow/ponte/act/{{}}/{quote(model, safe='')}?{{}}"
    seen = {}
    for role in ("viewer", "user", "op", "admin"):
        answer = client(role, below="/airflow").get("/airflow" + address(model))
        assert answer.status_code == 200
        seen[role] = Page(answer.text).links("/airflow/ponte/act/")
    [batch] = [link.partition("batch=")[2].partition("&")[0] for link in seen["op"] if "publish" in link]
    wanted = [forms.format("score", f"window={NEWEST}"), forms.format("publish", f"batch={batch}&window={NEWEST}")]
    assert seen == {"viewer": [], "user": wanted, "op": wanted, "admin": wanted}


def test_a_page_leads_to_the_run_its_logs_and_the_windows_beside_it(client: Open, stand: Database) -> None:
    model = model_of(stand, "check")
    page = Page(client("viewer").get(address(model, "2024-05-20")).text)
    run = "scheduled__2024-05-20"
    assert f"/dags/{model}__score/runs/{run}" in page.links("/dags/")
    assert f"/dags/{model}__score/runs/{run}/tasks/score/mapped" in page.links("/dags/")
    assert {address(model, day) for day in ("2024-05-13", "2024-05-27")} <= set(page.links("/ponte/model/"))


def test_another_batch_of_the_window_is_shown_where_its_number_stands(client: Open, stand: Database) -> None:
    model = model_of(stand, "rollback")
    browser = client("viewer")
    now = browser.get(address(model, "2024-05-06")).text
    [old] = re.findall(r"batch=(\d+)\">batch \1</a></th>", now)
    then = browser.get(address(model, "2024-05-06", batch=old)).text
    assert f"From here on about batch {old}" in then
    assert f"batch_id = {old};" in then


@pytest.mark.parametrize(
    ("window", "said"),
    [("2024-06-11", "that begins on 2024-06-11"), ("tomorrow", "is no day"), ("2024-13-01", "is no day")],
)
def test_a_wrong_day_gets_404_in_plain_words_with_the_nearest_windows(
    client: Open, stand: Database, window: str, said: str
) -> None:
    model = model_of(stand, "check")
    answer = client("viewer").get(address(model, window))
    assert answer.status_code == 404
    assert said in answer.text
    assert address(model) in Page(answer.text).links("/ponte/model/")
    assert "form-action 'self'" in answer.headers["content-security-policy"]


def test_who_may_not_read_the_model_sees_nothing_of_a_window(client: Open, stand: Database) -> None:
    model = model_of(stand, "check")
    assert client(None).get(address(model)).status_code == 401
    answer = client("").get(address(model))
    assert answer.status_code == 403
    assert model not in answer.text


def test_hostile_texts_of_any_length_stay_texts_and_the_page_stays_small(client: Open, stand: Database) -> None:
    """Of 1,000 shards, 500 checks and texts of 100 kB what is shown is what a person can read."""
    model = model_of(stand, "guard")
    day = "2024-06-03"
    with stand.begin() as connection:
        query = sa.text("SELECT max(batch_id) FROM ponte.batch WHERE model = :model AND window_start = :day")
        batch = connection.execute(query, {"model": model, "day": day}).scalar_one()
        for statement in HOSTILE.strip().split(";\n"):
            connection.execute(sa.text(statement), {"id": batch, "long": LONG})
    answer = client("viewer").get(address(model, day))
    assert answer.status_code == 200
    assert len(answer.content) < 500_000
    page = Page(answer.text)
    assert not page.elements & {"script", "img", "b", "i", "u", "iframe", "object"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert max(len(value) for name, value in page.attributes if name in {"title", "aria-label"}) <= 300
    assert not [value for value in page.links("") if not value.startswith(("/", "#"))]
    assert "and 150 more" in answer.text, "of 250 checks that found something"
    assert ">1,002</td>" in answer.text, "tasks of one step in one line"


# ---------------------------------------------------------------- a model


def page_of(model: str) -> str:
    """Return the address of the page of a model."""
    return f"/ponte/model/{quote(model, safe='')}"


def test_a_model_leads_to_its_windows_its_versions_and_what_one_may_decide(client: Open, stand: Database) -> None:
    model = model_of(stand, "guard")
    text = client("admin").get(page_of(model)).text
    page = Page(text)
    assert page_of(model) + "/" + NEWEST in page.links(page_of(model))
    assert page.links("/ponte/report/")
    acts = {link.split("/")[3] for link in page.links("/ponte/act/")}
    assert acts == {"score", "train", "promote", "mark", "judge", "challenge", "roll-back"}
    assert not Page(client("viewer").get(page_of(model)).text).links("/ponte/act/")


def test_a_model_without_a_window_has_a_page_and_one_that_nobody_knows_has_none(client: Open, stand: Database) -> None:
    admin = client("admin")
    with stand.begin() as connection:
        statement = """INSERT INTO ponte.alias_event (model, alias, version, actor, reason)
            SELECT 'brand_new', 'challenger', NULL, actor, reason FROM ponte.alias_event LIMIT 1"""
        connection.execute(sa.text(statement))
    assert admin.get(page_of("no_such")).status_code == 404
    assert "No window was scored yet" in admin.get(page_of("brand_new")).text


def test_the_frame_at_a_dag_links_to_nothing_but_pages_of_ponte(client: Open, stand: Database) -> None:
    model = model_of(stand, "guard")
    frame = client("admin").get(f"/ponte/tab/{quote(model, safe='')}__score")
    links = [value for name, value in Page(frame.text).attributes if name == "href"]
    assert frame.status_code == 200
    assert page_of(model) in links
    assert not [link for link in links if not link.startswith(("/ponte/", "#"))]
    assert f"<code>http://testserver{page_of(model)}</code>" in frame.text, "the frame lets nobody out"
    of_all = client("admin").get("/ponte/tab/ponte__rollback").text
    assert "belongs to no model" in of_all
    assert not [link for link in Page(of_all).links("") if not link.startswith(("/ponte/", "#"))]


def test_the_frame_is_a_tab_of_every_dag_at_the_address_of_the_summary() -> None:
    from ponte.web.models import router
    from ponte_plugin import PontePlugin

    [tab] = [view for view in PontePlugin.external_views if view["destination"] == "dag"]
    # Read in the bundle of Airflow 3.3.2: without a route an entry is no tab; the address is relative to <base>; and
    # the first entry is shown whose route, or else whose name, is in the address.
    assert tab["url_route"] not in {view["name"].lower() for view in PontePlugin.external_views}
    assert tab["href"].format(DAG_ID="x") == "ponte" + router.url_path_for("show_tab", dag_id="x")


def test_who_may_not_read_the_model_sees_nothing_of_it(client: Open, stand: Database) -> None:
    model = model_of(stand, "check")
    for path in (page_of(model), f"/ponte/tab/{quote(model, safe='')}__score"):
        assert client(None).get(path).status_code == 401
        answer = client("").get(path)
        assert answer.status_code == 403
        assert model not in answer.text


def test_names_and_texts_of_a_model_stay_texts(client: Open, stand: Database) -> None:
    with stand.begin() as connection:
        models = list(connection.execute(sa.text("SELECT DISTINCT model FROM ponte.batch")).scalars())
    for model in models:
        if "/" in model:  # no address of a path
            continue
        page = Page(client("admin").get(page_of(model)).text)
        assert not page.elements & {"script", "img", "b", "i", "u", "iframe", "object"}
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        assert not [value for value in page.links("") if not value.startswith(("/", "#"))]

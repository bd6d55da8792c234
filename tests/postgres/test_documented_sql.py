"""Every query that the pages for operators and analysts show does run, and the lineage of a prediction has no hole."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from ponte.decisions import approvals, promotion
from ponte.demo.pipeline import TIMETABLE
from ponte.model.windows import midnight
from ponte.schema import roles

if TYPE_CHECKING:
    from tests.conftest import Cluster, Template
    from tests.sample_model import TrainingRun, World

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [*sorted((DOCS / "how-to").glob("*.md")), DOCS / "reference" / "tables.md"]
#: What changes something is tried where it belongs: schema/test_feedback.py, monitoring/test_labels.py, stream/.
_CHANGES = re.compile(
    r"(create|alter|grant|copy|update|select ponte\.(give_feedback|give_live_feedback|enqueue))\b", re.IGNORECASE
)
QUERIES = [
    pytest.param(query, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, query in enumerate(re.findall(r"^```sql\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL))
    if not _CHANGES.match(query)
]
#: What the pages read of the demo and of the tutorial, made of the shop's visits.
_DEMO = """
CREATE SCHEMA flights;
CREATE VIEW flights.departure AS
    SELECT visit_id, day::timestamptz AS scheduled_departure, 'EV' AS carrier, 1 AS flight, 'EWR' AS origin,
           'CAE' AS dest
    FROM shop.visit;
CREATE TABLE ponte_data.airport_temperature__frozen_9 (origin text, day date, mean_7_days float8);
"""


@dataclass(frozen=True)
class Decided:
    """A world in which all of it has happened, and what the lineage query said of version 2 before the way back."""

    world: World
    second: TrainingRun
    alias_event_id: int
    batch_id: int
    before: dict[str, Any]


def of_the_shop(query: str) -> str:
    """Return a query about the demo's model as one about the shop's."""
    return query.replace("flight_delay", "visits").replace("departure_id", "visit_id")


def rows(world: World, query: str) -> list[dict[str, Any]]:
    """Return the rows of a documented query, which is sent as psql would send it."""
    with world.db.begin() as connection:
        result = connection.exec_driver_sql(of_the_shop(query).replace("%", "%%"))
        return [dict(row) for row in result.mappings()]


def as_analyst(world: World) -> World:
    """Return the world as an analyst sees it, who may read of the sources what the demo gives."""
    from ponte.storage.database import Database

    with world.db.begin() as connection:
        roles.let_analysts_read(connection, "flights", "departure", [of_the_shop(name) for name in TIMETABLE])
    # Here the owner has made the views; those of the scorer are granted as they are made.
    world.execute("GRANT SELECT ON ALL TABLES IN SCHEMA predictions TO ponte_analyst")
    return replace(world, db=Database(world.db.url.set(username=roles.ANALYST)))


def lineage() -> str:
    """Return the query that the page calls lineage.sql."""
    page = (DOCS / "how-to" / "query-predictions.md").read_text("utf-8")
    [query] = re.findall(r"^<!-- file: lineage.sql -->\n```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return str(query)


@pytest.fixture(scope="module")
def decided(server: Cluster, trained_template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decided]:
    """Two versions, an approval, two scored weeks, a rollback of both, a mark. Made once: the tests only read."""
    from tests.sample_model import NEXT_WEEK, WEEK, World, run_named
    from upath import UPath

    from ponte.model.folders import get_folder
    from ponte.storage.artifacts import ArtifactStore
    from ponte.storage.database import Database

    folder = tmp_path_factory.mktemp("decided")
    shutil.copytree(trained_template.artifacts, folder / "artifacts")
    shutil.copytree(trained_template.models, folder / "models")
    with server.database(trained_template.database) as (_, url):
        store = ArtifactStore(UPath(folder / "artifacts"))
        world = World(db=Database(url), store=store, folder=get_folder(folder / "models", "visits"))
        world.execute(_DEMO)
        second = world.train(run_id="second", as_of=midnight(dt.date(2024, 2, 19)), promote=False)
        answer = approvals.record_approval(
            world.db,
            second.verdict_id,
            "approved",
            run=run_named("second"),
            actor="a person",
            reason="better",
            answered_at=midnight(dt.date(2024, 2, 19)),
        )
        alias = promotion.promote(
            world.db, second.verdict_id, actor="second", approval_id=answer, approval_required=True
        )
        assert alias is not None
        batch = world.run(run_id="next", week=NEXT_WEEK)
        [before] = rows(world, lineage())
        world.roll_back(1, run_id="back", windows=[WEEK, NEXT_WEEK])
        world.mark(2, "bad", run_id="bad")
        world.ask("SELECT ponte.prepare_live('visits')")
        yield Decided(world, second, alias.event_id, batch.batch_id, before)


@pytest.mark.parametrize("query", QUERIES)
def test_a_documented_query_runs(decided: Decided, query: str) -> None:
    rows(decided.world, query)


@pytest.mark.parametrize("query", [q for q in QUERIES if q.id.startswith("query-predictions-")])
def test_an_analyst_runs_every_query_of_the_page_for_analysts(decided: Decided, query: str) -> None:
    rows(as_analyst(decided.world), query)


def test_one_view_tells_all_of_each_window(decided: Decided) -> None:
    analyst, back = as_analyst(decided.world), decided.world.ask("SELECT max(rollback_id) FROM ponte.rollback")
    [first, second] = rows(analyst, "SELECT * FROM ponte.window_overview WHERE model = 'visits' ORDER BY window_start")
    assert (first["state"], first["version"], first["batches"], first["rollback_id"]) == ("published", 1, 1, back)
    assert (second["state"], second["version"], second["batches"], second["published_why"]) == (
        "published",
        1,
        2,
        "test",
    )
    for row in (first, second):
        assert row["rows_frozen"] == row["rows_scored"] + row["rows_quarantined"] > 0
        assert (row["metric"], row["bound"]) == ("roc_auc", "≥ 0.6")


def test_what_changed_is_said_in_words(decided: Decided) -> None:
    told = rows(as_analyst(decided.world), "SELECT what, actor, reason FROM ponte.what_changed('visits', '2024-01-01')")
    assert [tuple(row.values()) for row in told] == [
        ("version 1 passed by the gate", "first", "all rules passed"),
        ("version 1 is champion", "first", "gate passed"),
        ("version 2 passed by the gate", "second", "all rules passed"),
        ("version 2: approved", "a person", "better"),
        ("version 2 is champion, before it version 1", "a person", "better"),
        ("2024-02-19 is shown: 350 rows of version 2", "somebody", "test"),
        ("version 1 is champion, before it version 2", "a person", "test"),
        ("rolled back from version 2 to version 1", "a person", "test"),
        ("2024-02-12 is shown: 350 rows of version 1", "a person", "test"),
        ("2024-02-19: version 2 replaced by version 1, by a rollback", "a person", "test"),
        ("version 2 is marked: bad", "a person", "test"),
    ]


def test_the_lineage_of_a_prediction_has_no_hole(decided: Decided) -> None:
    """Version 2, approved by a person, scored next week: every link is there and leads to the rows it names."""
    row, run = decided.before, decided.second
    assert {name for name, value in row.items() if value is None} == {"rollback_id", "rollback_reason"}
    assert (row["batch_id"], row["version"], row["scored_in_run"]) == (decided.batch_id, 2, "next")
    assert (row["snapshot_sha256"], row["code_revision"]) == (run.snapshot.sha256, "test")
    assert (row["features_sql"], row["labels_sql"]) == (run.snapshot.features_sql, run.snapshot.labels_sql)
    assert (row["verdict_id"], row["gate_passed"]) == (run.verdict_id, True)
    assert len(row["rules"].splitlines()) == len(run.verdict.rules)
    assert (row["approval"], row["approved_by"], row["approval_reason"]) == ("approved", "a person", "better")
    assert (row["alias_event_id"], row["promoted_by"]) == (decided.alias_event_id, "a person")
    assert (row["checks"], row["not_passed"], row["training_checks"], row["training_not_passed"]) == (2, 0, 3, 0)
    assert row["published_by"] == "somebody"


def test_the_lineage_of_a_window_that_was_rolled_back_names_the_rollback(decided: Decided) -> None:
    [row] = rows(decided.world, lineage())
    assert (row["version"], row["rollback_reason"], row["published_by"]) == (1, "test", "a person")
    assert row["rollback_id"] == decided.world.ask("SELECT max(rollback_id) FROM ponte.rollback")


def test_the_lineage_query_returns_one_row_for_each_prediction(decided: Decided) -> None:
    """No join multiplies or drops rows."""
    every = re.sub(r"order by p\.score desc.*\Z", "", of_the_shop(lineage()), flags=re.DOTALL)
    with decided.world.db.begin() as connection:
        counted = connection.execute(sa.text(f"SELECT count(*) FROM ({every}) AS q".replace(":", r"\:"))).scalar_one()
    assert counted == decided.world.ask("SELECT count(*) FROM predictions.visits") > 0


def test_the_lines_for_pandas_read_a_week(decided: Decided, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DOCS / "how-to" / "query-predictions.md").read_text("utf-8")
    [lines] = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    week = decided.world.ask("SELECT min(window_start)::text FROM predictions.visits")
    monkeypatch.setenv("PONTE_URL", as_analyst(decided.world).db.url.render_as_string(hide_password=False))
    names: dict[str, Any] = {}
    exec(of_the_shop(lines).replace("2013-10-28", week), names)  # noqa: S102 - what a reader would do
    assert len(names["week"]) == decided.world.ask(
        f"SELECT count(*) FROM predictions.visits WHERE window_start = '{week}'"
    )
    assert names["week"].index.name == "visit_id"
    names["engine"].dispose()

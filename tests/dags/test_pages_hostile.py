"""Texts that would like to be more than text, a megabyte of them, and 500 columns: what a browser makes of the pages.

The answers are opened without the headers that forbid scripts: nothing may run even so.
"""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from tests.bench import stand
from tests.dags.browsing import Open, pages
from tests.dags.version_world import preview

from ponte.steering.actions import ACTIONS
from ponte.storage.database import Database

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from tests.conftest import Cluster

ROOT = Path(__file__).parents[2]
TODAY = dt.date(2024, 6, 12)
NEWEST, BEFORE = "2024-05-27", "2024-05-20"
#: A name, without the slash that no address takes, and the number of a model of each kind that can have a folder.
NAME = stand.HOSTILE[1]
KINDS = {"guard": 23, "quality": 26, "rollback": 28}
LARGEST = 1_000_000
WIDTH = 390
TOO_WIDE = """[...document.querySelectorAll("body *")].filter(
    e => e.getBoundingClientRect().right > innerWidth && !e.closest(".wide, pre")).map(e => e.outerHTML.slice(0, 99))"""
#: What somebody types.
TYPED = "<script>document.title='ran'</script>" + "W" * 1_900

#: 500 of everything that there may be many of, and what people and other programs say, of any length.
MORE = """
INSERT INTO ponte.gate_verdict (model, version, snapshot_id, run_id, run_key, passed, outcome, rules)
SELECT model, version, snapshot_id, run_id, 'again', passed, outcome, jsonb_build_array(
    jsonb_build_object('rule', '<i>' || repeat('W', 500) || ' meets the bound', 'got', :long, 'expected', '≥ 0.6',
                       'passed', true, 'outcome', 'passed', 'evidence', '{}'::jsonb),
    jsonb_build_object('rule', :long, 'got', :long, 'expected', :long, 'passed', false, 'outcome', 'refused',
                       'evidence', '{}'::jsonb))
FROM ponte.gate_verdict WHERE snapshot_id / 1000 = ANY(:places);
INSERT INTO ponte.metric (model, version, snapshot_id, subject, slice, name, value, row_count)
SELECT model, version, snapshot_id, 'candidate', '', '<i>' || repeat('W', 500), 0.5, 1 FROM ponte.version;
INSERT INTO ponte.version_mark (model, version, mark, run_id, run_key, actor, reason)
SELECT model, version, 'bad', 'r', 'mark', :long, :long FROM ponte.version
WHERE version = 1 AND snapshot_id / 1000 = ANY(:places);
INSERT INTO ponte.check_result
    (batch_id, position, expectation, arguments, on_failure, outcome, element_count, unexpected_count, detail)
SELECT batch_id, 100 + p, 'expect_<b>' || p, jsonb_build_object('column', p || repeat('<i>"', 1000)), 'quarantine',
       CASE WHEN p % 2 = 0 THEN 'failed' ELSE 'passed' END, 1000, 1 - p % 2, repeat('<u>', 1000)
FROM ponte.batch, generate_series(1, 500) AS p WHERE model = :model AND window_start = :window;
UPDATE ponte.guard_result g SET got = :long, expected = :long
FROM ponte.batch b WHERE b.batch_id = g.batch_id AND b.model = :model AND b.window_start = :window;
UPDATE ponte.batch_profile f SET score_mean = array_fill(0.123456, ARRAY[500]), class_shares =
    (SELECT jsonb_object_agg(repeat('<b>W', 100) || c, 0.002) FROM generate_series(1, 500) AS c)
FROM ponte.batch b WHERE b.batch_id = f.batch_id AND b.model = :model AND b.window_start = :window;
UPDATE ponte.batch SET run_id = repeat('/?#&"<', 40), version_reason = :long
WHERE model = :model AND window_start = :window;
INSERT INTO ponte.publication_event (model, window_start, batch_id, row_count, actor, reason)
SELECT model, window_start, batch_id, 1, :long, :long FROM ponte.batch WHERE model = :model AND window_start = :window;
"""


@pytest.fixture(scope="module")
def hostile(server: Cluster, migrated: str) -> Iterator[Database]:
    with server.database(migrated) as (_, url):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stand, "QUARTER", 4)  # two versions
            stand.fill(url, models=max(KINDS.values()), windows=8, today=TODAY, hostile=True)
        db = Database(url)
        long = "<script>document.title='ran'</script>" + "W" * LARGEST
        values = {"long": long, "model": NAME, "window": BEFORE, "places": [1, *(n - 1 for n in KINDS.values())]}
        with db.begin() as connection:
            for statement in MORE.strip().split(";\n"):
                connection.execute(sa.text(statement), values)
        yield db


@pytest.fixture(scope="module")
def client(
    airflow_db: None, hostile: Database, models: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Open]:
    folders = tmp_path_factory.mktemp("models")
    for model in models.values():
        shutil.copytree(ROOT / "include" / "models" / "flight_delay", folders / model)
    stand.register([NAME, *models.values()], now=dt.datetime.combine(TODAY, dt.time(12), dt.UTC))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PONTE_MODELS", str(folders))
        with pages(hostile) as log_in:
            yield log_in


@pytest.fixture(scope="module")
def models(hostile: Database) -> dict[str, str]:
    """Kind → the name of a model that has a folder."""
    with hostile.begin() as connection:
        return {kind: of_kind(connection, kind) for kind in KINDS}


def of_kind(connection: sa.Connection, kind: str) -> str:
    """Return the name of a model that could have a folder."""
    query = sa.text("SELECT min(model) FROM ponte.version WHERE snapshot_id / 1000 = :place")
    return str(connection.execute(query, {"place": KINDS[kind] - 1}).scalar_one())


ADDRESSES = (
    "/",
    "/tab/{name}__score",
    "/model/{name}",
    f"/model/{{name}}/{NEWEST}",
    f"/model/{{name}}/{BEFORE}",
    "/model/{name}/2999-01-01",
    "/report/{name}",
    "/model/{name}/compare?a=1&b=2",
    *(f"/act/{action.name}/{{name}}" for action in ACTIONS),
    f"/act/roll-back/{{name}}?version={'W' * 500}&window={'W' * 500}",
)
#: Decision, kind of the model, what is typed; "*" stands for the first of the list.
PREVIEWS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("publish", "guard", {"batch_id": "*", "reason": TYPED}),
    ("alarm", "quality", {"alarm_id": "*", "action": "close", "reason": TYPED}),
    ("roll-back", "rollback", {"version": "1", "every_window": "on", "allow_bad": "on", "reason": TYPED}),
    ("roll-back", "rollback", {"version": TYPED, "windows": TYPED, "reason": TYPED * 50}),
    ("score", "guard", {"window_start": NEWEST}),
    ("promote", "guard", {"version": "1", "reason": TYPED}),
    ("mark", "guard", {"version": "1", "mark": TYPED, "reason": TYPED}),
    ("judge", "rollback", {"version": "1"}),
    ("train", "rollback", {}),
    ("promote", "", {"version": "1", "reason": TYPED}),
)


def look(page: Page, text: str) -> None:
    """Open a page as a telephone does: no text of it has run or is an element, nothing overflows, it is not large."""
    assert len(text.encode()) < LARGEST
    page.set_viewport_size({"width": WIDTH, "height": 900})
    page.set_content(text)
    assert page.title() not in ("ran", "1", "")
    assert page.locator("script, img, i, u, b, iframe, object").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH, page.evaluate(TOO_WIDE)[:3]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_text_runs_or_overflows_and_no_page_is_large(client: Open, page: Page, address: str) -> None:
    answer = client("admin").get("/ponte" + address.format(name=quote(NAME, safe="")))
    assert answer.status_code == (404 if "2999" in address else 200), answer.text
    look(page, answer.text)


@pytest.mark.parametrize("case", PREVIEWS, ids=lambda case: "-".join(case[:2]))
def test_nor_in_a_form_that_was_sent(
    client: Open, page: Page, case: tuple[str, str, dict[str, str]], models: dict[str, str]
) -> None:
    action, kind, typed = case
    answer = preview(client("admin"), f"/act/{action}/{quote(models.get(kind, NAME), safe='')}", typed)
    assert answer.status_code in (200, 422), answer.text
    look(page, answer.text)


def test_nor_in_a_report_of_500_features_or_in_what_was_decided_about_it(page: Page) -> None:
    from ponte.pages.report import ReportFacts, in_place, render, with_decisions
    from ponte.quality.figures import CANDIDATE, FEATURE, IMPORTANCE, UNUSED, Figure, Measured

    facts = ReportFacts(
        model="visits", version=2, description=TYPED, owner=TYPED, task="binary", metric="roc_auc",
        as_of=dt.datetime(2024, 2, 12, tzinfo=dt.UTC), fitting_from=TODAY, calibration_from=None, holdout_from=TODAY,
        holdout_end=TODAY, fitting_rows=1, calibration_rows=0, holdout_rows=1, purged_rows=0, classes=(TYPED, "b"),
        threshold=0.5, confidence=0.95, resamples=1, snapshot_sha256="5a" * 32, spec_digest="6b" * 32,
        code_revision=TYPED, libraries={"w" * 300: "1"},
    )  # fmt: skip
    names = [f"{'w' * 59}_{number:03}" for number in range(500)]
    kinds = ((FEATURE, "roc_auc"), (IMPORTANCE, "roc_auc"), (UNUSED, "rows"))
    measured = [
        Measured(subject=subject, slice=part, name=name, figure=Figure(0.1, 0.0, 0.2), row_count=600)
        for subject, part, name in [
            (CANDIDATE, "", "roc_auc"),
            *((CANDIDATE, f"{name}={TYPED}", "roc_auc") for name in names[:50]),
            *((f"{kind}{name}", "", metric) for name in names for kind, metric in kinds),
        ]
    ]
    long = "<script>document.title='ran'</script>" + "W" * LARGEST
    rules = [{"rule": long, "got": long, "expected": long, "outcome": outcome} for outcome in ("refused", "warning")]
    said = [{"at": dt.datetime(2024, 2, 12, tzinfo=dt.UTC), "what": long, "who": long, "why": long}]
    around = SimpleNamespace(figures=(), champion=1, before=1, after=None, windows=(TODAY,) * 12, run_id="/" * 200)
    place = SimpleNamespace(base="/ponte", airflow="", user="ada")
    about = {"model": NAME, "version": 2, "origin": "trained", "around": around, "higher_is_better": {}}
    shown = in_place(render(facts, measured, ()), place=place, **about)
    look(page, with_decisions(shown, rules, said).decode())

"""`./ponte new` writes a folder that `./ponte check` has no fault to find with, for each task and kind of column."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from tests.postgres.authoring.test_mistakes import open_to_trainer
from tests.sample_model import World

from ponte.authoring.examining import Examined, examine
from ponte.authoring.writing import Request, Written, write_model
from ponte.errors import PonteError
from ponte.model.folders import get_folder
from ponte.schema import roles
from ponte.storage.database import Database

NOW = dt.datetime(2024, 3, 12, 8, tzinfo=dt.UTC)

_TABLES = """
CREATE TYPE shop.mood AS ENUM ('fine', 'bad');
CREATE TABLE shop."Talk" AS
SELECT 't' || n AS "Talk Id", timestamptz '2024-01-01 10:00Z' + n * interval '33 minutes' AS at,
       timestamptz '2024-01-01 10:00Z' + n * interval '33 minutes' + interval '9 days' AS closed,
       date '2023-12-01' + n % 20 AS since, CASE WHEN n % 7 > 0 THEN n % 5 END AS "Score", 'k' || n % 300 AS many,
       CASE n % 2 WHEN 0 THEN 'fine' ELSE 'bad' END::shop.mood AS mood, 7 AS constant, NULL::text AS nothing,
       'a ' || CASE WHEN shop.random(n, 'w') > 0.5 THEN 'good and pleasant visit' ELSE 'poor and boring visit' END
           || ' of number ' || n AS words,
       n % 3 = 0 AS leak, (ARRAY['low', 'mid', 'top'])[1 + (n % 3)] AS grade, (n % 2)::numeric AS two,
       shop.random(n, 'w') > 0.5 AS good, 10 * shop.random(n, 'w') + n % 3 AS amount
FROM generate_series(0, 2999) AS n;
"""


def asked(world: World, root: Path, **what: object) -> Written:
    """Write a folder as the trainer."""
    db = Database(world.db.url.set(username=roles.TRAINER))
    return write_model(db, root, Request(**what), now=NOW)  # type: ignore[arg-type]


def checked(world: World, path: Path) -> Examined:
    db = Database(world.db.url.set(username=roles.TRAINER))
    return examine(db, get_folder(path.parent, path.name), now=NOW)


@pytest.fixture
def talks(world: World) -> World:
    with world.db.begin() as connection:
        connection.execution_options(no_parameters=True).exec_driver_sql(_TABLES)
    open_to_trainer(world)
    return world


VISITS = {"table": "shop.visit", "key": ("visit_id",), "time": "day"}
TALKS = {"table": "shop.Talk", "key": ("Talk Id",), "time": "at"}


@pytest.mark.parametrize(
    ("what", "task", "features", "left_out", "estimator"),
    [
        ({**VISITS, "label": "returned", "known": "known_at"}, "binary",
         {"shop", "items", "price", "distance", "member", "spent"}, set(), "HistGradientBoostingClassifier"),
        ({**VISITS, "label": "spent", "known": "known_at"}, "regression",
         {"shop", "items", "price", "distance", "member", "returned"}, set(), "HistGradientBoostingRegressor"),
        ({**TALKS, "label": "good", "known": "closed"}, "binary",
         {"days_since_since", "score_", "many", "mood", "words", "leak", "grade", "two"},
         {"constant", "nothing", "amount"}, "TfidfVectorizer"),
        ({**TALKS, "label": "grade"}, "multiclass",
         {"days_since_since", "score_", "many", "mood", "words", "leak", "two", "good", "amount"},
         {"constant", "nothing", "closed"}, "TfidfVectorizer"),
        ({**TALKS, "label": "two"}, "binary",
         {"days_since_since", "score_", "many", "words", "leak", "grade", "good", "amount"},
         {"constant", "nothing", "closed", "mood"}, "LogisticRegression"),
    ],
    ids=["binary", "regression", "words", "multiclass", "numeric of two values"],
)  # fmt: skip
def test_what_is_written_passes_the_check(
    talks: World, models_root: Path, what: dict, task: str, features: set[str], left_out: set[str], estimator: str
) -> None:
    written = asked(talks, models_root, name="fresh", **what)
    for file in ("model.toml", "features.sql", "labels.sql", "estimator.py"):
        print((written.path / file).read_text())
    print(written)
    found = checked(talks, written.path)
    print(found.message)
    assert not found.problems, found.message
    assert written.task == task
    assert set(written.features) == features
    assert set(written.said.left_out) == left_out
    assert estimator in (written.path / "estimator.py").read_text()
    assert sorted(path.name for path in models_root.iterdir()) == ["fresh"], "nothing is left beside it"

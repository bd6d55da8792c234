"""`./ponte new` writes a folder that `./ponte check` has no fault to find with, for each task and kind of column."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
from tests.door import ponte
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
         {"score_", "many", "words", "leak", "grade", "good", "amount"},
         {"constant", "nothing", "closed", "mood", "since"}, "LogisticRegression"),
    ],
    ids=["binary", "regression", "words", "multiclass", "numeric of two values"],
)  # fmt: skip
def test_what_is_written_passes_the_check(  # noqa: PLR0917 - pytest gives them by name
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
    assert sorted(path.name for path in models_root.iterdir()) == ["fresh", "visits"], "nothing is left beside it"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({**VISITS, "label": "returned", "table": "shop.visits"}, ("no such table", "did you mean 'shop.visit'?")),
        ({**VISITS, "label": "returned", "table": "visit"}, ("no such table", "did you mean 'shop.visit'?")),
        ({**VISITS, "label": "return"}, ("--label, table shop.visit", "did you mean 'returned'?")),
        ({**VISITS, "label": "returned", "key": ("visit",)}, ("--key, table", "did you mean 'visit_id'?")),
        ({**VISITS, "label": "returned", "key": ("shop",)}, ("the key is not unique", "3,500 rows")),
        ({**VISITS, "label": "returned", "key": ("distance",)}, ("a key is made of", "distance is float8")),
        ({**VISITS, "label": "returned", "time": "items"}, ("--time is a date", "items is int4")),
        ({**VISITS, "label": "returned", "time": None}, ("which column dates a row?", "day, known_at")),
        ({**VISITS, "label": "shop", "task": "regression"}, ("a regression predicts a number", "shop is text")),
        ({**VISITS, "label": "items", "task": "binary"}, ("a binary label has two values", "8 different values")),
        ({**TALKS, "label": "constant"}, ("there is nothing to predict", "1 different value")),
        ({**TALKS, "label": "words"}, ("the label is no class and no number", "3,000 different texts")),
        ({"table": "shop.undated", "key": ("n",), "label": "good"}, ("nothing in the table is dated", "ADD COLUMN")),
        ({"table": "shop.one_day", "key": ("n",), "label": "good"}, ("too few windows", "2024-01-01")),
        ({"table": "shop.per_day", "key": ("who",), "label": "good"}, ("not unique", "--key who --key day is unique")),
        ({"table": "secret.rows", "key": ("n",), "label": "good"}, ("may not read", "GRANT USAGE ON", "ponte_reader")),
        ({"table": "shop.none", "key": ("n",), "label": "good"}, ("the table is empty", "load its rows")),
        ({**VISITS, "label": "returned", "without": ("prize",)}, ("--without, table", "did you mean 'price'?")),
        ({**VISITS, "label": "returned", "known": "items"}, ("--known is a date", "items is int4")),
        ({**VISITS, "label": "returned", "known": "member"}, ("--known is a date", "member is bool")),
        ({**VISITS, "label": "visit_id"}, ("the label is a part of the key", "visit_id")),
        ({**VISITS, "label": "returned", "name": "visits"}, ("such a folder already",)),
        ({**VISITS, "label": "returned", "name": "Visits"}, ("is no model name",)),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[0],
)  # fmt: skip
def test_what_cannot_become_a_model_is_refused_with_the_way_out_and_nothing_is_written(
    talks: World, models_root: Path, what: dict, said: tuple[str, ...]
) -> None:
    with talks.db.begin() as connection:
        connection.execution_options(no_parameters=True).exec_driver_sql(
            "CREATE TABLE shop.undated AS SELECT n, n % 2 = 0 AS good FROM generate_series(1, 50) n;"
            "CREATE TABLE shop.none AS TABLE shop.undated WITH NO DATA;"
            "CREATE TABLE shop.one_day AS SELECT *, date '2024-01-01' AS day FROM shop.undated;"
            "CREATE TABLE shop.per_day AS SELECT n % 5 AS who, date '2024-01-01' + n / 5 AS day, n % 2 = 0 AS good "
            "FROM generate_series(0, 99) n; CREATE SCHEMA secret; CREATE TABLE secret.rows AS TABLE shop.one_day"
        )
    open_to_trainer(talks)
    before = {path: path.read_bytes() for path in models_root.rglob("*") if path.is_file()}
    with pytest.raises(PonteError) as caught:
        asked(talks, models_root, **{"name": "fresh", **what})
    missing = [part for part in said if part not in str(caught.value)]
    assert not missing, caught.value
    assert {path: path.read_bytes() for path in models_root.rglob("*") if path.is_file()} == before


def test_the_door_writes_and_checks(talks: World, models_root: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PONTE_MODELS", str(models_root))
    url = talks.db.url.set(username=roles.TRAINER).render_as_string(hide_password=False)
    table = ("--table", "shop.visit", "--key", "visit_id", "--label", "returned")
    assert ponte("new", "fresh", *table, "--time", "day", "--task", "binry", "--database", url) == 1
    assert "did you mean 'binary'?" in capsys.readouterr().err
    assert ponte("new", "fresh", *table, "--time", "day", "--database", url) == 0
    said = capsys.readouterr().out
    assert "known_at lies up to 3 days after day" in said
    assert said.endswith(
        "Then:\n  ./ponte check fresh\n  ./ponte try fresh --as-of 2024-03-04\n"
        "  ./ponte train fresh --as-of 2024-03-04\n  ./ponte score fresh 2024-03-04\n"
    )
    assert ponte("check", "fresh", "--database", url) == 0
    assert "fresh: ok, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("label", "near"),
    [
        ("amount", {"mostly: their correlation is 0.9", "half: their correlation is 0.8"}),
        ("good", {"close: alone it has a ROC AUC of 0.9", "often: its value alone tells the label of 7"}),
    ],
)
def test_what_comes_near_the_label_is_named_and_left_out_on_demand(
    talks: World, models_root: Path, label: str, near: set[str]
) -> None:
    with talks.db.begin() as connection:
        connection.execution_options(no_parameters=True).exec_driver_sql(
            'CREATE TABLE shop.near AS SELECT "Talk Id" AS id, at, amount, good, '
            "amount + 2 * shop.random(n, 'a') AS mostly, "
            "amount + 4 * shop.random(n, 'b') + 4 * shop.random(n, 'c') AS half, shop.random(n, 'd') AS chance,"
            "good::integer + 1.3 * shop.random(n, 'e') AS close,"
            "CASE WHEN shop.random(n, 'f') < 0.87 THEN good ELSE NOT good END AS often "
            'FROM (SELECT *, substr("Talk Id", 2)::integer AS n FROM shop."Talk") AS talk'
        )
    open_to_trainer(talks)
    table = {"table": "shop.near", "key": ("id",), "time": "at", "label": label}
    other = "good" if label == "amount" else "amount"
    written = asked(talks, models_root, name="fresh", **table, without=(other,))
    print(written)
    said = next(line for line in written.said.problems if line.startswith("near to"))
    assert not [part for part in near if part not in said], said
    assert "chance" not in said
    columns = tuple(re.findall(r"(\w+): (?:their|alone|its)", said))
    again = asked(talks, models_root, name="again", **table, without=(*columns, other))
    assert not {*columns, other} & set(again.features)
    assert not [line for line in again.said.problems if line.startswith("near to")]
    assert f"{', '.join(columns)}, {other}: left out" in str(again), "of one reason on one line"
    assert checked(talks, again.path).problems == ()


def test_names_that_meet_and_values_that_are_no_numbers_pass_the_check_too(talks: World, models_root: Path) -> None:
    with talks.db.begin() as connection:
        connection.execution_options(no_parameters=True).exec_driver_sql(
            "CREATE TABLE shop.odd AS SELECT n AS id, date '2024-01-01' + n / 50 AS day, "
            "date '2023-01-01' + n % 300 AS signup, n % 90 AS days_since_signup, "
            "CASE n % 9 WHEN 0 THEN float8 'infinity' WHEN 1 THEN 'NaN' WHEN 2 THEN 1e308 ELSE n % 7 END AS size, "
            "CASE n % 11 WHEN 0 THEN float8 'infinity' WHEN 1 THEN 'NaN' ELSE n % 5 END AS amount "
            "FROM generate_series(0, 2999) AS n",
        )
    open_to_trainer(talks)
    table = {"table": "shop.odd", "key": ("id", "id"), "time": "day", "label": "amount", "without": ("size",)}
    written = asked(talks, models_root, name="fresh", **table)
    assert written.features == ("days_since_signup", "days_since_signup_2")
    found = checked(talks, written.path)
    assert not found.problems, found.message
    bound = re.search("maximum = (.*) #", (written.path / "model.toml").read_text())
    assert bound
    assert float(bound[1]) < 5
    # An estimator that takes no infinity is the author's affair; that one is there is no reason to end without a word.
    asked(talks, models_root, name="sized", **{**table, "without": ()})
    # Written by hand: a training sets such rows aside, as far as the budget goes.
    labels = written.path / "labels.sql"
    labels.write_text("".join(line for line in labels.open() if "Infinity" not in line))
    assert "18.2% of all" not in (said := checked(talks, written.path).message)
    assert "labels in two windows are NaN or infinite; a training sets such rows aside, at most 2.0% of all" in said
    model = written.path / "model.toml"
    model.write_text(model.read_text() + "\n[quarantine]\nbudget = 0.5\n")
    found = checked(talks, written.path)
    assert not found.problems, found.message
    assert "are NaN or infinite" in found.message

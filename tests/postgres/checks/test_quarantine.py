"""Rows that fail a check, or that the estimator cannot score, are set aside; the rest is scored; nothing is lost."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from tests.conftest import Cluster, Template
from tests.sample_model import (
    ESTIMATOR,
    FEATURES_SQL,
    LABELS_SQL,
    NEXT_WEEK,
    NOW,
    VISITS_PER_WEEK,
    WEEK,
    World,
    run_named,
)

from ponte.checks.quarantine import Condition
from ponte.errors import BatchRejected, ModelFolderError, PonteError, RowsLost, TrainingRefused
from ponte.publishing import pointer
from ponte.scoring import shards as scoring
from ponte.scoring.window import stage_window
from ponte.snapshots.checking import check_snapshot

NO_ITEMS = """
[quarantine]
budget = 0.2
[[checks]]
expectation = "expect_column_values_to_not_be_null"
column = "items"
on_failure = "quarantine"
[[checks]]
expectation = "expect_column_values_to_be_between"
column = "price"
max_value = 60
on_failure = "quarantine"
"""

#: Raises for rows with this price, as a column that a step cannot read would.
PICKY = ESTIMATOR.replace(
    "def build_estimator():",
    """from sklearn.preprocessing import FunctionTransformer


def refuse_odd_prices(rows):
    if (rows["price"] == 66.66).any():
        raise ValueError("an odd price")
    return rows


def build_estimator():""",
).replace("return make_pipeline(columns,", "return make_pipeline(FunctionTransformer(refuse_odd_prices), columns,")


def counts(world: World, batch_id: int) -> tuple[int, int, int]:
    """Return rows frozen, published, and in quarantine."""
    frozen = world.ask("SELECT row_count FROM ponte.batch WHERE batch_id = :id", id=batch_id)
    published = world.ask("SELECT count(*) FROM predictions.visits WHERE batch_id = :id", id=batch_id)
    return (
        frozen,
        published,
        world.ask("SELECT count(*) FROM ponte.quarantine WHERE batch_id = :id", id=batch_id),
    )


def test_rows_that_fail_a_check_are_set_aside_with_reasons_and_content(trained: World) -> None:
    world = trained.with_model(checks=NO_ITEMS)
    expected = dict(
        world.rows(
            "SELECT visit_id, array_remove(ARRAY[CASE WHEN items IS NULL THEN 0 END, CASE WHEN price > 60 THEN 1 END], "
            "NULL) FROM shop.visit WHERE day >= :week AND day < CAST(:week AS date) + 7 "
            "AND (items IS NULL OR price > 60)",
            week=WEEK,
        )
    )
    batch = world.run(run_id="r")

    assert counts(world, batch.batch_id) == (VISITS_PER_WEEK, VISITS_PER_WEEK - len(expected), len(expected))
    entries = world.rows("SELECT key, reasons, content, closed_at FROM ponte.quarantine")
    assert {e[0]["visit_id"]: [r["check"] for r in e[1]] for e in entries} == expected
    assert all(e[2]["visit_id"] == e[0]["visit_id"] and "price" in e[2] and e[3] is None for e in entries)
    assert world.ask("SELECT count(*) FROM predictions.visits WHERE visit_id = ANY(:ids)", ids=list(expected)) == 0


def test_more_rows_than_the_budget_reject_the_batch_and_move_nothing(trained: World) -> None:
    world = trained.with_model(checks=NO_ITEMS.replace("0.2", "0.01"))
    batch = world.freeze(run_id="r")
    with pytest.raises(BatchRejected, match="of 350 rows would be set aside"):
        world.check(batch.batch_id)
    assert world.ask("SELECT count(*) FROM ponte.quarantine") == 0
    assert world.ask(f"SELECT count(*) FROM ponte_data.{batch.frozen_table}") == VISITS_PER_WEEK


def test_rows_that_the_estimator_cannot_score_are_set_aside_and_healed_rows_close_their_entries(world: World) -> None:
    world = world.with_model(
        files={"estimator.py": PICKY.format(kind="LogisticRegression")}, chunk_rows=40, shard_rows=200
    )
    world.train(run_id="train")
    odd = [2150, 2160, 2301]
    world.execute("UPDATE shop.visit SET price = 66.66 WHERE visit_id = ANY(:ids)", ids=odd)
    first = world.run(run_id="first")

    assert counts(world, first.batch_id) == (VISITS_PER_WEEK, VISITS_PER_WEEK - 3, 3)
    entries = world.rows("SELECT key, reasons, shard IS NOT NULL FROM ponte.quarantine ORDER BY key")
    assert entries == [({"visit_id": n}, [{"error": "ValueError: an odd price"}], True) for n in odd]

    world.execute("UPDATE shop.visit SET price = 10 WHERE visit_id = :id", id=odd[0])
    world.execute("DELETE FROM shop.visit WHERE visit_id = :id", id=odd[2])
    second = world.run(run_id="second")
    assert counts(world, second.batch_id) == (VISITS_PER_WEEK - 1, VISITS_PER_WEEK - 2, 1)
    closed = world.rows(
        "SELECT key->>'visit_id', resolution, closed_by FROM ponte.quarantine WHERE batch_id = :id ORDER BY 1",
        id=first.batch_id,
    )
    b = second.batch_id
    assert closed == [("2150", "scored", b), ("2160", "quarantined again", b), ("2301", "gone", b)]


def test_an_estimator_that_can_score_nothing_rejects_the_batch(world: World) -> None:
    world = world.with_model(files={"estimator.py": PICKY.format(kind="LogisticRegression")})
    world.train(run_id="train")
    world.execute("UPDATE shop.visit SET price = 66.66 WHERE day >= :week", week=WEEK)
    batch = world.run(run_id="r", until="check")
    with pytest.raises(BatchRejected, match="rows: ValueError"):
        world.score(batch.batch_id)
    assert world.ask("SELECT count(*) FROM ponte.quarantine") == 0


# ---------------------------------------------------------------- every kind of expectation

#: Texts that SQL, Python's % and SQLAlchemy's :name each read in a way of their own.
ODD = ["O'Hara", "100%", ":x", "%s", "%(a)s", "a\\b", '["a"]']


def check(expectation: str, on_failure: str = "quarantine", **arguments: object) -> str:
    """Return a check as TOML."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in arguments.items()]
    return "\n".join(["[[checks]]", f'expectation = "{expectation}"', f'on_failure = "{on_failure}"', *lines, ""])


def budget(share: float) -> str:
    return f"[quarantine]\nbudget = {share}\n"


def of_week(condition: str) -> str:
    return f"SELECT visit_id FROM shop.visit WHERE day >= :week AND day < CAST(:week AS date) + 7 AND ({condition})"


TWICE = "({0}) IN (SELECT {0} FROM shop.visit WHERE day >= :week AND day < CAST(:week AS date) + 7 {1}GROUP BY {0} {2})"
MORE = "HAVING count(*) > 1"
BOTH = "NOT (items IS NULL AND distance IS NULL)"
PAIR = {"column_A": "distance", "column_B": "items"}

#: What is asked of the rows → the rows that do not meet it, in SQL.
KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "between": (
        "column_values_to_be_between",
        {"column": "items", "min_value": 2, "max_value": 5},
        "items NOT BETWEEN 2 AND 5",
    ),
    "strictly between": (
        "column_values_to_be_between",
        {"column": "items", "min_value": 2, "strict_min": True},
        "items <= 2",
    ),
    "not null": ("column_values_to_not_be_null", {"column": "shop"}, "shop IS NULL"),
    "null": ("column_values_to_be_null", {"column": "shop"}, "shop IS NOT NULL"),
    "in a set": (
        "column_values_to_be_in_set",
        {"column": "shop", "value_set": ["mill", "quay", *ODD[:5]]},
        "shop IN ('park', :a, :b)",
    ),
    "not in a set": (
        "column_values_to_not_be_in_set",
        {"column": "shop", "value_set": ["mill", *ODD]},
        "shop NOT IN ('quay', 'park')",
    ),
    "numbers in a set": ("column_values_to_be_in_set", {"column": "items", "value_set": [1, 2]}, "items NOT IN (1, 2)"),
    "regex": (
        "column_values_to_match_regex",
        {"column": "shop", "regex": "^(mill|100%|:x)"},
        "shop !~ '^(mill|100%|\\:x)'",
    ),
    "no regex": ("column_values_to_not_match_regex", {"column": "shop", "regex": "(ll|%|')"}, "shop ~ '(ll|%|'')'"),
    "like": ("column_values_to_match_like_pattern", {"column": "shop", "like_pattern": "m%"}, "shop NOT LIKE 'm%'"),
    "length": ("column_value_lengths_to_equal", {"column": "shop", "value": 4}, "length(shop) <> 4"),
    "lengths": ("column_value_lengths_to_be_between", {"column": "shop", "max_value": 4}, "length(shop) > 4"),
    "A greater than B": ("column_pair_values_a_to_be_greater_than_b", PAIR, "distance <= items"),
    "A or equal": ("column_pair_values_a_to_be_greater_than_b", {**PAIR, "or_equal": True}, "distance < items"),
    "A greater than B, of both": (
        "column_pair_values_a_to_be_greater_than_b",
        {**PAIR, "ignore_row_if": "either_value_is_missing"},
        "distance <= items",
    ),
    "A equals B": ("column_pair_values_to_be_equal", PAIR, f"{BOTH} AND (distance = items) IS NOT TRUE"),
    "A equals B, NULL too": (
        "column_pair_values_to_be_equal",
        {**PAIR, "ignore_row_if": "neither"},
        "(distance = items) IS NOT TRUE",
    ),
    "sum": (
        "multicolumn_sum_to_equal",
        {"column_list": ["items", "distance"], "sum_total": 6},
        "items + distance <> 6",
    ),
    "different within a row": (
        "select_column_values_to_be_unique_within_record",
        {"column_list": ["items", "distance"]},
        "items = distance",
    ),
    "different within a whole row": (
        "select_column_values_to_be_unique_within_record",
        {"column_list": ["items", "distance"], "ignore_row_if": "any_value_is_missing"},
        "items = distance",
    ),
    "unique": ("column_values_to_be_unique", {"column": "price"}, TWICE.format("price", "", MORE)),
    "compound unique": (
        "compound_columns_to_be_unique",
        {"column_list": ["shop", "items"]},
        TWICE.format("shop, items", "", MORE),
    ),
}


@pytest.fixture
def odd(trained: World) -> World:
    """The world with odd names of shops, rows without numbers, and rows with the same number twice."""
    trained.execute(
        "UPDATE shop.visit SET shop = (CAST(:odd AS text[]))[1 + visit_id / 3 % 7] WHERE visit_id % 3 = 0", odd=ODD
    )
    trained.execute("UPDATE shop.visit SET items = NULL, distance = NULL WHERE visit_id % 10 = 0")
    trained.execute("UPDATE shop.visit SET items = 3, distance = 3 WHERE visit_id % 10 = 1")
    return trained


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_expectation_sets_aside_the_rows_that_do_not_meet_it_and_no_other(odd: World, kind: str) -> None:
    """In whatever way Great Expectations writes it; a row with a NULL fails where a NULL cannot meet it."""
    name, arguments, failing = KINDS[kind]
    expectation = f"expect_{name}"
    values = {"week": WEEK, **({"a": ODD[5], "b": ODD[6]} if ":a" in failing else {})}
    expected = {n for (n,) in odd.rows(of_week(failing), **values)}
    assert 0 < len(expected) < VISITS_PER_WEEK, "the case tells something"

    world = odd.with_model(checks=budget(0.99) + check(expectation, **arguments))
    batch = world.run(run_id="r", until="score")
    entries = world.rows("SELECT key, reasons, content FROM ponte.quarantine")
    assert {e[0]["visit_id"] for e in entries} == expected
    assert all(e[1] == [{"check": 0, "expectation": expectation, "arguments": arguments}] for e in entries)
    assert all(
        e[2].keys() == {"visit_id", "shop", "items", "price", "distance", "member", "shop_rate"} for e in entries
    )
    left = world.ask(f"SELECT array_agg(visit_id) FROM ponte_data.{batch.frozen_table}")
    assert set(left) == {n for (n,) in odd.rows(of_week("true"), week=WEEK)} - expected
    assert world.ask(f"SELECT count(*) FROM ponte_data.{batch.prediction_table}") == len(left)


def test_a_row_that_fails_several_checks_has_one_entry_with_all_its_reasons_in_order(trained: World) -> None:
    trained.execute("UPDATE shop.visit SET items = NULL, price = 70 WHERE visit_id = 2200")
    world = trained.with_model(checks=NO_ITEMS)
    world.run(run_id="r", until="check")
    [(reasons,)] = world.rows("SELECT reasons FROM ponte.quarantine WHERE key = '{\"visit_id\": 2200}'")
    assert [(r["check"], r["expectation"]) for r in reasons] == [
        (0, "expect_column_values_to_not_be_null"),
        (1, "expect_column_values_to_be_between"),
    ]
    assert reasons[1]["arguments"] == {"column": "price", "max_value": 60}


def test_a_check_about_no_single_row_cannot_set_rows_aside_and_says_what_can(trained: World) -> None:
    wrong = check("expect_column_max_to_be_between", column="price", max_value=1)
    with pytest.raises(ModelFolderError) as caught:
        trained.with_model(checks=wrong).train(run_id="t")
    assert str(caught.value) == (
        "model folder 'visits' has 1 problem:\n"
        "  1. model.toml: checks.0.on_failure: expect_column_max_to_be_between is about no single row, so it can set "
        'none aside → use on_failure = "stop" or "warn"'
    )
    assert trained.ask("SELECT count(*) FROM ponte.snapshot") == 1


def test_a_check_that_could_not_be_evaluated_names_no_rows_and_stops_the_batch_instead(trained: World) -> None:
    wrong = check("expect_column_values_to_be_between", column="shop", max_value=3)
    world = trained.with_model(checks=budget(0.9) + wrong)
    with pytest.raises(BatchRejected, match=r"max_value=3\): error"):
        world.run(run_id="r")
    assert world.ask("SELECT count(*) FROM ponte.quarantine") == 0


def test_a_stop_keeps_the_rows_that_another_check_would_set_aside(trained: World) -> None:
    """Whoever looks for the reason finds the table as it was checked."""
    stop = check("expect_table_row_count_to_be_between", "stop", min_value=1000)
    world = trained.with_model(checks=NO_ITEMS + stop)
    batch = world.freeze(run_id="r")
    with pytest.raises(BatchRejected, match="expect_table_row_count_to_be_between"):
        world.check(batch.batch_id)
    assert world.ask("SELECT count(*) FROM ponte.quarantine") == 0
    assert world.ask(f"SELECT count(*) FROM ponte_data.{batch.frozen_table}") == VISITS_PER_WEEK


@pytest.mark.parametrize("clause", ["false", "visit_id % 2 = 0"], ids=["none", "others"])
def test_rows_that_are_not_those_great_expectations_counted_are_a_loud_error(trained: World, clause: str) -> None:
    """The condition is read out of its inside: another version of it may write it otherwise."""
    world = trained.with_model(checks=NO_ITEMS)
    batch = world.freeze(run_id="r")

    def other(result: Any, *_: object) -> Condition:
        return Condition(position=result.position, reason={}, clause=sa.literal_column(f"({clause})"))

    with (
        patch("ponte.checks.validation._condition", other),
        pytest.raises(PonteError, match="are not those it counted"),
    ):
        world.check(batch.batch_id)
    assert world.rows("SELECT status FROM ponte.batch") == [("frozen",)]
    assert world.ask("SELECT count(*) FROM ponte.quarantine") == 0


# ---------------------------------------------------------------- keys

FREE_KEY = "ALTER TABLE shop.visit DROP CONSTRAINT visit_pkey; ALTER TABLE shop.visit ALTER visit_id DROP NOT NULL"
COPY = (
    "INSERT INTO shop.visit SELECT {}, day, shop, {}, price, distance, member, returned, spent, known_at "
    "FROM shop.visit "
)


def test_all_copies_of_a_key_that_repeats_are_set_aside_and_the_rest_is_published(trained: World) -> None:
    """Nobody knows which of them is right."""
    trained.execute(FREE_KEY)
    trained.execute(COPY.format("visit_id", "n") + "CROSS JOIN generate_series(1, 2) AS n WHERE visit_id = 2200")
    trained.execute(COPY.format("visit_id", "items") + "WHERE visit_id = 2300")
    world = trained.with_model(checks=check("expect_column_values_to_be_unique", column="visit_id"))
    batch = world.run(run_id="r")

    assert counts(world, batch.batch_id) == (VISITS_PER_WEEK + 3, VISITS_PER_WEEK - 2, 5)
    keys = "SELECT key->>'visit_id', count(*), count(DISTINCT content) FROM ponte.quarantine GROUP BY 1 ORDER BY 1"
    assert [row[:2] for row in world.rows(keys)] == [("2200", 3), ("2300", 2)]


def test_a_key_that_is_null_can_be_set_aside_too(trained: World) -> None:
    trained.execute(FREE_KEY)
    trained.execute("UPDATE shop.visit SET visit_id = NULL WHERE visit_id IN (2200, 2201)")
    world = trained.with_model(checks=check("expect_column_values_to_not_be_null", column="visit_id"))
    batch = world.run(run_id="r")
    assert counts(world, batch.batch_id) == (VISITS_PER_WEEK, VISITS_PER_WEEK - 2, 2)
    assert world.rows("SELECT key FROM ponte.quarantine") == [({"visit_id": None},)] * 2
    key = "SELECT expectation, outcome, element_count FROM ponte.check_result WHERE position < 0 AND batch_id = 1"
    assert {row[1:] for row in world.rows(key)} == {("passed", VISITS_PER_WEEK - 2)}, (
        "they count the rows that are left"
    )

    trained.execute("UPDATE shop.visit SET visit_id = 2200 WHERE visit_id IS NULL AND price = (SELECT min(price) FROM "
                    "shop.visit WHERE visit_id IS NULL)")  # fmt: skip
    again = world.run(run_id="again")
    assert counts(world, again.batch_id)[2] == 1
    gone = "SELECT DISTINCT resolution FROM ponte.quarantine WHERE batch_id = :id"
    assert world.rows(gone, id=batch.batch_id) == [("quarantined again",)]


def test_a_key_that_still_repeats_after_rows_were_set_aside_rejects_the_batch(trained: World) -> None:
    trained.execute(FREE_KEY)
    trained.execute(COPY.format("visit_id", "NULL") + "WHERE visit_id IN (2200, 2300)")
    trained.execute(COPY.format("visit_id", "items") + "WHERE visit_id = 2300 AND items IS NOT NULL")
    trained.execute(
        "UPDATE shop.visit SET items = 3 WHERE visit_id BETWEEN 2100 AND 2449 AND visit_id NOT IN (2200, 2300)"
    )
    trained.execute("UPDATE shop.visit SET items = 3 WHERE visit_id = 2200 AND ctid = "
                    "(SELECT min(ctid) FROM shop.visit WHERE visit_id = 2200)")  # fmt: skip
    world = trained.with_model(checks=budget(0.1) + check("expect_column_values_to_not_be_null", column="items"))
    with pytest.raises(BatchRejected, match=r"key_is_unique\(key=\['visit_id'\]\): failed, 2 of"):
        world.run(run_id="r")
    assert world.ask("SELECT count(*) FROM ponte.quarantine") == 0


#: A key of every family that a key can have, and how it is made of the number of the visit.
KEYS: dict[str, dict[str, str]] = {
    "text": {"name": "'O''Hara \\ \"%s\" \\:x é 😀 ' || v.visit_id"},
    "padded text": {"name": "CAST('n' || v.visit_id AS char(12))"},
    "varchar": {"name": "CAST('n' || v.visit_id AS varchar(12))"},
    "date": {"born": "date '1900-01-01' + v.visit_id::int"},
    "timestamp": {"at": "timestamp '2024-01-01 00:00:00.000001' + v.visit_id * interval '1 hour 1 microsecond'"},
    "moment": {"at": "timestamptz '2024-01-01 00:00:00.123456+05:30' + v.visit_id * interval '1 hour 1 microsecond'"},
    "smallint": {"n": "CAST(v.visit_id AS smallint)"},
    "beyond double precision": {"count": "9007199254740993 + v.visit_id"},
    "composite": {
        "visit_id": "v.visit_id",
        "name": "'é \"' || v.visit_id % 7",
        "born": "date '1900-01-01' + v.visit_id::int % 11",
        "at": "timestamp '2024-01-01 00:00:00.999999' + v.visit_id * interval '1 day'",
    },
}


def world_with_key(world: World, columns: dict[str, str], **settings: Any) -> World:
    """Return a trained world whose key is these columns, and whose estimator refuses an odd price."""
    key = ", ".join(f"{sql} AS {name}" for name, sql in columns.items()).replace("\\:", ":")
    labels = LABELS_SQL.format(label="returned::int").replace("SELECT visit_id,", f"SELECT {key},")
    keyed = world.with_model(
        key=json.dumps(list(columns)),
        files={
            "features.sql": FEATURES_SQL.replace("v.visit_id,", f"{key},"),
            "labels.sql": labels.replace("FROM shop.visit", "FROM shop.visit v"),
            "estimator.py": PICKY.format(kind="LogisticRegression"),
        },
        **settings,
    )
    keyed.train(run_id="train")
    return keyed


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_of_any_type_finds_its_row_on_the_way_in_and_on_the_way_back(world: World, kind: str) -> None:
    """From the estimator to the entry, and from the entry to the prediction of the batch that comes after."""
    columns = KEYS[kind]
    world.execute("UPDATE shop.visit SET price = 66.66 WHERE visit_id IN (2150, 2160, 2301)")
    keyed = world_with_key(world, columns, chunk_rows=40, shard_rows=200)
    made = ", ".join(f"{sql} AS {name}" for name, sql in columns.items())
    query = f"SELECT to_jsonb(k) FROM (SELECT {made} FROM shop.visit v WHERE price = 66.66 ORDER BY visit_id) AS k"
    expected = [{k: v.rstrip() if kind == "padded text" else v for k, v in key.items()} for (key,) in keyed.rows(query)]
    first = keyed.run(run_id="first")

    assert counts(keyed, first.batch_id) == (VISITS_PER_WEEK, VISITS_PER_WEEK - 3, 3)
    entries = [key for (key,) in keyed.rows("SELECT key FROM ponte.quarantine")]
    assert sorted(entries, key=str) == sorted(expected, key=str)
    assert keyed.ask("SELECT bool_and(content->>'price' = '66.66') FROM ponte.quarantine")
    assert kind == "padded text" or keyed.ask("SELECT bool_and(content @> key) FROM ponte.quarantine")

    keyed.execute("UPDATE shop.visit SET price = 10 WHERE visit_id = 2150")
    keyed.execute("DELETE FROM shop.visit WHERE visit_id = 2301")
    keyed.run(run_id="second")
    resolutions = {json.dumps(k, sort_keys=True): r for k, r in keyed.rows(
        "SELECT key, resolution FROM ponte.quarantine WHERE batch_id = :id", id=first.batch_id)}  # fmt: skip
    assert [resolutions[json.dumps(k, sort_keys=True)] for k in expected] == ["scored", "quarantined again", "gone"]


# ---------------------------------------------------------------- the budget


def bad_prices(world: World, *visits: int) -> None:
    world.execute("UPDATE shop.visit SET price = 66.66 WHERE visit_id = ANY(:ids)", ids=list(visits))


@pytest.fixture(scope="module")
def picky_template(
    server: Cluster, shop_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Template]:
    """A champion that raises for an odd price."""

    def train(world: World) -> None:
        world.with_model(files={"estimator.py": PICKY.format(kind="LogisticRegression")}).train(run_id="train")

    with shop_template.after(server, tmp_path_factory.mktemp("picky"), train) as found:
        yield found


@pytest.fixture
def trained_picky(server: Cluster, picky_template: Template, tmp_path: Path) -> Iterator[World]:
    """A private copy of it."""
    with picky_template.copy(server, tmp_path) as world:
        yield world


@pytest.fixture
def picky(trained_picky: World) -> World:
    """The same with many shards; at most 7 of 350 rows may be set aside."""
    picky = trained_picky
    changes = {"files": {"estimator.py": PICKY.format(kind="LogisticRegression")}, "chunk_rows": 40, "shard_rows": 100}
    text = "[guard]\nunscored_maximum = 1.0\n" + check("expect_column_values_to_not_be_null", column="items")
    picky.execute("UPDATE shop.visit SET items = 3 WHERE items IS NULL AND day >= :week", week=WEEK)
    return picky.with_model(**changes, checks=text)


@pytest.mark.parametrize(
    ("by_check", "by_estimator", "good"), [(3, 4, True), (4, 4, False), (0, 7, True), (0, 8, False)]
)
def test_checks_and_the_estimator_share_one_budget_across_all_shards(
    picky: World, by_check: int, by_estimator: int, good: bool
) -> None:
    first = 2100
    picky.execute(
        "UPDATE shop.visit SET items = NULL WHERE visit_id >= :a AND visit_id < :b", a=first, b=first + by_check
    )
    bad_prices(picky, *(2120 + 40 * n for n in range(by_estimator)))
    if good:
        batch = picky.run(run_id="r")
        assert counts(picky, batch.batch_id) == (350, 350 - by_check - by_estimator, by_check + by_estimator)
        assert picky.ask("SELECT count(*) FROM ponte.shard") > 2
    else:
        with pytest.raises(BatchRejected, match=r"more rows cannot be scored than \[quarantine\] budget = 0.02 of 350"):
            picky.run(run_id="r")
        assert picky.rows("SELECT status FROM ponte.batch") == [("rejected",)]
        assert picky.ask("SELECT count(*) FROM ponte.published") == 0


def test_shards_that_ran_at_once_and_did_not_know_of_each_other_are_counted_together_in_the_end(picky: World) -> None:
    """Each of them left the budget for itself alone."""
    bad_prices(picky, *(2120 + 40 * n for n in range(8)))
    batch = picky.run(run_id="r", until="check")
    with patch.object(scoring, "_budget", lambda *_: 7):
        picky.score(batch.batch_id)
    with pytest.raises(BatchRejected, match=r"8 of 350 rows were set aside, \[quarantine\] budget allows 7"):
        picky.guard(batch.batch_id)
    assert picky.rows("SELECT status FROM ponte.batch") == [("rejected",)]
    with pytest.raises(PonteError, match="no guard has rejected this batch"):
        pointer.publish_anyway(picky.db, batch.batch_id, model="visits", run_id="p", actor="a", reason="b")


def test_a_shard_that_is_scored_again_writes_its_entries_once(picky: World) -> None:
    bad_prices(picky, 2120, 2240)
    batch = picky.run(run_id="r", until="score")
    picky.score(batch.batch_id)
    picky.run(run_id="r")
    assert counts(picky, batch.batch_id) == (350, 348, 2)


@pytest.mark.parametrize("what", ["an entry", "a prediction"])
def test_a_batch_whose_rows_do_not_add_up_is_not_published(picky: World, what: str) -> None:
    bad_prices(picky, 2120)
    batch = picky.run(run_id="r", until="score")
    lose = {
        "an entry": "DELETE FROM ponte.quarantine",
        "a prediction": f"DELETE FROM ponte_data.{batch.prediction_table} WHERE visit_id = 2130",
    }
    picky.execute(lose[what])
    with pytest.raises(RowsLost, match="rows frozen are not rows predicted plus rows quarantined"):
        picky.run(run_id="r")
    assert picky.ask("SELECT count(*) FROM ponte.published") == 0


@pytest.mark.parametrize("seed", range(8))
def test_frozen_rows_are_published_or_in_quarantine_whatever_is_wrong_with_them(picky: World, seed: int) -> None:
    """Random damage: NULLs, odd prices, numbers out of range, rows that are gone, keys that repeat."""
    luck = random.Random(seed)  # noqa: S311 - damage, not a secret
    picky.execute(FREE_KEY)
    damage = [
        "UPDATE shop.visit SET items = NULL WHERE visit_id = ANY(:ids)",
        "UPDATE shop.visit SET price = 66.66 WHERE visit_id = ANY(:ids)",
        "UPDATE shop.visit SET price = 66.66, items = NULL WHERE visit_id = ANY(:ids)",
        "UPDATE shop.visit SET distance = 'NaN', shop = NULL WHERE visit_id = ANY(:ids)",
        "UPDATE shop.visit SET price = 500 WHERE visit_id = ANY(:ids)",
        "DELETE FROM shop.visit WHERE visit_id = ANY(:ids)",
        COPY.format("visit_id", "items") + "WHERE visit_id = ANY(:ids)",
    ]
    for statement in luck.sample(damage, 4):
        picky.execute(statement, ids=luck.sample(range(2100, 2450), luck.randint(1, 12)))
    world = picky.with_model(
        files={"estimator.py": PICKY.format(kind="LogisticRegression")},
        chunk_rows=luck.choice([7, 40, 1000]),
        shard_rows=luck.choice([100, 1000]),
        checks=budget(0.5)
        + "[guard]\nunscored_maximum = 1.0\n"
        + check("expect_column_values_to_not_be_null", column="items")
        + check("expect_column_values_to_be_between", column="price", max_value=100)
        + check("expect_column_values_to_be_unique", column="visit_id"),
    )
    batch = world.run(run_id="r", until="publish")

    frozen, published, aside = counts(world, batch.batch_id)
    assert frozen == published + aside == world.ask(f"SELECT count(*) FROM ({of_week('true')}) AS w", week=WEEK)
    assert aside > 0
    both = "SELECT visit_id FROM predictions.visits JOIN ponte.quarantine ON visit_id = (key->>'visit_id')::bigint"
    assert world.rows(both) == []
    twice = "visit_id IN (SELECT visit_id FROM shop.visit GROUP BY 1 HAVING count(*) > 1)"
    checked = f"items IS NULL OR price > 100 OR price = 66.66 OR {twice}"
    wrong = f"{checked} OR distance = 'NaN'"
    entries = {n for (n,) in world.rows("SELECT (key->>'visit_id')::bigint FROM ponte.quarantine")}
    assert {n for (n,) in world.rows(of_week(checked), week=WEEK)} <= entries
    assert entries <= {n for (n,) in world.rows(of_week(wrong), week=WEEK)}


# ---------------------------------------------------------------- what is kept of a row

SAYS_MORE = PICKY.replace('raise ValueError("an odd price")', 'raise ValueError("a\\0b \\ud800 \'" + "x" * 1000)')


def test_content_is_kept_whatever_is_in_it(world: World) -> None:
    """NaN and infinity, which JSON has no words for, a text of 1 MB, and a reason that jsonb would refuse."""
    world = world.with_model(files={"estimator.py": SAYS_MORE.format(kind="LogisticRegression")})
    world.train(run_id="train")
    world.execute(
        "UPDATE shop.visit SET price = 66.66, distance = CAST(CASE visit_id WHEN 2150 THEN 'NaN' WHEN 2151 THEN "
        "'Infinity' ELSE '-Infinity' END AS float8), shop = repeat('ä', 1000000) WHERE visit_id IN (2150, 2151, 2152)"
    )
    batch = world.run(run_id="r")
    assert counts(world, batch.batch_id) == (350, 347, 3)
    kept = "SELECT content->>'distance', length(content->>'shop') FROM ponte.quarantine ORDER BY key"
    assert world.rows(kept) == [("NaN", 10**6), ("Infinity", 10**6), ("-Infinity", 10**6)]
    back = "SELECT (jsonb_populate_record(NULL::shop.visit, content)).distance::text FROM ponte.quarantine ORDER BY key"
    assert [d for (d,) in world.rows(back)] == ["NaN", "Infinity", "-Infinity"]
    [(reason,)] = world.rows("SELECT DISTINCT reasons->0->>'error' FROM ponte.quarantine")
    assert reason.startswith("ValueError: a?b ? '")
    assert len(reason) == 500


# ---------------------------------------------------------------- snapshots


def test_rows_set_aside_are_not_learned_from_and_are_counted_apart(world: World) -> None:
    from ponte.snapshots.parquet import read_snapshot

    world = world.with_model(checks=NO_ITEMS)
    run = world.train(run_id="t")
    snapshot = run.snapshot
    bad = world.ask("SELECT count(*) FROM shop.visit WHERE day < :week AND (items IS NULL OR price > 60)", week=WEEK)
    whole = world.ask("SELECT count(*) FROM shop.visit WHERE day < :week AND known_at <= :week", week=WEEK)
    entries = world.rows("SELECT snapshot_id, batch_id, key, content, closed_at FROM ponte.quarantine")

    assert 0 < len(entries) <= bad
    assert {e[0] for e in entries} == {snapshot.snapshot_id}
    assert {e[1] for e in entries} == {e[4] for e in entries} == {None}
    assert all(e[2].keys() == {"window_start", "visit_id"} and "label" in e[3] for e in entries)
    rows = read_snapshot(world.store, snapshot)
    assert rows.num_rows == snapshot.row_count == whole - len(entries)
    assert rows.column("items").null_count == 0
    assert max(rows.column("price").to_pylist()) <= 60
    by_window = {str(w): 0 for w in set(rows.column("window_start").to_pylist())}
    for day in rows.column("window_start").to_pylist():
        by_window[str(day)] += 1
    assert {w["window_start"]: w["rows"] for w in snapshot.windows} == by_window
    version = run.version
    assert version.train_rows + version.purged_rows + version.holdout_rows == rows.num_rows
    assert not set(rows.column("visit_id").to_pylist()) & {e[2]["visit_id"] for e in entries}


def test_a_training_set_that_loses_more_rows_than_the_budget_is_rejected_whole(world: World) -> None:
    world = world.with_model(checks=NO_ITEMS.replace("0.2", "0.01"))
    with pytest.raises(TrainingRefused, match=r"would be set aside, \[quarantine\] budget allows \d+"):
        world.train(run_id="t")
    assert world.ask("SELECT count(*) FROM ponte.quarantine") == 0
    ((status, table),) = world.rows("SELECT status, frozen_table FROM ponte.snapshot")
    assert status == "rejected"
    whole = world.ask("SELECT count(*) FROM shop.visit WHERE day < :week AND known_at <= :week", week=WEEK)
    assert world.ask(f"SELECT count(*) FROM ponte_data.{table}") == whole


def test_a_key_may_repeat_between_windows_of_a_training_set_and_not_within_one(world: World) -> None:
    """Unique is the key within its window: the quarantine of what repeats means the same as the check of the key."""
    world = world.with_model(
        checks=budget(0.0) + check("expect_compound_columns_to_be_unique", column_list=["visit_id", "price"])
    )
    assert world.train(run_id="t").snapshot.status == "written"
    assert world.ask("SELECT count(*) FROM ponte.quarantine") == 0


def test_checks_of_a_training_set_that_are_repeated_set_nothing_aside_twice(world: World) -> None:
    world = world.with_model(checks=NO_ITEMS)
    run = world.train(run_id="t")
    before = world.rows("SELECT count(*) FROM ponte.quarantine")
    check_snapshot(world.db, world.folder, run.snapshot.snapshot_id)
    assert world.rows("SELECT count(*) FROM ponte.quarantine") == before


# ---------------------------------------------------------------- what became of an entry


OPEN = "SELECT batch_id, key->>'visit_id' FROM ponte.quarantine WHERE closed_at IS NULL ORDER BY 1, 2"


def test_entries_are_open_for_the_batch_that_is_shown_also_when_a_rollback_shows_it_again(picky: World) -> None:
    other = {"estimator.py": PICKY.format(kind="LogisticRegression").replace("66.66", "55.55")}
    bad_prices(picky, 2150, 2160)
    first = picky.run(run_id="first")
    assert picky.rows(OPEN) == [(first.batch_id, "2150"), (first.batch_id, "2160")]

    second_version = picky.with_model(files=other)
    second_version.train(run_id="second version")
    picky.execute("UPDATE shop.visit SET price = 55.55 WHERE visit_id IN (2160, 2170)")
    second = second_version.run(run_id="second")
    assert second.version == 2
    assert second_version.rows(OPEN) == [(second.batch_id, "2160"), (second.batch_id, "2170")]

    second_version.roll_back(1, run_id="back", windows=[WEEK])
    assert second_version.rows(OPEN) == [(first.batch_id, "2150"), (first.batch_id, "2160")]
    resolution = "SELECT key->>'visit_id', resolution, closed_by FROM ponte.quarantine WHERE batch_id = :id ORDER BY 1"
    assert second_version.rows(resolution, id=second.batch_id) == [
        ("2160", "quarantined again", first.batch_id),
        ("2170", "scored", first.batch_id),
    ]
    assert second_version.rows(resolution, id=first.batch_id) == [("2150", None, None), ("2160", None, None)]

    second_version.roll_back(2, run_id="forth", windows=[WEEK])
    assert second_version.rows(OPEN) == [(second.batch_id, "2160"), (second.batch_id, "2170")]
    assert second_version.rows(resolution, id=first.batch_id) == [
        ("2150", "scored", second.batch_id),
        ("2160", "quarantined again", second.batch_id),
    ]


def test_entries_of_other_windows_and_models_are_left_alone(picky: World) -> None:
    bad_prices(picky, 2150, 2500)
    first, other = picky.run(run_id="first"), picky.run(run_id="first", week=NEXT_WEEK)
    assert picky.rows(OPEN) == [(first.batch_id, "2150"), (other.batch_id, "2500")]
    picky.execute("UPDATE shop.visit SET price = 10 WHERE price = 66.66")
    picky.run(run_id="second")
    assert picky.rows(OPEN) == [(other.batch_id, "2500")]


def test_entries_of_a_batch_that_nobody_has_seen_stay_open_until_another_is_shown(picky: World) -> None:
    bad_prices(picky, 2150)
    first = picky.run(run_id="first", until="score")
    assert picky.rows(OPEN) == [(first.batch_id, "2150")]
    picky.execute("UPDATE shop.visit SET price = 10 WHERE price = 66.66")
    second = picky.run(run_id="second")
    assert picky.rows(OPEN) == []
    closed = "SELECT resolution, closed_by, closed_at IS NOT NULL FROM ponte.quarantine WHERE batch_id = :id"
    assert picky.rows(closed, id=first.batch_id) == [("scored", second.batch_id, True)]


def test_a_window_that_a_rollback_scores_anew_sets_its_bad_rows_aside_too(picky: World) -> None:
    picky.with_model(files={"estimator.py": PICKY.format(kind="LogisticRegression") + "# again\n"}).train(
        run_id="second"
    )
    bad_prices(picky, 2150)
    picky.roll_back(1, run_id="back", windows=[WEEK])
    [(batch_id,)] = picky.rows("SELECT batch_id FROM ponte.published")
    assert counts(picky, batch_id) == (350, 349, 1)


def test_a_rollback_whose_rows_are_over_the_budget_moves_nothing(picky: World) -> None:
    picky.with_model(files={"estimator.py": PICKY.format(kind="LogisticRegression") + "# again\n"}).train(
        run_id="second"
    )
    bad_prices(picky, *range(2150, 2160))
    with pytest.raises(BatchRejected, match="more rows cannot be scored"):
        stage_window(
            picky.db, picky.store, picky.folder, 1, WEEK, run=run_named("back"), now=NOW, allow_hindsight=False
        )
    assert picky.champion().version == 2
    assert picky.ask("SELECT count(*) FROM ponte.published") == 0


def test_entries_say_when_as_what_they_were_frozen(picky: World) -> None:
    """The source has long changed; the entry has not."""
    bad_prices(picky, 2150)
    batch = picky.run(run_id="r", until="freeze")
    picky.execute("UPDATE shop.visit SET price = 1, shop = 'elsewhere'")
    picky.run(run_id="r")
    [(content, at)] = picky.rows("SELECT content, at FROM ponte.quarantine WHERE batch_id = :id", id=batch.batch_id)
    assert (content["price"], content["shop"] == "elsewhere") == (66.66, False)
    assert at.tzinfo is not None
    assert dt.datetime.now(dt.UTC) - at < dt.timedelta(hours=1)

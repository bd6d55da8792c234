"""Every value that PostgreSQL can hold means the same beyond it, or its row is set aside with a reason, in every role.

The law is tested with the extremes of each type and with values drawn anew in every run (PONTE_VALUES_SEED repeats
one). Whether a value was carried is asked of PostgreSQL itself: what arrived is sent back as text and compared there.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tests.sample_model import LABELS_SQL, NEXT_WEEK, VISITS_PER_WEEK, WEEK, World

from ponte.checks import values
from ponte.errors import PonteError, TrainingRefused
from ponte.snapshots.parquet import read_snapshot
from ponte.storage.columns import FAMILIES, KEY_FAMILIES, Family
from ponte.versions import signature

SEED = int(os.environ.get("PONTE_VALUES_SEED", random.SystemRandom().randrange(10**6)))

#: Longer than an index takes, and not to be compressed either.
LONG = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 120) n)"
#: Type → SQL of values that arrive.
CARRIED: dict[str, list[str]] = {
    "int2": ["-32768", "32767", "0"],
    "int4": ["-2147483648", "2147483647"],
    "int8": ["-9223372036854775808", "9223372036854775807", "9007199254740993"],
    "float4": ["'NaN'", "'Infinity'", "'-Infinity'", "'3.4028235e38'", "'-3.4028235e38'", "'1e-45'", "'-0'", "'0.1'"],
    "float8": ["'NaN'", "'Infinity'", "'-Infinity'", "'1.7976931348623157e308'", "'-1.7976931348623157e308'",
               "'5e-324'", "'-5e-324'", "'2.2250738585072014e-308'", "'-0'", "'0.1'"],
    "numeric": ["'NaN'", "'Infinity'", "'-Infinity'", "1.7976931348623157e308", "-1.7976931348623157e308", "5e-324",
                "-5e-324", "3e-324", "0", "0.1", "123456789012345678901234567890.123456789"],
    "numeric(8,2)": ["'NaN'", "999999.99", "-999999.99", "0.01"],
    "bool": ["true", "false"],
    "text": ["''", "' '", "E'\\u0001'", "E'a\\tb\\nc\\r'", "U&'e\\0301'", "U&'\\00E9'", "U&'\\FFFF'", "U&'\\+10FFFF'",
             "U&'\\+01F600'", "U&'\\FEFFx'", "U&'\\202E'", "'NaN'", "'NULL'", "'null'", "'\\N'",
             "'O''Hara %s :x \"'"],
    "varchar": ["''", "U&'e\\0301'", "'NULL'"],
    "varchar(9)": ["''", "U&'\\+10FFFF\\+10FFFF\\+10FFFF\\+10FFFF\\+10FFFF\\+10FFFF\\+10FFFF\\+10FFFF\\+10FFFF'"],
    "bpchar(9)": ["''", "'a '", "'é'"],
    "name": ["''", "repeat('n', 63)"],
    "date": ["'0001-01-01'", "'9999-12-31'", "'1969-12-31'", "'2000-02-29'"],
    "timestamp": ["'0001-01-01'", "'9999-12-31 23:59:59.999999'", "'1969-12-31 23:59:59.999999'"],
    "timestamptz": ["'0001-01-01 00:00+00'", "'9999-12-31 23:59:59.999999+00'", "'1900-01-01 00:00:00.000001+05:53'"],
}  # fmt: skip
#: Type → SQL of values that do not, so that their rows have to be set aside.
SET_ASIDE: dict[str, list[str]] = {
    "numeric": ["1e400", "-1e400", "1e-400", "-1e-400", "1.8e308", "2e-324"],
    "date": ["'infinity'", "'-infinity'", "'5874897-12-31'", "'4713-11-24 BC'", "'0001-12-31 BC'", "'10000-01-01'"],
    "timestamp": ["'infinity'", "'-infinity'", "'294276-12-31 23:59:59.999999'", "'294247-01-11'", "'4713-11-24 BC'",
                  "'0001-12-31 23:59:59.999999 BC'", "'10000-01-01'"],
    "timestamptz": ["'infinity'", "'-infinity'", "'294276-12-31 23:59:59.999999+00'", "'4713-11-24 00:00+00 BC'",
                    "'0001-12-31 23:59:59.999999+00 BC'", "'10000-01-01 00:00+00'"],
}  # fmt: skip
#: As features these are carried, however long they are.
LONG_TEXTS = {"text": ["repeat('x', 1048576)", LONG], "varchar": ["repeat('é', 524288)", LONG]}
KEY_TYPES = [kind for kind in CARRIED if FAMILIES[kind.partition("(")[0]] in KEY_FAMILIES]
#: The first visit of WEEK.
FIRST = 50 * (WEEK - dt.date(2024, 1, 1)).days


def _numeric(draws: random.Random) -> str:
    return f"{draws.randrange(-(10**9), 10**9)}e{draws.choice([-300, 0, 300]) + draws.randrange(-40, 40)}"


def _date(draws: random.Random) -> str:
    return f"date '4713-11-24 BC' + {draws.choice([draws.randrange(2**31 - 4 * 10**6), draws.randrange(6_000_000)])}"


def _moment(draws: random.Random) -> str:
    days, seconds = draws.choice([109_203_500, 6_000_000]), draws.randrange(86_400 * 10**6)
    interval = f"make_interval(days => {draws.randrange(days)}, secs => {seconds}e-6)"
    return f"timestamptz '4713-11-25 00:00+00 BC' + {interval}"


def _text(draws: random.Random) -> str:
    points = [p for p in (draws.randrange(1, 0x110000) for _ in range(9)) if not 0xD800 <= p < 0xE000]
    return "U&'" + "".join(f"\\+{p:06X}" for p in points) + "'"


#: Type → SQL of any value of it.
DRAWN: dict[str, Callable[[random.Random], str]] = {
    "int2": lambda draws: str(draws.randrange(-(2**15), 2**15)),
    "int4": lambda draws: str(draws.randrange(-(2**31), 2**31)),
    "int8": lambda draws: str(draws.randrange(-(2**63), 2**63) >> draws.randrange(63)),
    "float4": lambda draws: f"'{np.frombuffer(draws.randbytes(4), np.float32)[0]!s}'",
    "float8": lambda draws: f"'{np.frombuffer(draws.randbytes(8), np.float64)[0]!s}'",
    "numeric": _numeric,
    "numeric(8,2)": lambda draws: f"{draws.randrange(-(10**8) + 1, 10**8)}e-2",
    "bool": lambda draws: draws.choice(["true", "false"]),
    "date": _date,
    "timestamp": lambda draws: f"({_moment(draws)}) AT TIME ZONE 'UTC'",
    "timestamptz": _moment,
    **dict.fromkeys(("text", "varchar", "varchar(9)", "bpchar(9)", "name"), _text),
}


def samples(kinds: list[str], *extremes: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Return (type, SQL of a value) for a week of visits: every extreme, then drawn ones."""
    found = [(kind, sql) for kind in kinds for values_of in extremes for sql in values_of.get(kind, [])]
    draws = random.Random(SEED)  # noqa: S311 - no secret
    places = range(len(found), VISITS_PER_WEEK)
    assert len(places) > 100
    return found + [(kind, DRAWN[kind](draws)) for kind in (kinds[place % len(kinds)] for place in places)]


def column_of(kind: str) -> str:
    return "v_" + kind.replace("(", "_").replace(",", "_").replace(")", "")


def family_of(kind: str) -> Family:
    return FAMILIES[kind.partition("(")[0]]


#: A regression whose pipeline takes everything, but rows of seven items.
TAKES_ALL = """
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

class TakesAll(RegressorMixin, BaseEstimator):
    def fit(self, rows, labels): self.n_features_in_ = rows.shape[1]; return self
    def predict(self, rows):
        if (rows["items"] == 7).any(): raise ValueError("seven items")
        return rows["items"].fillna(0).to_numpy(float)

def build_estimator(): return TakesAll()
"""
LENIENT = '[quarantine]\nbudget = 0.95\n[guard]\nunscored_maximum = 1.0\nconstant_score = "allow"\ncolumns = "off"'
REGRESSION = {
    "task": "regression", "gate": "beats_baseline = false", "bound": "maximum = 1e300", "resamples": 100,
    "checks": LENIENT,
}  # fmt: skip
OF_WINDOW = "WHERE v.day >= CAST(:window_start AS date) AND v.day < CAST(:window_end AS date)"


def fill(world: World, kinds: list[str], made: list[tuple[str, str]], first: int, defaults: dict[str, str]) -> None:
    """Give each visit from `first` on one value; its other columns have the default of their family, or NULL."""
    columns = ", ".join(
        f"{column_of(kind)} {kind} DEFAULT {defaults.get(family_of(kind), 'NULL')}" for kind in kinds
    )  # fmt: skip
    world.execute(f"CREATE TABLE IF NOT EXISTS shop.extreme (visit_id bigint PRIMARY KEY, {columns})")
    with world.db.engine.connect().execution_options(no_parameters=True) as connection:
        for number, (kind, sql) in enumerate(made, first):
            text = f"INSERT INTO shop.extreme (visit_id, {column_of(kind)}) VALUES ({number}, ({sql})::{kind})"
            connection.exec_driver_sql(text)
        connection.commit()


def those_that_differ(world: World, kind: str, arrived: dict[int, str | None], *, exact: bool = False) -> list[int]:
    """Return the visits whose value, as it arrived, is not what PostgreSQL says of it.

    An integer is double precision to an estimator, unless `exact`; true is 1.0; NaN is NaN or NULL.
    """
    column, family = column_of(kind), family_of(kind)
    said, read = {
        "integer": (f"e.{column}", "numeric") if exact else (f"coalesce(CAST(e.{column} AS float8), 'NaN')", "float8"),
        "number": (f"coalesce(CAST(e.{column} AS float8), 'NaN')", "float8"),
        "boolean": (f"coalesce(CAST(CAST(e.{column} AS int) AS float8), 'NaN')", "float8"),
        "text": (f"CAST(e.{column} AS text)", "text"),
        "date": (f"e.{column}", "date"),
        "timestamp": (f"e.{column}", kind),
    }[family]
    rows = world.rows(
        "SELECT CAST(a.key AS bigint) FROM json_each_text(CAST(:sent AS json)) a LEFT JOIN shop.extreme e "
        f"ON e.visit_id = CAST(a.key AS bigint) WHERE CAST(a.value AS {read}) IS DISTINCT FROM {said}",
        sent=json.dumps(arrived),
    )
    return [row[0] for row in rows]


def texts(series: pd.Series) -> list[str | None]:
    """Return the values of a column of a frame as texts that PostgreSQL reads, None for a missing one."""
    if series.dtype.kind == "f":
        return [repr(float(value)) for value in series]
    if series.dtype.kind == "M":  # as they are: a Timestamp knows fewer years
        zone = "Z" if isinstance(series.dtype, pd.DatetimeTZDtype) else ""
        plain = series.dt.tz_localize(None) if zone else series
        return [None if np.isnat(value) else f"{value}{zone}" for value in plain.to_numpy()]
    return [None if pd.isna(value) else value for value in series]


def record_frames(monkeypatch: pytest.MonkeyPatch) -> dict[int, dict[str, str | None]]:
    """Return what an estimator will have been shown: visit → column → value as text."""
    seen: dict[int, dict[str, str | None]] = {}
    to_frame = signature.to_frame

    def recorded(rows: Any, columns: Any, **named: Any) -> pd.DataFrame:
        frame = to_frame(rows, columns, **named)
        if "visit_id" in rows.schema.names:  # golden rows have no key
            cells = [texts(frame[name]) for name in frame.columns]
            for number, *row in zip(rows.column("visit_id").to_pylist(), *cells, strict=True):
                seen[number] = dict(zip(frame.columns, row, strict=True))
        return frame

    monkeypatch.setattr(signature, "to_frame", recorded)
    return seen


def set_aside(world: World) -> dict[int, list[dict[str, Any]]]:
    """Return the reasons of the rows of batch 1 that were set aside, by visit."""
    query = "SELECT CAST(key->>'visit_id' AS bigint), reasons FROM ponte.quarantine WHERE batch_id = 1"
    return dict(world.rows(query))


def test_a_feature_arrives_as_postgresql_means_it_or_its_row_is_set_aside(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = list(CARRIED)
    made = samples(kinds, CARRIED, LONG_TEXTS, SET_ASIDE)
    fill(world, kinds, made, FIRST, {})
    fill(world, kinds, made[::7], 0, {})  # training sees such values too
    listed = ", ".join(f"e.{column_of(kind)}" for kind in kinds)
    features = (
        f"SELECT v.visit_id, v.shop, v.items, {listed} FROM shop.visit v LEFT JOIN shop.extreme e USING (visit_id)"
    )
    estimator = TAKES_ALL.replace('(rows["items"] == 7).any()', "False")
    model = world.with_model(files={"estimator.py": estimator, "features.sql": f"{features} {OF_WINDOW}"}, **REGRESSION)
    model.train(run_id="t")
    seen = record_frames(monkeypatch)
    model.run(run_id="r")

    aside = set_aside(model)
    assert set(aside) | set(seen) == set(range(FIRST, FIRST + VISITS_PER_WEEK))
    assert not set(aside) & set(seen)
    for number, (kind, sql) in enumerate(made, FIRST):
        if sql in (*CARRIED[kind], *LONG_TEXTS.get(kind, [])):
            assert number not in aside, (kind, sql)
        elif sql in SET_ASIDE.get(kind, []):
            assert [r["arguments"] for r in aside[number]] == [{"column": column_of(kind)}], (kind, sql)
    for kind in kinds:
        arrived = {number: cells[column_of(kind)] for number, cells in seen.items()}
        differing = those_that_differ(model, kind, arrived)
        assert not differing, (kind, [(made[n - FIRST], arrived[n]) for n in differing], f"PONTE_VALUES_SEED={SEED}")


def test_a_key_is_found_under_the_value_that_postgresql_means_or_its_row_is_set_aside(world: World) -> None:
    """Also when the estimator cannot score the row, and when a later batch closes the entry."""
    short, long = {"text": ["repeat('x', 2000)"]}, {"text": [LONG], "varchar": [LONG]}
    made = samples(KEY_TYPES, CARRIED, short, SET_ASIDE, long)
    columns = [column_of(kind) for kind in KEY_TYPES]
    defaults = {"integer": "0", "text": "''", "date": "'2024-01-01'", "timestamp": "'2024-01-01'"}
    fill(world, KEY_TYPES, [*[("int4", "0")] * FIRST, *made], 0, defaults)
    key = ", ".join(f"e.{column}" for column in columns)
    rows = "shop.visit v JOIN shop.extreme e USING (visit_id)"
    labels = LABELS_SQL.format(label="spent").replace("SELECT visit_id", f"SELECT visit_id, {key}")
    files = {
        "estimator.py": TAKES_ALL,
        "features.sql": f"SELECT v.visit_id, {key}, v.shop, v.items FROM {rows} {OF_WINDOW}",
        "labels.sql": labels.replace("shop.visit", rows),
    }
    model = world.with_model(key=json.dumps(["visit_id", *columns]), files=files, **REGRESSION)
    model.execute("UPDATE shop.visit SET items = 3 WHERE items = 7 AND day < :week", week=WEEK)
    model.train(run_id="t")
    batch = model.run(run_id="r")

    read = {kind: "text" if family_of(kind) == "text" else kind for kind in KEY_TYPES}
    same = " AND ".join(f"p.{column_of(kind)} = CAST(e.{column_of(kind)} AS {read[kind]})" for kind in KEY_TYPES)
    query = f"SELECT visit_id FROM predictions.visits p JOIN shop.extreme e USING (visit_id) WHERE {same}"
    found, aside = {row[0] for row in model.rows(query)}, set_aside(model)
    assert found | set(aside) == set(range(FIRST, FIRST + VISITS_PER_WEEK)), f"PONTE_VALUES_SEED={SEED}"
    assert not found & set(aside)
    for number, (kind, sql) in enumerate(made, FIRST):
        checks = [r["expectation"] for r in aside.get(number, []) if "expectation" in r]
        if sql in (*CARRIED[kind], *short.get(kind, [])):
            assert not checks, (kind, sql)
        elif sql in (*SET_ASIDE.get(kind, []), *long.get(kind, [])):
            assert len(checks) == 1, (kind, sql)

    model.execute("UPDATE shop.visit SET items = 3 WHERE items = 7")
    model.run(run_id="again")
    closed = model.rows(
        "SELECT DISTINCT shard IS NOT NULL, resolution FROM ponte.quarantine WHERE batch_id = :b", b=batch.batch_id
    )
    assert sorted(closed) == [(False, "quarantined again"), (True, "scored")], f"PONTE_VALUES_SEED={SEED}"


#: Type of a label → a usual one.
USUAL = {
    "regression": {
        **dict.fromkeys(("int2", "int4", "int8", "float4", "float8", "numeric", "numeric(8,2)"), "v.visit_id % 9")
    },
    "binary": {"bool": "v.visit_id % 2 = 0"},
    "multiclass": {
        **dict.fromkeys(("int2", "int4", "int8"), "v.visit_id % 3"),
        **dict.fromkeys(("text", "varchar", "varchar(9)", "bpchar(9)", "name"), "CAST(v.visit_id % 3 AS text)"),
    },
}
#: Labels that nothing can be learned from.
NOT_FINITE = ["'NaN'", "'Infinity'", "'-Infinity'"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # figures that overflow are left out
@pytest.mark.parametrize(("task", "kind"), [(task, kind) for task, kinds in USUAL.items() for kind in kinds])
def test_a_label_is_learned_as_postgresql_means_it_or_its_row_is_set_aside(world: World, task: str, kind: str) -> None:
    """And training comes to a version, or is refused in words of its own."""
    made = [(kind, sql) for group in (CARRIED, LONG_TEXTS, SET_ASIDE) for sql in group.get(kind, [])]
    fill(world, [kind], made, 200, {})
    labels = LABELS_SQL.format(label=f"coalesce(e.{column_of(kind)}, CAST({USUAL[task][kind]} AS {kind}))")
    files = {"labels.sql": labels.replace("shop.visit", "shop.visit v LEFT JOIN shop.extreme e USING (visit_id)")}
    if task == "regression":
        files["estimator.py"] = TAKES_ALL.replace('(rows["items"] == 7).any()', "False")
    settings = REGRESSION if task == "regression" else {"task": task, "checks": LENIENT}
    model = world.with_model(files=files, **settings)
    written = model.snapshot(run_id="t")

    table = read_snapshot(model.store, written)
    learned = dict(zip(table.column("visit_id").to_pylist(), table.column("label").to_pylist(), strict=True))
    aside = {row[0] for row in model.rows("SELECT CAST(key->>'visit_id' AS bigint) FROM ponte.quarantine")}
    for number, (_, sql) in enumerate(made, 200):
        bad = sql in SET_ASIDE.get(kind, []) or (task == "regression" and sql in NOT_FINITE)
        assert (number in learned, number in aside) == (not bad, bad), sql
    extreme = {n: learned[n] for n in range(200, 200 + len(made)) if n in learned}
    sent = {n: value if isinstance(value, str) else repr(float(value)) for n, value in extreme.items()}
    if family_of(kind) == "integer":
        sent = {n: str(value) for n, value in extreme.items()}
    assert not those_that_differ(model, kind, sent, exact=True)
    with suppress(PonteError):
        model.fit(written.snapshot_id, run_id="t")


def test_a_label_that_is_known_since_ever_is_set_aside_and_one_that_never_will_be_is_not_known(world: World) -> None:
    world.execute("UPDATE shop.visit SET known_at = '-infinity' WHERE visit_id = 200")
    world.execute("UPDATE shop.visit SET known_at = 'infinity' WHERE visit_id = 201")
    written = world.snapshot(run_id="t")
    rows = read_snapshot(world.store, written).column("visit_id").to_pylist()
    assert not {200, 201} & set(rows)
    [(key, reasons)] = world.rows("SELECT key, reasons FROM ponte.quarantine")
    assert key["visit_id"] == 200
    assert reasons[0]["arguments"] == {"column": "labelled_at"}


# ---------------------------------------------------------------- the checks themselves


def test_a_table_without_such_columns_is_not_read(trained: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_beyond_double", lambda _: "1 / 0 = 1")
    trained.run(run_id="r", until="check")
    query = "SELECT expectation FROM ponte.check_result WHERE batch_id = 1 AND position < 0 ORDER BY 1"
    assert trained.rows(query) == [("key_is_not_null",), ("key_is_unique",)]


def test_the_checks_say_what_they_looked_at_and_the_content_is_kept(trained: World) -> None:
    trained.execute("ALTER TABLE shop.visit ALTER price TYPE numeric")
    trained.execute("UPDATE shop.visit SET price = 1e400 WHERE visit_id = 2200")
    batch = trained.run(run_id="r")
    row = trained.rows(
        "SELECT position, expectation, arguments, on_failure, outcome, element_count, unexpected_count, detail "
        "FROM ponte.check_result WHERE batch_id = :b AND position < -2", b=batch.batch_id)  # fmt: skip
    check, arguments = "number_is_within_double_precision", {"column": "price"}
    assert row == [(-3, check, arguments, "quarantine", "failed", VISITS_PER_WEEK, 1, None)]
    assert trained.rows("SELECT key, reasons, content->>'price' = CAST(1e400 AS text) FROM ponte.quarantine") == [
        ({"visit_id": 2200}, [{"check": -3, "expectation": check, "arguments": arguments}], True)
    ]
    assert trained.run(run_id="next", week=NEXT_WEEK).status == "staged"
    assert trained.ask("SELECT outcome FROM ponte.check_result WHERE batch_id = 2 AND position = -3") == "passed"


def test_more_of_them_than_the_budget_reject_the_training_set_in_words(world: World) -> None:
    model = world.with_model(task="regression", files={
        "labels.sql": LABELS_SQL.format(label="CASE WHEN visit_id % 2 = 0 THEN 'NaN' ELSE spent END")})  # fmt: skip
    with pytest.raises(TrainingRefused, match="1000 of 2000 rows would be set aside"):
        model.snapshot(run_id="t")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # figures that overflow are left out
def test_predictions_whose_squares_are_no_double_precision_are_published(world: World) -> None:
    """The guards' figures are sums of squares."""
    huge = TAKES_ALL.replace('(rows["items"] == 7).any()', "False").replace(
        'rows["items"].fillna(0).to_numpy(float)', 'np.where(rows["items"] == 5, 1.7e308, -1.7e308)'
    )
    model = world.with_model(files={"estimator.py": huge}, **{**REGRESSION, "bound": "maximum = 1.7e308"})
    model.train(run_id="t", promote=False)
    model.set_champion(1)
    assert model.run(run_id="r").status == "staged"
    assert model.ask("SELECT score_sd[1] BETWEEN 1e307 AND 1.7e308 FROM ponte.batch_profile")


def test_arrow_and_postgresql_agree_about_the_first_and_the_last_day() -> None:
    """What the checks let through, a Python datetime and a pandas Timestamp can be."""
    for day in (dt.date.min, dt.date.max):
        assert pa.array([day]).to_pylist() == [day]
        assert pd.Timestamp(np.datetime64(day, "s")).date() == day

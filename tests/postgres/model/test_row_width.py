"""Columns that check-models takes fit into a row of PostgreSQL, and what it refuses does not."""

from __future__ import annotations

import datetime as dt
import random

import pytest
import sqlalchemy as sa
from tests.sample_model import FEATURES_SQL, World

from ponte.errors import ModelFolderError
from ponte.model.inspection import inspect_folder
from ponte.storage.columns import SQL_TYPES, Family
from ponte.storage.database import Database
from ponte.storage.row_width import ROW_BYTES, key_room, row_bytes, width

#: Type → SQL of its widest value, of those that PostgreSQL moves out of the row where it can.
WIDEST = {
    "bool": "true", "int2": "7::int2", "int4": "7", "int8": "7::int8", "float4": "7::float4", "float8": "7::float8",
    "date": "date '2024-01-01'", "timestamp": "timestamp '2024-01-01'", "timestamptz": "timestamptz '2024-01-01Z'",
    "name": "'n'::name", "text": "repeat('é', 2000)", "varchar": "repeat('é', 2000)::varchar",
    "varchar(3)": "'ééé'::varchar(3)", "bpchar(2)": "U&'\\+01F600\\+01F600'::char(2)",
    "numeric": "exp(3000::numeric)", "numeric(8,2)": "999999.99::numeric(8,2)",
    "numeric(5,0)": "99999::numeric(5,0)", "numeric(3,-2)": "99900::numeric(3,-2)",
    "numeric(4,6)": "0.009999::numeric(4,6)",
}  # fmt: skip
FIXED = [kind for kind in WIDEST if width(kind) < 18 or kind == "name"]


def fits(db: Database, kinds: list[str], labelled_at: str = "now()") -> bool:
    """Tell whether PostgreSQL takes a row of the widest values, as a snapshot would have it."""
    columns = ["date '2024-01-01'", *(WIDEST[kind] for kind in kinds), "repeat('y', 2000)", labelled_at]
    listed = ", ".join(f"{sql} AS c{number}" for number, sql in enumerate(columns))
    try:
        with db.begin() as connection:
            connection.exec_driver_sql(f"CREATE TEMP TABLE wide ON COMMIT DROP AS SELECT {listed}")
    except sa.exc.OperationalError as error:
        if "row is too big" not in str(error.orig):
            raise
        return False
    return True


def as_many_as_fit(kinds: list[str], draws: random.Random) -> list[str]:
    found: list[str] = []
    while len(found) < 1500:
        more = [*found, draws.choice(kinds)]
        if row_bytes([(str(n), kind) for n, kind in enumerate(more)]) > ROW_BYTES:
            return found
        found = more
    return found


@pytest.mark.parametrize("kind", WIDEST)
def test_as_many_columns_of_a_type_as_are_taken_fit(db: Database, kind: str) -> None:
    taken = as_many_as_fit([kind], random.Random(1))  # noqa: S311 - no secret
    assert fits(db, taken)
    assert fits(db, taken, "NULL::timestamptz"), "with a NULL a row says which of its values are"
    if kind in FIXED and not kind.startswith("var") and len(taken) < 1300:
        assert not fits(db, [*taken, *[kind] * (len(taken) // 20)]), "not many more do"


@pytest.mark.parametrize("seed", range(5))
def test_any_mix_of_columns_that_is_taken_fits(db: Database, seed: int) -> None:
    draws = random.Random(seed)  # noqa: S311 - no secret
    kinds = draws.sample(list(WIDEST), 5)
    assert fits(db, as_many_as_fit(kinds, draws)), kinds


def with_columns(world: World, columns: str) -> World:
    return world.with_model(files={"features.sql": FEATURES_SQL.replace("v.shop,", f"v.shop, {columns},")})


def test_a_folder_whose_rows_are_too_wide_is_refused_with_the_sum_and_the_widest_columns(world: World) -> None:
    """About 1,000 numbers or 450 texts are taken."""
    for count, kind, taken in ((1100, "float8", 900), (460, "text", 430)):
        value = "(v.visit_id * {} % 97)::float8" if kind == "float8" else "repeat('x', {})"
        few = ", ".join(f"{value.format(n)} AS c{n}" for n in range(taken))
        assert len(inspect_folder(world.db, with_columns(world, few).folder).features) == taken + 6
        many = ", ".join(f"{value.format(n)} AS c{n}" for n in range(count))
        with pytest.raises(ModelFolderError) as caught:
            inspect_folder(world.db, with_columns(world, f"{many}, 'n'::name AS wide").folder)
        message = str(caught.value)
        assert "1 problem:" in message
        assert "and PostgreSQL holds 8,160; the widest of" in message
        assert "columns: wide (name, 64), shop (text, 18)" in message
        assert "about 1,000 numbers or 450 texts fit" in message


def test_a_row_that_is_too_wide_all_the_same_says_what_helps(trained: World) -> None:
    """PostgreSQL moves no text of up to 24 bytes out of a row: of such, fewer than 450 fit."""
    texts = ", ".join(f"(CASE WHEN v.visit_id = 2200 THEN repeat('x', 23) END) AS c{n}" for n in range(430))
    wide = with_columns(trained, texts)
    with pytest.raises(ModelFolderError, match=r"features\.sql: PostgreSQL cannot hold a row.*row is too big: size"):
        wide.snapshot(run_id="t", as_of=dt.datetime(2024, 2, 26, tzinfo=dt.UTC))


def test_a_key_of_more_columns_than_an_index_takes_is_refused(world: World) -> None:
    names = [f"k{n}" for n in range(32)]
    columns = ", ".join(f"v.items AS {name}" for name in names)
    key = world.with_model(
        key=str(names).replace("'", '"'), files={"features.sql": FEATURES_SQL.replace("v.shop,", f"v.shop, {columns},")}
    )
    with pytest.raises(ModelFolderError, match=r"model\.toml: key: has 32 columns, at most 31 are possible"):
        inspect_folder(key.db, key.folder)


#: Text of the given number of bytes that cannot be compressed.
INCOMPRESSIBLE = "left((SELECT string_agg(md5(n::text), '') FROM generate_series(1, 99) n), {})"
KEYS = (["text"], ["text", "integer"], ["integer", "text", "date", "text", "timestamp", "text"], ["text"] * 31)


@pytest.mark.parametrize("families", KEYS, ids=",".join)
def test_a_key_of_as_many_bytes_as_are_taken_fits_into_the_index(db: Database, families: list[Family]) -> None:
    key = {f"k{number}": family for number, family in enumerate(families)}
    columns = ", ".join(f"{name} {SQL_TYPES[family]}" for name, family in key.items())
    values = {"integer": "1", "date": "'2024-01-01'", "timestamp": "'2024-01-01'", "text": "'a'"}
    rest = ", ".join(values[family] for family in families[families.index("text") + 1 :])
    before = ", ".join(["1", *(values[family] for family in families[: families.index("text")])])

    def insert(size: int) -> None:
        row = f"{before}, {INCOMPRESSIBLE.format(size)}{', ' + rest if rest else ''}"
        with db.begin() as connection:
            connection.exec_driver_sql(f"CREATE TEMP TABLE keyed (batch_id bigint, {columns}) ON COMMIT DROP")
            connection.exec_driver_sql(f"ALTER TABLE keyed ADD PRIMARY KEY (batch_id, {', '.join(key)})")
            connection.exec_driver_sql(f"INSERT INTO keyed VALUES ({row})")

    room = key_room(key) - (families.count("text") - 1)
    insert(room)
    with pytest.raises(sa.exc.OperationalError, match="exceeds btree version 4 maximum"):
        insert(room + 16 * len(families))

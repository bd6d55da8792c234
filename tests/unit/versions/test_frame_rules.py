"""The four rules of frames, each pinned on one table: who was fitted under one is asked under it for life."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponte.storage.columns import Column
from ponte.versions import signature as module
from ponte.versions.signature import Signature, Types, categories_of, frame_of, to_frame

NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
TABLE = pa.table(
    {
        "count": pa.array([2**53 + 1, 3, 5], pa.int64()),
        "gap": pa.array([2**53 + 1, None, 5], pa.int64()),
        "flag": pa.array([True, False, True]),
        "maybe": pa.array([True, None, False]),
        "amount": pa.array([0.5, None, -1.0]),
        "plan": pa.array(["new", None, "basic"]),
        "nothing": pa.nulls(3, pa.string()),
        "day": pa.array([dt.date(2026, 11, 22), None, dt.date(1, 1, 1)], pa.date32()),
        "moment": pa.array([NOON, None, NOON], pa.timestamp("us", tz="UTC")),
    }
)
FAMILIES = ("integer", "integer", "boolean", "boolean", "number", "text", "text", "date", "timestamp")
COLUMNS = tuple(Column(name=n, family=f) for n, f in zip(TABLE.column_names, FAMILIES, strict=True))  # type: ignore[arg-type]
LEARNED = {"plan": ("basic", "gold"), "nothing": ()}

DTYPES = {
    "count": "float64", "gap": "float64", "flag": "float64", "maybe": "float64", "amount": "float64",
    "plan": "category", "nothing": "category", "day": "datetime64[s]", "moment": "datetime64[us, UTC]",
}  # fmt: skip
NAN = "nan"
VALUES: dict[str, list[Any]] = {
    "count": [2.0**53, 3.0, 5.0], "gap": [2.0**53, NAN, 5.0], "flag": [1.0, 0.0, 1.0], "maybe": [1.0, NAN, 0.0],
    "amount": [0.5, NAN, -1.0], "plan": ["new", NAN, "basic"], "nothing": [NAN] * 3,
    "day": [dt.date(2026, 11, 22), NAN, dt.date(1, 1, 1)], "moment": [NOON, NAN, NOON],
}  # fmt: skip
#: Rule, nullable integers → what is not as above: dtypes, values, categories of the plan.
RULES: list[tuple[Types, bool, dict[str, str], dict[str, list[Any]], list[str]]] = [
    (
        1, False, {"count": "int64", "flag": "bool", "nothing": "category"},
        {"count": [2**53 + 1, 3, 5], "flag": [True, False, True]}, ["new", "basic"],
    ),
    (2, False, {}, {}, ["new", "basic"]),
    (
        3, False, {"count": "Int64", "gap": "Int64"},
        {"count": [2**53 + 1, 3, 5], "gap": [2**53 + 1, NAN, 5]}, ["new", "basic"],
    ),
    (4, False, {}, {}, ["basic", "gold", "new"]),
    (
        4, True, {"count": "Int64", "gap": "Int64"},
        {"count": [2**53 + 1, 3, 5], "gap": [2**53 + 1, NAN, 5]}, ["basic", "gold", "new"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("types", "nullable", "dtypes", "values", "plans"), RULES, ids=lambda v: str(v)[:5])
def test_each_rule_makes_this_frame(
    types: Types, nullable: bool, dtypes: dict[str, str], values: dict[str, list[Any]], plans: list[str]
) -> None:
    kept = LEARNED if types == 4 else {}
    signature = Signature(
        key=(), features=COLUMNS, label="integer", types=types, nullable_integers=nullable, categories=kept
    )
    frame = frame_of(TABLE, signature)
    assert frame.dtypes.astype(str).to_dict() == {**DTYPES, **dtypes}
    got: dict[str, list[Any]] = {
        name: [NAN if pd.isna(v) else v.date() if name == "day" else v for v in frame[name]] for name in frame
    }
    assert got == {**VALUES, **values}
    assert frame["plan"].cat.categories.tolist() == plans
    assert not frame["plan"].cat.ordered
    # That of a chunk without text is the one thing that rule 1 leaves to pandas.
    assert str(frame["nothing"].cat.categories.dtype) == ("object" if types == 1 else "str")


texts = st.none() | st.sampled_from(["a", "b", "c", "ä", "z", "", "new", "newer"])


@given(st.lists(texts, max_size=8), st.lists(texts, max_size=8), st.integers(0, 8), st.booleans())
def test_categories_of_training_come_first_in_every_chunk_and_no_value_becomes_null(
    fitted: list[str | None], asked: list[str | None], cut: int, chunked: bool
) -> None:
    columns = [Column(name="x", family="text")]
    known = categories_of(pa.table({"x": pa.array(fitted, pa.string())}), columns)
    assert known == {"x": tuple(sorted({v for v in fitted if v is not None}))}
    rows = pa.table({"x": pa.array(asked, pa.string())})
    pieces = [rows.slice(0, cut), rows.slice(cut)]
    for piece in (pa.concat_tables(pieces) if chunked else rows, *pieces):
        series = to_frame(piece, columns, types=4, categories=known)["x"]
        values = piece.column("x").to_pylist()
        assert [None if pd.isna(v) else v for v in series] == values
        categories = series.cat.categories.tolist()
        assert tuple(categories[: len(known["x"])]) == known["x"]
        unseen = list(dict.fromkeys(v for v in values if v is not None and v not in known["x"]))
        assert categories[len(known["x"]) :] == unseen
        assert str(series.cat.categories.dtype) == "str"


def test_column_of_too_many_or_too_long_texts_keeps_no_list_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.MOST_CATEGORIES == 10_000
    monkeypatch.setattr(module, "CATEGORY_BYTES", 200_000)
    columns = [Column(name=name, family="text") for name in ("just", "many", "long")]
    numbers = [str(n) for n in range(10_001)]
    rows = pa.table({"just": [*numbers[:10_000], None], "many": numbers, "long": ["x" * 250_000, *[None] * 10_000]})
    with caplog.at_level(logging.WARNING):
        found = categories_of(rows, columns)
    assert (list(found), found["just"]) == (["just"], tuple(sorted(numbers[:10_000])))
    assert [message.split(" distinct")[0] for message in caplog.messages] == ["many has 10001", "long has 1"]
    assert "xxx" not in caplog.text
    frame = to_frame(rows, columns, types=4, categories=found)
    assert frame["many"].cat.categories.tolist() == numbers


def test_signature_with_categories_survives_json_and_those_of_before_say_nothing_of_them() -> None:
    plain = Signature(key=(), features=COLUMNS, label="integer", types=4)
    full = Signature(key=(), features=COLUMNS, label="integer", types=4, nullable_integers=True, categories=LEARNED)
    assert Signature.from_json(full.as_json()) == full
    assert full.as_json().keys() - plain.as_json().keys() == {"nullable_integers", "categories"}
    assert plain.as_json()["types"] == 4
    assert np.array_equal(frame_of(TABLE, plain)["plan"].cat.categories, ["new", "basic"])

"""A column has one dtype for life: no chunk of a batch shows an estimator other types than the one before."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from ponte.storage.columns import Column
from ponte.versions.predicting import Output, predict
from ponte.versions.signature import Signature, to_frame

ARROW: dict[str, pa.DataType] = {
    "count": pa.int64(), "flag": pa.bool_(), "amount": pa.float64(), "plan": pa.string(),
    "day": pa.date32(), "moment": pa.timestamp("us", tz="UTC"),
}  # fmt: skip
COLUMNS = (
    Column(name="count", family="integer"), Column(name="flag", family="boolean"),
    Column(name="amount", family="number"), Column(name="plan", family="text"),
    Column(name="day", family="date"), Column(name="moment", family="timestamp"),
)  # fmt: skip
DTYPES = {
    "count": "float64", "flag": "float64", "amount": "float64", "plan": "category",
    "day": "datetime64[s]", "moment": "datetime64[us, UTC]",
}  # fmt: skip
NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
VALUES: dict[str, tuple[Any, ...]] = {
    "count": (None, 0, 3, -7), "flag": (None, True, False), "amount": (None, 0.5, -1.0),
    "plan": (None, "basic", "gold"), "day": (None, dt.date(2026, 11, 22), dt.date(1, 1, 1)), "moment": (None, NOON),
}  # fmt: skip
row = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in VALUES.items()})


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.table({name: pa.array([r[name] for r in rows], kind) for name, kind in ARROW.items()})


@given(st.lists(row, max_size=6))
def test_no_chunk_changes_a_dtype_whatever_it_holds(rows: list[dict[str, Any]]) -> None:
    frame = to_frame(table_of(rows), COLUMNS)
    assert frame.dtypes.astype(str).to_dict() == DTYPES
    assert str(frame["plan"].cat.categories.dtype) == "str"
    assert frame.isna().to_numpy().tolist() == [[r[name] is None for name in ARROW] for r in rows]


@given(st.lists(row, max_size=6))
def test_nullable_integers_stay_exact_integers_beside_a_null(rows: list[dict[str, Any]]) -> None:
    """Rule 3, for authors who ask for it; the other dtypes are those of rule 2."""
    for one, exact in zip(rows, (2**53 + 1, None, -(2**63)), strict=False):
        one["count"] = exact
    frame = to_frame(table_of(rows), COLUMNS, types=3)
    assert frame.dtypes.astype(str).to_dict() == {**DTYPES, "count": "Int64"}
    assert [None if v is pd.NA else v for v in frame["count"]] == [r["count"] for r in rows]


@given(st.lists(row, min_size=1, max_size=6), st.data())
def test_a_chunk_is_the_piece_of_the_whole(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    """What an author writes down of a value does not depend on its neighbours: 3 is '3.0' in every chunk."""
    first = data.draw(st.integers(0, len(rows)))
    table = table_of(rows)
    parts = [to_frame(piece, COLUMNS) for piece in (table.slice(0, first), table.slice(first))]
    whole = to_frame(table, COLUMNS).astype(object).astype(str)
    pieces = pd.concat([part.astype(object).astype(str) for part in parts], ignore_index=True)
    pd.testing.assert_frame_equal(whole, pieces)


def test_an_author_may_change_the_frame() -> None:
    """Arrow's own memory is read-only, and so is what is made of it without a copy."""
    for column in ("amount", "count"):
        frame = to_frame(pa.table({column: pa.array([1, 2], ARROW[column])}), [c for c in COLUMNS if c.name == column])
        frame.iloc[0, 0] = 7.0
        RandomForestClassifier(2).fit(frame, [0, 1])
        assert frame[column].tolist() == [7.0, 2.0]


def test_whole_numbers_keep_their_value_up_to_2_to_the_53() -> None:
    table = pa.table({"count": pa.array([2**53, -(2**53), 2**62 + 1], pa.int64())})
    assert to_frame(table, COLUMNS[:1])["count"].tolist() == [2**53, -(2**53), 2**62]


# ---------------------------------------------------------------- scikit-learn

STEPS: dict[str, Callable[[], Any]] = {
    "one hot": lambda: OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    "ordinal": lambda: OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    "imputer": SimpleImputer,
    "most frequent": lambda: SimpleImputer(strategy="most_frequent", add_indicator=True),
    "imputer, scaler": lambda: make_pipeline(SimpleImputer(), StandardScaler()),
    "scaler": StandardScaler,
    "logarithm": lambda: FunctionTransformer(lambda x: np.log1p(np.abs(x))),
    "passthrough": lambda: "passthrough",
}
NUMBERS = ["count", "flag", "amount"]


def rows_of(nulls: bool, size: int = 60) -> tuple[pa.Table, np.ndarray[Any, Any]]:
    draws = np.random.default_rng(1)
    values: dict[str, Any] = {
        "count": draws.integers(0, 5, size), "flag": draws.random(size) < 0.5, "amount": draws.random(size),
        "plan": draws.choice(["basic", "gold", "old"], size),
    }  # fmt: skip
    masks = {name: draws.random(size) < (0.2 if nulls else 0) for name in values}
    table = pa.table({name: pa.array(values[name], ARROW[name], mask=masks[name]) for name in values})
    return table, (values["count"] + 2 * values["flag"] + draws.random(size) > 3).astype(int)


@pytest.mark.parametrize("columns", [["count"], ["flag"], ["count", "flag"], NUMBERS], ids="+".join)
@pytest.mark.parametrize("step", STEPS)
def test_usual_steps_take_numbers_and_booleans_with_and_without_null(step: str, columns: list[str]) -> None:
    """Fitted without NULL and asked with some, and the other way round."""
    known = tuple(c for c in COLUMNS if c.name in (*NUMBERS, "plan"))
    signature = Signature(key=(), features=known, label="integer")
    for fitted_with in (False, True):
        rows, labels = rows_of(fitted_with)
        parts = make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["plan"]), (STEPS[step](), columns)
        )
        pipeline = make_pipeline(parts, HistGradientBoostingClassifier(max_iter=3)).fit(to_frame(rows, known), labels)
        for asked_with in (False, True):
            asked = rows_of(asked_with)[0]
            whole = predict(pipeline, asked, signature, Output(task="binary", classes=(0, 1)))
            for n in (0, 7):
                one = predict(pipeline, asked.slice(n, 1), signature, Output(task="binary", classes=(0, 1)))
                assert (one.prediction[0], one.score) == (whole.prediction[n], pytest.approx(whole.score[n : n + 1]))


@pytest.mark.parametrize(
    "estimator",
    [
        HistGradientBoostingClassifier(max_iter=3, categorical_features="from_dtype"),
        make_pipeline(
            make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore"), ["plan"]),
                (make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
            ),
            LogisticRegression(),
        ),
        make_pipeline(
            make_column_transformer((OrdinalEncoder(), ["plan"]), remainder="passthrough"), RandomForestClassifier(3)
        ),
    ],
    ids=["boosting of the frame", "logistic", "forest behind a passthrough"],
)
def test_usual_estimators_take_a_chunk_without_any_value(estimator: Any) -> None:
    known = tuple(c for c in COLUMNS if c.name in (*NUMBERS, "plan"))
    signature = Signature(key=(), features=known, label="integer")
    rows, labels = rows_of(nulls=True)
    estimator.fit(to_frame(rows, known), labels)
    nothing = pa.table({c.name: pa.nulls(3, ARROW[c.name]) for c in known})
    assert len(set(predict(estimator, nothing, signature, Output(task="binary", classes=(0, 1))).prediction)) == 1


# ---------------------------------------------------------------- versions from before

OLD: dict[str, Any] = {
    "key": [],
    "features": [{"name": "count", "family": "integer"}, {"name": "flag", "family": "boolean"}],
    "label": "integer",
}


def test_signature_that_was_stored_without_a_rule_has_the_first_one_and_is_stored_as_before() -> None:
    """The manifest of such a version holds these bytes, and is compared with them."""
    old = Signature.from_json(OLD)
    assert (old.types, json.dumps(old.as_json())) == (1, json.dumps(OLD))
    assert Signature(key=(), features=old.features, label="integer").as_json() == {**OLD, "types": 2}


@pytest.mark.parametrize(
    ("count", "flag", "dtypes"),
    [([1, 2], [True, False], ["int64", "bool"]), ([1, None], [True, None], ["float64", "float64"])],
    ids=["no NULL", "NULL"],
)
def test_first_rule_looks_at_the_chunk(count: list[Any], flag: list[Any], dtypes: list[str]) -> None:
    table = pa.table({"count": pa.array(count, pa.int64()), "flag": pa.array(flag, pa.bool_())})
    assert to_frame(table, COLUMNS[:2], types=1).dtypes.astype(str).tolist() == dtypes


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """What an author may have written when whole numbers came as int64 and booleans as bool."""
    return pd.DataFrame({"count": frame["count"].astype(str), "not": (~frame["flag"]).astype(str)})


def test_version_from_before_is_asked_with_the_dtypes_it_was_fitted_on() -> None:
    import pyarrow.parquet as pq

    from ponte.versions.loading import golden_rows

    old = Signature.from_json(OLD)
    table = pa.table({"count": [1, 2, 1, 2], "flag": [True, False, True, False]})
    encoder = OneHotEncoder(handle_unknown="ignore")
    estimator = make_pipeline(FunctionTransformer(as_text), encoder, LogisticRegression())
    estimator.fit(to_frame(table, old.features, types=1), [0, 1, 0, 1])
    assert [c.tolist() for c in encoder.categories_] == [["1", "2"], ["False", "True"]]
    golden = golden_rows(estimator, table, old, Output(task="binary", classes=(0, 1)))
    assert pq.read_table(io.BytesIO(golden))["prediction"].to_pylist() == [0, 1, 0, 1]

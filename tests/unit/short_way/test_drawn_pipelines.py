"""Law: the short way makes the matrix that the pipeline makes, to the last bit and in its memory order, or refuses.

Pipelines and rows are drawn: of all parts that the short way knows, some that it does not, and values of all kinds.
`PONTE_SHORT_WAY_DRAWS=5000` draws that many pipelines, other ones each time; each is asked with ROWS of rows.
"""

from __future__ import annotations

import math
import os
import warnings
from collections import Counter
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

from ponte.short_way import comparing
from ponte.short_way.comparing import EXTREMES, Whole, find_way
from ponte.short_way.pipelines import ShortWay
from ponte.short_way.plain import PlainRows, joined, plain_rows
from ponte.short_way.values import NotKnown
from ponte.storage.columns import Column
from ponte.versions.predicting import Output, predict, through
from ponte.versions.signature import Signature, frame_of

DRAWS = int(os.environ.get("PONTE_SHORT_WAY_DRAWS", "0"))
#: Kinds of rows that each pipeline is asked with: draws times this many pairs.
ROWS = 6
FAMILIES = {"a": "number", "b": "number", "c": "number", "n": "integer", "m": "integer", "yes": "boolean",
            "s": "text", "t": "text", "day": "date"}  # fmt: skip
TYPES = {"number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_(), "text": pa.string(), "date": pa.date32()}
NUMBERS, TEXTS = ["a", "b", "c", "n", "m", "yes"], ["s", "t"]
COLUMNS = tuple(Column(name=name, family=family) for name, family in FAMILIES.items())  # type: ignore[arg-type]


class Weighted(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A last step that takes everything: each value of the matrix counts in a product."""

    def fit(self, features: Any, labels: Any) -> Weighted:
        self.weights_ = np.linspace(-1.0, 2.0, features.shape[1])
        return self

    def predict(self, features: Any) -> Any:
        matrix = np.asarray(features.todense()) if hasattr(features, "todense") else np.asarray(features, dtype=float)
        return np.nan_to_num(matrix, posinf=7.0, neginf=-7.0) @ self.weights_


class Drawing:
    """Draws of one number: the same number, the same draws."""

    def __init__(self, number: int) -> None:
        self.random = np.random.default_rng(number)

    def one(self, *choices: Any) -> Any:
        return choices[self.random.integers(len(choices))]

    def some(self, names: list[str]) -> list[str]:
        return [str(n) for n in self.random.permutation(names)[: self.random.integers(1, len(names) + 1)]]

    # ------------------------------------------------------------ rows

    def rows(self, count: int, *, strange: bool) -> pa.Table:
        """Return rows; strange ones hold extremes, unseen texts and seldom infinity."""
        return pa.table({name: pa.array(self.values(family, count, strange), TYPES[family])
                         for name, family in FAMILIES.items()})  # fmt: skip

    def values(self, family: str, count: int, strange: bool) -> list[Any]:
        share = self.one(0.0, 0.1, 0.5) if not strange else self.one(0.1, 0.5, 1.0)
        usual = {
            "number": lambda: float(self.one(self.random.normal(), self.random.normal(5e3, 1e3), 0.0, -0.0, 1.0)),
            "integer": lambda: int(self.random.integers(-2, 5)),
            "boolean": lambda: bool(self.random.integers(2)),
            "text": lambda: str(self.one("mill", "quay", "park", "é", "", "nan")),
            "date": lambda: int(self.random.integers(20_000)),
        }[family]
        odd = (None, *EXTREMES.get(family, ())) if strange else (None,)
        if strange and family == "number" and self.random.random() < 0.05:
            odd = (*odd, math.inf)
        return [self.one(*odd) if self.random.random() < share else usual() for _ in range(count)]

    # ------------------------------------------------------------ pipelines

    def scaler(self, *, sparse: bool = False) -> Any:
        yes = (True, False)
        if sparse:
            return self.one(StandardScaler(with_mean=False), MaxAbsScaler(), RobustScaler(with_centering=False))
        return self.one(
            StandardScaler(with_mean=self.one(*yes), with_std=self.one(*yes)),
            MinMaxScaler(feature_range=self.one((0, 1), (-2, 3)), clip=self.one(*yes)),
            MaxAbsScaler(),
            RobustScaler(with_centering=self.one(*yes), with_scaling=self.one(*yes)),
            FunctionTransformer(),
            "passthrough",
        )

    def imputer(self) -> Any:
        strategy = self.one("mean", "median", "most_frequent", "constant")
        return SimpleImputer(strategy=strategy, add_indicator=self.random.random() < 0.05)

    def encoder(self) -> Any:
        ordinal = OrdinalEncoder(
            handle_unknown="use_encoded_value",
            unknown_value=self.one(-1, np.nan),
            encoded_missing_value=self.one(-2, np.nan),
        )
        unknown = self.one("ignore", "ignore", "ignore", "error")
        hot = OneHotEncoder(
            handle_unknown=unknown,
            sparse_output=self.one(True, False),
            drop=self.one(None, None, "first", "if_binary"),
            min_frequency=5 if self.random.random() < 0.03 else None,
        )
        return self.one(hot, hot, ordinal, OrdinalEncoder())

    def part(self, depth: int) -> tuple[Any, list[str]]:  # noqa: PLR0911 - one per kind
        """Return a transformer and the columns that it is given."""
        kind = self.one("numbers", "numbers", "texts", "texts", "filled", "codes", "bare", "nested", "strange")
        if kind == "numbers":
            return make_pipeline(self.imputer(), *(self.scaler() for _ in range(self.random.integers(3)))), self.some(
                NUMBERS
            )
        if kind == "texts":
            return self.encoder(), self.some(TEXTS)
        if kind == "filled":
            fill = self.one(SimpleImputer(strategy="most_frequent"), SimpleImputer(strategy="constant", fill_value="?"))
            return make_pipeline(fill, self.encoder()), self.some(TEXTS)
        if kind == "codes":
            return self.encoder(), self.some(["n", "yes", "s", "a"])
        if kind == "nested" and depth:
            columns = self.transformer(depth - 1)
            columns.sparse_threshold = 0.0
            return make_pipeline(columns, self.scaler(), self.one(self.scaler(), self.imputer())), [*FAMILIES]
        if kind == "strange" and self.random.random() < 0.3:
            odd = self.one(
                PowerTransformer(), StandardScaler().set_output(transform="pandas"), KBinsDiscretizer(n_bins=2)
            )
            return make_pipeline(SimpleImputer(), odd), self.some(["a", "b"])
        return self.scaler(), self.some(NUMBERS)

    def transformer(self, depth: int = 1) -> ColumnTransformer:
        parts = [self.part(depth) for _ in range(self.random.integers(1, 4))]
        names = [*FAMILIES]
        given = [
            self.one(columns, [names.index(c) for c in columns]) if depth == 1 else columns for _, columns in parts
        ]
        return ColumnTransformer(
            [(str(n), step, columns) for n, ((step, _), columns) in enumerate(zip(parts, given, strict=True))],
            sparse_threshold=self.one(0.0, 0.3, 1.0),
            remainder="passthrough" if self.random.random() < 0.05 else "drop",
        )

    def steps(self) -> list[Any]:
        usual: list[Any] = [self.transformer()]
        return self.one(usual, usual, [*usual, StandardScaler(with_mean=False)], [*usual, self.scaler(sparse=True)])

    def signature(self, rows: pa.Table) -> Signature:
        types = self.one(4, 4, 4, 4, 4, 4, 2, 2, 1, 3)
        texts = {name: tuple(sorted({v for v in rows[name].to_pylist() if v is not None})) for name in TEXTS}
        return Signature(key=(), features=COLUMNS, label="number", types=types, categories=texts if types == 4 else {})


def fitted(drawing: Drawing) -> tuple[Any, list[Any], Signature, pa.Table] | None:
    """Return an estimator, its transformers, signature and rows; None of a draw that scikit-learn cannot fit."""
    rows = drawing.rows(60, strange=False)
    signature = drawing.signature(rows)
    steps, frame = drawing.steps(), frame_of(rows, signature)
    try:
        pipeline = make_pipeline(*steps, Weighted())
        wrapped = drawing.one(pipeline, pipeline, TransformedTargetRegressor(pipeline, transformer=StandardScaler()))
        wrapped.fit(frame, np.linspace(0.0, 3.0, 60))
    except (ValueError, TypeError):
        return None
    inner = getattr(wrapped, "regressor_", wrapped)
    return drawing.one(wrapped, FrozenEstimator(wrapped)), [step for _, step in inner.steps[:-1]], signature, rows


def outcome(ask: Any) -> Any:
    try:
        return ask()
    except Exception as error:  # noqa: BLE001 - any of scikit-learn's
        return type(error)


def bits(value: Any) -> Any:
    """Return all that may differ of a matrix."""
    if isinstance(value, type):
        return value
    if hasattr(value, "indptr"):
        return type(value), value.shape, *(bits(part) for part in (value.data, value.indices, value.indptr))
    places = np.where(np.isnan(value), np.nan, value) if value.dtype.kind == "f" else value
    order = value.flags.f_contiguous and not value.flags.c_contiguous
    return str(value.dtype), value.shape, order, places.tobytes("C")


@pytest.mark.parametrize("block", range(4))
def test_a_drawn_pipeline_is_the_same_to_the_last_bit_or_refused(block: int) -> None:
    first, count = (int.from_bytes(os.urandom(4)), DRAWS // 4) if DRAWS else (block * 1_000, 20)
    found: Counter[str] = Counter()
    with warnings.catch_warnings(), patch.object(comparing, "SIZES", (1, 2, 3, 64)):
        warnings.simplefilter("ignore")
        for number in range(first, first + count):
            drawing = Drawing(number)
            made = fitted(drawing)
            if made is not None:
                ask_in_both_ways(drawing, *made, found=found, number=number)
    print(dict(found))
    assert found["pairs"] >= 2 * count, "most draws are pipelines that the short way takes"
    assert found["refused rows"] < found["pairs"]


def ask_in_both_ways(
    drawing: Drawing,
    estimator: Any,
    steps: list[Any],
    signature: Signature,
    golden: pa.Table,
    *,
    found: Counter[str],
    number: int,
) -> None:
    def matrix(of: Any, rows: pa.Table) -> Any:
        return through(of, frame_of(rows, signature))

    def said(rows: pa.Table | PlainRows, short: ShortWay | None) -> Any:
        return (predict(estimator, rows, signature, Output(task="regression"), short).prediction,)

    whole = Whole(estimator, signature.float_families(), matrix, said)
    short, way = find_way(whole, golden.slice(0, 20), signature.categories)
    # What is built has to be right by itself: the comparison is the second line of defence, and finds nothing here.
    assert not way.why.startswith(("another matrix", "other predictions")), (number, way.why)
    found[way.why if way.kind == "whole" else "short"] += 1
    for size in drawing.random.choice([1, 2, 3, 5, 8, 20, 64, 300], ROWS) if short else ():
        rows = drawing.rows(int(size), strange=drawing.one(True, True, False))
        rows = drawing.one(rows, pa.concat_tables([rows.slice(0, size // 2), rows.slice(size // 2)]))
        plain = plain_rows(rows)
        expected = outcome(lambda: matrix(steps, rows))  # noqa: B023 - asked at once
        found["pairs"] += 1
        try:
            got = short.features(rows)
        except NotKnown:
            found["refused rows"] += 1
        else:
            assert bits(got) == bits(expected), (number, size)
            assert bits(short.features(plain)) == bits(expected), (number, size)
        ways = ((rows, None), (rows, short), (plain, short), (plain, None))
        all_said = [outcome(lambda of=of, way=way: said(of, way)[0]) for of, way in ways]
        assert len({str(bits(one)) for one in all_said}) == 1, (number, size)


def test_plain_rows_are_the_rows_of_a_table() -> None:
    rows = Drawing(7).rows(40, strange=False)
    plain = plain_rows(rows)
    assert plain.table().equals(rows)
    parts = [plain.take(range(start, start + 10)) for start in range(0, 40, 10)]
    assert [part.num_rows for part in parts] == [10] * 4
    assert plain.take([3, 1]).table().equals(rows.take([3, 1]))
    names = ["t", "n", "day", "a"]
    assert joined(parts, names).equals(rows.select(names))
    assert joined(parts, []).num_columns == 0

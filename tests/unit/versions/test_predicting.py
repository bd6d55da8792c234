"""What an estimator says is one usable prediction per row, or it is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponte.errors import PonteError
from ponte.model.spec import Task
from ponte.scoring.answering import labels_of
from ponte.storage.columns import Column, Family
from ponte.versions.predicting import Output, Predictions, as_labels, classes_of, predict, require_labels, score_column
from ponte.versions.signature import Signature

NAN = float("nan")
SIGNATURE = Signature(
    key=(Column(name="customer_id", family="integer"),),
    features=(Column(name="visits", family="number"), Column(name="plan", family="text")),
    label="integer",
)
TWO = pa.table({"plan": ["basic", "gold"], "customer_id": [1, 2], "visits": [3.0, 4.0]})
REGRESSION = Output(task="regression")
BINARY = Output(task="binary", classes=(0, 1))
THREE = Output(task="multiclass", classes=("a", "b", "c"))


class Fixed:
    """An estimator that returns what it was told to, and keeps what it was asked with."""

    def __init__(self, prediction: Any, probability: Any = None) -> None:
        self.prediction, self.probability, self.asked = prediction, probability, pd.DataFrame()

    def predict(self, features: pd.DataFrame) -> Any:
        self.asked = features
        return self.prediction

    def predict_proba(self, features: pd.DataFrame) -> Any:
        self.asked = features
        return self.probability


HALF = [[0.5, 0.5], [0.5, 0.5]]
THIRD = [[0.2, 0.3, 0.5], [0.5, 0.3, 0.2]]
SHAPE, PROBA_SHAPE = "predict() returned the wrong shape\n  got: ", "predict_proba() returned the wrong shape\n  got: "
NO_SUM = "the probabilities of a row do not sum to 1\n  got: a row sums to "
#: id → (output, estimator, beginning of the message)
REFUSED: dict[str, tuple[Output, Fixed, str]] = {
    "too few": (REGRESSION, Fixed([1.0]), SHAPE + "(1,)\n  expected: (2,)"),
    "too many": (REGRESSION, Fixed([1.0, 2.0, 3.0]), SHAPE + "(3,)\n  expected: (2,)"),
    "a column": (REGRESSION, Fixed([[1.0], [2.0]]), SHAPE + "(2, 1)"),
    "one number for all": (REGRESSION, Fixed(1.0), SHAPE + "()"),
    "NaN": (REGRESSION, Fixed([1.0, NAN]), "predict() returned NaN or infinity\n  got: 1 of 2 values\n  next: handle"),
    "nothing": (REGRESSION, Fixed([1.0, None]), "predict() returned NaN or infinity\n  got: 1 of 2 values"),
    "infinity": (REGRESSION, Fixed([np.inf, -np.inf]), "predict() returned NaN or infinity\n  got: 2 of 2 values"),
    "no two columns": (BINARY, Fixed([0, 1], [0.5, 0.5]), PROBA_SHAPE + "(2,)\n  expected: (2, 2)"),
    "one class": (BINARY, Fixed([0, 1], [[1.0], [1.0]]), PROBA_SHAPE + "(2, 1)"),
    "three classes of two": (BINARY, Fixed([0, 1], THIRD), PROBA_SHAPE + "(2, 3)\n  expected: (2, 2)"),
    "three classes, classes not kept": (Output(task="binary"), Fixed([0, 1], THIRD), PROBA_SHAPE + "(2, 3)"),
    "too few rows": (BINARY, Fixed([0, 1], HALF[:1]), PROBA_SHAPE + "(1, 2)\n  expected: (2, 2)"),
    "NaN probability": (
        BINARY, Fixed([0, 1], [[0.5, 0.5], [NAN, 0.5]]), "predict_proba() returned NaN or infinity\n  got: 1 of 4"),
    "over one": (
        BINARY, Fixed([0, 1], [[0.5, 0.5], [-0.1, 1.1]]),
        "a score is no probability\n  got: -0.1 to 1.1\n  expected: 0 to 1"),
    "below nought": (BINARY, Fixed([0, 1], [[1.1, -0.1], [0.5, 0.5]]), "a score is no probability\n  got: -0.1 to"),
    "over one by a hair": (
        BINARY, Fixed([0, 1], [[0.0, 1 + 1e-9], [0.5, 0.5]]), "a score is no probability\n  got: 0.0 to 1.000000001"),
    "binary sum": (BINARY, Fixed([0, 1], [[0.5, 0.6], [0.5, 0.5]]), NO_SUM + "1.1\n  expected: 1"),
    "binary sum below": (BINARY, Fixed([0, 1], [[0.5, 0.4999], [0.5, 0.5]]), NO_SUM),
    "too few labels": (BINARY, Fixed([0], HALF), SHAPE + "(1,)\n  expected: (2,)"),
    "labels as a column": (BINARY, Fixed([[0], [1]], HALF), SHAPE + "(2, 1)"),
    "two classes of three": (THREE, Fixed(["a", "b"], HALF), PROBA_SHAPE + "(2, 2)\n  expected: (2, 3)"),
    "multiclass sum": (THREE, Fixed(["a", "b"], [[0.5, 0.5, 0.5], [1, 0, 0]]), NO_SUM + "1.5\n  expected: 1"),
    "multiclass below nought": (
        THREE, Fixed(["a", "b"], [[1.0, 0.5, -0.5], [1, 0, 0]]), "a score is no probability\n  got: -0.5 to 1.0"),
    "multiclass NaN": (
        THREE, Fixed(["a", "b"], [[NAN, NAN, NAN], [1, 0, 0]]), "predict_proba() returned NaN or infinity\n  got: 3"),
    "multiclass, too few labels": (THREE, Fixed(["a"], THIRD), SHAPE + "(1,)\n  expected: (2,)"),
}  # fmt: skip


@pytest.mark.parametrize(("output", "estimator", "said"), REFUSED.values(), ids=REFUSED)
def test_predictions_that_cannot_be_written_are_refused(output: Output, estimator: Fixed, said: str) -> None:
    with pytest.raises(PonteError) as caught:
        predict(estimator, TWO, SIGNATURE, output)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("output", [REGRESSION, BINARY, THREE], ids=lambda o: o.task)
def test_estimator_is_asked_with_the_features_in_the_order_it_was_fitted_with(output: Output) -> None:
    estimator = Fixed([0, 1], {"binary": HALF, "multiclass": THIRD}.get(output.task))
    for rows in (TWO, TWO.to_batches()[0]):
        assert len(predict(estimator, rows, SIGNATURE, output).prediction) == 2
        assert estimator.asked.columns.tolist() == ["visits", "plan"]
        assert estimator.asked["plan"].tolist() == ["basic", "gold"]


def test_regression_predicts_float64_and_has_no_scores() -> None:
    got = predict(Fixed(np.array([1, 2], dtype=np.float32)), TWO, SIGNATURE, REGRESSION)
    assert (got.prediction.dtype, got.prediction.tolist(), got.score) == (np.float64, [1.0, 2.0], None)


def test_nought_and_one_are_probabilities_and_the_second_column_is_the_score() -> None:
    output = Output(task="binary", classes=("no", "yes"))
    got = predict(Fixed(["no", "yes"], [[1.0, 0.0], [0.0, 1.0]]), TWO, SIGNATURE, output)
    assert got.score is not None
    assert (got.prediction.tolist(), got.score.tolist()) == (["no", "yes"], [0.0, 1.0])


@pytest.mark.parametrize("output", [THREE, Output(task="multiclass")], ids=["classes known", "classes not kept"])
def test_multiclass_scores_are_a_row_of_probabilities_per_row(output: Output) -> None:
    got = predict(Fixed(["c", "a"], THIRD), TWO, SIGNATURE, output)
    assert got.score is not None
    assert (got.prediction.tolist(), got.score.tolist()) == (["c", "a"], THIRD)


def test_probabilities_of_single_precision_sum_to_one() -> None:
    """Boosting libraries compute in float32."""
    thirds = np.full((2, 3), 1 / 3, dtype=np.float32) * np.float32(1 + 1e-6)
    got = predict(Fixed(["a", "a"], thirds), TWO, SIGNATURE, THREE)
    assert got.score is not None
    assert got.score.dtype == np.float64


@pytest.mark.parametrize(
    ("classes", "family"),
    [((0, 1), "integer"), ((False, True), "boolean"), (("no", "yes"), "text"), (("basic", "zz-long"), "text")],
    ids=["numbers", "booleans", "text", "text of two lengths"],
)
@pytest.mark.parametrize(
    ("threshold", "positive"),
    [(0.3, [True, True]), (0.5, [False, True]), (0.7, [False, True]), (0.7000001, [False, False])],
    ids=["under both", "between", "on the greater", "over both"],
)
def test_threshold_decides_instead_of_the_estimator_and_belongs_to_the_positive_class(
    classes: tuple[Any, Any], family: Family, threshold: float, positive: list[bool]
) -> None:
    estimator = Fixed(None, [[0.6, 0.4], [0.3, 0.7]])
    got = predict(estimator, TWO, SIGNATURE, Output(task="binary", classes=classes, threshold=threshold))
    assert got.prediction.tolist() == [classes[p] for p in positive]
    assert got.score is not None
    assert got.score.tolist() == [0.4, 0.7]
    written = as_labels(got.prediction, dataclasses.replace(SIGNATURE, label=family), "binary")
    assert written.to_pylist() == got.prediction.tolist()


@given(st.lists(st.floats(0, 1), min_size=2, max_size=2), st.floats(0.01, 0.99))
def test_label_is_positive_exactly_when_the_score_reaches_the_threshold(scores: list[float], threshold: float) -> None:
    estimator = Fixed(None, [[1 - s, s] for s in scores])
    got = predict(estimator, TWO, SIGNATURE, dataclasses.replace(BINARY, threshold=threshold))
    assert got.prediction.tolist() == [int(s >= threshold) for s in scores]


def test_without_a_threshold_the_estimator_decides() -> None:
    """Even against its own scores: it was fitted that way."""
    assert predict(Fixed([1, 0], [[0.9, 0.1], [0.1, 0.9]]), TWO, SIGNATURE, BINARY).prediction.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("output", "estimator"),
    [
        (REGRESSION, Fixed(np.empty(0))),
        (BINARY, Fixed(np.empty(0, dtype=int), np.empty((0, 2)))),
        (THREE, Fixed(np.empty(0, dtype=int), np.empty((0, 3)))),
        (dataclasses.replace(BINARY, threshold=0.5), Fixed(None, np.empty((0, 2)))),
    ],
    ids=["regression", "binary", "multiclass", "threshold"],
)
def test_no_rows_have_no_predictions(output: Output, estimator: Fixed) -> None:
    got = predict(estimator, TWO.slice(0, 0), SIGNATURE, output)
    assert len(got.prediction) == 0
    assert got.score is None or len(got.score) == 0


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([2, 0, 2, 1]), (0, 1, 2)),
        (np.array([True, False]), (False, True)),
        (np.array(["yes", "no"], dtype=object), ("no", "yes")),
        (np.array(["b", "a", "c"]), ("a", "b", "c")),
        (["b", "a"], ("a", "b")),
    ],
    ids=["integers", "booleans", "objects", "text", "a list"],
)
def test_classes_are_the_distinct_labels_in_order_as_plain_values(labels: Any, classes: tuple[Any, ...]) -> None:
    """Plain ones, because they are kept as JSON."""
    found = classes_of(labels, "multiclass")
    assert found == classes
    assert [type(c) for c in found] == [type(c) for c in classes]
    assert classes_of(labels, "regression") == ()


@pytest.mark.parametrize(
    ("label", "task", "values", "written"),
    [
        ("integer", "binary", np.array([0, 1], dtype=np.int32), pa.array([0, 1], pa.int64())),
        ("integer", "binary", np.array([False, True]), pa.array([0, 1], pa.int64())),
        ("integer", "binary", np.array([0.0, 1.0]), pa.array([0, 1], pa.int64())),
        ("integer", "multiclass", np.array([7, 3]), pa.array([7, 3], pa.int64())),
        ("boolean", "binary", np.array([False, True]), pa.array([False, True])),
        ("boolean", "binary", np.array([0, 1]), pa.array([False, True])),
        ("text", "binary", np.array(["no", "yes"]), pa.array(["no", "yes"])),
        ("text", "multiclass", np.array(["no", "perhaps"], dtype=object), pa.array(["no", "perhaps"])),
        ("integer", "regression", np.array([1.5, 2.5]), pa.array([1.5, 2.5])),
        ("number", "regression", np.array([1.5, 2.5], dtype=np.float32), pa.array([1.5, 2.5])),
    ],
    ids=[
        "int32", "booleans for an integer", "whole floats for an integer", "integers of many classes", "booleans",
        "integers for a boolean", "text", "objects", "regression on an integer label", "float32",
    ],
)  # fmt: skip
def test_prediction_is_written_as_the_type_of_the_label(
    label: Family, task: Task, values: Any, written: pa.Array[Any]
) -> None:
    """The column of the prediction table has that type, and COPY takes no other."""
    signature = dataclasses.replace(SIGNATURE, label=label)
    found = as_labels(values, signature, task)
    assert (found.type, found.to_pylist()) == (written.type, written.to_pylist())
    one_by_one = labels_of(values, signature, task)
    assert [(type(value), value) for value in one_by_one] == [(type(value), value) for value in written.to_pylist()]


@pytest.mark.parametrize(
    ("label", "values", "said"),
    [
        ("integer", np.array([0.0, 0.5]), "values of type float64: "),
        ("integer", np.array(["no", "yes"]), "values of type <U3: "),
        ("boolean", np.array(["no", "perhaps"]), "values of type <U7: "),
        ("text", np.array([0, 1]), "values of type int64: "),
    ],
    ids=["a half for an integer", "text for an integer", "text for a boolean", "integers for text"],
)
def test_prediction_that_is_no_label_is_refused_instead_of_rounded(label: Family, values: Any, said: str) -> None:
    with pytest.raises(PonteError, match=r"predict\(\) returned no labels") as caught:
        as_labels(values, dataclasses.replace(SIGNATURE, label=label), "binary")
    with pytest.raises(PonteError, match=r"predict\(\) returned no labels"):
        labels_of(values, dataclasses.replace(SIGNATURE, label=label), "binary")
    _, got, *_, expected, fix = str(caught.value).splitlines()
    assert got.startswith(f"  got: {said}")
    assert (expected, fix) == (f"  expected: {label}", "  next: let the estimator predict the labels it was fitted on")


@pytest.mark.parametrize(
    ("output", "family", "prediction"),
    [
        (BINARY, "integer", np.array([1, 0])),
        (BINARY, "integer", np.array([1, 1])),
        (Output(task="binary", classes=("no", "yes")), "text", np.array(["yes", "no"])),
        (Output(task="binary"), "integer", np.array([0, 7])),
        (REGRESSION, "integer", np.array([0.5, 7.0])),
    ],
    ids=["both", "one of them", "text", "classes not kept", "regression"],
)
def test_predicted_labels_of_the_fitting_rows_are_taken(output: Output, family: Family, prediction: Any) -> None:
    signature = dataclasses.replace(SIGNATURE, label=family)
    require_labels(Predictions(prediction, None), signature, output)


@pytest.mark.parametrize(
    ("output", "prediction", "said"),
    [
        (BINARY, np.array([0, 2]), "1 other values\n  expected: [0, 1]\n  next: let the estimator predict the labels"),
        (Output(task="multiclass", classes=(1, 2, 3)), np.arange(9), "6 other values\n  expected: [1, 2, 3]"),
        (BINARY, np.array(["0", "x"]), "values of type <U1: "),
    ],
    ids=["a third label", "how many, and not which", "another type"],
)
def test_predicted_label_that_no_fitting_row_has_is_refused(output: Output, prediction: Any, said: str) -> None:
    with pytest.raises(PonteError) as caught:
        require_labels(Predictions(prediction, None), SIGNATURE, output)
    assert str(caught.value).startswith(f"predict() returned no labels\n  got: {said}")


# ---------------------------------------------------------------- scores


@pytest.mark.parametrize(
    ("score", "written"),
    [
        (None, None),
        (np.array([0.25, 0.5]), ("score", pa.float64(), [0.25, 0.5])),
        (np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]]),
         ("scores", pa.list_(pa.float64()), [[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])),
        (np.array([[0.9, 0.2], [0.1, 0.8]]).T, ("scores", pa.list_(pa.float64()), [[0.9, 0.1], [0.2, 0.8]])),
        (np.empty(0), ("score", pa.float64(), [])),
        (np.empty((0, 3)), ("scores", pa.list_(pa.float64()), [])),
    ],
    ids=["regression", "binary", "multiclass", "columns that are rows in memory", "no rows", "no rows of many classes"],
)  # fmt: skip
def test_scores_are_a_column_of_numbers_or_of_lists(score: Any, written: tuple[str, pa.DataType, list[Any]]) -> None:
    found = score_column(Predictions(np.zeros(0 if score is None else len(score)), score))
    assert (found and (found[0], found[1].type, found[1].to_pylist())) == written

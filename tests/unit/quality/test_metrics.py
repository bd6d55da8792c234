"""Figures are those of scikit-learn under any row weights, and their intervals are those of a paired bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ponte.model.spec import METRICS, Task
from ponte.quality.metrics import (
    BinaryFigures,
    Figures,
    MulticlassFigures,
    RegressionFigures,
    area_under_roc,
    equal_bins,
    figures_of,
)
from ponte.quality.resampling import bootstrap, interval, resampled_weights, tail_of
from ponte.versions.predicting import Predictions

Array = np.ndarray[Any, Any]

NAN = float("nan")
QUANTILE = 0.8
CLASSES: dict[Task, tuple[Any, ...]] = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "regression": ()}
COUNTS = ("true_positives", "false_positives", "false_negatives", "true_negatives")

#: A few values make ties likely; 0 and 1 are where a logarithm ends.
score_values = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1, allow_subnormal=False, width=32))
weight_values = st.integers(0, 3)


@st.composite
def binary_rows(draw: st.DrawFn) -> tuple[Array, Predictions, Array]:
    """Labels, predictions and integer weights; the first two rows are of both classes and have a weight."""
    rows = draw(st.lists(st.tuples(st.booleans(), score_values, st.booleans(), weight_values), max_size=25))
    ends = [(happened, draw(score_values), draw(st.booleans()), draw(st.integers(1, 3))) for happened in (False, True)]
    happened, score, predicted, weights = (np.array(c) for c in zip(*ends, *rows, strict=True))
    names = np.array(CLASSES["binary"])
    return names[happened.astype(int)], Predictions(names[predicted.astype(int)], score), weights.astype(float)


@st.composite
def multiclass_rows(draw: st.DrawFn) -> tuple[Array, Predictions, Array]:
    """Every class has a row with a weight; probabilities are shares of small numbers, so there are ties, 0 and 1."""
    shares = st.lists(st.integers(0, 4), min_size=3, max_size=3).filter(any)
    one = st.tuples(st.integers(0, 2), shares, st.integers(0, 2), weight_values)
    ends = [(c, draw(shares), draw(st.integers(0, 2)), draw(st.integers(1, 3))) for c in range(3)]
    label, share, predicted, weights = zip(*ends, *draw(st.lists(one, max_size=25)), strict=True)
    probability = np.array(share, dtype=float)
    names = np.array(CLASSES["multiclass"])
    predictions = Predictions(names[list(predicted)], probability / probability.sum(axis=1, keepdims=True))
    return names[list(label)], predictions, np.array(weights, dtype=float)


@st.composite
def regression_rows(draw: st.DrawFn) -> tuple[Array, Predictions, Array]:
    """Labels are not all equal."""
    values = st.integers(-400, 400).map(lambda n: n / 4)
    rows = draw(st.lists(st.tuples(values, values, weight_values), max_size=25))
    ends = [(float(n), draw(values), draw(st.integers(1, 3))) for n in range(2)]
    label, said, weights = (np.array(c, dtype=float) for c in zip(*ends, *rows, strict=True))
    return label, Predictions(said, None), weights


ROWS: dict[Task, st.SearchStrategy[tuple[Array, Predictions, Array]]] = {
    "binary": binary_rows(), "multiclass": multiclass_rows(), "regression": regression_rows()
}  # fmt: skip


def of_binary(labels: Array, said: Predictions, w: Array) -> dict[str, float]:
    y, hit = labels == "yes", said.prediction == "yes"
    tn, fp, fn, tp = sk.confusion_matrix(y, hit, labels=[False, True], sample_weight=w).ravel()
    return {
        "roc_auc": sk.roc_auc_score(y, said.score, sample_weight=w),
        "average_precision": sk.average_precision_score(y, said.score, sample_weight=w),
        "brier": sk.brier_score_loss(y, said.score, sample_weight=w),
        "log_loss": sk.log_loss(y, said.score, sample_weight=w),
        "accuracy": sk.accuracy_score(y, hit, sample_weight=w),
        "precision": sk.precision_score(y, hit, sample_weight=w, zero_division=0),
        "recall": sk.recall_score(y, hit, sample_weight=w),
        "f1": sk.f1_score(y, hit, sample_weight=w),
        "true_positives": tp,
        "false_positives": fp,
        "false_negatives": fn,
        "true_negatives": tn,
    }


def of_multiclass(labels: Array, said: Predictions, w: Array) -> dict[str, float]:
    known = list(CLASSES["multiclass"])
    return {
        "roc_auc": sk.roc_auc_score(labels, said.score, sample_weight=w, multi_class="ovr", average="macro"),
        "log_loss": sk.log_loss(labels, said.score, sample_weight=w, labels=known),
        "accuracy": sk.accuracy_score(labels, said.prediction, sample_weight=w),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, said.prediction, sample_weight=w),
        "f1": sk.f1_score(labels, said.prediction, sample_weight=w, average="macro", labels=known, zero_division=0),
    }


def of_regression(labels: Array, said: Predictions, w: Array) -> dict[str, float]:
    return {
        "mae": sk.mean_absolute_error(labels, said.prediction, sample_weight=w),
        "rmse": sk.root_mean_squared_error(labels, said.prediction, sample_weight=w),
        "r2": sk.r2_score(labels, said.prediction, sample_weight=w),
        "pinball": sk.mean_pinball_loss(labels, said.prediction, sample_weight=w, alpha=QUANTILE),
    }


REFERENCE: dict[Task, Callable[[Array, Predictions, Array], dict[str, float]]] = {
    "binary": of_binary, "multiclass": of_multiclass, "regression": of_regression
}  # fmt: skip


def figures_with(task: Task, labels: Array, said: Predictions) -> Figures:
    return figures_of(task, labels, said, CLASSES[task], quantile=QUANTILE if task == "regression" else None)


def without(figures: dict[str, float], *names: str) -> dict[str, float]:
    return {name: value for name, value in figures.items() if name not in names}


def near(expected: dict[str, float]) -> Any:
    return pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)


# ---------------------------------------------------------------- figures


@pytest.mark.parametrize("task", ROWS)
@settings(max_examples=25)
@given(data=st.data())
def test_every_figure_is_that_of_scikit_learn_with_and_without_weights(task: Task, data: st.DataObject) -> None:
    """Ties, scores of 0 and 1 and rows of weight 0 included; only calibration_error has no counterpart there."""
    labels, said, weights = data.draw(ROWS[task])
    one = figures_with(task, labels, said)
    ones = np.ones(len(labels))
    assert without(one.weighted(), "calibration_error") == near(REFERENCE[task](labels, said, ones))
    assert without(one.weighted(weights), "calibration_error") == near(REFERENCE[task](labels, said, weights))
    assert one.weighted() == one.weighted(ones)


@pytest.mark.parametrize("task", ROWS)
@given(data=st.data())
def test_a_row_of_weight_three_is_a_row_that_is_there_three_times(task: Task, data: st.DataObject) -> None:
    """That makes a vector of counts a resample. (The bins of calibration_error stay those of the original rows.)"""
    labels, said, weights = data.draw(ROWS[task])
    times = np.repeat(np.arange(len(labels)), weights.astype(int))
    repeated = Predictions(said.prediction[times], None if said.score is None else said.score[times])
    weighted = figures_with(task, labels, said).weighted(weights)
    expected = figures_with(task, labels[times], repeated).weighted()
    assert without(weighted, "calibration_error") == near(without(expected, "calibration_error"))


@pytest.mark.parametrize("task", ROWS)
@given(data=st.data())
def test_neither_the_order_of_rows_nor_the_scale_of_weights_matters(task: Task, data: st.DataObject) -> None:
    labels, said, weights = data.draw(ROWS[task])
    order = np.array(data.draw(st.permutations(range(len(labels)))))
    shuffled = Predictions(said.prediction[order], None if said.score is None else said.score[order])
    found = figures_with(task, labels, said).weighted(weights)
    assert figures_with(task, labels[order], shuffled).weighted(weights[order]) == near(found)
    assert without(figures_with(task, labels, said).weighted(weights * 2), *COUNTS) == near(without(found, *COUNTS))


@pytest.mark.parametrize("task", ROWS)
@given(data=st.data())
def test_figures_are_exactly_the_metrics_of_the_task_and_the_confusion_counts(task: Task, data: st.DataObject) -> None:
    labels, said, _ = data.draw(ROWS[task])
    assert set(figures_with(task, labels, said).weighted()) == {*METRICS[task], *(COUNTS if task == "binary" else ())}


def test_without_a_quantile_there_is_no_pinball() -> None:
    assert set(RegressionFigures(np.array([0, 1]), Predictions(np.array([0.0, 0.0]), None), None).weighted()) == {
        "mae", "rmse", "r2"
    }  # fmt: skip


@given(binary_rows(), st.sampled_from([np.sqrt, np.square, lambda s: s / 2 + 0.25, np.arctan]))
def test_roc_auc_is_the_same_for_every_growing_function_of_the_score(
    rows: tuple[Array, Predictions, Array], grows: Callable[[Array], Array]
) -> None:
    labels, said, weights = rows
    assert said.score is not None
    score = np.round(said.score, 3)  # far enough apart to stay distinct
    found = [
        BinaryFigures(labels, Predictions(said.prediction, s), CLASSES["binary"]).weighted(weights)["roc_auc"]
        for s in (score, grows(score))
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-12)


@given(binary_rows())
def test_roc_auc_is_the_share_of_pairs_that_are_ordered_rightly(rows: tuple[Array, Predictions, Array]) -> None:
    labels, said, _ = rows
    assert said.score is not None
    yes, no = said.score[labels == "yes"], said.score[labels == "no"]
    pairs = np.sign(yes[:, None] - no[None, :]) / 2 + 0.5
    assert BinaryFigures(labels, said, CLASSES["binary"]).weighted()["roc_auc"] == pytest.approx(pairs.mean())


@pytest.mark.parametrize("classes", [(0, 1), (False, True), ("no", "yes"), (1, 2)], ids=str)
def test_the_last_class_is_the_positive_one_whatever_its_type(classes: tuple[Any, Any]) -> None:
    labels, predicted = (np.array(classes)[[0, 1, 1, 1]], np.array(classes)[[1, 1, 1, 0]])
    found = BinaryFigures(labels, Predictions(predicted, np.array([0.1, 0.9, 0.8, 0.7])), classes).weighted()
    assert [found[name] for name in COUNTS] == [2, 1, 1, 0]
    assert (found["roc_auc"], found["accuracy"]) == (1, 0.5)


def of_objects(values: list[str]) -> Array:
    return np.array(values, dtype=object)


def test_labels_and_predictions_may_be_text_of_different_kinds() -> None:
    """A column of a table comes as objects; an estimator predicts texts of a fixed width."""
    score = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]])
    labels, said = of_objects(["a", "b", "c"]), Predictions(np.array(["a", "b", "b"]), score)
    assert MulticlassFigures(labels, said, CLASSES["multiclass"]).weighted()["accuracy"] == pytest.approx(2 / 3)
    said = Predictions(np.array(["no", "yes", "yes"]), score[:, 1])
    assert BinaryFigures(of_objects(["no", "yes", "no"]), said, CLASSES["binary"]).weighted()["true_positives"] == 1


# ---------------------------------------------------------------- undefined figures


THIRDS = [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]]
#: id → (task, labels, predicted labels, scores, figures)
UNDEFINED: dict[str, tuple[Task, list[Any], list[Any], Any, dict[str, float]]] = {
    "only negatives": (
        "binary", ["no", "no"], ["no", "yes"], [0.2, 0.6],
        {"roc_auc": NAN, "average_precision": NAN, "precision": 0, "recall": 0, "f1": 0, "accuracy": 0.5,
         "brier": 0.2, "calibration_error": 0.4}),
    "only positives": (
        "binary", ["yes", "yes"], ["no", "yes"], [0.2, 0.6],
        {"roc_auc": NAN, "average_precision": 1, "precision": 1, "recall": 0.5, "f1": 2 / 3}),
    "nobody is predicted positive": (
        "binary", ["no", "yes"], ["no", "no"], [0.2, 0.6], {"precision": 0, "f1": 0, "roc_auc": 1}),
    "certain and wrong": ("binary", ["no", "yes"], ["yes", "no"], [1.0, 0.0], {"log_loss": 36.04365}),
    "a class is missing": (
        "multiclass", ["a", "b"], ["a", "b"], THIRDS,
        {"roc_auc": NAN, "accuracy": 1, "balanced_accuracy": 1, "f1": 2 / 3}),
    "one class of three": (
        "multiclass", ["a", "a"], ["a", "b"], THIRDS,
        {"roc_auc": NAN, "accuracy": 0.5, "balanced_accuracy": 0.5, "f1": 2 / 9}),
    "labels that do not vary": (
        "regression", [2, 2], [1.0, 3.0], None, {"r2": NAN, "mae": 1, "rmse": 1, "pinball": 0.5}),
}  # fmt: skip


@pytest.mark.parametrize(("task", "labels", "predicted", "score", "expected"), UNDEFINED.values(), ids=UNDEFINED)
def test_figure_that_is_undefined_is_nan_and_the_others_stand(
    task: Task, labels: list[Any], predicted: list[Any], score: Any, expected: dict[str, float]
) -> None:
    said = Predictions(np.array(predicted), None if score is None else np.array(score))
    found = figures_with(task, np.array(labels), said).weighted()
    assert {name: found[name] for name in expected} == pytest.approx(expected, nan_ok=True, rel=1e-6)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_without_any_weight_every_share_is_nan(task: Task) -> None:
    score = np.array([0.2, 0.6]) if task == "binary" else None
    labels: Array = np.array(["no", "yes"] if task == "binary" else [0.0, 1.0])
    found = figures_with(task, labels, Predictions(labels, score)).weighted(np.zeros(2))
    named = without(found, *COUNTS, "precision", "recall", "f1")
    assert named == pytest.approx(dict.fromkeys(named, NAN), nan_ok=True)


def test_area_of_weights_per_distinct_score() -> None:
    positive, negative = np.array([0.0, 1.0, 1.0]), np.array([2.0, 1.0, 0.0])
    assert area_under_roc(positive, negative) == pytest.approx((2 + 0.5 + 3) / 6)


# ---------------------------------------------------------------- calibration error

#: id → (scores, outcomes, weights or None, error by hand)
CALIBRATION: dict[str, tuple[list[float], list[int], list[int] | None, float]] = {
    "perfect": ([0.2] * 10 + [0.8] * 10, [1, 1, *[0] * 8, *[1] * 8, 0, 0], None, 0.0),
    "over-confident": ([0.1] * 10 + [0.9] * 10, [1, 0] * 10, None, 0.4),
    "right on average, wrong in each bin": ([0.2] * 5 + [0.8] * 5, [1, 1, 1, 0, 0, 1, 1, 0, 0, 0], None, 0.4),
    "too high by a fixed amount": ([0.6] * 10, [1, 1, 1, 1, 1, 0, 0, 0, 0, 0], None, 0.1),
    "the wrong rows weigh nothing": ([0.0, 0.0, 1.0, 1.0], [0, 1, 1, 0], [1, 0, 1, 0], 0.0),
    "the wrong rows weigh three times": ([0.0, 0.0, 1.0, 1.0], [0, 1, 1, 0], [1, 3, 1, 3], 0.75),
    "one row": ([0.3], [1], None, 0.7),
}


@pytest.mark.parametrize(("score", "happened", "weights", "error"), CALIBRATION.values(), ids=CALIBRATION)
def test_calibration_error_is_the_mean_gap_between_what_was_said_and_what_happened(
    score: list[float], happened: list[int], weights: list[int] | None, error: float
) -> None:
    one = BinaryFigures(np.array(happened), Predictions(np.array(happened), np.array(score)), (0, 1))
    found = one.weighted(None if weights is None else np.array(weights, dtype=float))
    assert found["calibration_error"] == pytest.approx(error)


def test_calibration_error_of_many_classes_is_that_of_the_most_probable_one() -> None:
    """Whatever the predicted label: a version may have been given other ones."""
    score = np.array([[0.7, 0.2, 0.1]] * 10)
    labels = np.array(["a"] * 5 + ["b"] * 5)
    found = MulticlassFigures(labels, Predictions(np.array(["b"] * 10), score), CLASSES["multiclass"]).weighted()
    assert found["calibration_error"] == pytest.approx(0.2)


def test_outcomes_drawn_with_the_probabilities_said_are_nearly_calibrated() -> None:
    draws = np.random.default_rng(1)
    score = draws.uniform(size=20_000)
    happened = (draws.uniform(size=score.size) < score).astype(int)
    errors = [
        BinaryFigures(happened, Predictions(happened, s), (0, 1)).weighted()["calibration_error"]
        for s in (score, score**3)
    ]
    assert errors[0] < 0.02
    assert errors[1] == pytest.approx(float((score - score**3).mean()), abs=0.02)


@given(st.lists(score_values, min_size=1, max_size=60), st.integers(1, 12))
def test_bins_grow_with_the_score_and_equal_scores_share_one(values: list[float], count: int) -> None:
    score = np.array(values)
    bins = equal_bins(score, count)
    assert bins.shape == score.shape
    assert 0 <= bins.min() <= bins.max() < count
    order = np.argsort(score, kind="stable")
    assert (np.diff(bins[order]) >= 0).all()
    assert all(len(set(bins[score == s])) == 1 for s in score)


def test_bins_of_distinct_scores_hold_equally_many_rows() -> None:
    score = np.random.default_rng(2).permutation(100) / 100
    assert np.bincount(equal_bins(score)).tolist() == [10] * 10
    assert equal_bins(np.empty(0)).tolist() == []


def test_score_on_the_edge_of_two_bins_belongs_to_the_upper_one() -> None:
    assert equal_bins(np.arange(3.0), 2).tolist() == [0, 1, 1]


# ---------------------------------------------------------------- resamples


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_each_resample_draws_as_many_rows_as_there_are_and_the_seed_decides_which(n: int, seed: int) -> None:
    drawn = list(resampled_weights(n, 5, seed=seed))
    assert len(drawn) == 5
    for w in drawn:
        assert w.shape == (n,)
        assert w.sum() == n
        assert (w >= 0).all()
        assert (w == w.round()).all()
    again = list(resampled_weights(n, 5, seed=seed))
    assert all((a == b).all() for a, b in zip(drawn, again, strict=True))


def test_another_seed_draws_otherwise_and_so_does_every_resample() -> None:
    one, other = (np.array(list(resampled_weights(50, 4, seed=seed))) for seed in (1, 2))
    assert len({tuple(w) for w in (*one, *other)}) == 8


def test_every_row_is_drawn_once_on_average() -> None:
    drawn = np.array(list(resampled_weights(8, 4_000, seed=3)))
    assert drawn.mean(axis=0) == pytest.approx(np.ones(8), abs=0.06)
    assert drawn.var(axis=0) == pytest.approx(np.full(8, 7 / 8), abs=0.1)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 100))
def test_rows_of_a_unit_are_drawn_together_and_as_many_units_as_there_are(values: list[int], seed: int) -> None:
    units = np.unique(values, return_inverse=True)[1]
    for w in resampled_weights(len(units), 4, seed=seed, units=units):
        per_unit = [set(w[units == u].tolist()) for u in range(units.max() + 1)]
        assert all(len(counts) == 1 for counts in per_unit)
        assert sum(counts.pop() for counts in per_unit) == units.max() + 1


def test_units_of_one_row_each_are_drawn_like_rows() -> None:
    by_unit = np.array(list(resampled_weights(20, 3, seed=5, units=np.arange(20))))
    assert (by_unit == np.array(list(resampled_weights(20, 3, seed=5)))).all()


def test_units_of_equal_size_give_resamples_of_the_same_number_of_rows() -> None:
    units = np.repeat(np.arange(6), 4)
    assert {w.sum() for w in resampled_weights(24, 20, seed=0, units=units)} == {24.0}


class Recorded:
    """Figures whose figure is the weight of its first row, and that keeps every vector it was asked with."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def weighted(self, weights: Array | None = None) -> dict[str, float]:
        assert weights is not None
        self.seen.append(weights.tolist())
        return {"first": float(weights[0]), "rows": float(weights.sum())}


def test_all_subjects_are_measured_under_the_same_resamples() -> None:
    one, other = Recorded(), Recorded()
    weights = [np.array([n, 2.0]) for n in range(3)]
    found = bootstrap({"one": one, "other": other}, {"one": ["first", "rows"], "other": ["rows"]}, iter(weights))
    assert one.seen == other.seen == [[0.0, 2.0], [1.0, 2.0], [2.0, 2.0]]
    assert {s: {name: v.tolist() for name, v in figures.items()} for s, figures in found.items()} == {
        "one": {"first": [0, 1, 2], "rows": [2, 3, 4]}, "other": {"rows": [2, 3, 4]}
    }  # fmt: skip


@pytest.mark.parametrize("task", ROWS)
@settings(max_examples=10)
@given(data=st.data())
def test_a_subject_differs_from_itself_by_nothing_in_every_resample(task: Task, data: st.DataObject) -> None:
    labels, said, _ = data.draw(ROWS[task])
    one, other = figures_with(task, labels, said), figures_with(task, labels, said)
    names = list(METRICS[task])
    drawn = bootstrap({"a": one, "b": other}, {"a": names, "b": names}, resampled_weights(len(labels), 8, seed=0))
    for name in names:
        gaps = drawn["a"][name] - drawn["b"][name]
        assert gaps.shape == (8,)
        assert set(gaps[~np.isnan(gaps)].tolist()) <= {0.0}


def test_difference_of_two_subjects_that_err_on_the_same_rows_is_known_better_than_either() -> None:
    """That is what pairing is for."""
    draws = np.random.default_rng(4)
    labels = draws.normal(0, 10, 200)
    noise = draws.normal(0, 3, 200)
    subjects = {
        name: RegressionFigures(labels, Predictions(labels + noise + shift, None), None)
        for name, shift in {"one": 0.0, "other": 0.3}.items()
    }
    drawn = bootstrap(subjects, {"one": ["rmse"], "other": ["rmse"]}, resampled_weights(200, 200, seed=0))
    assert np.std(drawn["one"]["rmse"] - drawn["other"]["rmse"]) < np.std(drawn["one"]["rmse"]) / 4


# ---------------------------------------------------------------- intervals

#: So many units that the tails are those of the normal distribution.
MANY = 10**9


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95, 0.99])
def test_fewer_units_make_an_interval_wider_and_many_leave_the_percentiles(confidence: float) -> None:
    tails = [tail_of(confidence, units) for units in (5, 10, 14, 28, 100, 1000)]
    assert tails == sorted(tails)
    assert all(0 < tail < (1 - confidence) / 2 for tail in tails)
    assert tail_of(confidence, MANY) == pytest.approx((1 - confidence) / 2)


def test_interval_of_the_mean_of_a_few_normal_values_is_that_of_students_t() -> None:
    """The case that has an exact answer: the mean of ten values, whose bootstrap is about normal."""
    values = np.random.default_rng(0).normal(size=10)
    means = np.array([w @ values / w.sum() for w in resampled_weights(10, 20_000, seed=1)])
    low, high = interval(means, 0.95, units=10)
    half = 2.262 * values.std(ddof=1) / 10**0.5
    assert (high - low) / 2 == pytest.approx(half, rel=0.08)


@pytest.mark.parametrize(
    ("values", "confidence", "expected"),
    [
        (list(range(101)), 0.9, (5, 95)),
        (list(range(101)), 0.5, (25, 75)),
        ([3.0] * 7, 0.95, (3, 3)),
        ([5.0], 0.95, (5, 5)),
        ([NAN, *range(101), NAN, NAN], 0.9, (5, 95)),
        ([NAN, 2.0], 0.95, (2, 2)),
        ([NAN, NAN], 0.95, (NAN, NAN)),
    ],
    ids=["90 %", "50 %", "all equal", "one value", "undefined ones between", "one is defined", "all undefined"],
)
def test_interval_lies_between_the_percentiles_and_leaves_undefined_resamples_out(
    values: list[float], confidence: float, expected: tuple[float, float]
) -> None:
    assert interval(np.array(values, dtype=float), confidence, units=MANY) == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.floats(0.5, 0.98), st.floats(0.001, 0.01))
def test_more_confidence_never_narrows_an_interval(values: list[float], confidence: float, more: float) -> None:
    (low, high), (lower, higher) = (interval(np.array(values), c, units=MANY) for c in (confidence, confidence + more))
    assert lower <= low <= high <= higher


def test_interval_of_95_percent_covers_the_truth_about_95_times_of_100() -> None:
    """A classifier that is right in 70 of 100 cases, on 150 samples of 80 rows."""
    covered = 0
    for sample in range(150):
        right = np.random.default_rng(sample).uniform(size=80) < 0.7
        said = Predictions(right.astype(int), np.full(80, 0.5))
        one = BinaryFigures(np.ones(80, dtype=int), said, (0, 1))
        drawn = bootstrap({"x": one}, {"x": ["accuracy"]}, resampled_weights(80, 120, seed=1_000 + sample))
        low, high = interval(drawn["x"]["accuracy"], 0.95, units=80)
        covered += low <= 0.7 <= high
    assert 0.88 <= covered / 150 <= 0.99


@pytest.mark.parametrize(
    ("weights", "coverage", "width"),
    [(None, 3 / 5, 2.4), ([1, 1, 0, 0, 0], 1.0, 2.0), ([0, 0, 0, 2, 2], 0.0, 2.5), ([0, 2, 0, 1, 1], 1 / 2, 2.25),
     ([0] * 5, NAN, NAN)],
    ids=["each once", "those within", "those outside", "some often", "none"],
)  # fmt: skip
def test_coverage_is_the_share_of_labels_within_ends_included_and_width_their_mean_distance(
    weights: list[int] | None, coverage: float, width: float
) -> None:
    labels = np.array([1.0, 3.0, 2.0, 3.5, -1.0])
    said = Predictions(np.full(5, 2.0), None, np.array([1.0, 1.0, 0.0, 1.0, 0.0]), np.array([3.0, 3.0, 3.0, 3.0, 3.0]))
    found = RegressionFigures(labels, said, None).weighted(None if weights is None else np.array(weights, dtype=float))
    assert (found["interval_coverage"], found["interval_width"]) == pytest.approx((coverage, width), nan_ok=True)
    assert "interval_coverage" not in RegressionFigures(labels, Predictions(said.prediction, None), None).weighted()

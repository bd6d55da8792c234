"""A pipeline transforms once, and what is published is what its predict() says, to the last bit."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier, SGDClassifier
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from ponte.errors import PonteError, UnpredictableRows
from ponte.storage.columns import Column
from ponte.versions.predicting import Output, last_step, predict, says_the_most_probable, score_column
from ponte.versions.signature import Signature, to_frame

FEATURES = (Column(name="a", family="number"), Column(name="b", family="integer"), Column(name="c", family="text"))
SIGNATURE = Signature(key=(), features=FEATURES, label="text")
DRAWS = np.random.default_rng(5)
SIZE = 400
ROWS = pa.table(
    {"a": DRAWS.normal(size=SIZE).round(1), "b": DRAWS.integers(0, 3, SIZE), "c": DRAWS.choice(["x", "y"], SIZE)}
)
FRAME = to_frame(ROWS, FEATURES)
VALUE = FRAME["a"] + FRAME["b"] + (FRAME["c"] == "x") + DRAWS.normal(size=SIZE)
LABELS = {
    "binary": np.where(VALUE > 1.5, "yes", "no").astype(object),
    "multiclass": np.array(["low", "mid", "top"], dtype=object)[np.digitize(VALUE, [0.8, 2.2])],
}
CLASSES = {"binary": ("no", "yes"), "multiclass": ("low", "mid", "top")}


def columns() -> Any:
    return make_column_transformer((OneHotEncoder(sparse_output=False), ["c"]), (StandardScaler(), ["a", "b"]))


class Contrary(LogisticRegression):
    """Its predict() is its own."""

    def predict(self, X: Any) -> Any:  # noqa: N803
        return self.classes_[::-1][self.predict_proba(X).argmax(axis=1)]


ESTIMATORS: dict[str, Any] = {
    "logistic": LogisticRegression(max_iter=500),
    "contrary": Contrary(max_iter=500),
    "boosting": HistGradientBoostingClassifier(max_iter=5),
    # Few leaves, few trees, even numbers of them: equal probabilities abound.
    "forest": RandomForestClassifier(4, max_depth=2, random_state=0),
    "extra trees": ExtraTreesClassifier(2, max_depth=None, random_state=0),
    "tree": DecisionTreeClassifier(max_depth=2),
    "gradient": GradientBoostingClassifier(n_estimators=3),
    "neighbours": KNeighborsClassifier(4),
    "bayes": GaussianNB(),
    "one against the rest": OneVsRestClassifier(LogisticRegression()),
    "sgd": SGDClassifier(loss="modified_huber", random_state=0),
    "calibrated": CalibratedClassifierCV(LinearSVC(), ensemble=False),
    "search": GridSearchCV(LogisticRegression(), {"C": [1.0]}),
    "no probabilities": RidgeClassifier(),
    "no probabilities either": Perceptron(),
}


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_labels_and_scores_are_those_of_the_estimator_itself(name: str, task: Any) -> None:
    inside = make_pipeline("passthrough", make_pipeline(columns(), None), ESTIMATORS[name])
    for estimator in (make_pipeline(columns(), ESTIMATORS[name]), inside):
        estimator.fit(FRAME, LABELS[task])
        got = predict(estimator, ROWS, SIGNATURE, Output(task=task, classes=CLASSES[task]))
        assert got.prediction.dtype == estimator.predict(FRAME).dtype
        assert got.prediction.tolist() == estimator.predict(FRAME).tolist()
        if name.startswith("no"):
            assert (got.score, score_column(got)) == (None, None)
        else:
            own = estimator.predict_proba(FRAME)
            np.testing.assert_array_equal(got.score, own[:, 1] if task == "binary" else own)


def test_threshold_inside_the_estimator_is_kept() -> None:
    estimator = FixedThresholdClassifier(LogisticRegression(), threshold=0.9, pos_label="yes")
    estimator = make_pipeline(columns(), estimator).fit(FRAME, LABELS["binary"])
    got = predict(estimator, ROWS, SIGNATURE, Output(task="binary", classes=CLASSES["binary"]))
    assert got.prediction.tolist() == estimator.predict(FRAME).tolist()
    assert got.score is not None
    assert ((got.score > 0.5) != (got.prediction == "yes")).any()


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("scale", [0.0, 1e-18, 1e-9, 1e4], ids=["all equal", "by a bit", "nearly", "saturated"])
def test_ties_are_decided_by_the_estimator(task: Any, scale: float) -> None:
    """A logistic regression says no at a decision of nought, and of two classes that are nought apart the first."""
    estimator = LogisticRegression(max_iter=500).fit(FRAME[["a", "b"]], LABELS[task])
    estimator.coef_, estimator.intercept_ = estimator.coef_ * scale, estimator.intercept_ * 0
    signature = Signature(key=(), features=FEATURES[:2], label="text")
    got = predict(estimator, ROWS, signature, Output(task=task, classes=CLASSES[task]))
    assert got.prediction.tolist() == estimator.predict(FRAME[["a", "b"]]).tolist()


def test_boosting_that_knows_nothing_says_the_first_class() -> None:
    rows, labels = pa.table({"a": [1.0] * 4}), np.array(["no", "yes"] * 2, dtype=object)
    signature = Signature(key=(), features=FEATURES[:1], label="text")
    estimator = HistGradientBoostingClassifier(max_iter=1).fit(to_frame(rows, FEATURES[:1]), labels)
    got = predict(estimator, rows, signature, Output(task="binary", classes=("no", "yes")))
    assert (got.prediction.tolist(), got.score.tolist()) == (["no"] * 4, [0.5] * 4)


def test_highest_probability_is_taken_for_the_label_only_where_that_is_certain() -> None:
    clear, close = np.array([[0.4, 0.6], [0.9, 0.1]]), np.array([[0.9, 0.1], [0.5 + 1e-15, 0.5 - 1e-15]])
    same = np.array([[0.4, 0.4, 0.2]])
    for certain in (LogisticRegression(), HistGradientBoostingClassifier()):
        assert [says_the_most_probable(certain, p) for p in (clear, close, same)] == [True, False, False]
        # Single precision rounds more.
        near = np.array([[0.500001, 0.499999]])
        assert [says_the_most_probable(certain, p) for p in (near, near.astype(np.float32))] == [True, False]
    for exact in (RandomForestClassifier(), ExtraTreesClassifier(), CalibratedClassifierCV()):
        assert [says_the_most_probable(exact, p) for p in (clear, close, same)] == [True, True, True]
    for other in (Contrary(), GaussianNB(), GridSearchCV(LogisticRegression(), {}), FrozenEstimator(Perceptron())):
        assert not says_the_most_probable(other, clear)


class Counting(TransformerMixin, BaseEstimator):
    """Counts how often it transforms; nothing about it says that it was fitted."""

    calls = 0

    def fit(self, _: Any, y: Any = None) -> Counting:
        return self

    def transform(self, features: Any) -> Any:
        Counting.calls += 1
        return features[["a", "b"]]


@pytest.mark.parametrize(
    "last", [GaussianNB(), LogisticRegression(), RidgeClassifier()], ids=lambda e: type(e).__name__
)
def test_a_pipeline_transforms_once(last: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = make_pipeline(Counting(), last).fit(FRAME, LABELS["binary"])
    monkeypatch.setattr(Counting, "calls", 0)
    predict(estimator, ROWS, SIGNATURE, Output(task="binary", classes=CLASSES["binary"]))
    assert Counting.calls == 1


def test_a_pipeline_of_another_class_is_asked_itself() -> None:
    class Own(Pipeline):
        pass

    own = Own([("columns", columns()), ("last", GaussianNB())])
    last, features = last_step(own, FRAME)
    assert last is own
    assert features is FRAME


def test_pipeline_that_was_not_fitted_says_so() -> None:
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError, match="Pipeline"):
        predict(make_pipeline(Counting(), GaussianNB()), ROWS, SIGNATURE, Output(task="binary"))


# ---------------------------------------------------------------- rows that cannot be predicted

NAN, INF = float("nan"), float("inf")
FIVE = pa.table({"a": [0.0] * 5, "b": [1] * 5, "c": ["x"] * 5})
FINE2, FINE3 = [0.4, 0.6], [0.2, 0.3, 0.5]
REGRESSION, BINARY = Output(task="regression"), Output(task="binary", classes=("no", "yes"))
THREE = Output(task="multiclass", classes=("low", "mid", "top"))


class Fixed(ClassifierMixin, BaseEstimator):
    """Says what it was told to."""

    def __init__(self, labels: Any = None, probabilities: Any = None) -> None:
        self.labels, self.probabilities = labels, probabilities
        if probabilities is not None:
            self.predict_proba = lambda _: probabilities

    def predict(self, _: Any) -> Any:
        return self.labels


ROWS_OF: dict[str, tuple[Output, Fixed, list[int], str]] = {
    "regression, NaN and infinity": (
        REGRESSION, Fixed([1.0, NAN, 2.0, -INF, 3.0]), [1, 3], "predict() returned NaN or infinity\n  got: 2 of 5"),
    "one NaN of a row": (
        BINARY, Fixed(None, [FINE2, FINE2, [NAN, 0.5], FINE2, FINE2]), [2],
        "predict_proba() returned NaN or infinity\n  got: 1 of 10"),
    "over one": (
        BINARY, Fixed(None, [[-0.5, 1.5], *[FINE2] * 4]), [0], "a score is no probability\n  got: -0.5 to 1.5"),
    "no sum": (
        BINARY, Fixed(None, [*[FINE2] * 4, [0.2, 0.2]]), [4],
        "the probabilities of a row do not sum to 1\n  got: a row sums to 0.4"),
    "each reason once, told at once": (
        THREE, Fixed(None, [[NAN] * 3, FINE3, [-0.5, 0.5, 1.0], FINE3, [0.5, 0.5, 0.5]]), [0, 2, 4],
        "predict_proba() returned NaN or infinity\n  got: 3 of 15"),
    "infinities that cancel out": (
        BINARY, Fixed(None, [FINE2, FINE2, [INF, -INF], FINE2, FINE2]), [2],
        "predict_proba() returned NaN or infinity\n  got: 2 of 10"),
    "labels without probabilities": (
        BINARY, Fixed([0.0, 1.0, NAN, 1.0, NAN]), [2, 4], "predict() returned NaN or infinity\n  got: 2 of 5"),
    "all": (THREE, Fixed(None, [[1.0, 1.0, 1.0]] * 5), [0, 1, 2, 3, 4], "the probabilities of a row do not sum"),
}  # fmt: skip


@pytest.mark.parametrize(("output", "estimator", "rows", "said"), ROWS_OF.values(), ids=ROWS_OF)
def test_rows_without_a_usable_prediction_are_named(
    output: Output, estimator: Fixed, rows: list[int], said: str
) -> None:
    with pytest.raises(UnpredictableRows) as caught:
        predict(estimator, FIVE, SIGNATURE, output)
    assert str(caught.value).startswith(said)
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):  # noqa: S301 - made here
        assert (error.rows.dtype, error.rows.shape) == (np.bool_, (5,))
        assert np.flatnonzero(error.rows).tolist() == rows
        assert str(error) == str(caught.value)


def test_the_other_rows_can_be_predicted() -> None:
    probabilities = np.array([[NAN] * 3, FINE3, [-0.5, 0.5, 1.0], FINE3, [0.5, 0.5, 0.5]])
    with pytest.raises(UnpredictableRows) as caught:
        predict(Fixed(None, probabilities), FIVE, SIGNATURE, THREE)
    kept = ~caught.value.rows
    got = predict(Fixed(["top"] * 2, probabilities[kept]), FIVE.filter(pa.array(kept)), SIGNATURE, THREE)
    assert got.prediction.tolist() == ["top", "top"]


@pytest.mark.parametrize(
    ("output", "estimator", "method", "outputs"),
    [
        (REGRESSION, Fixed(np.ones((5, 2))), "predict()", 2),
        (BINARY, Fixed(np.ones((5, 3))), "predict()", 3),
        (BINARY, Fixed(None, [[FINE2] * 5, [FINE2] * 5]), "predict_proba()", 2),
    ],
    ids=["values", "labels", "probabilities"],
)
def test_several_outputs_are_called_so_and_are_no_matter_of_rows(
    output: Output, estimator: Fixed, method: str, outputs: int
) -> None:
    with pytest.raises(PonteError) as caught:
        predict(estimator, FIVE, SIGNATURE, output)
    assert type(caught.value) is PonteError
    what = f"{method} returned the wrong shape: {outputs} outputs per row, those of a multi-output estimator"
    assert (caught.value.what, str(caught.value).splitlines()[-1]) == (
        what, "  next: let the estimator predict one value per row; other targets are models of their own",
    )  # fmt: skip


def test_frame_of_the_estimator_is_that_of_the_rule_of_its_signature() -> None:
    class Seen(Fixed):
        def predict(self, features: pd.DataFrame) -> Any:
            return [float(str(features["b"].dtype) == "int64")] * len(features)

    for types, expected in ((1, 1.0), (2, 0.0)):
        signature = Signature(key=(), features=FEATURES, label="number", types=types)
        assert predict(Seen(), ROWS, signature, REGRESSION).prediction[0] == expected

"""An estimator that looks at the rows beside a row is refused in training: a batch is scored in chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from ponte.errors import TrainingRefused
from ponte.storage.columns import Column
from ponte.training.splits import require_same_in_pieces
from ponte.versions.predicting import Fitted, Output, Predictions, differing
from ponte.versions.signature import Signature, categories_of, frame_of

SIZE = 200
DRAWS = np.random.default_rng(11)
ROWS = pa.table({"a": DRAWS.normal(size=SIZE), "plan": DRAWS.choice(["gold", "basic", "old"], SIZE)})
COLUMNS = (Column(name="a", family="number"), Column(name="plan", family="text"))
SIGNATURE = Signature(key=(), features=COLUMNS, label="integer", types=4, categories=categories_of(ROWS, COLUMNS))
OF_CHUNK = Signature(key=(), features=COLUMNS, label="integer", types=2)
LABELS = (ROWS.column("a").to_numpy() + DRAWS.normal(size=SIZE) > 0).astype(int)
BINARY, REGRESSION = Output(task="binary", classes=(0, 1)), Output(task="regression")


def ranks(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["a"]].rank(pct=True)


def less_the_mean(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["a"]] - rows[["a"]].mean()


def codes(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(plan=rows["plan"].cat.codes)


def twins(rows: pd.DataFrame) -> pd.DataFrame:
    """Only rows that have a twin right beside them are others without it."""
    return rows[["a"]].assign(twice=rows["a"].duplicated(keep=False).astype(float))


def at_least_two(rows: pd.DataFrame) -> pd.DataFrame:
    if len(rows) < 2:
        raise ValueError("needs 2 rows, secret gold")
    return rows[["a"]]


def single(rows: pd.DataFrame) -> Any:
    return rows[["a"]].to_numpy(dtype=np.float32)


def encoded() -> Any:
    return make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["plan"]), (StandardScaler(), ["a"]))


def fitted_of(step: Any, last: Any, output: Output, signature: Signature = SIGNATURE) -> Fitted:
    pipeline = make_pipeline(FunctionTransformer(step) if callable(step) else step, last)
    return Fitted(pipeline.fit(frame_of(ROWS, signature), LABELS), output)


@pytest.mark.parametrize(
    ("step", "last", "output", "signature"),
    [
        (encoded(), LogisticRegression(), BINARY, SIGNATURE),
        (encoded(), LinearRegression(), REGRESSION, SIGNATURE),
        (encoded(), RidgeClassifier(), BINARY, SIGNATURE),
        (codes, RandomForestRegressor(3), REGRESSION, SIGNATURE),
        (
            "passthrough",
            HistGradientBoostingClassifier(max_iter=3, categorical_features="from_dtype"),
            BINARY,
            SIGNATURE,
        ),
        (encoded(), LogisticRegression(), Output(task="binary", classes=(0, 1), threshold=0.3), OF_CHUNK),
    ],
    ids=["logistic", "linear", "no scores", "codes under rule 4", "boosting", "rule 2"],
)
def test_usual_estimators_pass(step: Any, last: Any, output: Output, signature: Signature) -> None:
    require_same_in_pieces(fitted_of(step, last, output, signature), ROWS, signature, where="here")


@pytest.mark.parametrize(
    ("step", "last", "output", "signature", "said"),
    [
        (
            ranks,
            LogisticRegression(),
            BINARY,
            SIGNATURE,
            ["halved: ", "apart", "30 rows one by one: 30 rows differ, by"],
        ),
        (less_the_mean, LinearRegression(), REGRESSION, SIGNATURE, ["halved: 200 rows differ, by up to 0.0"]),
        (ranks, RidgeClassifier(), BINARY, SIGNATURE, ["one by one: ", "rows differ, in their labels"]),
        (codes, RandomForestRegressor(3, random_state=0), REGRESSION, OF_CHUNK, ["reversed: ", "one by one: "]),
        (at_least_two, LogisticRegression(), BINARY, SIGNATURE, ["30 of 30 pieces raise ValueError"]),
    ],
    ids=["ranks", "mean", "labels", "codes under rule 2", "not alone"],
)
def test_estimator_that_looks_at_its_whole_frame_is_refused_with_split_rows_and_difference(
    step: Any, last: Any, output: Output, signature: Signature, said: list[str]
) -> None:
    with pytest.raises(TrainingRefused, match="depends on the rows beside it") as caught:
        require_same_in_pieces(fitted_of(step, last, output, signature), ROWS, signature, where="model m, snapshot 1")
    message = str(caught.value)
    assert "where: model m, snapshot 1, 200 rows of the holdout" in message
    assert "next: let no step look at its whole input" in message
    assert "secret" not in message
    for part in said:
        assert part in message


def test_two_rows_that_know_of_each_other_are_found_wherever_they_lie() -> None:
    """No half parts them, no order changes them, and neither is among the rows that are asked alone."""
    values = DRAWS.normal(size=SIZE)
    values[5] = values[4]
    rows = pa.table({"a": values, "plan": ROWS.column("plan")})
    pipeline = make_pipeline(FunctionTransformer(twins), LinearRegression())
    pipeline.fit(frame_of(rows, SIGNATURE), LABELS)
    with pytest.raises(TrainingRefused) as caught:
        require_same_in_pieces(Fitted(pipeline, REGRESSION), rows, SIGNATURE, where="here")
    assert "got: every row apart from its neighbours: 2 rows differ" in str(caught.value)


class Noisy(RegressorMixin, ClassifierMixin, BaseEstimator):
    """Its figures depend on the number of rows, by a share."""

    def __init__(self, share: float, kind: type = np.float64, base: float = 0.25) -> None:
        self.share, self.kind, self.base = share, kind, base

    def fit(self, rows: Any, labels: Any) -> Noisy:
        self.fitted_ = True
        self.classes_ = np.array([0, 1])
        return self

    def _value(self, rows: Any) -> Any:
        return np.full(len(rows), self.base * (1 + (self.share if len(rows) < SIZE else 0.0))).astype(self.kind)

    def predict(self, rows: Any) -> Any:
        return self._value(rows)

    def predict_proba(self, rows: Any) -> Any:
        one = self._value(rows)
        return np.column_stack([1 - one, one])


@pytest.mark.parametrize("task", ["regression", "binary"])
@pytest.mark.parametrize(
    ("share", "kind", "same"),
    [(1e-10, np.float64, True), (1e-8, np.float64, False), (3e-6, np.float32, True), (1e-4, np.float32, False)],
)
def test_same_means_up_to_roundings_of_the_estimators_own_precision(
    task: Any, share: float, kind: type, same: bool
) -> None:
    output = REGRESSION if task == "regression" else Output(task="binary", classes=(0, 1), threshold=0.5)
    fitted = Fitted(Noisy(share, kind, 1 / 3 if kind is np.float64 else 0.25).fit(None, None), output)
    if same:
        require_same_in_pieces(fitted, ROWS, SIGNATURE, where="here")
    else:
        with pytest.raises(TrainingRefused, match="halved: 200 rows differ"):
            require_same_in_pieces(fitted, ROWS, SIGNATURE, where="here")


def said(labels: list[Any], scores: Any) -> Predictions:
    return Predictions(np.array(labels), None if scores is None else np.array(scores, dtype=float))


@pytest.mark.parametrize(
    ("output", "then", "now", "differ"),
    [
        (BINARY, said([0, 1], [0.5, 0.7]), said([1, 1], [0.5 + 1e-12, 0.7]), [False, False]),
        (BINARY, said([0, 1], [0.1 / 0.3, 0.7]), said([1, 1], [0.1 / 0.3, 0.7]), [True, False]),
        (
            Output(task="binary", classes=(0, 1), threshold=0.1),
            said([0, 1], [0.1 - 1e-12, 0.5]), said([1, 0], [0.1 + 1e-12, 0.5]), [False, True],
        ),
        (
            Output(task="multiclass", classes=(0, 1, 2)),
            said([0, 0], [[0.4, 0.4, 0.2], [0.1 + 0.2, 0.25, 0.45]]),
            said([1, 2], [[0.4, 0.4, 0.2], [0.1 + 0.2, 0.25, 0.45]]), [False, True],
        ),
        (BINARY, said(["a", "b"], None), said(["a", "a"], None), [False, True]),
        (REGRESSION, said([1 / 3, 1e-13], None), said([1 / 3 + 1e-11, 0.0], None), [False, False]),
    ],
    ids=["at a half", "far from it", "at the threshold", "tie of two classes", "labels alone", "figures"],
)  # fmt: skip
def test_a_label_may_be_another_one_only_where_its_score_is_at_the_threshold_or_a_tie(
    output: Output, then: Predictions, now: Predictions, differ: list[bool]
) -> None:
    assert differing(then, now, output).tolist() == differ
    changed = then.prediction != now.prediction
    if then.score is not None and now.score is not None:
        changed = changed | (then.score != now.score).reshape(2, -1).any(axis=1)
    assert differing(then, now, output, exactly=True).tolist() == changed.tolist()

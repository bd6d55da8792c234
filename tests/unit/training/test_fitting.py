"""Fitting learns from the first part alone, calibration and threshold from the second, and the seed decides all."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.naive_bayes import GaussianNB

from ponte.model.spec import ModelSpec
from ponte.model.toml import parse_spec
from ponte.snapshots.parts import Part, Parts
from ponte.storage.columns import Column
from ponte.training.fitting import best_threshold, fit
from ponte.versions.predicting import Output, predict
from ponte.versions.signature import Signature, to_frame

#: The positive class is 1.
TWO = Output(task="binary", classes=(0, 1))
FEATURES = (Column(name="a", family="number"), Column(name="b", family="number"))
SIGNATURE = Signature(key=(Column(name="id", family="integer"),), features=FEATURES, label="integer")


def spec_of(training: str = "", task: str = "binary") -> ModelSpec:
    metric = 'metric = "mae"\nmaximum = 9' if task == "regression" else 'metric = "roc_auc"\nminimum = 0.6'
    windows = "calibration_windows = 1\n" if "calibration" in training or '"' in training else ""
    text = f'description = "d"\nowner = "o"\ntask = "{task}"\nkey = ["id"]\n[gate]\n{metric}\n'
    return parse_spec(f"{text}[training]\n{windows}{training}\n", model="churn")


def part_of(seed: int, rows: int, names: tuple[Any, ...] = (0, 1)) -> Part:
    """Return rows whose label follows from feature `a`, roughly; `b` says nearly the same, so naive Bayes is too sure.

    `id` tells the part: it is `seed` times 1000 and counting.
    """
    draws = np.random.default_rng(seed)
    a = draws.normal(size=rows)
    noise = draws.normal(0, 1.2, size=rows)
    labels = np.array(names)[np.digitize(a + noise, np.linspace(-1, 1, len(names) + 1)[1:-1])]
    columns = {"id": np.arange(rows) + 1_000 * seed, "a": a, "b": a + draws.normal(0, 0.1, size=rows), "label": labels}
    table = pa.table(columns)
    return Part(rows=table, features=to_frame(table, FEATURES), labels=labels)


def parts_of(names: tuple[Any, ...] = (0, 1), calibration_rows: int = 150) -> Parts:
    return Parts(
        fitting=part_of(1, 200, names),
        calibration=part_of(2, calibration_rows, names),
        holdout=part_of(3, 120, names),
        purged_rows=0,
    )


PARTS = parts_of()


def forest() -> Any:
    return RandomForestClassifier(5, max_depth=4)


def holdout_scores(spec: ModelSpec, estimator: Any, parts: Parts = PARTS) -> np.ndarray[Any, Any]:
    fitted = fit(spec, estimator, parts)
    score = predict(fitted.estimator, parts.holdout.rows, SIGNATURE, fitted.output).score
    assert score is not None
    return score


# ---------------------------------------------------------------- what sees which rows


class Recording(ClassifierMixin, BaseEstimator):
    """A classifier that keeps, in the list it was given, which values of `a` each method saw."""

    def __init__(self, seen: Any = None) -> None:
        self.seen = seen

    def fit(self, features: pd.DataFrame, labels: Any) -> Recording:
        self.seen.append(("fit", tuple(features["a"]), tuple(labels)))
        self.classes_ = np.unique(labels)
        return self

    def predict(self, features: pd.DataFrame) -> Any:
        self.seen.append(("predict", tuple(features["a"]), ()))
        return self.classes_[(features["a"] > 0).astype(int)]

    def predict_proba(self, features: pd.DataFrame) -> Any:
        self.seen.append(("predict_proba", tuple(features["a"]), ()))
        positive = 1 / (1 + np.exp(-features["a"].to_numpy()))
        return np.column_stack([1 - positive, positive])


TRAININGS = {
    "plain": "",
    "a number as threshold": "threshold = 0.3",
    "sigmoid": 'calibration = "sigmoid"',
    "isotonic": 'calibration = "isotonic"',
    "f1": 'threshold = "f1"',
    "balanced accuracy": 'threshold = "balanced_accuracy"',
    "sigmoid and f1": 'calibration = "sigmoid"\nthreshold = "f1"',
}


@pytest.mark.parametrize("training", TRAININGS.values(), ids=TRAININGS)
def test_fitting_sees_the_first_part_only_and_nothing_sees_the_holdout(training: str) -> None:
    seen: list[tuple[str, tuple[float, ...], tuple[int, ...]]] = []
    fit(spec_of(training), Recording(seen), PARTS)
    assert [call[1:] for call in seen if call[0] == "fit"] == [
        (tuple(PARTS.fitting.features["a"]), tuple(PARTS.fitting.labels))
    ]
    asked = {value for method, values, _ in seen if method != "fit" for value in values}
    needs_calibration = '"' in training
    assert asked == (set(PARTS.calibration.features["a"]) if needs_calibration else set())


@pytest.mark.parametrize("training", TRAININGS.values(), ids=TRAININGS)
def test_the_holdout_changes_nothing_of_what_is_fitted(training: str) -> None:
    other = Parts(PARTS.fitting, PARTS.calibration, part_of(9, 30), purged_rows=5)
    fitted = [fit(spec_of(training), forest(), parts) for parts in (PARTS, other)]
    assert fitted[0].output == fitted[1].output
    score = [f.estimator.predict_proba(PARTS.holdout.features) for f in fitted]
    assert (score[0] == score[1]).all()


# ---------------------------------------------------------------- seed


@pytest.mark.parametrize("training", TRAININGS.values(), ids=TRAININGS)
def test_same_parts_and_seed_give_the_same_predictions_to_the_last_bit(training: str) -> None:
    fitted = [fit(spec_of(f"seed = 3\n{training}"), forest(), PARTS) for _ in range(2)]
    assert fitted[0].output == fitted[1].output
    said = [predict(f.estimator, PARTS.holdout.rows, SIGNATURE, f.output) for f in fitted]
    assert said[0].prediction.tobytes() == said[1].prediction.tobytes()
    assert [s.score is not None and s.score.tobytes() for s in said] == [said[0].score.tobytes()] * 2  # type: ignore[union-attr]


def test_another_seed_gives_another_forest() -> None:
    one, other = (holdout_scores(spec_of(f"seed = {seed}"), forest()) for seed in (1, 2))
    assert (one != other).any()


def test_seed_that_the_author_set_stays() -> None:
    one, other = (
        holdout_scores(spec_of(f"seed = {seed}"), RandomForestClassifier(5, max_depth=4, random_state=7))
        for seed in (1, 2)
    )
    assert (one == other).all()


# ---------------------------------------------------------------- classes


@pytest.mark.parametrize(
    ("task", "names", "classes"),
    [
        ("binary", (0, 1), (0, 1)),
        ("binary", (False, True), (False, True)),
        ("binary", ("no", "yes"), ("no", "yes")),
        ("multiclass", ("c", "a", "b"), ("a", "b", "c")),
        ("multiclass", (7, 3, 5), (3, 5, 7)),
        ("regression", (0, 1), ()),
    ],
    ids=["numbers", "booleans", "text", "three texts", "three numbers", "regression"],
)
def test_classes_are_those_of_the_fitting_rows_in_the_order_of_the_probabilities(
    task: str, names: tuple[Any, ...], classes: tuple[Any, ...]
) -> None:
    estimator = LinearRegression() if task == "regression" else LogisticRegression()
    fitted = fit(spec_of(task=task), estimator, parts_of(names))
    assert (fitted.output.task, fitted.output.classes, fitted.output.threshold) == (task, classes, None)
    if task != "regression":
        assert fitted.estimator.classes_.tolist() == list(classes)


# ---------------------------------------------------------------- calibration


def test_without_calibration_the_estimator_itself_is_kept() -> None:
    estimator = GaussianNB()
    assert fit(spec_of(), estimator, PARTS).estimator is estimator


def test_sigmoid_moves_the_probabilities_and_keeps_their_order() -> None:
    plain, found = holdout_scores(spec_of(), GaussianNB()), holdout_scores(spec_of(TRAININGS["sigmoid"]), GaussianNB())
    assert np.abs(plain - found).max() > 0.05
    assert spearmanr(plain, found).statistic == pytest.approx(1, abs=1e-4)


def test_isotonic_moves_the_probabilities_and_swaps_no_two() -> None:
    plain, found = holdout_scores(spec_of(), GaussianNB()), holdout_scores(spec_of(TRAININGS["isotonic"]), GaussianNB())
    assert np.abs(plain - found).max() > 0.05
    assert (np.diff(found[np.argsort(plain)]) >= -1e-12).all()
    assert len(set(found.tolist())) < len(set(plain.tolist()))


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_mends_the_probabilities_of_an_overconfident_estimator(method: str) -> None:
    parts = parts_of(calibration_rows=600)
    happened = parts.holdout.labels
    plain, found = (
        holdout_scores(spec_of(t), GaussianNB(), parts) for t in ("", f'calibration = "{method}"')
    )  # fmt: skip
    assert ((found - happened) ** 2).mean() < ((plain - happened) ** 2).mean() - 0.005


def test_calibration_learns_from_the_calibration_rows() -> None:
    flipped = Part(PARTS.calibration.rows, PARTS.calibration.features, 1 - PARTS.calibration.labels)
    parts = Parts(PARTS.fitting, flipped, PARTS.holdout, purged_rows=0)
    plain, found = (holdout_scores(spec_of(TRAININGS["sigmoid"]), GaussianNB(), p) for p in (PARTS, parts))
    assert spearmanr(plain, found).statistic == pytest.approx(-1, abs=1e-4)


def test_calibrated_probabilities_of_three_classes_still_sum_to_one() -> None:
    parts = parts_of(("a", "b", "c"))
    found = holdout_scores(spec_of(TRAININGS["sigmoid"], task="multiclass"), GaussianNB(), parts)
    assert found.shape == (120, 3)
    assert found.sum(axis=1) == pytest.approx(np.ones(120))


# ---------------------------------------------------------------- threshold


class Says(BaseEstimator):
    """An estimator whose score is feature `a`."""

    def predict_proba(self, features: pd.DataFrame) -> Any:
        return np.column_stack([1 - features["a"], features["a"]])


def scored(scores: list[float], happened: list[bool], names: tuple[Any, Any] = (0, 1)) -> Part:
    features = pd.DataFrame({"a": scores, "b": scores})
    return Part(pa.table({"id": range(len(scores))}), features, np.array(names)[np.array(happened).astype(int)])


GOALS: dict[str, Callable[[Any, Any], float]] = {
    "f1": lambda y, hit: f1_score(y, hit, zero_division=0),
    "balanced_accuracy": balanced_accuracy_score,
}
rows_of_scores = st.lists(
    st.tuples(st.integers(1, 19).map(lambda n: n / 20), st.booleans()), min_size=2, max_size=25
).filter(lambda rows: len({happened for _, happened in rows}) == 2)


def worths(scores: list[float], happened: list[bool], goal: str, candidates: list[float]) -> list[float]:
    return [GOALS[goal](happened, np.array(scores) >= c) for c in candidates]


@pytest.mark.parametrize("goal", GOALS)
@settings(max_examples=40)
@given(rows=rows_of_scores)
def test_threshold_is_the_best_of_all_scores_on_the_calibration_rows(goal: str, rows: list[tuple[float, bool]]) -> None:
    """Compared with every score there is, and with one over all of them, which predicts nobody positive."""
    scores, happened = [s for s, _ in rows], [h for _, h in rows]
    found = best_threshold(Says(), scored(scores, happened), TWO, goal=goal)
    assert 0 < found < 1
    [worth] = worths(scores, happened, goal, [found])
    assert worth == pytest.approx(max(worths(scores, happened, goal, [*scores, 0.99])))


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("names", [(0, 1), (False, True), ("no", "yes"), (1, 2)], ids=str)
def test_threshold_does_not_depend_on_what_the_classes_are_called(goal: str, names: tuple[Any, Any]) -> None:
    part = scored([0.1, 0.3, 0.6, 0.7], [False, False, True, True], names)
    assert best_threshold(Says(), part, Output(task="binary", classes=names), goal=goal) == 0.6


def test_goals_differ_where_the_positive_class_is_rare() -> None:
    scores = [*([0.1] * 80), *([0.4] * 20), *([0.4] * 4), *([0.8] * 3)]
    happened = [*([False] * 100), *([True] * 7)]
    found = {goal: best_threshold(Says(), scored(scores, happened), TWO, goal=goal) for goal in GOALS}
    assert found == {"f1": 0.8, "balanced_accuracy": 0.4}


@pytest.mark.parametrize("goal", ["f1", "balanced_accuracy"])
@pytest.mark.parametrize("calibration", ["none", "sigmoid"])
def test_fitted_threshold_is_best_on_the_calibration_rows_for_the_calibrated_scores(
    goal: str, calibration: str
) -> None:
    fitted = fit(spec_of(f'calibration = "{calibration}"\nthreshold = "{goal}"'), GaussianNB(), PARTS)
    part = PARTS.calibration
    scores = fitted.estimator.predict_proba(part.features)[:, 1].tolist()
    assert fitted.output.threshold is not None
    found = predict(fitted.estimator, part.rows, SIGNATURE, fitted.output).prediction
    best = max(worths(scores, part.labels.tolist(), goal, scores))
    assert GOALS[goal](part.labels, found) == pytest.approx(best)


def test_threshold_given_as_a_number_is_taken_as_it_is() -> None:
    fitted = fit(spec_of("threshold = 0.37"), GaussianNB(), PARTS)
    assert fitted.output.threshold == 0.37
    said = predict(fitted.estimator, PARTS.holdout.rows, SIGNATURE, fitted.output)
    assert said.score is not None
    assert said.prediction.tolist() == (said.score >= 0.37).astype(int).tolist()


def test_scores_of_one_still_reach_the_threshold() -> None:
    """A tree is often certain; the threshold itself stays below 1."""
    found = best_threshold(Says(), scored([0.2, 1.0, 1.0], [False, True, True]), TWO, goal="f1")
    assert 0.2 < found < 1


@pytest.mark.parametrize(
    ("goal", "scores", "happened"),
    [
        # Predicting all positive (0) is best, but moved above 0 it means 0.2, which is worse than 1.
        ("f1", [0.0] * 6 + [0.2] * 4 + [1.0] * 4, [True] * 6 + [False] * 4 + [True] * 4),
        # Predicting nobody positive (infinity) is as good as 0.5, but moved below 1 it finds the wrong row.
        ("balanced_accuracy", [0.5, 1.0, 0.5], [True, False, True]),
    ],
    ids=["nought", "infinity"],
)
def test_threshold_is_the_best_that_can_be_said_when_scores_are_nought_and_one(
    goal: str, scores: list[float], happened: list[bool]
) -> None:
    found = best_threshold(Says(), scored(scores, happened), TWO, goal=goal)
    possible = [np.finfo(float).tiny, *(s for s in scores if 0 < s < 1), 1 - np.finfo(float).eps]
    [worth] = worths(scores, happened, goal, [found])
    assert worth == pytest.approx(max(worths(scores, happened, goal, possible)))


def test_models_of_all_parts_are_different_rows() -> None:
    """Without this the tests of who sees what would prove nothing."""
    seen = [set(p.features["a"]) for p in (PARTS.fitting, PARTS.calibration, PARTS.holdout)]
    assert all(not (a & b) for a, b in itertools.combinations(seen, 2))

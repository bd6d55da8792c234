"""Figures of quality from sums: with known labels they are those of scikit-learn, and sums of shards add up."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from ponte.estimation.calibration import Calibration, calibrate, places
from ponte.estimation.sums import figures_of, sums_of_regression
from ponte.versions.predicting import Output, Predictions

BINARY = Output(task="binary", classes=(1, 0))
MULTICLASS = Output(task="multiclass", classes=("a", "b", "c"))


def of_binary(rows: int = 4000, seed: int = 0) -> tuple[np.ndarray, Predictions, np.ndarray]:
    """Return labels whose positive class is 0, scores that are too sure, and windows."""
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 3, rows)
    score = np.clip(1.4 * p - 0.2, 0.01, 0.99).round(3)
    label = np.where(rng.random(rows) < p, 0, 1)
    return label, Predictions(np.where(score >= 0.5, 0, 1), score), np.arange(rows) * 4 // rows


def known(label: np.ndarray, said: Predictions, output: Output, windows: np.ndarray) -> Calibration:
    """Return what these rows calibrate."""
    found = calibrate(output, label, said, windows, calibrated_on="holdout")
    assert found is not None
    return found


def test_with_known_labels_figures_are_those_of_scikit_learn() -> None:
    label, said, windows = of_binary()
    found = known(label, said, BINARY, windows)
    hit = places(said.prediction, BINARY)
    figures = figures_of("binary", found.known_sums(places(label, BINARY), said.score, hit))
    positive = label == 0
    expected = {
        "accuracy": metrics.accuracy_score(positive, hit == 1),
        "precision": metrics.precision_score(positive, hit == 1),
        "recall": metrics.recall_score(positive, hit == 1),
        "f1": metrics.f1_score(positive, hit == 1),
        "brier": metrics.brier_score_loss(positive, said.score),
        "log_loss": metrics.log_loss(positive, said.score),
    }
    auc, _ = figures.pop("roc_auc")
    assert {name: value for name, (value, _) in figures.items()} == pytest.approx(expected)
    assert auc == pytest.approx(metrics.roc_auc_score(positive, said.score), abs=1e-3)
    assert all(variance == 0 for _, variance in figures.values())


def test_estimates_follow_rows_that_become_harder_and_raw_scores_would_not_have() -> None:
    label, said, windows = of_binary()
    found = known(label, said, BINARY, windows)
    newer, later, _ = of_binary(seed=1)
    hard = abs(later.score - 0.5) < 0.25
    hit = places(later.prediction, BINARY)
    figures = figures_of("binary", found.sums(later.score[hard], hit[hard]))
    value, variance = figures["accuracy"]
    real = (newer == later.prediction)[hard].mean()
    raw = np.maximum(later.score, 1 - later.score)[hard].mean()
    assert abs(value - real) < 2.5 * (variance + found.spread["accuracy"] ** 2) ** 0.5
    assert abs(value - real) < abs(raw - real)


def test_sums_of_shards_add_up() -> None:
    label, said, windows = of_binary()
    found = known(label, said, BINARY, windows)
    hit = places(said.prediction, BINARY)
    parts = [found.sums(said.score[some], hit[some]) for some in np.array_split(np.arange(len(label)), 3)]
    assert np.sum(parts, axis=0) == pytest.approx(found.sums(said.score, hit))
    empty = found.sums(said.score[:0], hit[:0])
    assert not empty.any()
    assert figures_of("binary", empty) == {}


def test_classes_are_held_against_the_rest() -> None:
    rng = np.random.default_rng(2)
    score = rng.dirichlet((1, 2, 3), 6000)
    label = np.array([rng.choice(3, p=p) for p in score])
    names, predicted = np.asarray(MULTICLASS.classes), score.argmax(axis=1)
    found = known(names[label], Predictions(names[predicted], score), MULTICLASS, np.arange(6000) // 1500)
    figures = figures_of("multiclass", found.known_sums(label, score, predicted))
    expected = {
        "accuracy": metrics.accuracy_score(label, predicted),
        "log_loss": metrics.log_loss(label, score),
        "balanced_accuracy": metrics.balanced_accuracy_score(label, predicted),
        "f1": metrics.f1_score(label, predicted, average="macro"),
    }
    assert {name: figures[name][0] for name in expected} == pytest.approx(expected)
    assert figures["roc_auc"][0] == pytest.approx(metrics.roc_auc_score(label, score, multi_class="ovr"), abs=2e-3)
    estimated = figures_of("multiclass", found.sums(score, predicted))
    assert {name: estimated[name][0] for name in expected} == pytest.approx(expected, abs=0.02)


def test_errors_of_a_regression() -> None:
    figures = figures_of("regression", sums_of_regression(np.array([1.0, 3.0])))
    assert figures["mae"][0] == 2.0
    assert figures["mae"][1] > figures_of("regression", sums_of_regression(np.array([1.0, 3.0]), known=True))["mae"][1]


def test_a_calibration_comes_back_from_its_file() -> None:
    label, said, windows = of_binary()
    found = known(label, said, BINARY, windows)
    assert Calibration.from_json(found.as_json()) == found


@pytest.mark.parametrize("rows", [0, 10, 199])
def test_too_few_rows_calibrate_nothing(rows: int) -> None:
    label, said, windows = of_binary()
    assert said.score is not None
    few = Predictions(said.prediction[:rows], said.score[:rows])
    assert calibrate(BINARY, label[:rows], few, windows[:rows], calibrated_on="holdout") is None
    assert calibrate(BINARY, label, Predictions(said.prediction, None), windows, calibrated_on="holdout") is None
    assert calibrate(BINARY, label * 0, said, windows, calibrated_on="holdout") is None

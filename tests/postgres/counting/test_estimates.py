"""The quality of a batch is estimated when it is scored, and lies near what is realised."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics
from tests.sample_model import WEEK, World

from ponte.versions.loading import ERRORS, ESTIMATION, read_files

_TRUTH = """SELECT p.prediction, {score}, {label} FROM predictions.visits p JOIN shop.visit v USING (visit_id)
    WHERE p.window_start = :week"""
_LABELS = {
    "binary": "returned::int",
    "multiclass": "CASE WHEN spent < 20 THEN 'low' WHEN spent < 40 THEN 'some' ELSE 'much' END",
    "regression": "spent",
}


def realised(world: World, task: str) -> dict[str, float]:
    """Return figures of scikit-learn on what people see of WEEK."""
    score = {"binary": "score", "multiclass": "scores", "regression": "NULL"}[task]
    rows = world.rows(_TRUTH.format(score=score, label=_LABELS[task]), week=WEEK)
    said, scores, label = (np.array(column) for column in zip(*rows, strict=True))
    if task == "regression":
        return {"mae": metrics.mean_absolute_error(label, said)}
    if task == "binary":
        return {
            "accuracy": metrics.accuracy_score(label, said),
            "precision": metrics.precision_score(label, said),
            "recall": metrics.recall_score(label, said),
            "f1": metrics.f1_score(label, said),
            "brier": metrics.brier_score_loss(label, scores),
            "log_loss": metrics.log_loss(label, scores),
            "roc_auc": metrics.roc_auc_score(label, scores),
        }
    return {
        "accuracy": metrics.accuracy_score(label, said),
        "balanced_accuracy": metrics.balanced_accuracy_score(label, said),
        "f1": metrics.f1_score(label, said, average="macro"),
        "log_loss": metrics.log_loss(label, scores),
        "roc_auc": metrics.roc_auc_score(label, scores, multi_class="ovr"),
    }


def estimates(world: World) -> dict[str, tuple[float, float, float]]:
    """Return metric → value, low, high."""
    query = "SELECT metric, estimated_value, estimated_low, estimated_high FROM ponte.estimated_quality WHERE published"
    return {metric: of for metric, *of in world.rows(query)}


@pytest.mark.parametrize(
    ("task", "part"),
    [("binary", "holdout"), ("binary", "calibration"), ("multiclass", "holdout"), ("regression", "holdout")],
)
def test_estimates_hold_what_is_realised(world: World, task: str, part: str) -> None:
    training = 'calibration_windows = 1\ncalibration = "sigmoid"\n' if part == "calibration" else ""
    own = world.with_model(task=task, training=training, shard_rows=100, gate="[monitoring]\nestimate = true\n")
    own.train(run_id="t", promote=False)
    own.set_champion(1)
    own.run(run_id="s")
    truth, found = realised(own, task), estimates(own)
    assert found.keys() == truth.keys()
    assert all(low < value < high for value, low, high in found.values())
    # Intervals of 95 %, of several metrics of one week.
    missed = {m: (low, truth[m], high) for m, (_, low, high) in found.items() if not low <= truth[m] <= high}
    assert len(missed) <= 1, missed
    assert own.rows("SELECT DISTINCT calibrated_on, row_count FROM ponte.estimate") == [(part, len_of(own))]


def len_of(world: World) -> int:
    """Return how many predictions people see."""
    return int(world.ask("SELECT count(*) FROM predictions.visits WHERE window_start = :week", week=WEEK))


def test_estimates_are_made_when_a_model_wants_them(world: World) -> None:
    for task, setting, files, made in (
        ("binary", "", {ESTIMATION}, True),
        ("binary", "[monitoring]\nestimate = false\n", set(), False),
        ("regression", "", set(), False),
        ("regression", "[monitoring]\nestimate = true\n", {ESTIMATION, ERRORS}, True),
    ):
        own = world.with_model(task=task, gate=setting)
        version = own.train(run_id=f"{task} {setting}", promote=False).version
        assert read_files(own.store, version).keys() & {ESTIMATION, ERRORS} == files
        assert own.folder.spec.estimates == made

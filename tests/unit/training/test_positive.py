"""The score is the probability of the positive class: the greater label, or the one that `model.toml` names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from ponte.errors import ModelFolderError, TrainingRefused
from ponte.model.toml import parse_spec
from ponte.quality.baselines import by_group
from ponte.quality.measurement import measure
from ponte.snapshots.parts import Part, Parts
from ponte.storage.columns import Column
from ponte.training.fitting import fit
from ponte.versions.predicting import predict, predict_features
from ponte.versions.signature import Signature

SIGNATURE = Signature(
    key=(Column(name="id", family="integer"),), features=(Column(name="a", family="number"),), label="integer"
)
SPEC = """
description = "d"
owner = "o"
task = "{task}"
key = ["id"]
[evaluation]
resamples = 100
importance_seconds = 0
[training]
{training}
[gate]
metric = "roc_auc"
minimum = 0.6
"""


def part(names: tuple[Any, Any], seed: int) -> Part:
    """Return 200 rows of which the greater `a`, the rather the second label."""
    a = np.random.default_rng(seed).normal(size=200)
    labels = np.array(names)[(a + np.random.default_rng(seed + 1).normal(size=200) > 0).astype(int)]
    rows = pa.table({"window_start": [0] * 200, "id": range(200), "a": a})
    return Part(rows=rows, features=pd.DataFrame({"a": a}), labels=labels)


def parts_of(names: tuple[Any, Any]) -> Parts:
    return Parts(fitting=part(names, 0), calibration=part(names, 10), holdout=part(names, 20), purged_rows=0)


def spec_of(training: str, task: str = "binary") -> Any:
    return parse_spec(SPEC.format(training=training, task=task), model="churn")


@pytest.mark.parametrize("names", [(0, 1), (False, True), ("no", "yes")], ids=str)
@pytest.mark.parametrize("more", ["", 'calibration = "sigmoid"\ncalibration_windows = 1', "threshold = 0.3"], ids=str)
def test_the_other_class_has_the_other_probability_and_the_same_rows_are_told_apart(
    names: tuple[Any, Any], more: str
) -> None:
    parts = parts_of(names)
    written = f'"{names[0]}"' if isinstance(names[0], str) else str(names[0]).lower()
    usual, other = (fit(spec_of(f"{p}\n{more}"), LogisticRegression(), parts) for p in ("", f"positive = {written}"))
    assert (usual.output.classes, other.output.classes) == (names, names[::-1])
    said, turned = (predict(f.estimator, parts.holdout.rows, SIGNATURE, f.output) for f in (usual, other))
    assert said.score is not None
    assert turned.score is not None
    np.testing.assert_allclose(turned.score, 1 - said.score, atol=1e-12)
    unchecked = predict_features(other.estimator, parts.holdout.features, other.output)
    np.testing.assert_allclose(unchecked.score, turned.score, atol=1e-12)
    if "threshold" in more:
        assert set(turned.prediction[turned.score >= 0.3]) == {names[0]}
        assert set(turned.prediction[turned.score < 0.3]) == {names[1]}
    else:
        assert (said.prediction == turned.prediction).all()


def test_every_figure_is_of_the_named_class() -> None:
    parts = parts_of((0, 1))
    figures = {}
    for training in ("", "positive = 0"):
        spec = spec_of(training)
        fitted = fit(spec, LogisticRegression(), parts)
        measured, _ = measure(spec, fitted, SIGNATURE, parts)
        figures[training] = {(m.subject, m.name): m.figure.value for m in measured if not m.slice}
    usual, other = figures[""], figures["positive = 0"]
    for subject in ("candidate", "baseline:constant"):
        assert other[subject, "roc_auc"] == pytest.approx(usual[subject, "roc_auc"])
        assert other[subject, "brier"] == pytest.approx(usual[subject, "brier"])
        assert other[subject, "log_loss"] == pytest.approx(usual[subject, "log_loss"])
    share = float((parts.holdout.labels == 0).mean())
    assert other["baseline:constant", "average_precision"] == pytest.approx(share)
    assert usual["baseline:constant", "average_precision"] == pytest.approx(1 - share)
    group = np.zeros(200)
    spec = spec_of("positive = 0")
    said = by_group(fit(spec, LogisticRegression(), parts).output, parts, group, group).score
    assert said is not None
    assert said[0] == pytest.approx(float((parts.fitting.labels == 0).mean()))


@pytest.mark.parametrize("goal", ["f1", "balanced_accuracy"])
def test_the_threshold_is_the_best_for_the_named_class(goal: str) -> None:
    parts = parts_of(("no", "yes"))
    more = f'threshold = "{goal}"\ncalibration_windows = 1'
    other = fit(spec_of(f'positive = "no"\n{more}'), LogisticRegression(), parts)
    assert other.output.threshold is not None
    renamed = parts_of(("yes", "no"))  # the same rows, where the greater name is that of the class
    same = fit(spec_of(more), LogisticRegression(), renamed)
    assert same.output.classes == ("no", "yes")
    assert other.output.threshold == pytest.approx(same.output.threshold, abs=1e-6)
    flipped, usual = (predict(f.estimator, parts.holdout.rows, SIGNATURE, f.output) for f in (other, same))
    assert ((flipped.prediction == "no") == (usual.prediction == "yes")).all()


def test_without_probabilities_it_changes_nothing() -> None:
    parts = parts_of((0, 1))
    spec = parse_spec(SPEC.format(training="positive = 0", task="binary").replace("roc_auc", "accuracy"), model="churn")
    fitted = fit(spec, LinearSVC(), parts)
    assert predict(fitted.estimator, parts.holdout.rows, SIGNATURE, fitted.output).score is None


def test_a_class_that_is_no_label_is_refused_with_those_there_are() -> None:
    with pytest.raises(TrainingRefused, match=r"got: 'yes'\n  expected: one of \[0, 1\]"):
        fit(spec_of('positive = "yes"'), LogisticRegression(), parts_of((0, 1)))


def test_only_a_binary_model_has_a_positive_class() -> None:
    with pytest.raises(ModelFolderError, match=r"training\.positive: task 'multiclass' has no positive class"):
        spec_of("positive = 1", "multiclass")

"""Classifiers without probabilities: measured by their labels, compared where both have a figure, drawn with less."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, precision_score, recall_score
from sklearn.svm import LinearSVC

from ponte.decisions.gate import Champion, decide
from ponte.model.spec import METRICS, OF_LABELS, ModelSpec, Task
from ponte.pages.report import ReportFacts, draw, render
from ponte.quality.figures import CANDIDATE, Measured, difference_subject
from ponte.quality.measurement import compare, measure
from ponte.quality.metrics import figures_of
from ponte.snapshots.parts import Part, Parts
from ponte.storage.columns import Column
from ponte.training.fitting import fit
from ponte.versions.predicting import Output, Predictions, predict
from ponte.versions.signature import Signature, to_frame

COUNTS = {"true_positives", "false_positives", "false_negatives", "true_negatives"}
CLASSES: dict[Task, tuple[str, ...]] = {"binary": ("no", "yes"), "multiclass": ("low", "mid", "top")}
LABELS_ONLY: dict[Task, set[str]] = {task: OF_LABELS & set(METRICS[task]) for task in CLASSES}
SIGNATURE = Signature(key=(), features=tuple(Column(name=n, family="number") for n in ("used", "noise")), label="text")
TASKS: list[Task] = ["binary", "multiclass"]


def spec_of(task: Task, *, metric: str = "f1", gate: dict[str, Any] | None = None, **training: Any) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "description": "d", "owner": "o", "task": task, "key": ["id"],
            "training": {"windows": 6, "holdout_windows": 1, **training},
            "evaluation": {"resamples": 100, "slices": ["shop"], "slice_rows": 40, "baseline_by": "shop"},
            "gate": {"metric": metric, "minimum": 0.3, **(gate or {})},
        }
    )  # fmt: skip


def part_of(task: Task, seed: int, rows: int = 300) -> Part:
    draws = np.random.default_rng(seed)
    used = draws.normal(size=rows)
    cut = np.digitize(used + draws.normal(0, 0.7, rows), [0.2] if task == "binary" else [-0.5, 0.6])
    labels = np.array(CLASSES[task], dtype=object)[cut]
    shop = draws.choice(["mill", "quay"], rows)
    table = pa.table({"used": used, "noise": draws.normal(size=rows), "shop": shop, "label": labels})
    return Part(table, to_frame(table, SIGNATURE.features), labels)


def parts_of(task: Task) -> Parts:
    return Parts(fitting=part_of(task, 1), calibration=part_of(task, 2), holdout=part_of(task, 3), purged_rows=0)


def figures_by_subject(measured: list[Measured]) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for m in measured:
        found.setdefault((m.subject, m.slice), set()).add(m.name)
    return found


def facts_of(task: Task, spec: ModelSpec) -> ReportFacts:
    return ReportFacts(
        model="visits", version=1, description="d", owner="o", task=task, metric=spec.gate.metric,
        as_of=dt.datetime(2024, 2, 12, tzinfo=dt.UTC), fitting_from=dt.date(2024, 1, 1), calibration_from=None,
        holdout_from=dt.date(2024, 1, 29), holdout_end=dt.date(2024, 2, 12), fitting_rows=300, calibration_rows=0,
        holdout_rows=300, purged_rows=0, classes=CLASSES[task], threshold=None, confidence=0.95, resamples=100,
        snapshot_sha256="5a" * 32, spec_digest="6b" * 32, code_revision=None, libraries={},
    )  # fmt: skip


@pytest.mark.parametrize("estimator", [LinearSVC(), RidgeClassifier(), Perceptron()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("task", TASKS)
def test_figures_of_labels_are_measured_and_no_others(estimator: BaseEstimator, task: Task) -> None:
    spec, parts = spec_of(task), parts_of(task)
    fitted = fit(spec, estimator, parts)
    measured, predictions = measure(spec, fitted, SIGNATURE, parts)
    own = LABELS_ONLY[task] | (COUNTS if task == "binary" else set())
    scored = {*METRICS[task], *(COUNTS if task == "binary" else ())}

    assert predictions.score is None
    assert figures_by_subject(measured) == {
        ("candidate", ""): {*own, "rows_per_second"},
        **{("candidate", f"shop={name}"): own for name in ("mill", "quay")},
        **{(f"baseline:{name}", ""): scored for name in ("constant", "shop")},
        **{(f"difference:baseline:{name}", ""): LABELS_ONLY[task] for name in ("constant", "shop")},
        **{(f"feature:{name}", ""): {"roc_auc"} for name in ("used", "noise")},
        **{(f"importance:{name}", ""): {"f1"} for name in ("used", "noise")},
    }
    [importance] = [m.figure.value for m in measured if m.subject == "importance:used"]
    assert importance > 0.1
    figures = {(m.subject, m.slice, m.name): m for m in measured}
    assert decide(spec, model="visits", version=1, figures=figures, champion=Champion()).passed


@pytest.mark.parametrize("task", TASKS)
def test_figures_of_labels_are_those_of_scikit_learn(task: Task) -> None:
    draws = np.random.default_rng(7)
    labels, said = (np.array(CLASSES[task], dtype=object)[draws.integers(0, len(CLASSES[task]), 90)] for _ in range(2))
    weights = draws.integers(0, 4, 90).astype(float)
    wanted = {"accuracy": accuracy_score(labels, said, sample_weight=weights)}
    how: dict[str, Any] = {"sample_weight": weights, "average": "macro"}
    if task == "binary":
        how |= {"average": "binary", "pos_label": "yes"}
        wanted |= {"precision": precision_score(labels, said, **how), "recall": recall_score(labels, said, **how)}
    else:
        wanted["balanced_accuracy"] = balanced_accuracy_score(labels, said, sample_weight=weights)
    wanted["f1"] = f1_score(labels, said, **how)
    found = figures_of(task, labels, Predictions(said, None), CLASSES[task]).weighted(weights)
    assert {name: value for name, value in found.items() if name not in COUNTS} == pytest.approx(wanted)


@pytest.mark.parametrize("scored", ["candidate", "champion:1"])
@pytest.mark.parametrize("task", TASKS)
def test_with_and_without_scores_are_compared_where_both_have_a_figure(task: Task, scored: str) -> None:
    parts, output = parts_of(task), Output(task=task, classes=CLASSES[task])
    said = {}
    for subject in (CANDIDATE, "champion:1"):
        estimator = LogisticRegression() if subject == scored else RidgeClassifier()
        estimator.fit(parts.fitting.features, parts.fitting.labels)
        said[subject] = predict(estimator, parts.holdout.rows, SIGNATURE, output)
    measured = compare(spec_of(task), output, parts.holdout, said)
    found = figures_by_subject(measured)
    assert found[scored, ""] >= set(METRICS[task])
    assert found[{*said}.difference([scored]).pop(), ""] - COUNTS == LABELS_ONLY[task]
    assert found[difference_subject("champion:1"), ""] == LABELS_ONLY[task]
    figures = {(m.subject, m.slice, m.name): m for m in measured}
    ((point,), (gap,)) = (
        [m.figure for m in measured if (m.subject, m.name) == (subject, "f1")]
        for subject in (CANDIDATE, difference_subject("champion:1"))
    )
    assert gap.value == pytest.approx(point.value - figures["champion:1", "", "f1"].figure.value)
    assert gap.low is not None


def test_champion_that_the_metric_cannot_measure_lets_nobody_pass_and_the_verdict_says_why() -> None:
    parts, output = parts_of("binary"), Output(task="binary", classes=CLASSES["binary"])
    said = {
        subject: predict(
            estimator.fit(parts.fitting.features, parts.fitting.labels), parts.holdout.rows, SIGNATURE, output
        )
        for subject, estimator in ((CANDIDATE, LogisticRegression()), ("champion:1", RidgeClassifier()))
    }
    spec = spec_of("binary", metric="roc_auc", gate={"beats_baseline": False, "champion_worse": "promote"})
    figures = {(m.subject, m.slice, m.name): m for m in compare(spec, output, parts.holdout, said)}
    verdict = decide(spec, model="visits", version=2, figures=figures, champion=Champion(version=1, state="measured"))
    [rule] = [r for r in verdict.rules if "champion" in r.rule]
    assert (rule.passed, rule.got) == (False, "no difference: champion 1 gives no probabilities")
    without = {key: m for key, m in figures.items() if key[0] == CANDIDATE}
    verdict = decide(spec, model="visits", version=2, figures=without, champion=Champion(version=1, state="measured"))
    assert [r.got for r in verdict.rules if "champion" in r.rule] == ["no difference"]


@pytest.mark.parametrize("task", TASKS)
def test_page_of_a_version_without_scores_shows_its_confusion_and_its_importances(task: Task) -> None:
    spec, parts = spec_of(task), parts_of(task)
    fitted = fit(spec, LinearSVC(), parts)
    measured, predictions = measure(spec, fitted, SIGNATURE, parts)
    plots = draw(fitted.output, parts.holdout.labels, predictions, measured)
    assert [plot.title for plot in plots] == ["Confusion matrix", "Permutation importance"]
    page = render(facts_of(task, spec), measured, plots).decode()
    assert "Confusion matrix" in page
    assert "brier" not in page.lower()


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("task", TASKS)
def test_calibration_gives_a_linear_svm_probabilities(task: Task, method: str) -> None:
    options = {"calibration": method, "calibration_windows": 2, **({"threshold": "f1"} if task == "binary" else {})}
    spec, parts = spec_of(task, metric="roc_auc", **options), parts_of(task)
    fitted = fit(spec, LinearSVC(), parts)
    measured, predictions = measure(spec, fitted, SIGNATURE, parts)
    assert predictions.score is not None
    [auc] = [m.figure.value for m in measured if (m.subject, m.name, m.slice) == (CANDIDATE, "roc_auc", "")]
    assert auc > 0.7


def test_golden_rows_of_labels_are_compared_as_labels() -> None:
    import io

    import pyarrow.parquet as pq

    from ponte.errors import ArtifactRefused
    from ponte.versions.loading import LoadedVersion, _require_golden, golden_rows

    @dataclasses.dataclass
    class Registered:
        task: Task
        output: Output
        signature: Signature = SIGNATURE
        place: str = "model visits, version 1"

    parts, output = parts_of("binary"), Output(task="binary", classes=CLASSES["binary"])
    estimator = RidgeClassifier().fit(parts.fitting.features, parts.fitting.labels)
    golden = pq.read_table(io.BytesIO(golden_rows(estimator, parts.holdout.rows, SIGNATURE, output)))
    loaded: Any = LoadedVersion(Registered("binary", output), estimator, SIGNATURE)  # type: ignore[arg-type]
    _require_golden(loaded, golden, exactly=True)
    estimator.intercept_ = estimator.intercept_ + 1
    with pytest.raises(ArtifactRefused, match="predicts its golden rows differently"):
        _require_golden(loaded, golden, exactly=False)

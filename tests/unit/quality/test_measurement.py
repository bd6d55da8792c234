"""What is said of a version: figures with intervals, beside baselines, per slice and per feature."""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from ponte.decisions.gate import outcome_of
from ponte.model.spec import METRICS, ModelSpec, Task
from ponte.model.toml import parse_spec
from ponte.quality import measurement
from ponte.quality.baselines import baselines
from ponte.quality.features import of_features
from ponte.quality.figures import CANDIDATE, CONSTANT, FEATURE, Figure, Measured, difference_subject, from_json, to_json
from ponte.quality.measurement import MINIMUM_UNITS, compare, measure, unit_count
from ponte.quality.metrics import figures_of
from ponte.snapshots.parts import Part, Parts
from ponte.storage.columns import Column, Family
from ponte.versions.predicting import Fitted, Output, Predictions, predict
from ponte.versions.signature import Signature, to_frame

Array = np.ndarray[Any, Any]

TYPES: dict[Family, pa.DataType] = {
    "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(), "text": pa.string(), "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}  # fmt: skip
CLASSES: dict[Task, tuple[Any, ...]] = {"binary": (0, 1), "multiclass": (0, 1, 2), "regression": ()}
GATES: dict[Task, str] = {
    "binary": 'metric = "roc_auc"\nminimum = 0.6',
    "multiclass": 'metric = "roc_auc"\nminimum = 0.6',
    "regression": 'metric = "mae"\nmaximum = 9',
}
COUNTS = {"true_positives", "false_positives", "false_negatives", "true_negatives"}

#: Name and family of a feature → its values in the fitting rows and in the holdout.
Features = Mapping[tuple[str, Family], tuple[Sequence[Any], Sequence[Any]]]


def spec_of(task: Task = "binary", evaluation: str = "", gate: str = "", training: str = "") -> ModelSpec:
    text = (
        f'description = "d"\nowner = "o"\ntask = "{task}"\nkey = ["id"]\n[gate]\n{gate or GATES[task]}\n'
        f"[evaluation]\nresamples = 100\n{evaluation}\n[training]\n{training}\n"
    )
    return parse_spec(text, model="churn")


def part_of(features: Mapping[tuple[str, Family], Sequence[Any]], labels: Sequence[Any] | Array) -> Part:
    columns = {name: pa.array(values, TYPES[family]) for (name, family), values in features.items()}
    table = pa.table({**columns, "id": pa.array(range(len(labels)), pa.int64()), "label": pa.array(labels)})
    frame = to_frame(table, [Column(name=name, family=family) for name, family in features])
    return Part(table, frame, table.column("label").to_pandas().to_numpy())


def parts_of(features: Features, fitting: Sequence[Any] | Array, holdout: Sequence[Any] | Array) -> Parts:
    return Parts(
        fitting=part_of({c: values[0] for c, values in features.items()}, fitting),
        calibration=part_of({c: values[0][:0] for c, values in features.items()}, fitting[:0]),
        holdout=part_of({c: values[1] for c, values in features.items()}, holdout),
        purged_rows=0,
    )


def signature_of(features: Features, label: Family = "integer") -> Signature:
    columns = tuple(Column(name=name, family=family) for name, family in features)
    return Signature(key=(Column(name="id", family="integer"),), features=columns, label=label)


class Logistic(ClassifierMixin, BaseEstimator):
    """Uses one feature and nothing else; class k is the more likely the nearer the feature is to k."""

    def __init__(self, classes: tuple[Any, ...], column: str = "used") -> None:
        self.classes, self.column = classes, column

    def fit(self, *_: Any) -> Logistic:
        self.classes_ = np.asarray(self.classes)
        return self

    def predict_proba(self, features: pd.DataFrame) -> Array:
        distance = features[self.column].to_numpy(dtype=float)[:, None] - np.arange(len(self.classes))[None, :]
        likely = np.exp(-2 * distance**2)
        return likely / likely.sum(axis=1, keepdims=True)

    def predict(self, features: pd.DataFrame) -> Array:
        return np.asarray(self.classes)[self.predict_proba(features).argmax(axis=1)]


class Says(RegressorMixin, BaseEstimator):
    """Predicts one feature."""

    def __init__(self, column: str = "used") -> None:
        self.column = column

    def fit(self, *_: Any) -> Says:
        self.fitted_ = True
        return self

    def predict(self, features: pd.DataFrame) -> Array:
        return features[self.column].to_numpy(dtype=float)


def fitted_of(task: Task, classes: tuple[Any, ...] = (), threshold: float | None = None) -> Fitted:
    classes = classes or CLASSES[task]
    estimator = Says().fit() if task == "regression" else Logistic(classes).fit()
    return Fitted(estimator, Output(task=task, classes=classes, threshold=threshold))


PLANS = ["basic", "gold", "silver", "tiny"]


def world_of(task: Task, rows: int = 320) -> tuple[Features, Array, Array]:
    """Return features and both parts' labels: `used` tells the label roughly, `noise` nothing, `plan` a little."""
    draws = np.random.default_rng(11)
    halves: list[tuple[list[Any], ...]] = []
    for _ in range(2):
        plan = draws.choice(len(PLANS), rows, p=[0.5, 0.3, 0.17, 0.03])
        value = draws.normal(size=rows) + (plan == 1)
        label = value * 3 if task == "regression" else np.digitize(value, [0.3] if task == "binary" else [-0.3, 0.7])
        used = label + draws.normal(0, 0.6, rows)
        halves.append((label.tolist(), used.tolist(), draws.normal(size=rows).tolist(), [PLANS[p] for p in plan]))
    (label, *fitting), (later, *holdout) = halves
    names: list[tuple[str, Family]] = [("used", "number"), ("noise", "number"), ("plan", "text")]
    return dict(zip(names, zip(fitting, holdout, strict=True), strict=True)), np.array(label), np.array(later)


def measured_of(
    task: Task = "binary", evaluation: str = 'baseline_by = "plan"\nslices = ["plan"]\nslice_rows = 40', **options: Any
) -> list[Measured]:
    features, fitting, holdout = world_of(task)
    spec = spec_of(task, evaluation, **options)
    return measure(spec, fitted_of(task), signature_of(features), parts_of(features, fitting, holdout))[0]


def value_of(measured: list[Measured], subject: str, name: str, place: str = "") -> Figure:
    [found] = [m.figure for m in measured if (m.subject, m.name, m.slice) == (subject, name, place)]
    return found


@pytest.fixture(scope="module")
def measured_by_task() -> dict[Task, list[Measured]]:
    quantile = 'quantile = 0.8\nbaseline_by = "plan"\nslices = ["plan"]\nslice_rows = 40'
    return {task: measured_of(task, quantile) if task == "regression" else measured_of(task) for task in METRICS}


# ---------------------------------------------------------------- what there is


@pytest.mark.parametrize("task", get_args(Task))
def test_every_subject_has_the_figures_of_its_task(measured_by_task: dict[Task, list[Measured]], task: Task) -> None:
    found = defaultdict(set)
    for m in measured_by_task[task]:
        found[m.subject, m.slice].add(m.name)
    metrics = set(METRICS[task])
    figures = metrics | (COUNTS if task == "binary" else set())
    alone = "r2" if task == "regression" else "roc_auc"
    gate = "mae" if task == "regression" else "roc_auc"
    assert found == {
        ("candidate", ""): {*figures, "rows_per_second"},
        **{(f"baseline:{b}", ""): figures for b in ("constant", "plan")},
        **{(f"difference:baseline:{b}", ""): metrics for b in ("constant", "plan")},
        **{(f"feature:{f}", ""): {alone} for f in ("used", "noise", "plan")},
        **{(f"importance:{f}", ""): {gate} for f in ("used", "noise", "plan")},
        **{(f"unused:{f}", ""): {"changed"} for f in ("noise", "plan")},
        **{("candidate", f"plan={p}"): figures for p in ("basic", "gold", "silver")},
    }


@pytest.mark.parametrize("task", get_args(Task))
def test_no_figure_is_told_twice_and_each_says_of_how_many_rows(
    measured_by_task: dict[Task, list[Measured]], task: Task
) -> None:
    measured = measured_by_task[task]
    assert len({(m.subject, m.slice, m.name) for m in measured}) == len(measured)
    assert {m.row_count for m in measured if not m.slice} == {320}
    plan = world_of(task)[0]["plan", "text"][1]
    sizes = {m.slice: m.row_count for m in measured if m.slice}
    assert sizes == {f"plan={p}": plan.count(p) for p in ("basic", "gold", "silver")}


@pytest.mark.parametrize("task", get_args(Task))
def test_difference_is_candidate_minus_subject(measured_by_task: dict[Task, list[Measured]], task: Task) -> None:
    measured = measured_by_task[task]
    for name in METRICS[task]:
        for subject in ("baseline:constant", "baseline:plan"):
            gap = value_of(measured, CANDIDATE, name).value - value_of(measured, subject, name).value
            assert value_of(measured, difference_subject(subject), name).value == gap


@pytest.mark.parametrize("task", get_args(Task))
def test_metrics_have_intervals_around_them_and_counts_have_none(
    measured_by_task: dict[Task, list[Measured]], task: Task
) -> None:
    contained = []
    for m in measured_by_task[task]:
        compared = m.subject == CANDIDATE or m.subject.startswith(("baseline:", "difference:"))
        gate = "mae" if task == "regression" else "roc_auc"
        expected = (compared and m.name in METRICS[task] and m.slice == "") or (m.slice != "" and m.name == gate)
        if not m.subject.startswith("importance:"):
            assert (m.figure.low is not None, m.figure.high is not None) == (expected, expected), m
        if m.figure.low is not None and m.figure.high is not None:
            assert m.figure.low <= m.figure.high, m
            contained.append(m.figure.low - 1e-12 <= m.figure.value <= m.figure.high + 1e-12)
    assert sum(contained) / len(contained) > 0.9  # calibration_error is biased: a resample has more of it


def test_more_confidence_gives_wider_intervals_of_the_same_values() -> None:
    wide, narrow = (measured_of(evaluation=f"confidence = {c}") for c in (0.99, 0.6))
    for a, b in zip(wide, narrow, strict=True):
        if a.name != "rows_per_second":
            assert a.figure.value == b.figure.value
        if a.subject == CANDIDATE and a.name == "roc_auc":
            assert a.figure.low is not None
            assert b.figure.low is not None
            assert a.figure.low < b.figure.low


@pytest.mark.parametrize("task", get_args(Task))
def test_same_seed_gives_the_same_figures_and_another_one_the_same_values(task: Task) -> None:
    one, again, other = (
        [m for m in measured_of(task, training=f"seed = {seed}") if m.name != "rows_per_second"] for seed in (0, 0, 1)
    )
    assert one == again
    figures = [[m.figure for m in found if (m.subject, m.slice) == (CANDIDATE, "")] for found in (one, other)]
    assert figures[0] != figures[1]
    for a, b in zip(one, other, strict=True):
        assert (a.subject, a.slice, a.name, a.row_count) == (b.subject, b.slice, b.name, b.row_count)
        if not a.subject.startswith("importance:"):
            assert a.figure.value == b.figure.value


def test_predictions_of_the_holdout_are_returned_with_the_figures() -> None:
    features, fitting, holdout = world_of("binary")
    parts, fitted, signature = parts_of(features, fitting, holdout), fitted_of("binary"), signature_of(features)
    measured, found = measure(spec_of(), fitted, signature, parts)
    expected = predict(fitted.estimator, parts.holdout.rows, signature, fitted.output)
    assert found.prediction.tolist() == expected.prediction.tolist()
    assert found.score is not None
    assert expected.score is not None
    assert found.score.tolist() == expected.score.tolist()
    figures = figures_of("binary", holdout, expected, (0, 1)).weighted()
    assert {n: value_of(measured, CANDIDATE, n).value for n in figures} == figures


def test_without_evaluation_keys_there_is_the_constant_and_no_slice() -> None:
    measured = measured_of(evaluation="")
    assert {m.subject for m in measured if m.subject.startswith("baseline:")} == {CONSTANT}
    assert {m.slice for m in measured} == {""}


def test_without_a_quantile_a_regression_has_no_pinball() -> None:
    assert not [m for m in measured_of("regression") if m.name == "pinball"]


def test_speed_is_a_positive_number_of_rows_per_second() -> None:
    assert value_of(measured_of(evaluation=""), CANDIDATE, "rows_per_second").value > 1_000


@pytest.mark.parametrize(
    ("classes", "family"),
    [((False, True), "boolean"), (("no", "yes"), "text"), ((1, 2), "integer")],
    ids=["booleans", "text", "other numbers"],
)
def test_figures_do_not_depend_on_what_the_classes_are_called(classes: tuple[Any, Any], family: Family) -> None:
    features, fitting, holdout = world_of("binary")
    spec = spec_of(evaluation='baseline_by = "plan"\nslices = ["plan"]')
    expected = measured_of(evaluation='baseline_by = "plan"\nslices = ["plan"]')
    named = parts_of(features, [classes[n] for n in fitting], [classes[n] for n in holdout])
    found = measure(spec, fitted_of("binary", classes), signature_of(features, family), named)[0]
    for a, b in zip(found, expected, strict=True):
        assert (a.subject, a.slice, a.name) == (b.subject, b.slice, b.name)
        assert a.name == "rows_per_second" or a.figure == b.figure


def test_text_of_three_classes_gives_the_figures_of_three_numbers() -> None:
    features, fitting, holdout = world_of("multiclass")
    names = ("long-a", "m", "zz")
    named = parts_of(features, [names[n] for n in fitting], [names[n] for n in holdout])
    found = measure(spec_of("multiclass"), fitted_of("multiclass", names), signature_of(features, "text"), named)[0]
    expected = measured_of("multiclass", "")
    assert [m.figure for m in found if m.name != "rows_per_second"] == [
        m.figure for m in expected if m.name != "rows_per_second"
    ]


def test_threshold_moves_the_counts_and_not_the_scores() -> None:
    features, fitting, holdout = world_of("binary")
    parts = parts_of(features, fitting, holdout)
    low, high = (
        measure(spec_of(), fitted_of("binary", threshold=t), signature_of(features), parts)[0] for t in (0.1, 0.9)
    )
    assert value_of(low, CANDIDATE, "recall").value > value_of(high, CANDIDATE, "recall").value
    assert value_of(low, CANDIDATE, "precision").value < value_of(high, CANDIDATE, "precision").value
    assert value_of(low, CANDIDATE, "roc_auc") == value_of(high, CANDIDATE, "roc_auc")


def test_figure_that_is_undefined_is_not_told() -> None:
    """A holdout of one class has no ranking; what is defined stays."""
    features, fitting, _ = world_of("binary")
    found = measure(spec_of(), fitted_of("binary"), signature_of(features), parts_of(features, fitting, [1] * 320))[0]
    told = {m.name for m in found if m.subject == CANDIDATE}
    assert "roc_auc" not in {m.name for m in found}
    assert told == {*METRICS["binary"], *COUNTS, "rows_per_second"} - {"roc_auc"}
    json.loads(to_json(found), parse_constant=pytest.fail)


# ---------------------------------------------------------------- comparing


def test_every_subject_is_compared_with_the_candidate_on_the_same_resamples() -> None:
    features, _, holdout = world_of("binary")
    part = part_of({c: values[1] for c, values in features.items()}, holdout)
    said = predict(fitted_of("binary").estimator, part.rows, signature_of(features), fitted_of("binary").output)
    found = compare(spec_of(), Output(task="binary", classes=(0, 1)), part, {CANDIDATE: said, "champion": said})
    gaps = [m.figure for m in found if m.subject == "difference:champion"]
    assert gaps == [Figure(0.0, 0.0, 0.0)] * len(METRICS["binary"])
    assert {m.subject for m in found} == {"candidate", "champion", "difference:champion"}


def test_figures_of_a_better_subject_differ_by_less_than_nothing() -> None:
    labels = np.arange(40.0)
    part = part_of({("x", "number"): labels.tolist()}, labels)
    subjects = {CANDIDATE: Predictions(labels + 2, None), "champion": Predictions(labels + 1, None)}
    found = compare(spec_of("regression"), Output(task="regression"), part, subjects)
    assert value_of(found, "difference:champion", "mae") == Figure(1.0, 1.0, 1.0)
    assert value_of(found, "difference:champion", "r2").value < 0


EQUAL_LABELS: dict[Task, tuple[list[Any], Predictions, Predictions, str]] = {
    "regression": (
        [2.0] * 20, Predictions(np.arange(20.0), None), Predictions(np.zeros(20), None), "r2"),
    "binary": (
        [1] * 20, Predictions(np.ones(20, int), np.full(20, 0.8)), Predictions(np.ones(20, int), np.full(20, 0.6)),
        "roc_auc"),
}  # fmt: skip


@pytest.mark.parametrize("task", EQUAL_LABELS)
def test_figure_that_is_undefined_is_not_compared(task: Task) -> None:
    """Labels that are all equal have no spread to explain and no ranking; what is defined stays."""
    labels, own, theirs, undefined = EQUAL_LABELS[task]
    part = part_of({("x", "number"): [float(n) for n in range(20)]}, labels)
    output = Output(task=task, classes=CLASSES[task])
    found = compare(spec_of(task), output, part, {CANDIDATE: own, "champion": theirs})
    names = set(METRICS[task]) - {undefined, "pinball"}
    for subject in (CANDIDATE, "champion", "difference:champion"):
        told = {m.name for m in found if m.subject == subject}
        assert told - COUNTS == names
    json.loads(to_json(found), parse_constant=pytest.fail)


# ---------------------------------------------------------------- resampling


def repeated(times: int) -> tuple[Part, Predictions]:
    """30 customers with `times` equal rows each."""
    draws = np.random.default_rng(3)
    label = draws.integers(0, 2, 30)
    score = np.clip(label * 0.3 + draws.uniform(0, 0.7, 30), 0, 1)
    rows = np.repeat(np.arange(30), times)
    part = part_of({("customer", "text"): [f"c{n:02}" for n in rows]}, label[rows])
    return part, Predictions((score >= 0.5).astype(int)[rows], score[rows])


def interval_of(times: int, evaluation: str, name: str = "roc_auc") -> tuple[float, float]:
    part, said = repeated(times)
    found = compare(spec_of(evaluation=evaluation), Output(task="binary", classes=(0, 1)), part, {CANDIDATE: said})
    figure = value_of(found, CANDIDATE, name)
    assert figure.low is not None
    assert figure.high is not None
    return figure.low, figure.high


BY_CUSTOMER = 'resample_by = "customer"'


def test_repeated_rows_of_a_customer_are_no_new_knowledge_when_customers_are_resampled() -> None:
    """Resampled row by row, the interval would be four times too narrow."""
    once, by_customer, by_row = interval_of(1, ""), interval_of(20, BY_CUSTOMER), interval_of(20, "")
    assert by_customer == pytest.approx(once)
    assert (by_customer[1] - by_customer[0]) / (by_row[1] - by_row[0]) > 3


def test_resampling_by_a_column_of_distinct_values_is_resampling_rows() -> None:
    assert interval_of(1, BY_CUSTOMER) == interval_of(1, "")


#: Rows, customers and whether that is enough to tell chance from difference.
UNITS = {
    "nine rows": (9, 9, "", False),
    "ten rows": (10, 10, "", True),
    "nine customers": (180, 9, BY_CUSTOMER, False),
    "ten customers": (200, 10, BY_CUSTOMER, True),
    "nine customers resampled row by row": (180, 9, "", True),
}


def customers_of(rows: int, customers: int) -> tuple[Part, Predictions, Predictions]:
    """Return rows of so many customers, and what two subjects say of them: the second one is always nearer."""
    labels = np.arange(float(rows))
    part = part_of({("customer", "text"): [f"c{n % customers:02}" for n in range(rows)]}, labels)
    near, far = (Predictions(labels + e * (1 + np.arange(rows) % 3), None) for e in (1, 5))
    return part, far, near


@pytest.mark.parametrize(("rows", "customers", "evaluation", "enough"), UNITS.values(), ids=UNITS)
def test_figures_of_a_handful_of_units_have_no_interval_and_tell_no_difference(
    rows: int, customers: int, evaluation: str, enough: bool
) -> None:
    part, far, near = customers_of(rows, customers)
    spec = spec_of("regression", evaluation)
    found = compare(spec, Output(task="regression"), part, {CANDIDATE: far, "champion": near})
    for m in found:
        assert (m.figure.low is not None, m.figure.high is not None) == (enough, enough), m
    gap = value_of(found, "difference:champion", "mae")
    assert gap.value > 1
    told = outcome_of(gap, higher_is_better=False, margin=0.0)
    assert told == ("worse" if enough else "indistinguishable")


@pytest.mark.parametrize(("rows", "customers", "evaluation", "enough"), UNITS.values(), ids=UNITS)
def test_slice_of_a_handful_of_units_has_figures_without_interval(
    rows: int, customers: int, evaluation: str, enough: bool
) -> None:
    """However many there are outside of it."""
    inside, far, _ = customers_of(rows, customers)
    names = [*inside.rows.column("customer").to_pylist(), *(f"other {n}" for n in range(50))]
    labels = np.arange(rows + 50.0)
    part = part_of({("customer", "text"): names, ("group", "text"): ["a"] * rows + ["b"] * 50}, labels)
    said = Predictions(np.concatenate([far.prediction, labels[rows:] + 1]), None)
    spec = spec_of("regression", f'slices = ["group"]\nslice_rows = 2\n{evaluation}')
    found = measurement._slices(spec, Output(task="regression"), part, said)
    figure, other = (value_of(found, CANDIDATE, "mae", f"group={g}") for g in "ab")
    assert (figure.low is not None, figure.high is not None) == (enough, enough)
    assert other.low is not None


@pytest.mark.parametrize(
    ("rows", "customers", "evaluation", "count"),
    [(30, 7, "", 30), (30, 7, BY_CUSTOMER, 7), (5, 5, BY_CUSTOMER, 5), (0, 1, "", 0), (0, 1, BY_CUSTOMER, 0)],
)
def test_units_are_rows_or_distinct_values_of_the_column(
    rows: int, customers: int, evaluation: str, count: int
) -> None:
    assert unit_count(spec_of("regression", evaluation), customers_of(rows, customers)[0]) == count


def test_ten_units_are_the_fewest_that_tell_anything() -> None:
    assert MINIMUM_UNITS == 10


def repeated_slice(evaluation: str) -> Figure:
    part, said = repeated(20)
    column = part.rows.append_column("all", pa.array(["x"] * 600))
    part = Part(column, part.features, part.labels)
    spec = spec_of(evaluation=f'slices = ["all"]\n{evaluation}')
    found = measurement._slices(spec, Output(task="binary", classes=(0, 1)), part, said)
    return value_of(found, CANDIDATE, "roc_auc", "all=x")


def test_interval_of_a_slice_is_resampled_by_the_same_units() -> None:
    by_customer, by_row = repeated_slice(BY_CUSTOMER), repeated_slice("")
    assert None not in (by_customer.low, by_customer.high, by_row.low, by_row.high)
    assert by_customer.high - by_customer.low > 3 * (by_row.high - by_row.low)  # type: ignore[operator]


# ---------------------------------------------------------------- slices


def slices_of(values: Sequence[Any], family: Family = "text", evaluation: str = "slice_rows = 20") -> list[Measured]:
    label = [n % 2 for n in range(len(values))]
    used = [v + (0.4 if n % 3 else -1.2) * (1 - 2 * v) for n, v in enumerate(label)]
    features: Features = {("used", "number"): (used, used), ("group", family): (values, values)}
    spec = spec_of(evaluation=f'slices = ["group"]\n{evaluation}')
    found = measure(spec, fitted_of("binary"), signature_of(features), parts_of(features, label, label))[0]
    return [m for m in found if m.slice]


def test_slices_with_too_few_rows_are_left_out() -> None:
    found = slices_of(["a"] * 40 + ["b"] * 20 + ["c"] * 19)
    assert {(m.slice, m.row_count) for m in found} == {("group=a", 40), ("group=b", 20)}
    assert {m.subject for m in found} == {CANDIDATE}


@pytest.mark.parametrize(
    ("values", "family", "names"),
    [
        ([1, 2], "integer", {"group=1", "group=2"}),
        ([True, False], "boolean", {"group=true", "group=false"}),
        ([dt.date(2026, 1, 1), dt.date(2026, 1, 2)], "date", {"group=2026-01-01", "group=2026-01-02"}),
        (["a=b", "ü"], "text", {"group=a=b", "group=ü"}),
    ],
    ids=["integers", "booleans", "dates", "text"],
)
def test_slices_are_named_by_column_and_value(values: list[Any], family: Family, names: set[str]) -> None:
    assert {m.slice for m in slices_of([v for v in values for _ in range(30)], family)} == names


def test_figures_of_a_slice_are_those_of_its_rows_alone() -> None:
    whole, half = (slices_of(v) for v in (["a"] * 60, ["a"] * 60 + ["b"] * 41))
    assert [m for m in half if m.slice == "group=a"] == whole


@pytest.mark.parametrize("task", get_args(Task))
def test_figures_of_a_slice_pair_each_label_with_its_own_prediction(task: Task) -> None:
    features, fitting, holdout = world_of(task)
    parts, fitted, signature = parts_of(features, fitting, holdout), fitted_of(task), signature_of(features)
    measured, said = measure(spec_of(task, 'slices = ["plan"]\nslice_rows = 2'), fitted, signature, parts)
    for plan in PLANS:
        rows = np.array(features["plan", "text"][1]) == plan
        own = Predictions(said.prediction[rows], None if said.score is None else said.score[rows])
        figures = figures_of(task, holdout[rows], own, CLASSES[task]).weighted()
        found = {m.name: m.figure.value for m in measured if m.slice == f"plan={plan}"}
        assert found == pytest.approx({name: value for name, value in figures.items() if np.isfinite(value)})


def test_slice_of_one_class_has_no_ranking_but_its_other_figures() -> None:
    label_0 = [("even", "odd")[n % 2] for n in range(100)]
    found = slices_of(label_0)
    assert {m.name for m in found if m.slice == "group=odd"} == {*METRICS["binary"], *COUNTS} - {"roc_auc"}
    assert {m.name for m in found if m.slice == "group=even"} == {*METRICS["binary"], *COUNTS} - {
        "roc_auc", "average_precision"
    }  # fmt: skip


def test_of_very_many_slices_the_largest_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "SLICES", 3)
    values = [f"v{n}" for n in range(6) for _ in range(2 + 2 * n)]
    found = slices_of(values, evaluation="slice_rows = 2")
    assert {m.slice for m in found} == {"group=v3", "group=v4", "group=v5"}


def test_long_values_of_slices_are_cut_and_kept_apart() -> None:
    start = "ü" * 100
    values = [start, start + "a", start + "b", start + "b" * 5_000]
    found = slices_of([v for v, count in zip(values, (20, 30, 40, 50), strict=True) for _ in range(count)])
    rows = {m.slice: m.row_count for m in found}
    assert sorted(rows.values()) == [20, 30, 40, 50]
    assert rows.pop(f"group={start}") == 20
    for place in rows:
        assert place.startswith(f"group={start}… (")
        assert len(place) < 130
    again = slices_of([values[1]] * 30 + [values[0]] * 20)
    assert {m.slice for m in again} == {f"group={start}", next(p for p, count in rows.items() if count == 30)}


# ---------------------------------------------------------------- baselines

LABELS, LATER = [0.0, 0.0, 2.0, 10.0, 3.0], [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("gate", "quantile", "constant"),
    [
        ('metric = "mae"\nmaximum = 9', "", 2.0),
        ('metric = "rmse"\nmaximum = 9', "", 3.0),
        ('metric = "r2"\nminimum = 0', "", 3.0),
        ('metric = "pinball"\nmaximum = 9', "quantile = 0.75", 3.0),
        ('metric = "pinball"\nmaximum = 9', "quantile = 0.9", 7.2),
    ],
    ids=["median for mae", "mean for rmse", "mean for r2", "upper quartile", "90 % quantile"],
)
def test_constant_is_the_one_that_the_metric_of_the_gate_is_kindest_to(
    gate: str, quantile: str, constant: float
) -> None:
    parts = parts_of({("x", "number"): (LABELS, LATER)}, LABELS, LATER)
    found = baselines(spec_of("regression", quantile, gate), Output(task="regression"), parts)
    assert found[CONSTANT].score is None
    assert found[CONSTANT].prediction == pytest.approx(np.full(3, constant))


@pytest.mark.parametrize(
    ("threshold", "label"), [(None, "no"), (0.4, "yes"), (0.41, "no")], ids=["none", "reached", "not reached"]
)
def test_constant_of_a_classifier_is_the_share_of_the_fitting_rows_at_the_threshold(
    threshold: float | None, label: str
) -> None:
    fitting, holdout = ["yes", "no", "no", "yes", "no"], ["yes", "yes", "no"]
    parts = parts_of({("x", "number"): (LABELS, LATER)}, fitting, holdout)
    output = Output(task="binary", classes=("no", "yes"), threshold=threshold)
    found = baselines(spec_of(), output, parts)[CONSTANT]
    assert found.score == pytest.approx(np.full(3, 0.4))
    assert found.prediction.tolist() == [label] * 3


#: metric, threshold → the label that is best at it on two "yes" and three "no", and what it reaches there.
LABEL_FIGURES = {
    "f1": ("f1", None, "yes", 4 / 7),
    "precision": ("precision", None, "yes", 0.4),
    "accuracy": ("accuracy", None, "no", 0.6),
    "accuracy with a low threshold": ("accuracy", 0.2, "no", 0.6),
    "f1 with a high threshold": ("f1", 0.9, "yes", 4 / 7),
}


@pytest.mark.parametrize(("metric", "threshold", "label", "reached"), LABEL_FIGURES.values(), ids=LABEL_FIGURES)
def test_constant_of_a_figure_of_labels_is_the_label_that_is_best_at_it_on_the_fitting_rows(
    metric: str, threshold: float | None, label: str, reached: float
) -> None:
    """Whatever the holdout says and where the threshold lies; the scores stay the shares."""
    fitting, holdout = ["yes", "no", "no", "yes", "no"], ["yes", "yes", "no"] if label == "no" else ["no"] * 3
    parts = parts_of({("x", "number"): (LABELS, LATER)}, fitting, holdout)
    spec = spec_of(gate=f'metric = "{metric}"\nminimum = 0.1')
    output = Output(task="binary", classes=("no", "yes"), threshold=threshold)
    found = baselines(spec, output, parts)[CONSTANT]
    assert found.prediction.tolist() == [label] * 3
    assert found.score == pytest.approx(np.full(3, 0.4))

    again = baselines(spec, output, parts_of({("x", "number"): (LABELS, LABELS)}, fitting, fitting))[CONSTANT]
    figures = figures_of("binary", np.array(fitting), again, ("no", "yes")).weighted()
    assert figures[metric] == pytest.approx(reached)


@pytest.mark.parametrize(
    ("metric", "labels", "reached"),
    [("accuracy", {1}, 0.6), ("f1", {1}, 0.25), ("balanced_accuracy", {0, 1, 2}, 1 / 3)],
)
def test_constant_of_many_classes_is_one_label_that_is_best_on_the_fitting_rows(
    metric: str, labels: set[int], reached: float
) -> None:
    fitting = [0, 1, 1, 2, 1]
    parts = parts_of({("x", "number"): (LABELS, LABELS)}, fitting, fitting)
    spec = spec_of("multiclass", gate=f'metric = "{metric}"\nminimum = 0.1')
    found = baselines(spec, Output(task="multiclass", classes=(0, 1, 2)), parts)[CONSTANT]
    assert len(set(found.prediction.tolist())) == 1
    assert set(found.prediction.tolist()) <= labels
    assert found.score == pytest.approx(np.array([[0.2, 0.6, 0.2]] * 5))
    assert figures_of("multiclass", np.array(fitting), found, (0, 1, 2)).weighted()[metric] == pytest.approx(reached)


def test_baseline_of_a_column_is_the_mean_of_the_fitting_rows_with_its_value() -> None:
    """A value not seen there gets the mean of all."""
    parts = parts_of({("g", "text"): (["a", "a", "b", "b", "b"], ["b", "a", "new"])}, LABELS, LATER)
    found = baselines(spec_of("regression", 'baseline_by = "g"'), Output(task="regression"), parts)
    assert found["baseline:g"].prediction.tolist() == [5.0, 0.0, 3.0]


def test_baselines_of_many_classes_are_probabilities() -> None:
    parts = parts_of({("g", "text"): (["a", "a", "b", "b", "b"], ["b", "a", "new"])}, [0, 1, 2, 2, 1], [0, 1, 2])
    output = Output(task="multiclass", classes=(0, 1, 2))
    found = baselines(spec_of("multiclass", 'baseline_by = "g"'), output, parts)
    expected = [[0, 1 / 3, 2 / 3], [0.5, 0.5, 0], [0.2, 0.4, 0.4]]
    assert found["baseline:g"].score == pytest.approx(np.array(expected))
    assert found["baseline:g"].prediction.tolist() == [2, 0, 1]
    assert found[CONSTANT].score == pytest.approx(np.array([[0.2, 0.4, 0.4]] * 3))


# ---------------------------------------------------------------- one feature alone

ROWS = 400
HALF = [n % 2 for n in range(ROWS)]
THIRDS = [n % 3 for n in range(ROWS)]


def alone(
    family: Family,
    fitting: Sequence[Any],
    holdout: Sequence[Any],
    task: Task = "binary",
    labels: Sequence[Any] | None = None,
) -> float:
    """Return what the feature reaches alone; labels : of fitting and holdout alike."""
    given_labels = labels or {"binary": HALF, "multiclass": THIRDS, "regression": [float(n) for n in range(ROWS)]}[task]
    features: Features = {("x", family): (fitting, holdout)}
    parts = parts_of(features, given_labels, given_labels)
    output = Output(task=task, classes=CLASSES[task])
    measured = of_features(spec_of(task), output, signature_of(features), parts)
    [found] = [m for m in measured if m.subject.startswith(FEATURE)]
    assert (found.subject, found.row_count) == ("feature:x", ROWS)
    return found.figure.value


def noise(seed: int) -> list[float]:
    return np.random.default_rng(seed).normal(size=ROWS).tolist()


def moments(labels: list[int], seed: int) -> list[dt.datetime]:
    """Later by a year where the label is 1; no two equal."""
    minutes = np.random.default_rng(seed).permutation(ROWS)
    return [
        dt.datetime(2025 + happened, 1, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=int(m))
        for happened, m in zip(labels, minutes, strict=True)
    ]


def ring(seed: int) -> list[float]:
    """Near nought where the label is 0, far from it, on either side, where it is 1."""
    draws = np.random.default_rng(seed)
    side = draws.choice([-1, 1], ROWS)
    return [float(s * (abs(v) + 2.5 * y)) for s, v, y in zip(side, draws.uniform(0, 2, ROWS), HALF, strict=True)]


LEAKS: dict[str, tuple[Family, Sequence[Any], Sequence[Any], Task]] = {
    "copy as integer": ("integer", HALF, HALF, "binary"),
    "copy as number": ("number", [float(n) for n in HALF], [float(n) for n in HALF], "binary"),
    "copy as boolean": ("boolean", [bool(n) for n in HALF], [bool(n) for n in HALF], "binary"),
    "copy as text": ("text", [str(n) for n in HALF], [str(n) for n in HALF], "binary"),
    "opposite": ("integer", [1 - n for n in HALF], [1 - n for n in HALF], "binary"),
    "many numbers": (
        "number", [n + v / 100 for n, v in zip(HALF, noise(1), strict=True)],
        [n + v / 100 for n, v in zip(HALF, noise(2), strict=True)], "binary"),
    "neither rising nor falling": ("number", ring(1), ring(2), "binary"),
    "when it happened": ("timestamp", moments(HALF, 1), moments(HALF, 2), "binary"),
    "missing where it did not happen": (
        "number", [v if n else None for n, v in zip(HALF, noise(1), strict=True)],
        [v if n else None for n, v in zip(HALF, noise(2), strict=True)], "binary"),
    "copy of three classes": ("integer", THIRDS, THIRDS, "multiclass"),
    "copy of three classes as text": ("text", [str(n) for n in THIRDS], [str(n) for n in THIRDS], "multiclass"),
    "copy of a quantity": ("number", [float(n) for n in range(ROWS)], [float(n) for n in range(ROWS)], "regression"),
    "the square of a quantity about its middle": (
        "number", [(n - 200.0) * 3 for n in range(ROWS)], [(n - 200.0) * 3 for n in range(ROWS)], "regression"),
}  # fmt: skip


@pytest.mark.parametrize(("family", "fitting", "holdout", "task"), LEAKS.values(), ids=LEAKS)
def test_feature_that_knows_the_outcome_is_found(
    family: Family, fitting: Sequence[Any], holdout: Sequence[Any], task: Task
) -> None:
    """Whatever its type and however it says it."""
    assert alone(family, fitting, holdout, task) > 0.99


NOTHING: dict[str, tuple[Family, Sequence[Any], Sequence[Any], Task, float]] = {
    "noise": ("number", noise(1), noise(2), "binary", 0.5),
    "noise about a quantity": ("number", noise(1), noise(2), "regression", 0.0),
    "noise about three classes": ("number", noise(1), noise(2), "multiclass", 0.5),
    "text that names every row": (
        "text", [f"fitting {n}" for n in range(ROWS)], [f"holdout {n}" for n in range(ROWS)], "binary", 0.5),
    "number that counts the rows on": ("integer", range(ROWS), range(ROWS, 2 * ROWS), "binary", 0.5),
    "one value": ("integer", [7] * ROWS, [7] * ROWS, "binary", 0.5),
    "always missing": ("number", [None] * ROWS, [None] * ROWS, "binary", 0.5),
    "text that is always missing": ("text", [None] * ROWS, [None] * ROWS, "binary", 0.5),
}  # fmt: skip


@pytest.mark.parametrize(("family", "fitting", "holdout", "task", "chance"), NOTHING.values(), ids=NOTHING)
def test_feature_that_knows_nothing_reaches_nothing(
    family: Family, fitting: Sequence[Any], holdout: Sequence[Any], task: Task, chance: float
) -> None:
    assert alone(family, fitting, holdout, task) == pytest.approx(chance, abs=0.35 if task == "regression" else 0.12)
    assert alone(family, fitting, holdout, task) < chance + 0.12


@pytest.mark.parametrize("task", get_args(Task))
def test_used_feature_reaches_more_alone_than_noise(measured_by_task: dict[Task, list[Measured]], task: Task) -> None:
    name = "r2" if task == "regression" else "roc_auc"
    used, nothing = (value_of(measured_by_task[task], f"feature:{f}", name).value for f in ("used", "noise"))
    assert used > 0.75 > nothing


@pytest.mark.parametrize("where", ["fitting", "holdout"])
@pytest.mark.parametrize(
    ("family", "values"), [("integer", HALF), ("boolean", [bool(n) for n in HALF])], ids=["integer", "boolean"]
)
def test_feature_that_knows_the_outcome_is_found_though_one_part_has_a_null(
    family: Family, values: list[Any], where: str
) -> None:
    holed = [None, *values[1:]]
    pair = (holed, values) if where == "fitting" else (values, holed)
    assert alone(family, *pair) > 0.99


@pytest.mark.parametrize(
    ("family", "value"), [("text", "a"), ("number", 1.0), ("integer", 1), ("date", dt.date(2026, 1, 1))],
    ids=["text", "number", "integer", "date"],
)  # fmt: skip
def test_missing_value_is_a_value_of_its_own(family: Family, value: Any) -> None:
    values = [None if n else value for n in HALF]
    assert alone(family, values, values, "regression", [10.0 * n for n in HALF]) > 0.99


def test_infinite_values_of_a_feature_are_greater_than_every_number() -> None:
    values = [float("inf") if n else v for n, v in zip(HALF, noise(1), strict=True)]
    assert alone("number", values, values) > 0.99


def with_null(column: str, evaluation: str) -> list[Measured]:
    features, fitting, holdout = world_of("binary")
    plan = [None, None, *features["plan", "text"][1][2:]]
    holed: Features = {**features, (column, "text"): (features["plan", "text"][0], plan)}
    parts = parts_of(holed, fitting, holdout)
    return measure(spec_of(evaluation=evaluation), fitted_of("binary"), signature_of(holed), parts)[0]


def test_null_in_a_column_of_slices_is_a_value_like_others() -> None:
    found = with_null("plan", 'slices = ["plan"]\nslice_rows = 2')
    assert value_of(found, CANDIDATE, "roc_auc").low is not None
    assert {m.row_count for m in found if m.slice == "plan=NULL"} == {2}


def test_null_in_a_column_of_units_is_a_value_like_others() -> None:
    """Nine values and NULL are ten units."""
    labels = np.arange(40.0)
    part = part_of({("customer", "text"): [f"c{n % 10}" if n % 10 else None for n in range(40)]}, labels)
    spec = spec_of("regression", BY_CUSTOMER)
    said = Predictions(labels + np.arange(40) % 7, None)
    found = compare(spec, Output(task="regression"), part, {CANDIDATE: said})
    assert unit_count(spec, part) == 10
    assert value_of(found, CANDIDATE, "mae").low is not None


def test_null_in_the_column_of_the_baseline_gets_a_prediction() -> None:
    assert value_of(with_null("plan", 'baseline_by = "plan"'), "baseline:plan", "roc_auc").value > 0.5


# ---------------------------------------------------------------- importance of a feature


@pytest.mark.parametrize(
    ("task", "gate"),
    [
        ("binary", 'metric = "roc_auc"\nminimum = 0.6'),
        ("binary", 'metric = "log_loss"\nmaximum = 0.6'),
        ("binary", 'metric = "f1"\nminimum = 0.6'),
        ("multiclass", 'metric = "log_loss"\nmaximum = 0.6'),
        ("multiclass", 'metric = "balanced_accuracy"\nminimum = 0.6'),
        ("regression", 'metric = "mae"\nmaximum = 9'),
        ("regression", 'metric = "r2"\nminimum = 0'),
    ],
    ids=["roc_auc", "log_loss", "f1", "log_loss of many", "balanced_accuracy", "mae", "r2"],
)
def test_importance_is_how_much_worse_it_gets_without_the_feature(task: Task, gate: str) -> None:
    """Positive where the feature helps, whichever direction of the metric is better; nothing for an unused one."""
    found = measured_of(task, evaluation="", gate=gate)
    metric = gate.split('"')[1]
    used, unused = (value_of(found, f"importance:{f}", metric) for f in ("used", "noise"))
    assert unused == Figure(0.0, 0.0, 0.0)
    assert used.value > 0.05
    assert used.low is not None
    assert used.high is not None
    assert 0 < used.low < used.value < used.high


def test_importance_of_pinball_is_that_of_the_quantile() -> None:
    found = measured_of("regression", "quantile = 0.9", gate='metric = "pinball"\nmaximum = 9')
    assert value_of(found, "importance:used", "pinball").value > 0.05


def test_importance_and_speed_are_measured_on_a_part_of_very_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "IMPORTANCE_ROWS", 90)
    monkeypatch.setattr(measurement, "SPEED_ROWS", 70)
    found = measured_of(evaluation="")
    rows = {m.row_count for m in found if m.subject.startswith("importance:")}
    assert rows == {90}
    assert [m.row_count for m in found if m.name == "rows_per_second"] == [70]


# ---------------------------------------------------------------- metrics.json

numbers = st.floats(allow_nan=False, allow_infinity=False)
figures = st.builds(Figure, value=numbers, low=st.none() | numbers, high=st.none() | numbers)
rows_of_metric = st.builds(
    Measured, subject=st.text(), slice=st.text(), name=st.text(), figure=figures, row_count=st.integers(0)
)


@given(st.lists(rows_of_metric, max_size=5))
def test_figures_survive_metrics_json(measured: list[Measured]) -> None:
    assert from_json(to_json(measured)) == measured


@pytest.mark.parametrize("task", get_args(Task))
def test_what_was_measured_survives_metrics_json_which_is_strict(
    measured_by_task: dict[Task, list[Measured]], task: Task
) -> None:
    content = to_json(measured_by_task[task])
    assert from_json(content) == measured_by_task[task]
    assert json.loads(content, parse_constant=pytest.fail)["format"] == 1

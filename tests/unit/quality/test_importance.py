"""Which features no prediction depends on, and what is left out when the time for importances is up."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from ponte.model.spec import ModelSpec
from ponte.quality.figures import Measured
from ponte.quality.measurement import measure
from ponte.snapshots.parts import Part, Parts
from ponte.storage.columns import Column
from ponte.versions.predicting import Fitted, Output
from ponte.versions.signature import Signature, frame_of

NUMBERS = [f"n{number}" for number in range(6)]
COLUMNS = (*(Column(name=name, family="number") for name in NUMBERS), Column(name="plan", family="text"))
SIGNATURE = Signature(key=(), features=COLUMNS, label="integer", types=4)


def part_of(size: int, seed: int) -> Part:
    draws = np.random.default_rng(seed)
    rows = pa.table({**{name: draws.normal(size=size) for name in NUMBERS}, "plan": draws.choice(["a", "b"], size)})
    # The last number says most.
    wish = sum(number * rows.column(name).to_numpy() for number, name in enumerate(NUMBERS))
    labels = (
        wish + 9 * (rows.column("plan").to_numpy(zero_copy_only=False) == "a") + draws.normal(size=size) > 4
    ).astype(int)
    return Part(rows, frame_of(rows, SIGNATURE), labels)


PARTS = Parts(fitting=part_of(400, 1), calibration=part_of(0, 2), holdout=part_of(300, 3), purged_rows=0)


def measured_of(seconds: float, clock: Any, text: Any = object) -> list[Measured]:
    """The measured figures of an estimator whose selector takes the text columns of a dtype."""
    spec = ModelSpec.model_validate(
        {
            "description": "d", "owner": "o", "task": "binary", "key": ("id",),
            "gate": {"metric": "roc_auc", "minimum": 0.5},
            "evaluation": {"importance_seconds": seconds, "resamples": 100},
        }
    )  # fmt: skip
    columns = make_column_transformer(
        ("passthrough", NUMBERS), (OneHotEncoder(), make_column_selector(dtype_include=text))
    )
    estimator = make_pipeline(columns, LogisticRegression()).fit(PARTS.fitting.features, PARTS.fitting.labels)
    return measure(spec, Fitted(estimator, Output(task="binary", classes=(0, 1))), SIGNATURE, PARTS, clock)[0]


def of(measured: list[Measured], kind: str) -> dict[str, Any]:
    return {m.subject.removeprefix(kind): m.figure for m in measured if m.subject.startswith(kind)}


def standing() -> float:
    return 0.0


def test_feature_that_no_prediction_depends_on_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """A text is a category, and no object: the selector of the usual tutorial finds none."""
    with caplog.at_level(logging.WARNING):
        found = measured_of(30, standing)
    assert list(of(found, "unused:")) == ["plan"]
    assert [m for m in caplog.messages if m.startswith("no prediction depends on plan: ")]
    caplog.clear()
    assert of(measured_of(30, standing, text="category"), "unused:") == {}
    assert caplog.messages == []


def test_time_that_is_up_leaves_out_the_least_important_and_changes_no_figure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = of(measured_of(30, standing), "importance:")
    assert list(whole) == [*NUMBERS, "plan"]
    # One look at the clock is a second: one at the beginning, one for each of 7 features, and 6 for the next three.
    ticks = itertools.count()
    with caplog.at_level(logging.WARNING):
        found = of(measured_of(23, lambda: float(next(ticks))), "importance:")
    assert list(found) == ["n4", "n5"] or list(found) == ["n3", "n4", "n5"]
    assert found == {name: whole[name] for name in found}
    left_out = [name for name in whole if name not in found]
    [said] = [m for m in caplog.messages if "was not measured" in m]
    assert said.startswith("[evaluation] importance_seconds = 23: ")
    assert said.endswith(": " + ", ".join(left_out))


def test_no_time_means_no_importance_and_everything_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = measured_of(0, standing)
    assert (of(found, "importance:"), of(found, "unused:")) == ({}, {})
    names = ", ".join([*NUMBERS, "plan"])
    assert [m.endswith(names) for m in caplog.messages] == [True, True]
    assert "7 features" in caplog.messages[0]

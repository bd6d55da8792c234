"""Measure a version, the champion and two baselines on the same holdout rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ponte import registry
from ponte.artifacts import ArtifactStore
from ponte.catalog import ModelFolder
from ponte.database import Database
from ponte.receipts import Receipt, measured
from ponte.registry import Version
from ponte.signature import differences
from ponte.spec import Task
from ponte.training import Part, split
from ponte.training_sets import get_training_set, lock_training_set, read_snapshot
from ponte.versions import Predictions, load_version

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

CANDIDATE = "candidate"
#: Figure of the champion: 1 when it could predict the holdout rows, 0 when it could not.
READABLE = "readable"
EVEN_ODDS = 0.5
#: Metric name → value.
Metrics = Mapping[str, float]


def champion_subject(version: int) -> str:
    """Return the subject under which the champion's figures are stored."""
    return f"champion:{version}"


def evaluate(
    db: Database, store: ArtifactStore, folder: ModelFolder, version_number: int, snapshot_id: int
) -> dict[str, Metrics]:
    """Return metrics by subject (candidate, champion, baselines), all on the holdout rows of the training set.

    Stored in `ponte.metric`; a repetition replaces what it stored before. A champion that cannot predict these rows
    (other columns, other libraries, broken files) gets only the figure `readable` = 0.
    """
    version = registry.get_version(db, folder.name, version_number)
    with measured(db, Receipt(model=folder.name, step="evaluate", snapshot_id=snapshot_id)) as receipt:
        receipt.version = version_number
        training_set = get_training_set(db, snapshot_id)
        fitting, holdout = split(read_snapshot(store, training_set), training_set)
        receipt.row_count = len(holdout.labels)
        classes = _classes(fitting.labels, version.task)
        predictions = {CANDIDATE: load_version(store, version).predict(holdout.rows)}
        rival, rival_predictions = _champion_predictions(db, store, version, holdout)
        if rival_predictions is not None:
            predictions[champion_subject(rival)] = rival_predictions
        predictions["baseline:constant"] = _constant(fitting, holdout, version.task, classes)
        by = folder.spec.evaluation.baseline_by
        if by is not None:
            predictions[f"baseline:{by}"] = _by_column(fitting, holdout, by, version.task, classes)
        metrics: dict[str, Metrics] = {
            s: measure(version.task, holdout.labels, p, classes) for s, p in predictions.items()
        }
        if rival:
            readable = {READABLE: float(rival_predictions is not None)}
            metrics[champion_subject(rival)] = {**metrics.get(champion_subject(rival), {}), **readable}
        _store(db, version, snapshot_id, metrics, row_count=len(holdout.labels))
    for subject, figures in metrics.items():
        log.info("%-20s %s", subject, "  ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    return metrics


def measure(task: Task, labels: np.ndarray[Any, Any], predictions: Predictions, classes: list[Any]) -> Metrics:
    """Return the metrics of a task.

    labels : shape (n,); predictions : of the same n rows; classes : the two labels, the positive one last (binary).
    roc_auc and average_precision are in [0, 1], higher is better (0.5 and the positive share are chance); brier in
    [0, 1] and log_loss in nats, lower is better; mae and rmse have the unit of the label, lower is better; r2 is at
    most 1, and 0 for the mean of the holdout.
    """
    from sklearn import metrics as sk

    if task == "regression":
        return {
            "mae": float(sk.mean_absolute_error(labels, predictions.prediction)),
            "rmse": float(sk.root_mean_squared_error(labels, predictions.prediction)),
            "r2": float(sk.r2_score(labels, predictions.prediction)),
        }
    positive = (labels == classes[1]).astype(int)
    score = predictions.score
    assert score is not None
    return {
        "roc_auc": float(sk.roc_auc_score(positive, score)),
        "average_precision": float(sk.average_precision_score(positive, score)),
        "brier": float(sk.brier_score_loss(positive, score)),
        "log_loss": float(sk.log_loss(positive, score, labels=[0, 1])),
    }


def _classes(labels: np.ndarray[Any, Any], task: Task) -> list[Any]:
    import numpy as np

    return list(np.unique(labels)) if task == "binary" else []


def _champion_predictions(
    db: Database, store: ArtifactStore, candidate: Version, holdout: Part
) -> tuple[int, Predictions | None]:
    """Return the champion's version (0: there is none beside the candidate) and its predictions, if it has any."""
    alias = registry.current_alias(db, candidate.model)
    if alias is None or alias.version == candidate.version:
        return 0, None
    champion = registry.get_version(db, candidate.model, alias.version)
    differ = differences(champion.signature.features, candidate.signature.features)
    if differ:
        log.warning("champion %d was trained on other columns: %s", champion.version, "; ".join(differ))
        return champion.version, None
    try:
        return champion.version, load_version(store, champion).predict(holdout.rows)
    except (OSError, MemoryError):
        raise  # of this moment, not of the champion: it must not let a worse successor through
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the champion must not keep its successor out
        log.warning("champion %d cannot predict these rows: %s", champion.version, error)
        return champion.version, None


def _constant(fitting: Part, holdout: Part, task: Task, classes: list[Any]) -> Predictions:
    import numpy as np

    value = _target(fitting, task, classes).mean()
    return _baseline(np.full(len(holdout.labels), value), task, classes)


def _by_column(fitting: Part, holdout: Part, column: str, task: Task, classes: list[Any]) -> Predictions:
    """Mean label per value of the column over the fitting rows; the overall mean for a value not seen there."""
    import pandas as pd

    target = pd.Series(_target(fitting, task, classes))
    keys = fitting.rows.column(column).to_pandas()
    means = target.groupby(keys.to_numpy()).mean()
    values = holdout.rows.column(column).to_pandas().map(means).fillna(target.mean())
    return _baseline(values.to_numpy(dtype="float64"), task, classes)


def _target(part: Part, task: Task, classes: list[Any]) -> np.ndarray[Any, Any]:
    labels: np.ndarray[Any, Any] = part.labels if task == "regression" else part.labels == classes[1]
    return labels.astype("float64")


def _baseline(values: np.ndarray[Any, Any], task: Task, classes: list[Any]) -> Predictions:
    import numpy as np

    if task == "regression":
        return Predictions(values, None)
    return Predictions(np.where(values > EVEN_ODDS, classes[1], classes[0]), values)


def _store(db: Database, version: Version, snapshot_id: int, metrics: Mapping[str, Metrics], *, row_count: int) -> None:
    rows = [
        {"model": version.model, "version": version.version, "snapshot_id": snapshot_id,
         "subject": subject, "name": name, "value": value, "row_count": row_count}
        for subject, figures in metrics.items() for name, value in figures.items()
    ]  # fmt: skip
    with db.begin() as connection:
        lock_training_set(connection, snapshot_id)  # two copies of one run take turns
        connection.execute(
            sa.text(
                "DELETE FROM ponte.metric WHERE model = :model AND version = :version AND snapshot_id = :snapshot_id"
            ),
            rows[0],
        )
        connection.execute(
            sa.text(
                "INSERT INTO ponte.metric (model, version, snapshot_id, subject, name, value, row_count) "
                "VALUES (:model, :version, :snapshot_id, :subject, :name, :value, :row_count)"
            ),
            rows,
        )

"""Fit one estimator on one training set and register the result as a version."""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ponte import artifacts, estimators, registry
from ponte.artifacts import ArtifactStore
from ponte.catalog import ModelFolder
from ponte.database import Database
from ponte.errors import ArtifactRefused, TrainingRefused
from ponte.receipts import Receipt, measured
from ponte.registry import Version
from ponte.signature import Signature, to_frame
from ponte.training_sets import TrainingSet, get_training_set, read_snapshot, require_unedited
from ponte.versions import GOLDEN, MODEL, SIGNATURE, artifact_facts, current_libraries, golden_rows, load_version

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

log = logging.getLogger(__name__)

#: Holdout rows kept with their predictions; re-predicted whenever the version is loaded.
GOLDEN_ROWS = 200
BINARY = 2


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a training set: features, shape (n_rows, n_features), and labels, shape (n_rows,)."""

    rows: pa.Table
    features: pd.DataFrame
    labels: np.ndarray[Any, Any]


def split(table: pa.Table, training_set: TrainingSet) -> tuple[Part, Part]:
    """Return the fitting part and the holdout: the latest windows, later than anything that is fitted on."""
    import pyarrow as pa
    import pyarrow.compute as pc

    is_holdout = pc.greater_equal(table.column("window_start"), pa.scalar(training_set.holdout_from, pa.date32()))
    return (
        _part(table.filter(pc.invert(is_holdout)), training_set.signature),
        _part(table.filter(is_holdout), training_set.signature),
    )


def _part(table: pa.Table, signature: Signature) -> Part:
    labels = table.column("label").to_pandas().to_numpy()
    return Part(rows=table, features=to_frame(table, signature.features), labels=labels)


def train(
    db: Database, store: ArtifactStore, folder: ModelFolder, snapshot_id: int, *, run_id: str, code_revision: str | None
) -> Version:
    """Return the version fitted on the training set; training again on the same inputs finds the same version.

    Raises TrainingRefused when fitting rows or holdout cannot support a model, ModelFolderError for a bad estimator.
    """
    training_set = get_training_set(db, snapshot_id)
    require_unedited(folder, training_set)
    libraries = current_libraries()
    train_key = _train_key(training_set, folder, libraries)
    while (known := registry.find_by_train_key(db, folder.name, train_key)) is not None:
        try:
            load_version(store, known)
        except ArtifactRefused as error:
            # Its row stays for ever, so what replaces it needs a key of its own.
            log.warning("version %d of these inputs cannot be used, a new one is trained: %s", known.version, error)
            train_key = hashlib.sha256(f"{train_key} instead of version {known.version}".encode()).hexdigest()
        else:
            return known
    with measured(db, Receipt(model=folder.name, step="train", snapshot_id=snapshot_id)) as receipt:
        fitting, holdout = split(read_snapshot(store, training_set), training_set)
        _require_enough(folder, training_set, fitting, holdout)
        estimator = estimators.load_estimator(folder.text("estimator.py"), model=folder.name, task=folder.spec.task)
        estimators.seed_estimator(estimator, folder.spec.training.seed)
        estimator.fit(fitting.features, fitting.labels)
        files = _files(estimator, folder, training_set.signature, holdout)

        def write(number: int) -> Version:
            # Never a name that was used before: the lock on the number ends with the session, and a run that has lost
            # its session must not write over the version that another run registers meanwhile.
            path = f"{folder.name}/versions/{number}-{uuid.uuid4().hex[:8]}"
            facts = artifact_facts(folder.name, number, libraries, training_set.signature)
            stored = store.write_folder(path, files, facts)
            return Version(
                model=folder.name,
                version=number,
                snapshot_id=snapshot_id,
                train_key=train_key,
                task=folder.spec.task,
                path=path,
                manifest_sha256=stored.manifest_sha256,
                signature=training_set.signature,
                spec_digest=folder.digest(),
                code_revision=code_revision or None,
                libraries=libraries,
                train_cutoff=training_set.as_of,
                train_rows=len(fitting.labels),
                holdout_rows=len(holdout.labels),
                byte_count=stored.byte_count,
                run_id=run_id,
            )

        version = registry.register(db, folder.name, train_key, write)
        receipt.version, receipt.row_count, receipt.byte_count = version.version, version.train_rows, version.byte_count
    return version


def _train_key(training_set: TrainingSet, folder: ModelFolder, libraries: dict[str, str]) -> str:
    facts = [training_set.sha256, folder.digest(), libraries, artifacts.FORMAT]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _require_enough(folder: ModelFolder, training_set: TrainingSet, fitting: Part, holdout: Part) -> None:
    needed = folder.spec.training.minimum_holdout_rows
    problems = [] if len(fitting.labels) else ["the fitting windows have no labelled row"]
    if len(holdout.labels) < needed:
        problems.append(f"the holdout has {len(holdout.labels)} labelled rows, {needed} are needed")
    if folder.spec.task == "binary":
        parts = {"the fitting part": fitting, "the holdout": holdout}
        classes = {name: sorted({str(label) for label in part.labels}) for name, part in parts.items()}
        for name, found in classes.items():
            if found and len(found) != BINARY:
                problems.append(f"{name} has {len(found)} class(es), {found[:5]}; exactly 2 are needed")
        if not problems and len(set(map(tuple, classes.values()))) > 1:
            problems.append(f"the parts have different classes: {classes}")
    if problems:
        raise TrainingRefused(
            "the training set cannot support a model",
            where=f"{training_set.place}, holdout from {training_set.holdout_from}",
            got="; ".join(problems),
            fix="train on more windows ([training] windows, holdout_windows), or look at labels.sql",
        )


def _files(estimator: Any, folder: ModelFolder, signature: Signature, holdout: Part) -> dict[str, bytes]:
    import io

    import joblib

    model = io.BytesIO()
    joblib.dump(estimator, model, compress=3)
    return {
        MODEL: model.getvalue(),
        estimators.FILE: folder.text(estimators.FILE).encode(),
        SIGNATURE: json.dumps(signature.as_json(), indent=1).encode(),
        GOLDEN: golden_rows(estimator, holdout.rows.slice(0, GOLDEN_ROWS), signature, folder.spec.task),
    }

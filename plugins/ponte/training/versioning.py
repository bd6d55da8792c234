"""Fit one estimator on one training set and register the result as a version."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import uuid
from dataclasses import replace

from ponte.errors import ArtifactRefused, TrainingRefused
from ponte.model import estimator as estimators
from ponte.model.folders import ModelFolder
from ponte.model.spec import Task
from ponte.pages.report import ReportFacts, draw, render
from ponte.quality.figures import Measured, to_json
from ponte.quality.measurement import MINIMUM_UNITS, measure, unit_count
from ponte.snapshots.lifecycle import TrainingSet, get_training_set, read_snapshot, require_unedited
from ponte.snapshots.parts import Part, Parts, split
from ponte.storage import artifacts
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database
from ponte.storage.receipts import Receipt, measured
from ponte.training.fitting import fit
from ponte.versions import registry
from ponte.versions.loading import (
    GOLDEN,
    METRICS_FILE,
    MODEL,
    REPORT,
    SIGNATURE,
    artifact_facts,
    current_libraries,
    golden_rows,
    load_version,
)
from ponte.versions.predicting import Fitted
from ponte.versions.registry import Version
from ponte.versions.signature import Signature

log = logging.getLogger(__name__)

#: Holdout rows kept with their predictions; re-predicted whenever the version is loaded.
GOLDEN_ROWS = 200
#: A map from scores to probabilities, or a threshold, of fewer rows is noise.
MINIMUM_CALIBRATION_ROWS = 100
BINARY, MULTICLASS = 2, 3


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
        parts = split(read_snapshot(store, training_set), training_set)
        _require_enough(folder, training_set, parts)
        estimator = estimators.load_suitable(folder.text(estimators.FILE), model=folder.name, spec=folder.spec)
        fitted = fit(folder.spec, estimator, parts)
        log.info("fitted on %d rows; measuring on %d", len(parts.fitting.labels), len(parts.holdout.labels))
        figures, predictions = measure(folder.spec, fitted, training_set.signature, parts)
        plots = draw(fitted.output, parts.holdout.labels, predictions, figures)
        files = _files(fitted, folder, training_set.signature, parts, figures)

        def write(number: int) -> Version:
            # Never a name that was used before: the lock on the number ends with the session, and a run that has lost
            # its session must not write over the version that another run registers meanwhile.
            path = f"{folder.name}/versions/{number}-{uuid.uuid4().hex[:8]}"
            version = Version(
                model=folder.name,
                version=number,
                snapshot_id=snapshot_id,
                train_key=train_key,
                task=folder.spec.task,
                path=path,
                manifest_sha256="",
                signature=training_set.signature,
                classes=fitted.output.classes,
                threshold=fitted.output.threshold,
                spec_digest=folder.digest(),
                code_revision=code_revision or None,
                libraries=libraries,
                train_cutoff=training_set.as_of,
                train_rows=len(parts.fitting.labels),
                calibration_rows=len(parts.calibration.labels),
                holdout_rows=len(parts.holdout.labels),
                purged_rows=parts.purged_rows,
                byte_count=0,
                run_id=run_id,
            )
            page = render(_report_facts(version, folder, training_set), figures, plots)
            facts = artifact_facts(folder.name, number, libraries, training_set.signature, fitted.output)
            stored = store.write_folder(path, {**files, REPORT: page}, facts)
            return replace(version, manifest_sha256=stored.manifest_sha256, byte_count=stored.byte_count)

        version = registry.register(db, folder.name, train_key, write)
        receipt.version, receipt.row_count, receipt.byte_count = version.version, version.train_rows, version.byte_count
    return version


def _train_key(training_set: TrainingSet, folder: ModelFolder, libraries: dict[str, str]) -> str:
    facts = [training_set.sha256, folder.digest(), libraries, artifacts.FORMAT]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _require_enough(folder: ModelFolder, training_set: TrainingSet, parts: Parts) -> None:
    needed = folder.spec.training.minimum_holdout_rows
    problems = [] if len(parts.fitting.labels) else ["the fitting windows have no labelled row"]
    if len(parts.holdout.labels) < needed:
        problems.append(f"the holdout has {len(parts.holdout.labels)} labelled rows, {needed} are needed")
    named = {"the fitting part": parts.fitting, "the holdout": parts.holdout}
    if folder.spec.training.calibration_windows:
        named["the calibration part"] = parts.calibration
        found = len(parts.calibration.labels)
        if found < MINIMUM_CALIBRATION_ROWS:
            problems.append(f"the calibration part has {found} labelled rows, {MINIMUM_CALIBRATION_ROWS} are needed")
    units = unit_count(folder.spec, parts.holdout)
    if folder.spec.evaluation.resample_by is not None and units < MINIMUM_UNITS:
        column = folder.spec.evaluation.resample_by
        problems.append(f"the holdout has {units} values of {column} to resample, {MINIMUM_UNITS} are needed")
    if folder.spec.task != "regression":
        problems += _class_problems(folder.spec.task, named)
    if problems:
        raise TrainingRefused(
            "the training set cannot support a model",
            where=f"{training_set.place}, holdout from {training_set.holdout_from}",
            got="; ".join(problems) + (f" ({parts.purged_rows} rows were purged: their outcome was known too late)"
                                       if parts.purged_rows else ""),
            fix="train on more windows ([training] windows, holdout_windows), or look at labels.sql",
        )  # fmt: skip


def _class_problems(task: Task, parts: dict[str, Part]) -> list[str]:
    """A part that lacks a class can neither teach nor measure it."""
    wanted, least = ("exactly 2", BINARY) if task == "binary" else ("at least 3", MULTICLASS)
    classes = {name: sorted({str(label) for label in part.labels}) for name, part in parts.items()}
    problems = [
        f"{name} has {len(found)} class(es), {found[:5]}; {wanted} are needed"
        for name, found in classes.items()
        if found and (len(found) < least or (task == "binary" and len(found) > BINARY))
    ]
    if not problems and len({tuple(found) for found in classes.values() if found}) > 1:
        problems.append(f"the parts have different classes: {classes}")
    return problems


def _files(
    fitted: Fitted, folder: ModelFolder, signature: Signature, parts: Parts, figures: list[Measured]
) -> dict[str, bytes]:
    import io

    import joblib

    model = io.BytesIO()
    joblib.dump(fitted.estimator, model, compress=3)
    return {
        MODEL: model.getvalue(),
        estimators.FILE: folder.text(estimators.FILE).encode(),
        SIGNATURE: json.dumps(signature.as_json(), indent=1).encode(),
        METRICS_FILE: to_json(figures),
        GOLDEN: golden_rows(fitted.estimator, parts.holdout.rows.slice(0, GOLDEN_ROWS), signature, fitted.output),
    }


def _report_facts(version: Version, folder: ModelFolder, training_set: TrainingSet) -> ReportFacts:
    windows, spec = training_set.windows, folder.spec
    return ReportFacts(
        model=version.model,
        version=version.version,
        description=spec.description,
        owner=spec.owner,
        task=spec.task,
        metric=spec.gate.metric,
        as_of=training_set.as_of,
        fitting_from=dt.date.fromisoformat(windows[0]["window_start"]),
        calibration_from=training_set.calibration_from,
        holdout_from=training_set.holdout_from,
        holdout_end=dt.date.fromisoformat(windows[-1]["window_end"]),
        fitting_rows=version.train_rows,
        calibration_rows=version.calibration_rows,
        holdout_rows=version.holdout_rows,
        purged_rows=version.purged_rows,
        classes=version.classes,
        threshold=version.threshold,
        confidence=spec.evaluation.confidence,
        resamples=spec.evaluation.resamples,
        snapshot_sha256=training_set.sha256 or "",
        spec_digest=version.spec_digest,
        code_revision=version.code_revision,
        libraries=version.libraries,
    )

"""A version is made: fit on a snapshot, measure, draw, register."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import uuid
from dataclasses import replace

from ponte.errors import ArtifactRefused, RowsLost
from ponte.model.estimator import ESTIMATOR_FILE, dump, imported_libraries, load_suitable
from ponte.model.folders import ModelFolder
from ponte.packages.folder_requirements import REQUIREMENTS, named_versions, text_of
from ponte.pages.report import ReportFacts, draw, render
from ponte.quality.figures import Measured, to_json
from ponte.quality.measurement import measure
from ponte.snapshots.left_out import REASONS
from ponte.snapshots.lifecycle import Snapshot, get_snapshot, require_unedited
from ponte.snapshots.parquet import read_snapshot
from ponte.snapshots.parts import Parts, split
from ponte.storage import artifacts
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database
from ponte.storage.receipts import Receipt, recorded
from ponte.training.fitting import fit
from ponte.training.splits import require_same_in_pieces
from ponte.training.sufficiency import require_enough
from ponte.versions import registry
from ponte.versions.loading import (
    GOLDEN,
    LIBRARIES,
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


def train(
    db: Database, store: ArtifactStore, folder: ModelFolder, snapshot_id: int, *, run_id: str, code_revision: str | None
) -> Version:
    """Return the version fitted on the snapshot; training again on the same inputs finds the same version.

    Raises TrainingRefused when fitting rows or holdout cannot support a model, ModelFolderError for a bad estimator.
    """
    snapshot = get_snapshot(db, snapshot_id)
    require_unedited(folder, snapshot)
    # Its imports are known when it has built its estimator.
    estimator = load_suitable(folder.text(ESTIMATOR_FILE), model=folder.name, spec=folder.spec)
    imported = imported_libraries(folder.text(ESTIMATOR_FILE), known=LIBRARIES)
    libraries = {**named_versions(folder.path), **imported, **current_libraries()}
    train_key = _train_key(snapshot, folder, libraries)
    while (known := registry.find_by_train_key(db, folder.name, train_key)) is not None:
        try:
            load_version(store, known)
        except ArtifactRefused as error:
            # Its row stays for ever, so what replaces it needs a key of its own.
            log.warning("version %d of these inputs cannot be used, a new one is trained: %s", known.version, error)
            train_key = hashlib.sha256(f"{train_key} instead of version {known.version}".encode()).hexdigest()
        else:
            return known
    with recorded(db, Receipt(model=folder.name, step="train", snapshot_id=snapshot_id)) as receipt:
        parts = split(read_snapshot(store, snapshot), snapshot)
        _require_all(snapshot, parts)
        require_enough(folder, snapshot, parts)
        signature = replace(snapshot.signature, categories=parts.categories)
        fitted = fit(folder.spec, estimator, parts)
        require_same_in_pieces(fitted, parts.holdout.rows.slice(0, GOLDEN_ROWS), signature, where=snapshot.place)
        log.info("fitted on %d rows; measuring on %d", len(parts.fitting.labels), len(parts.holdout.labels))
        figures, predictions = measure(folder.spec, fitted, signature, parts)
        plots = draw(fitted.output, parts.holdout.labels, predictions, figures)
        files = _files(fitted, folder, signature, parts, figures)

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
                signature=snapshot.signature,
                classes=fitted.output.classes,
                threshold=fitted.output.threshold,
                spec_digest=folder.digest(),
                code_revision=code_revision or None,
                libraries=libraries,
                train_cutoff=snapshot.as_of,
                train_rows=len(parts.fitting.labels),
                calibration_rows=len(parts.calibration.labels),
                holdout_rows=len(parts.holdout.labels),
                purged_rows=parts.purged_rows,
                byte_count=0,
                run_id=run_id,
            )
            page = render(_report_facts(version, folder, snapshot), figures, plots)
            facts = artifact_facts(folder.name, number, libraries, snapshot.signature, fitted.output)
            stored = store.write_folder(path, {**files, REPORT: page}, facts)
            return replace(version, manifest_sha256=stored.manifest_sha256, byte_count=stored.byte_count)

        version = registry.register(db, folder.name, train_key, write)
        receipt.version, receipt.row_count, receipt.byte_count = version.version, version.train_rows, version.byte_count
    return version


def _require_all(snapshot: Snapshot, parts: Parts) -> None:
    """Raise RowsLost unless every row of the snapshot is in one part or was purged."""
    kept = {"fitting": parts.fitting, "calibration": parts.calibration, "holdout": parts.holdout}
    counts = {**{name: len(part.labels) for name, part in kept.items()}, "purged": parts.purged_rows}
    if sum(counts.values()) != snapshot.row_count:
        raise RowsLost(
            "the rows of the parts are not those of the snapshot",
            where=snapshot.place,
            got=", ".join(f"{name} {rows}" for name, rows in counts.items()),
            expected=f"{snapshot.row_count} rows",
            fix="clear freeze_windows: the rows are frozen anew",
        )


def _train_key(snapshot: Snapshot, folder: ModelFolder, libraries: dict[str, str]) -> str:
    facts = [snapshot.sha256, folder.digest(), libraries, artifacts.FORMAT]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _files(
    fitted: Fitted, folder: ModelFolder, signature: Signature, parts: Parts, figures: list[Measured]
) -> dict[str, bytes]:
    named = text_of(folder.path)
    return {
        **({} if named is None else {REQUIREMENTS: named.encode()}),
        MODEL: dump(fitted.estimator),
        ESTIMATOR_FILE: folder.text(ESTIMATOR_FILE).encode(),
        SIGNATURE: json.dumps(signature.as_json(), indent=1).encode(),
        METRICS_FILE: to_json(figures),
        GOLDEN: golden_rows(fitted.estimator, parts.holdout.rows.slice(0, GOLDEN_ROWS), signature, fitted.output),
    }


def _report_facts(version: Version, folder: ModelFolder, snapshot: Snapshot) -> ReportFacts:
    windows, spec = snapshot.windows, folder.spec
    return ReportFacts(
        model=version.model,
        version=version.version,
        description=spec.description,
        owner=spec.owner,
        task=spec.task,
        metric=spec.gate.metric,
        as_of=snapshot.as_of,
        fitting_from=dt.date.fromisoformat(windows[0]["window_start"]),
        calibration_from=snapshot.calibration_from,
        holdout_from=snapshot.holdout_from,
        holdout_end=dt.date.fromisoformat(windows[-1]["window_end"]),
        fitting_rows=version.train_rows,
        calibration_rows=version.calibration_rows,
        holdout_rows=version.holdout_rows,
        purged_rows=version.purged_rows,
        feature_rows=snapshot.feature_rows,
        left_out={said: snapshot.left_out[reason] or 0 for reason, said in REASONS.items()},
        classes=version.classes,
        threshold=version.threshold,
        confidence=spec.evaluation.confidence,
        resamples=spec.evaluation.resamples,
        snapshot_sha256=snapshot.sha256 or "",
        spec_digest=version.spec_digest,
        code_revision=version.code_revision,
        libraries=version.libraries,
    )

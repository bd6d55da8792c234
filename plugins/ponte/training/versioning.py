"""A version is made: fit on a snapshot, measure, draw, register."""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from ponte.counting import reference
from ponte.errors import ArtifactRefused, PonteError, TrainingRefused
from ponte.model.estimator import ESTIMATOR_FILE, SPEC, dump, load_suitable
from ponte.model.folders import CARD, ModelFolder
from ponte.packages.folder_requirements import REQUIREMENTS, text_of
from ponte.pages.report import render
from ponte.quality.figures import to_json
from ponte.snapshots.lifecycle import Snapshot, get_snapshot, require_unedited
from ponte.snapshots.parquet import read_snapshot
from ponte.storage import artifacts
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database
from ponte.storage.receipts import Receipt, recorded
from ponte.storage.withholding import said_of
from ponte.training.candidate import GOLDEN_ROWS, Candidate, libraries_of, make_candidate, report_facts
from ponte.training.estimates import estimation_files
from ponte.training.reference import count_windows
from ponte.versions import registry
from ponte.versions.loading import (
    GOLDEN,
    METRICS_FILE,
    MODEL,
    REPORT,
    SIGNATURE,
    artifact_facts,
    golden_rows,
    load_version,
)
from ponte.versions.registry import Version

log = logging.getLogger(__name__)


def train(
    db: Database, store: ArtifactStore, folder: ModelFolder, snapshot_id: int, *, run_id: str, code_revision: str | None
) -> Version:
    """Return the version fitted on the snapshot; training again on the same inputs finds the same version.

    Raises TrainingRefused when fitting rows or holdout cannot support a model, or the estimator fails on them;
    ModelFolderError for an estimator that cannot be used.
    """
    snapshot = get_snapshot(db, snapshot_id)
    require_unedited(folder, snapshot)
    # Its imports are known when it has built its estimator.
    estimator = load_suitable(folder.text(ESTIMATOR_FILE), model=folder.name, spec=folder.spec)
    libraries = libraries_of(folder)
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
        rows = read_snapshot(store, snapshot)
        with _estimator_explained(folder):
            made = make_candidate(folder, snapshot, rows, estimator)
            files = files_of(made, folder)
        version = register(
            db,
            store,
            folder,
            snapshot,
            made=made,
            files=files,
            counted=count_windows(snapshot, rows, made),
            train_key=train_key,
            code_revision=code_revision,
            libraries=libraries,
            run_id=run_id,
        )
        receipt.version, receipt.row_count, receipt.byte_count = version.version, version.train_rows, version.byte_count
    return version


@contextmanager
def _estimator_explained(folder: ModelFolder) -> Iterator[None]:
    """Say of what an estimator raises where its author learns more: its own words may hold values of rows."""
    try:
        yield
    except (PonteError, MemoryError):
        raise
    except Exception as error:
        raise TrainingRefused(
            "the estimator fails on these rows",
            where=f"model {folder.name}, {ESTIMATOR_FILE}",
            got=said_of(error),
            fix=f"./ponte check {folder.name} names step, column and cure, ./ponte try {folder.name} shows the error",
        ) from error


def register(
    db: Database,
    store: ArtifactStore,
    folder: ModelFolder,
    snapshot: Snapshot,
    *,
    made: Candidate,
    files: Mapping[str, bytes],
    counted: Sequence[reference.Window],
    **of_version: Any,
) -> Version:
    """Return the version of a candidate, new or known by its `train_key`; its files and report are stored first.

    counted : its reference, which is registered with it.

    of_version : what `Candidate.as_version` takes beside the number and the path.
    """
    plots = made.plots()

    def write(number: int) -> Version:
        # Never a name that was used before: the lock on the number ends with the session, and a run that has lost
        # its session must not write over the version that another run registers meanwhile.
        path = f"{folder.name}/versions/{number}-{uuid.uuid4().hex[:8]}"
        version = made.as_version(folder, snapshot, number=number, path=path, **of_version)
        page = render(report_facts(version, folder, snapshot), made.figures, plots)
        facts = artifact_facts(folder.name, number, version.libraries, version.signature, made.fitted.output)
        stored = store.write_folder(path, {**files, REPORT: page}, facts)
        return replace(version, manifest_sha256=stored.manifest_sha256, byte_count=stored.byte_count)

    def beside(connection: sa.Connection, version: Version) -> None:
        reference.store(connection, version.model, version.version, counted)

    return registry.register(db, folder.name, of_version["train_key"], write, beside)


def _train_key(snapshot: Snapshot, folder: ModelFolder, libraries: dict[str, str]) -> str:
    facts = [snapshot.sha256, folder.digest(), libraries, artifacts.FORMAT]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def files_of(made: Candidate, folder: ModelFolder, text: str | None = None) -> dict[str, bytes]:
    """Return the files of a version by name, but for its report.

    text : of its `estimator.py`; that of the folder without it.
    """
    fitted, rows = made.fitted, made.parts.holdout.rows.slice(0, GOLDEN_ROWS)
    named = text_of(folder.path)
    return {
        **estimation_files(made, folder.spec),
        **({} if named is None else {REQUIREMENTS: named.encode()}),
        MODEL: dump(fitted.estimator),
        SPEC: folder.text(SPEC).encode(),
        CARD: folder.card.encode(),
        ESTIMATOR_FILE: (folder.text(ESTIMATOR_FILE) if text is None else text).encode(),
        SIGNATURE: json.dumps(made.signature.as_json(), indent=1).encode(),
        METRICS_FILE: to_json(made.figures),
        GOLDEN: golden_rows(fitted.estimator, rows, made.signature, fitted.output),
    }

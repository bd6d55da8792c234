"""Freeze features and labels of past windows, each window with its own as_of."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ponte.errors import TrainingRefused
from ponte.model.folders import ModelFolder
from ponte.model.inspection import FolderColumns, inspect_folder
from ponte.model.queries import AuthorQuery, prefixed
from ponte.model.windows import Window
from ponte.snapshots.lifecycle import Snapshot, claim_snapshot, lock_snapshot, require_unedited
from ponte.storage.database import DATA_SCHEMA, Database, make_empty_table, quote
from ponte.storage.receipts import Receipt, recorded
from ponte.storage.row_width import too_wide_explained
from ponte.versions.signature import Signature, Types

log = logging.getLogger(__name__)
_LABELS = "labels_"

_MARK_FROZEN = sa.text("""UPDATE ponte.snapshot
    SET status = 'frozen', row_count = :rows, windows = :windows, columns = :columns
    WHERE snapshot_id = :id""")


def freeze_snapshot(db: Database, folder: ModelFolder, windows: list[Window], *, as_of: Any, run_id: str) -> Snapshot:
    """Return the labelled rows of `windows`, each with the features of its own as_of, frozen in one table.

    A label counts only when it was known at `as_of`, the moment of the training run. Does nothing when this run froze
    it before. Raises ModelFolderError (estimator and checks included) before anything is written, TrainingRefused
    without rows.
    """
    found = inspect_folder(db, folder)
    training = folder.spec.training
    snapshot = claim_snapshot(
        db,
        folder,
        as_of=as_of,
        calibration_from=(
            windows[-training.holdout_windows - training.calibration_windows].start
            if training.calibration_windows
            else None
        ),
        holdout_from=windows[-training.holdout_windows].start,
        run_id=run_id,
    )
    if snapshot.status == "freezing":
        require_unedited(folder, snapshot)
        with recorded(db, Receipt(model=folder.name, step="freeze", snapshot_id=snapshot.snapshot_id)) as receipt:
            receipt.row_count = _freeze_windows(db, folder, snapshot, windows, found)
        with db.begin() as connection:
            snapshot = lock_snapshot(connection, snapshot.snapshot_id)
    if snapshot.row_count == 0:
        raise TrainingRefused(
            "no labelled row in any training window",
            where=f"model {folder.name}, windows {windows[0].start} to {windows[-1].start}, as_of {as_of:%Y-%m-%d}",
            fix="look at features.sql and labels.sql; is as_of within the time the source covers?",
        )
    return snapshot


@dataclass(frozen=True, slots=True)
class _WindowQuery:
    sql: str
    parameters: dict[str, Any]


def _labelled_window(folder: ModelFolder, found: FolderColumns, window: Window, training_as_of: Any) -> _WindowQuery:
    features = AuthorQuery("features.sql", folder.text("features.sql")).sql()
    labels = AuthorQuery("labels.sql", folder.text("labels.sql")).sql(_LABELS)
    columns = ", ".join(f"f.{quote(c.name)}" for c in (*found.key, *found.features))
    keys = ", ".join(quote(c.name) for c in found.key)
    known_in_time = "l.labelled_at <= %(labels_as_of)s" if found.has_labelled_at else "true"
    labelled_at = "l.labelled_at" if found.has_labelled_at else "NULL::timestamptz AS labelled_at"
    sql = (
        f"SELECT %(window_start)s AS window_start, {columns}, l.label, {labelled_at} "
        f"FROM (\n{features}\n) AS f JOIN (\n{labels}\n) AS l USING ({keys}) "
        f"WHERE l.label IS NOT NULL AND {known_in_time}"
    )
    of_labels = {**window.parameters(), "as_of": training_as_of}
    return _WindowQuery(sql, {**window.parameters(), **prefixed(of_labels, _LABELS)})


def _freeze_windows(
    db: Database, folder: ModelFolder, snapshot: Snapshot, windows: list[Window], found: FolderColumns
) -> int:
    assert snapshot.frozen_table is not None
    table = quote(DATA_SCHEMA, snapshot.frozen_table)
    queries = [_labelled_window(folder, found, window, snapshot.as_of) for window in windows]
    types: Types = 3 if folder.spec.training.nullable_integers else 2
    signature = Signature(key=found.key, features=found.features, label=found.label, types=types)
    with db.begin() as connection:
        if lock_snapshot(connection, snapshot.snapshot_id).status != "freezing":
            return snapshot.row_count or 0
        make_empty_table(connection, table, queries[0].sql, queries[0].parameters)
    with db.begin() as connection:
        if lock_snapshot(connection, snapshot.snapshot_id).status != "freezing":
            return snapshot.row_count or 0
        counts = []
        for window, query in zip(windows, queries, strict=True):
            with too_wide_explained(folder.name):
                counts.append(connection.exec_driver_sql(f"INSERT INTO {table} {query.sql}", query.parameters).rowcount)
            log.info("window %s: %d labelled rows, features as of %s", window, counts[-1], window.as_of.isoformat())
        described = [
            {"window_start": str(w.start), "window_end": str(w.end), "as_of": w.as_of.isoformat(), "rows": rows}
            for w, rows in zip(windows, counts, strict=True)
        ]
        connection.execute(
            _MARK_FROZEN,
            {
                "rows": sum(counts),
                "windows": json.dumps(described),
                "columns": json.dumps(signature.as_json()),
                "id": snapshot.snapshot_id,
            },
        )
    return sum(counts)

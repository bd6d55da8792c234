"""Freeze first: `features.sql` runs once, into a table; everything after reads that table.

What was checked is then exactly what is scored, shards see one set of rows, and a retry reads the same rows. The
CREATE is committed before the rows are loaded: a server crash inside one transaction that does both would leave a file
on disk that no catalog knows.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.batches.lifecycle import Batch, Pin
from ponte.errors import TrainingRefused
from ponte.model.folders import ModelFolder
from ponte.model.inspection import FolderColumns, inspect_features, inspect_folder
from ponte.model.queries import AuthorQuery, prefixed
from ponte.model.windows import Window
from ponte.snapshots.lifecycle import TrainingSet, claim_training_set, lock_training_set, require_unedited
from ponte.storage.database import DATA_SCHEMA, Database, quote
from ponte.storage.receipts import Receipt, measured
from ponte.versions import registry
from ponte.versions.choice import choose, choose_named
from ponte.versions.registry import Version
from ponte.versions.signature import Column, Signature, Types, require_same

log = logging.getLogger(__name__)
_LABELS = "labels_"


def freeze_batch(
    db: Database,
    folder: ModelFolder,
    window: Window,
    *,
    run_id: str,
    now: dt.datetime,
    allow_hindsight: bool = False,
    named: Version | None = None,
) -> Batch:
    """Claim the window and return its batch with the rows frozen; does nothing when this run froze it before.

    now : the moment of the call; tells whether the window is the newest. named : the version that a person has chosen;
    by default the champion, of now or of as_of (see `version_choice`).

    The rows come from the features.sql that the version was trained with, as kept with its snapshot: an edit of the
    folder takes effect with the version that is trained on it, and going back to a version goes back to its text.

    Raises NoChampion, VersionMarkedBad, HindsightRefused, ModelFolderError, SignatureMismatch before anything is
    claimed, BatchRejected when the window is empty (unless the model says `empty = "allow"`), Fenced when a newer run
    claimed the window.
    """

    def choose_version() -> Pin:
        if named is None:
            choice = choose(db, folder.name, window, now=now, allow_hindsight=allow_hindsight)
        else:
            choice = choose_named(named, window, allow_hindsight=allow_hindsight)
        _require_trained_columns(db, folder, choice.version)
        log.info("window %s is scored by version %d: %s", window, choice.version.version, choice.reason)
        return Pin(version=choice.version.version, reason=choice.reason, hindsight=choice.hindsight)

    batch = batches.claim(db, folder.name, window, run_id=run_id, choose=choose_version)
    version = registry.get_version(db, folder.name, batch.version)
    text = registry.trained_sql(db, version)
    if batch.status == "freezing":
        with measured(db, Receipt(model=folder.name, step="freeze", batch_id=batch.batch_id)) as receipt:
            receipt.row_count = _freeze_rows(db, batch, text, (*version.signature.key, *version.signature.features))
        batch = batches.get_batch(db, batch.batch_id)
    batches.require(batch, "frozen")
    if batch.row_count == 0 and folder.spec.scoring.empty == "reject":
        raise batches.reject(db, batch, "the window is empty: features.sql returned no row")
    return batch


def _require_trained_columns(db: Database, folder: ModelFolder, version: Version) -> None:
    """Raise SignatureMismatch unless the folder's query, and the version's own, return the version's columns now."""
    trained_text = registry.trained_sql(db, version)
    texts = dict.fromkeys([folder.text("features.sql"), trained_text])
    if len(texts) > 1:
        log.warning("features.sql was edited since version %d was trained; its own text is used", version.version)
    for text in texts:
        found = inspect_features(db, folder, text)
        for expected, got in ((version.signature.key, found.key), (version.signature.features, found.features)):
            require_same(expected, got, model=folder.name, version=version.version)


def _freeze_rows(db: Database, batch: Batch, text: str, columns: tuple[Column, ...]) -> int | None:
    query = f"SELECT * FROM (\n{AuthorQuery('features.sql', text).sql()}\n) AS features"
    table = quote(*batches.frozen_name(batch))
    parameters = batch.window.parameters()
    with db.begin() as connection:
        if batches.lock(connection, batch.batch_id).status != "freezing":
            return batch.row_count
        _create_empty(connection, table, query, parameters)
        batches.store_columns(connection, batch.batch_id, columns)
    with db.begin() as connection:
        if batches.lock(connection, batch.batch_id).status != "freezing":
            return batch.row_count
        rows = connection.exec_driver_sql(f"INSERT INTO {table} {query}", parameters).rowcount
        connection.execute(
            sa.text(
                "UPDATE ponte.batch SET status = 'frozen', row_count = :rows, "
                "page_count = pg_relation_size(CAST(:table AS regclass)) / current_setting('block_size')::int "
                "WHERE batch_id = :id"
            ),
            {"rows": rows, "table": table, "id": batch.batch_id},
        )
    return int(rows)


def freeze_training_set(
    db: Database, folder: ModelFolder, windows: list[Window], *, as_of: Any, run_id: str
) -> TrainingSet:
    """Return the labelled rows of `windows`, each with the features of its own as_of, frozen in one table.

    A label counts only when it was known at `as_of`, the moment of the training run. Does nothing when this run froze
    it before. Raises ModelFolderError (estimator and checks included) before anything is written, TrainingRefused
    without rows.
    """
    found = inspect_folder(db, folder)
    training = folder.spec.training
    training_set = claim_training_set(
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
    if training_set.status == "freezing":
        require_unedited(folder, training_set)
        with measured(db, Receipt(model=folder.name, step="freeze", snapshot_id=training_set.snapshot_id)) as receipt:
            receipt.row_count = _freeze_windows(db, folder, training_set, windows, found)
        with db.begin() as connection:
            training_set = lock_training_set(connection, training_set.snapshot_id)
    if training_set.row_count == 0:
        raise TrainingRefused(
            "no labelled row in any training window",
            where=f"model {folder.name}, windows {windows[0].start} to {windows[-1].start}, as_of {as_of:%Y-%m-%d}",
            fix="look at features.sql and labels.sql; is as_of within the time the source covers?",
        )
    return training_set


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
    db: Database, folder: ModelFolder, training_set: TrainingSet, windows: list[Window], found: FolderColumns
) -> int:
    assert training_set.frozen_table is not None
    table = quote(DATA_SCHEMA, training_set.frozen_table)
    queries = [_labelled_window(folder, found, window, training_set.as_of) for window in windows]
    types: Types = 3 if folder.spec.training.nullable_integers else 2
    signature = Signature(key=found.key, features=found.features, label=found.label, types=types)
    with db.begin() as connection:
        if lock_training_set(connection, training_set.snapshot_id).status != "freezing":
            return training_set.row_count or 0
        _create_empty(connection, table, queries[0].sql, queries[0].parameters)
    with db.begin() as connection:
        if lock_training_set(connection, training_set.snapshot_id).status != "freezing":
            return training_set.row_count or 0
        counts = []
        for window, query in zip(windows, queries, strict=True):
            counts.append(connection.exec_driver_sql(f"INSERT INTO {table} {query.sql}", query.parameters).rowcount)
            log.info("window %s: %d labelled rows, features as of %s", window, counts[-1], window.as_of.isoformat())
        described = [
            {"window_start": str(w.start), "window_end": str(w.end), "as_of": w.as_of.isoformat(), "rows": rows}
            for w, rows in zip(windows, counts, strict=True)
        ]
        connection.execute(
            sa.text(
                "UPDATE ponte.snapshot "
                "SET status = 'frozen', row_count = :rows, windows = :windows, columns = :columns "
                "WHERE snapshot_id = :id"
            ),
            {
                "rows": sum(counts),
                "windows": json.dumps(described),
                "columns": json.dumps(signature.as_json()),
                "id": training_set.snapshot_id,
            },
        )
    return sum(counts)


def _create_empty(connection: sa.Connection, table: str, query: str, parameters: dict[str, Any]) -> None:
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
    connection.exec_driver_sql(f"CREATE TABLE {table} AS {query} WITH NO DATA", parameters)

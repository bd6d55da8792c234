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
from ponte.snapshots.champion import load_beside, make_beside, plan_beside
from ponte.snapshots.left_out import describe_window, in_words, totals
from ponte.snapshots.lifecycle import Snapshot, claim_snapshot, lock_snapshot, require_unedited
from ponte.storage.database import DATA_SCHEMA, Database, make_empty_table, quote, retry_conflicts
from ponte.storage.receipts import Receipt, recorded
from ponte.storage.row_width import too_wide_explained
from ponte.storage.runs import Run
from ponte.versions.signature import TRAINED_NOW, Signature

log = logging.getLogger(__name__)
_LABELS = "labels_"

_MARK_FROZEN = sa.text("""UPDATE ponte.snapshot
    SET status = 'frozen', row_count = :rows, windows = :windows, columns = :columns, feature_rows = :feature_rows,
        no_label_rows = :no_label_rows, null_label_rows = :null_label_rows, late_label_rows = :late_label_rows,
        set_aside_rows = :set_aside_rows
    WHERE snapshot_id = :id""")


def freeze_snapshot(
    db: Database,
    folder: ModelFolder,
    windows: list[Window],
    *,
    as_of: Any,
    run: Run,
    holdout_windows: int | None = None,
) -> Snapshot:
    """Return the labelled rows of `windows`, each with the features of its own as_of, frozen in one table.

    holdout_windows : so many measure, and none calibrates; without it as many as the spec says do. A label counts only
    when it was known at `as_of`, the moment of the training run. Does nothing when this run froze it before. Raises
    ModelFolderError (estimator and checks included) before anything is written, TrainingRefused without rows.
    """
    found = inspect_folder(db, folder)
    training = folder.spec.training
    snapshot = claim_snapshot(
        db,
        folder,
        as_of=as_of,
        calibration_from=(
            windows[-training.holdout_windows - training.calibration_windows].start
            if training.calibration_windows and holdout_windows is None
            else None
        ),
        holdout_from=windows[-(holdout_windows or training.holdout_windows)].start,
        run=run,
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
            got=in_words(snapshot.left_out) or "features.sql returned no row",
            fix=f"look at features.sql and labels.sql; is as_of within the time the source covers{_until(folder)}?",
        )
    return snapshot


def _until(folder: ModelFolder) -> str:
    end = folder.spec.schedule.end
    return f" (until {end}, says [schedule] end)" if end else ""


@dataclass(frozen=True, slots=True)
class _WindowQuery:
    """The rows of one window."""

    #: The labelled rows.
    sql: str
    #: Puts them into the table of the snapshot and counts the rows of features.sql: those that it returns, those with a
    #: label that counts, those whose labels are all too late or NULL, and the rows put into the table.
    load: str
    parameters: dict[str, Any]


def _labelled_window(
    folder: ModelFolder, found: FolderColumns, window: Window, training_as_of: Any, table: str
) -> _WindowQuery:
    features = AuthorQuery("features.sql", folder.text("features.sql")).sql()
    labels = AuthorQuery("labels.sql", folder.text("labels.sql")).sql(_LABELS)
    columns = ", ".join(f"f.{quote(c.name)}" for c in (*found.key, *found.features))
    keys = ", ".join(quote(c.name) for c in found.key)
    # A label without a moment counts as known.
    known_in_time = "(l.labelled_at <= %(labels_as_of)s) IS NOT FALSE" if found.has_labelled_at else "true"
    labelled_at = "l.labelled_at" if found.has_labelled_at else "NULL::timestamptz AS labelled_at"
    # Each is run once, for the rows and for the counts.
    both = f"WITH ponte_features AS MATERIALIZED (\n{features}\n), ponte_labels AS MATERIALIZED (\n{labels}\n)"
    sql = (
        f"SELECT %(window_start)s AS window_start, {columns}, l.label, {labelled_at} "
        f"FROM ponte_features AS f JOIN ponte_labels AS l USING ({keys}) "
        f"WHERE l.label IS NOT NULL AND {known_in_time}"
    )
    load = (
        f"{both}, kept AS (INSERT INTO {table} {sql} RETURNING 1), best AS ("
        f"SELECT {keys}, min(CASE WHEN l.label IS NULL THEN 2 WHEN {known_in_time} THEN 0 ELSE 1 END) AS rank "
        f"FROM ponte_labels AS l GROUP BY {keys}) "
        "SELECT count(*) AS features, count(*) FILTER (WHERE rank = 0) AS labelled, "
        "count(*) FILTER (WHERE rank = 1) AS late_label, count(*) FILTER (WHERE rank = 2) AS null_label, "
        "(SELECT count(*) FROM kept) AS rows "
        f"FROM ponte_features LEFT JOIN best USING ({keys})"
    )
    of_labels = {**window.parameters(), "as_of": training_as_of}
    return _WindowQuery(f"{both} {sql}", load, {**window.parameters(), **prefixed(of_labels, _LABELS)})


def _freeze_windows(
    db: Database, folder: ModelFolder, snapshot: Snapshot, windows: list[Window], found: FolderColumns
) -> int:
    assert snapshot.frozen_table is not None
    table = quote(DATA_SCHEMA, snapshot.frozen_table)
    queries = [_labelled_window(folder, found, window, snapshot.as_of, table) for window in windows]
    signature = Signature(
        key=found.key,
        features=found.features,
        label=found.label,
        types=TRAINED_NOW,
        nullable_integers=folder.spec.training.nullable_integers,
    )
    beside = plan_beside(db, snapshot, windows, found.key)
    with db.begin() as connection:
        if lock_snapshot(connection, snapshot.snapshot_id).status != "freezing":
            return snapshot.row_count or 0
        make_empty_table(connection, table, queries[0].sql, queries[0].parameters)
        make_beside(connection, beside)

    def load() -> int:
        # All windows are of one moment of the source, that of the lock: what is loaded in between is in none of them.
        with db.one_moment() as connection:
            locked = lock_snapshot(connection, snapshot.snapshot_id)
            if locked.status != "freezing":
                return locked.row_count or 0
            with too_wide_explained(folder.name):
                described = [
                    _load_window(connection, snapshot, window, query)
                    for window, query in zip(windows, queries, strict=True)
                ]
            load_beside(connection, beside)
            rows: int = sum(window["rows"] for window in described)
            values = {"rows": rows, "windows": json.dumps(described), "columns": json.dumps(signature.as_json())}
            connection.execute(_MARK_FROZEN, {**values, **totals(described), "id": snapshot.snapshot_id})
            return rows

    return retry_conflicts(load)


def _load_window(connection: sa.Connection, snapshot: Snapshot, window: Window, query: _WindowQuery) -> dict[str, Any]:
    """Put the rows of a window into the table; return its entry of `ponte.snapshot.windows`."""
    where = f"{snapshot.place}, window {window}"
    found = connection.exec_driver_sql(query.load, query.parameters).one()
    if found.rows != found.labelled:
        raise TrainingRefused(
            "a key has more than one label",
            where=where,
            got=f"{found.rows} labels of {found.labelled} rows of features.sql",
            fix="let labels.sql return a key once: group by the key, or take one label of each",
        )
    no_label = found.features - found.labelled - found.late_label - found.null_label
    left_out = {"no_label": no_label, "null_label": found.null_label, "late_label": found.late_label}
    counts = describe_window(found.rows, found.features, left_out, where=where)
    log.info("window %s: %d labelled rows, features as of %s", window, found.rows, window.as_of.isoformat())
    if counts["features"] > counts["rows"]:
        log.info("window %s: of %d rows of features.sql, %s", window, found.features, in_words(counts["left_out"]))
    described = {"window_start": str(window.start), "window_end": str(window.end), "as_of": window.as_of.isoformat()}
    return {**described, **counts}

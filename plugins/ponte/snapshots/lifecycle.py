"""The life of a snapshot, a row of `ponte.snapshot`: frozen, checked, written; or rejected, or failed."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from ponte.errors import PonteError, TrainingRefused
from ponte.model.folders import ModelFolder
from ponte.snapshots.left_out import REASONS, describe_window, totals
from ponte.storage.database import DATA_SCHEMA, Database, insert_row, quote
from ponte.storage.runs import Run
from ponte.versions import aliases
from ponte.versions.signature import Signature

if TYPE_CHECKING:
    pass

Status = Literal["freezing", "frozen", "checked", "written", "rejected", "failed"]

_NAME_TABLE = sa.text("""UPDATE ponte.snapshot SET frozen_table = model || '__training_' || snapshot_id
    WHERE model = :model AND run_key = :run_key AND status = 'freezing'
    RETURNING snapshot_id""")

# Only where the champion was made by another text: the same text makes the same features.
_NAME_CHAMPION_TABLE = sa.text("""UPDATE ponte.snapshot s SET champion_table = s.model || '__champion_' || s.snapshot_id
    FROM ponte.version v JOIN ponte.snapshot t USING (snapshot_id)
    WHERE s.snapshot_id = :id AND v.model = s.model AND v.version = s.champion_version
    AND t.features_sql <> s.features_sql AND s.status = 'freezing' AND s.champion_why IS NULL""")

_ID_OF_RUN = sa.text("SELECT snapshot_id FROM ponte.snapshot WHERE model = :model AND run_key = :run_key")
_RECOUNT = sa.text("""UPDATE ponte.snapshot
    SET row_count = :rows, windows = :windows, set_aside_rows = :set_aside_rows WHERE snapshot_id = :id""")
_SET_ASIDE = sa.text("""SELECT key ->> 'window_start', count(*) FROM ponte.quarantine
    WHERE snapshot_id = :id GROUP BY 1""")

_REJECT = sa.text("""UPDATE ponte.snapshot SET status = 'rejected', why = :why
    WHERE snapshot_id = :id AND status = 'frozen'""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A row of `ponte.snapshot`."""

    snapshot_id: int
    model: str
    run_id: str
    as_of: dt.datetime
    status: Status
    why: str | None
    holdout_from: dt.date
    #: None without a calibration part.
    calibration_from: dt.date | None
    #: Entries of {window_start, window_end, as_of, rows, features, left_out}, oldest first; empty until the rows are
    #: frozen. Those of before rows left out were counted lack the last two.
    windows: list[dict[str, Any]]
    frozen_table: str | None
    columns: dict[str, object] | None
    row_count: int | None
    #: What features.sql returned, and what of it is not trained on; None of before they were counted.
    feature_rows: int | None = None
    no_label_rows: int | None = None
    null_label_rows: int | None = None
    late_label_rows: int | None = None
    set_aside_rows: int | None = None
    features_sql: str
    labels_sql: str
    spec_digest: str
    path: str | None
    sha256: str | None
    #: The alias event that had made the champion when the run began, and that champion; None when there was none.
    champion_event_id: int | None = None
    champion_version: int | None = None
    #: Holds the holdout's features by the champion's own features.sql, until they are written to `champion_path`; both
    #: None when that is the same text, or could not be run: then `champion_why` says why.
    champion_table: str | None = None
    champion_rows: int | None = None
    champion_why: str | None = None
    champion_path: str | None = None
    champion_sha256: str | None = None

    @property
    def place(self) -> str:
        """Where an error happened, for its message."""
        return f"model {self.model}, snapshot {self.snapshot_id}"

    @property
    def signature(self) -> Signature:
        assert self.columns is not None
        return Signature.from_json(self.columns)

    @property
    def left_out(self) -> dict[str, int | None]:
        """How many rows of features.sql are not trained on, by reason."""
        return {reason: getattr(self, f"{reason}_rows") for reason in REASONS}

    def window_as_of(self, window_start: dt.date) -> dt.datetime:
        """Return the moment at which the features of one of its windows were taken."""
        [as_of] = [w["as_of"] for w in self.windows if w["window_start"] == str(window_start)]
        return dt.datetime.fromisoformat(as_of)


_COLUMNS = ", ".join(Snapshot.__dataclass_fields__)
_BY_ID = sa.text(f"SELECT {_COLUMNS} FROM ponte.snapshot WHERE snapshot_id = :id")
_LOCKED_BY_ID = sa.text(f"SELECT {_COLUMNS} FROM ponte.snapshot WHERE snapshot_id = :id FOR UPDATE")


def claim_snapshot(
    db: Database,
    folder: ModelFolder,
    *,
    as_of: dt.datetime,
    calibration_from: dt.date | None,
    holdout_from: dt.date,
    run: Run,
) -> Snapshot:
    """Return the snapshot of this run, made on the first call: it is for the champion of that moment."""
    champion = aliases.current_alias(db, folder.name)
    values = {
        "model": folder.name,
        **run.row(),
        "as_of": as_of,
        "calibration_from": calibration_from,
        "holdout_from": holdout_from,
        "windows": "[]",
        "features_sql": folder.text("features.sql"),
        "labels_sql": folder.text("labels.sql"),
        "spec_digest": folder.digest(),
        "champion_event_id": champion.event_id if champion else None,
        "champion_version": champion.version if champion else None,
    }
    with db.begin() as connection:
        insert_row(connection, "ponte.snapshot", values, unless="model, run_key")
        snapshot_id = connection.execute(_NAME_TABLE, values).scalar_one_or_none()
        if snapshot_id is None:
            snapshot_id = connection.execute(_ID_OF_RUN, values).scalar_one()
        connection.execute(_NAME_CHAMPION_TABLE, {"id": snapshot_id})
        return lock_snapshot(connection, snapshot_id)


def require_unedited(folder: ModelFolder, snapshot: Snapshot) -> None:
    """Raise TrainingRefused unless the folder is still what the snapshot was begun with."""
    if folder.digest() != snapshot.spec_digest:
        raise TrainingRefused(
            "the model folder was edited since this run began",
            where=snapshot.place,
            fix="clear freeze_windows, or trigger a new run: the rows are frozen anew, with the folder as it is now",
        )


def get_snapshot(db: Database, snapshot_id: int) -> Snapshot:
    """Return the snapshot; raises PonteError when there is none."""
    with db.begin() as connection:
        return _select(connection, _BY_ID, snapshot_id)


def lock_snapshot(connection: sa.Connection, snapshot_id: int) -> Snapshot:
    """Return the snapshot with its row locked until the caller's transaction ends."""
    return _select(connection, _LOCKED_BY_ID, snapshot_id)


def _select(connection: sa.Connection, query: sa.TextClause, snapshot_id: int) -> Snapshot:
    row = connection.execute(query, {"id": snapshot_id}).mappings().one_or_none()
    if row is None:
        raise PonteError("no such snapshot", where="ponte.snapshot", got=str(snapshot_id))
    return Snapshot(**row)


def recount(connection: sa.Connection, snapshot: Snapshot) -> None:
    """Write down how many rows each window has after some were set aside, in the caller's transaction.

    Raises RowsLost unless the rows of each window add up.
    """
    query = f"SELECT window_start, count(*) FROM {frozen_name(snapshot)} GROUP BY 1"
    counts = {str(row[0]): row[1] for row in connection.exec_driver_sql(query)}
    set_aside = {row[0]: row[1] for row in connection.execute(_SET_ASIDE, {"id": snapshot.snapshot_id})}
    windows = []
    for window in snapshot.windows:
        day = window["window_start"]
        counted: dict[str, Any] = {"rows": counts.get(day, 0)}
        if "left_out" in window:
            left_out = {**window["left_out"], "set_aside": set_aside.get(day, 0)}
            where = f"{snapshot.place}, window of {day}"
            counted = describe_window(counted["rows"], window["features"], left_out, where=where)
        windows.append({**window, **counted})
    values = {"rows": sum(counts.values()), "windows": json.dumps(windows), "id": snapshot.snapshot_id}
    connection.execute(_RECOUNT, {**values, "set_aside_rows": totals(windows)["set_aside_rows"]})


def reject_snapshot(db: Database, snapshot: Snapshot, why: str) -> TrainingRefused:
    """Mark the snapshot rejected and return the error to raise."""
    with db.begin() as connection:
        connection.execute(_REJECT, {"why": why, "id": snapshot.snapshot_id})
    fix = f"mend the source or the rule, then trigger {snapshot.model}__train again"
    return TrainingRefused("the snapshot is rejected", where=snapshot.place, got=why, fix=fix)


def frozen_name(snapshot: Snapshot) -> str:
    """Return the quoted name of the frozen table, which is dropped when the rows are written."""
    assert snapshot.frozen_table is not None
    return quote(DATA_SCHEMA, snapshot.frozen_table)

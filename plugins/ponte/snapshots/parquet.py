"""A snapshot as a Parquet file named by its content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ponte.errors import PonteError
from ponte.snapshots.champion import write_beside
from ponte.snapshots.files import copy_to_parquet, read_parquet
from ponte.snapshots.lifecycle import Snapshot, frozen_name, get_snapshot, lock_snapshot
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.columns import Column, select_list
from ponte.storage.database import DATA_SCHEMA, Database, or_of_a_twin, quote
from ponte.storage.receipts import Receipt, recorded

if TYPE_CHECKING:
    import pyarrow as pa


_OF_WINDOW = ("window_start", "window_end", "as_of", "rows")

_MARK_WRITTEN = sa.text("""UPDATE ponte.snapshot
    SET status = 'written', path = :path, sha256 = :sha256, byte_count = :bytes, frozen_table = NULL,
        champion_table = NULL, champion_why = :champion_why, champion_path = :champion_path,
        champion_sha256 = :champion_sha256, champion_byte_count = :champion_bytes
    WHERE snapshot_id = :id""")


def write_snapshot(db: Database, store: ArtifactStore, snapshot_id: int) -> Snapshot:
    """Keep the frozen, checked rows as a Parquet file named by its SHA-256, then drop the frozen table.

    The file says itself what it is: its metadata hold, under DESCRIPTION, the queries, the windows with their as_of and
    row counts, and the columns. Rows are ordered by window and key, so the same rows give the same bytes. Does nothing
    when it was written before.
    """
    snapshot = get_snapshot(db, snapshot_id)
    if snapshot.status == "written":
        return snapshot
    if snapshot.status != "checked":
        raise PonteError("a step came too early", where=snapshot.place, got=snapshot.status, expected="checked")

    def written() -> Snapshot | None:
        found = get_snapshot(db, snapshot_id)
        return found if found.status == "written" else None

    # The twin that finishes first drops the frozen table.
    return or_of_a_twin(lambda: _write(db, store, snapshot), written)


def _write(db: Database, store: ArtifactStore, snapshot: Snapshot) -> Snapshot:
    snapshot_id = snapshot.snapshot_id
    with recorded(db, Receipt(model=snapshot.model, step="snapshot", snapshot_id=snapshot_id)) as receipt:
        with store.content_addressed(f"{snapshot.model}/snapshots", ".parquet") as file:
            rows = _copy_to_parquet(db, snapshot, file.local)
        if rows != snapshot.row_count:
            got, expected = f"{rows} rows", f"{snapshot.row_count} rows"
            raise PonteError("the snapshot changed while it was read", where=snapshot.place, got=got, expected=expected)
        receipt.row_count, receipt.byte_count = rows, file.byte_count
        beside = write_beside(db, store, snapshot)
        with db.begin() as connection:
            if lock_snapshot(connection, snapshot_id).status == "written":
                return get_snapshot(db, snapshot_id)  # a twin was faster
            values = {"path": file.path, "sha256": file.sha256, "bytes": file.byte_count, "id": snapshot_id}
            connection.execute(_MARK_WRITTEN, {**values, **beside})
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {frozen_name(snapshot)}")
            if snapshot.champion_table is not None:
                connection.exec_driver_sql(f"DROP TABLE IF EXISTS {quote(DATA_SCHEMA, snapshot.champion_table)}")
    return get_snapshot(db, snapshot_id)


def read_snapshot(store: ArtifactStore, snapshot: Snapshot) -> pa.Table:
    """Return the rows of a written snapshot; raises ArtifactRefused unless the bytes are those registered."""
    if snapshot.path is None or snapshot.sha256 is None:
        raise PonteError("a step came too early", where=snapshot.place, got=snapshot.status, expected="written")
    return read_parquet(store.read_verified(snapshot.path, snapshot.sha256))


def _description(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "model": snapshot.model,
        "as_of": snapshot.as_of.isoformat(),
        "calibration_from": str(snapshot.calibration_from) if snapshot.calibration_from else None,
        "holdout_from": str(snapshot.holdout_from),
        # Not what was left out: the same rows give the same file, however many others there were.
        "windows": [{name: window[name] for name in _OF_WINDOW} for window in snapshot.windows],
        "columns": snapshot.columns,
        "row_count": snapshot.row_count,
        "features_sql": snapshot.features_sql,
        "labels_sql": snapshot.labels_sql,
    }


def _copy_to_parquet(db: Database, snapshot: Snapshot, path: str) -> int:
    signature = snapshot.signature
    window = Column(name="window_start", family="date")
    known = (Column(name="label", family=signature.label), Column(name="labelled_at", family="timestamp"))
    columns = (window, *signature.key, *signature.features, *known)
    order = ", ".join(quote(c.name) for c in (window, *signature.key))
    query = f"SELECT {select_list(columns)} FROM {frozen_name(snapshot)} ORDER BY {order}"
    return copy_to_parquet(db, query, _description(snapshot), path)

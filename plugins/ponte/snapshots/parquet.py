"""A snapshot as a Parquet file named by its content."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ponte.errors import PonteError
from ponte.snapshots.lifecycle import TrainingSet, frozen_name, get_training_set, lock_training_set
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.columns import Column, select_list
from ponte.storage.database import Database, or_of_a_twin, quote
from ponte.storage.receipts import Receipt, measured

if TYPE_CHECKING:
    import pyarrow as pa


#: Key of the Parquet file's metadata.
DESCRIPTION = "ponte"


def write_snapshot(db: Database, store: ArtifactStore, snapshot_id: int) -> TrainingSet:
    """Keep the frozen, checked rows as a Parquet file named by its SHA-256, then drop the frozen table.

    The file says itself what it is: its metadata hold, under DESCRIPTION, the queries, the windows with their as_of and
    row counts, and the columns. Rows are ordered by window and key, so the same rows give the same bytes. Does nothing
    when it was written before.
    """
    training_set = get_training_set(db, snapshot_id)
    if training_set.status == "written":
        return training_set
    if training_set.status != "checked":
        raise PonteError("a step came too early", where=training_set.place, got=training_set.status, expected="checked")

    def written() -> TrainingSet | None:
        found = get_training_set(db, snapshot_id)
        return found if found.status == "written" else None

    # The twin that finishes first drops the frozen table.
    return or_of_a_twin(lambda: _write(db, store, training_set), written)


def _write(db: Database, store: ArtifactStore, training_set: TrainingSet) -> TrainingSet:
    snapshot_id = training_set.snapshot_id
    with measured(db, Receipt(model=training_set.model, step="snapshot", snapshot_id=snapshot_id)) as receipt:
        with store.content_addressed(f"{training_set.model}/snapshots", ".parquet") as file:
            rows = _copy_to_parquet(db, training_set, file.local)
        if rows != training_set.row_count:
            got, expected = f"{rows} rows", f"{training_set.row_count} rows"
            raise PonteError(
                "the training set changed while it was read", where=training_set.place, got=got, expected=expected
            )
        receipt.row_count, receipt.byte_count = rows, file.byte_count
        with db.begin() as connection:
            if lock_training_set(connection, snapshot_id).status == "written":
                return get_training_set(db, snapshot_id)  # a twin was faster
            connection.execute(
                sa.text(
                    "UPDATE ponte.snapshot SET status = 'written', path = :path, sha256 = :sha256, "
                    "byte_count = :bytes, frozen_table = NULL WHERE snapshot_id = :id"
                ),
                {"path": file.path, "sha256": file.sha256, "bytes": file.byte_count, "id": snapshot_id},
            )
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {frozen_name(training_set)}")
    return get_training_set(db, snapshot_id)


def read_snapshot(store: ArtifactStore, training_set: TrainingSet) -> pa.Table:
    """Return the rows of a written training set; raises ArtifactRefused unless the bytes are those registered."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if training_set.path is None or training_set.sha256 is None:
        raise PonteError("a step came too early", where=training_set.place, got=training_set.status, expected="written")
    content = store.read_verified(training_set.path, training_set.sha256)
    return pq.read_table(pa.BufferReader(content))


def _description(training_set: TrainingSet) -> dict[str, Any]:
    return {
        "model": training_set.model,
        "as_of": training_set.as_of.isoformat(),
        "calibration_from": str(training_set.calibration_from) if training_set.calibration_from else None,
        "holdout_from": str(training_set.holdout_from),
        "windows": training_set.windows,
        "columns": training_set.columns,
        "row_count": training_set.row_count,
        "features_sql": training_set.features_sql,
        "labels_sql": training_set.labels_sql,
    }


def _copy_to_parquet(db: Database, training_set: TrainingSet, path: str) -> int:
    import pyarrow.parquet as pq

    signature = training_set.signature
    window = Column(name="window_start", family="date")
    known = (Column(name="label", family=signature.label), Column(name="labelled_at", family="timestamp"))
    columns = (window, *signature.key, *signature.features, *known)
    order = ", ".join(quote(c.name) for c in (window, *signature.key))
    query = f"SELECT {select_list(columns)} FROM {frozen_name(training_set)} ORDER BY {order}"
    rows = 0
    with db.adbc() as connection, connection.cursor() as cursor:
        cursor.execute(query)
        reader = cursor.fetch_record_batch()
        schema = reader.schema.with_metadata({DESCRIPTION: json.dumps(_description(training_set), sort_keys=True)})
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch.replace_schema_metadata(schema.metadata))
                rows += batch.num_rows
    return rows

"""The checks of a snapshot: those of a batch, so that a version learns from what it will be asked about."""

from __future__ import annotations

import sqlalchemy as sa

from ponte.checks.quarantine import Condition, FrozenFor
from ponte.checks.sorting import FrozenTable, sort_out
from ponte.checks.validation import CheckResult, validate
from ponte.errors import PonteError, TrainingRefused
from ponte.model.folders import ModelFolder
from ponte.snapshots.lifecycle import Snapshot, get_snapshot, lock_snapshot, recount, reject_snapshot
from ponte.storage.database import Database, or_of_a_twin
from ponte.storage.receipts import Receipt, recorded

_MARK_CHECKED = sa.text("UPDATE ponte.snapshot SET status = 'checked' WHERE snapshot_id = :id")


def check_snapshot(db: Database, folder: ModelFolder, snapshot_id: int) -> list[CheckResult]:
    """Check frozen training rows with the same checks; the key is unique within each window.

    Rows that a batch would set aside are set aside here too, so that a version learns from what it will be asked about.
    Raises TrainingRefused naming every failed check that stops.
    """
    snapshot = get_snapshot(db, snapshot_id)
    if snapshot.status in ("checked", "written"):
        return []
    _require_frozen(snapshot)
    table = snapshot.frozen_table
    assert table is not None

    def gone_on() -> tuple[list[CheckResult], list[Condition]] | None:
        seen = get_snapshot(db, snapshot_id)
        if seen.status in ("checked", "written"):  # and the table dropped
            return [], []
        _require_frozen(seen)
        return None

    receipt = Receipt(model=folder.name, step="check", snapshot_id=snapshot_id, row_count=snapshot.row_count)
    with recorded(db, receipt):
        results, conditions = or_of_a_twin(lambda: validate(db, folder, table), gone_on)
        with db.begin() as connection:
            snapshot = lock_snapshot(connection, snapshot_id)
            if snapshot.status in ("checked", "written"):
                return results  # a twin was faster
            _require_frozen(snapshot)
            assert snapshot.row_count is not None
            frozen = FrozenTable(
                name=table,
                key=("window_start", *folder.spec.key),
                row_count=snapshot.row_count,
                frozen_for=FrozenFor(snapshot_id=snapshot_id),
                budget=folder.spec.quarantine.budget,
            )
            results, stop = sort_out(connection, frozen, results, conditions)
            if stop is None:
                recount(connection, snapshot)
                connection.execute(_MARK_CHECKED, {"id": snapshot_id})
    if stop is not None:
        raise reject_snapshot(db, snapshot, stop.why)
    return results


def _require_frozen(snapshot: Snapshot) -> None:
    if snapshot.status in ("rejected", "failed"):
        what = f"the snapshot was {snapshot.status}"
        raise TrainingRefused(what, where=snapshot.place, got=snapshot.why or "")
    if snapshot.status != "frozen":
        raise PonteError("a step came too early", where=snapshot.place, got=snapshot.status, expected="frozen")

"""The checks of a snapshot: those of a batch, so that a version learns from what it will be asked about."""

from __future__ import annotations

import sqlalchemy as sa

from ponte.checks.quarantine import Condition, FrozenFor
from ponte.checks.sorting import FrozenTable, sort_out
from ponte.checks.validation import CheckResult, validate
from ponte.errors import PonteError, TrainingRefused
from ponte.model.folders import ModelFolder
from ponte.snapshots.lifecycle import TrainingSet, get_training_set, lock_training_set, recount, reject_training_set
from ponte.storage.database import Database, or_of_a_twin
from ponte.storage.receipts import Receipt, measured


def check_training_set(db: Database, folder: ModelFolder, snapshot_id: int) -> list[CheckResult]:
    """Check frozen training rows with the same checks; the key is unique within each window.

    Rows that a batch would set aside are set aside here too, so that a version learns from what it will be asked about.
    Raises TrainingRefused naming every failed check that stops.
    """
    training_set = get_training_set(db, snapshot_id)
    if training_set.status in ("checked", "written"):
        return []
    _require_frozen(training_set)
    table = training_set.frozen_table
    assert table is not None

    def gone_on() -> tuple[list[CheckResult], list[Condition]] | None:
        seen = get_training_set(db, snapshot_id)
        if seen.status in ("checked", "written"):  # and the table dropped
            return [], []
        _require_frozen(seen)
        return None

    receipt = Receipt(model=folder.name, step="check", snapshot_id=snapshot_id, row_count=training_set.row_count)
    with measured(db, receipt):
        results, conditions = or_of_a_twin(lambda: validate(db, folder, table), gone_on)
        with db.begin() as connection:
            training_set = lock_training_set(connection, snapshot_id)
            if training_set.status in ("checked", "written"):
                return results  # a twin was faster
            _require_frozen(training_set)
            assert training_set.row_count is not None
            frozen = FrozenTable(
                name=table,
                key=("window_start", *folder.spec.key),
                row_count=training_set.row_count,
                frozen_for=FrozenFor(snapshot_id=snapshot_id),
                budget=folder.spec.quarantine.budget,
            )
            results, stopping = sort_out(connection, frozen, results, conditions)
            if not stopping:
                recount(connection, training_set)
                connection.execute(
                    sa.text("UPDATE ponte.snapshot SET status = 'checked' WHERE snapshot_id = :id"), {"id": snapshot_id}
                )
    if stopping:
        raise reject_training_set(db, training_set, stopping)
    return results


def _require_frozen(training_set: TrainingSet) -> None:
    if training_set.status in ("rejected", "failed"):
        what = f"the training set was {training_set.status}"
        raise TrainingRefused(what, where=training_set.place, got=training_set.why or "")
    if training_set.status != "frozen":
        raise PonteError("a step came too early", where=training_set.place, got=training_set.status, expected="frozen")

"""The checks of a batch: it goes on without the rows set aside, or is rejected."""

from __future__ import annotations

from ponte.batches import lifecycle as batches
from ponte.checks.quarantine import Condition, FrozenFor
from ponte.checks.sorting import FrozenTable, sort_out
from ponte.checks.validation import CheckResult, validate
from ponte.model.folders import ModelFolder
from ponte.storage.database import Database, or_of_a_twin
from ponte.storage.receipts import Receipt, recorded


def check_batch(db: Database, folder: ModelFolder, batch_id: int) -> list[CheckResult]:
    """Check the frozen rows of a batch and let it go on without the rows set aside, or reject it.

    Evaluates nothing when it has gone on before. Raises BatchRejected naming every failed check that stops, and when
    more rows would be set aside than `[quarantine] budget` allows; Fenced; ModelFolderError for arguments that the
    expectations do not take.
    """
    batch = batches.get_batch(db, batch_id)
    batches.require(batch, "frozen")
    if batch.reached("checked"):
        return []
    table = batches.frozen_name(batch)[1]

    def gone_on() -> tuple[list[CheckResult], list[Condition]] | None:
        seen = batches.get_batch(db, batch_id)
        batches.require(seen, "frozen")  # fenced off, and its rows swept away?
        return ([], []) if seen.reached("checked") else None

    with recorded(db, Receipt(model=folder.name, step="check", batch_id=batch_id, row_count=batch.row_count)):
        results, conditions = or_of_a_twin(lambda: validate(db, folder, table), gone_on)
        with db.begin() as connection:
            batch = batches.lock(connection, batch_id)
            batches.require(batch, "frozen")
            if batch.reached("checked"):
                return results
            assert batch.row_count is not None
            frozen = FrozenTable(
                name=table,
                key=folder.spec.key,
                row_count=batch.row_count,
                frozen_for=FrozenFor(batch_id=batch_id),
                budget=folder.spec.quarantine.budget,
            )
            results, stop = sort_out(connection, frozen, results, conditions)
            if stop is None:
                batches.advance(connection, batch_id, "checked")
    if stop is not None:
        raise batches.reject(db, batch, stop.why, by=stop.by)
    return results

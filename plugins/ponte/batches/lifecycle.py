"""The life of a batch: claimed, frozen, checked, scored, staged; or rejected, or failed.

Every step finds its batch by id and asks `require` whether it is still due, so each can run twice and a run that lost
its window stops at the next step instead of the last.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from ponte.errors import BatchRejected, Fenced, PonteError
from ponte.model.windows import Window
from ponte.storage.columns import Column
from ponte.storage.database import DATA_SCHEMA, Database, insert_row, lock_decisions
from ponte.storage.runs import Run

Status = Literal["freezing", "frozen", "checked", "scored", "staged", "rejected", "failed"]
#: What rejects a batch: a guard a complete one, a check, too many rows to set aside, a window without rows.
RejectedBy = Literal["guard", "check", "budget", "empty"]
_ORDER: tuple[Status, ...] = ("freezing", "frozen", "checked", "scored", "staged")

_TAKE_OVER = sa.text("""INSERT INTO ponte.claim AS c (model, window_start, epoch, run_id)
    VALUES (:model, :window_start, 1, :run_id)
    ON CONFLICT (model, window_start)
    DO UPDATE SET epoch = c.epoch + 1, run_id = excluded.run_id, at = now()
    RETURNING epoch""")

# A step of an older run may hold its batch for long: it is passed over, and the fence stops it later.
_END_OLDER_RUNS = sa.text("""UPDATE ponte.batch SET status = 'failed', stopped_in = NULL,
    why = 'superseded by run ' || :run_id
        || CASE WHEN run_id = :run_id THEN ', which was cleared or made again' ELSE '' END
    WHERE batch_id IN (
        SELECT batch_id FROM ponte.batch b
        WHERE model = :model AND window_start = :window_start AND run_key <> :run_key
        AND (status NOT IN ('rejected', 'failed') OR stopped_in IS NOT NULL)
        AND NOT EXISTS (SELECT FROM ponte.publication_event e WHERE e.batch_id = b.batch_id)
        FOR UPDATE SKIP LOCKED
    )""")

_NAME_TABLES = sa.text("""UPDATE ponte.batch SET frozen_table = :frozen, prediction_table = :predictions
    WHERE batch_id = :batch_id""")

# NO KEY: whoever only refers to the batch, as an event that replaces it does, has not to wait.
_LOCK = sa.text("SELECT FROM ponte.batch WHERE batch_id = :id FOR NO KEY UPDATE")

_ADVANCE = sa.text("UPDATE ponte.batch SET status = :status WHERE batch_id = :id")
_REJECT = sa.text("""UPDATE ponte.batch SET status = 'rejected', rejected_by = :by, why = :why
    WHERE batch_id = :id AND status = :at""")
_ACCEPT = sa.text("UPDATE ponte.batch SET status = 'staged' WHERE batch_id = :id AND status = 'rejected'")
_STORE_COLUMNS = sa.text("UPDATE ponte.batch SET columns = :columns WHERE batch_id = :id")

_OF_RUN = sa.text("""SELECT batch_id FROM ponte.batch
    WHERE model = :model AND run_key = :run_key AND status NOT IN ('rejected', 'failed') ORDER BY batch_id""")

_STOP = sa.text("""UPDATE ponte.batch b SET status = 'failed', stopped_in = status, waits_since = NULL,
        why = 'its run ended before it was published'
    WHERE batch_id = :id AND run_key = :run_key AND status NOT IN ('rejected', 'failed')
    AND NOT EXISTS (SELECT FROM ponte.publication_event e WHERE e.batch_id = b.batch_id)""")

# Not for a step of the attempt that ended it, which Airflow has given up, and not once another run has the window.
_GO_ON = sa.text("""UPDATE ponte.batch b SET run_key = :run_key, waits_since = NULL, stopped_in = NULL,
        status = coalesce(stopped_in, status), why = CASE WHEN stopped_in IS NULL THEN why END
    FROM ponte.claim c
    WHERE b.batch_id = :id AND b.run_id = :run_id AND b.run_key <> :run_key
    AND c.model = b.model AND c.window_start = b.window_start AND c.epoch = b.epoch
    AND (b.status NOT IN ('rejected', 'failed') OR b.stopped_in IS NOT NULL)
    AND NOT EXISTS (SELECT FROM ponte.publication_event e WHERE e.batch_id = b.batch_id)""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """A row of `ponte.batch`."""

    batch_id: int
    model: str
    window_start: dt.date
    window_end: dt.date
    as_of: dt.datetime
    run_id: str
    epoch: int
    version: int
    #: True when the version may have learned from what happened after as_of.
    hindsight: bool
    status: Status
    #: Kept with `why` when a person publishes the batch all the same.
    rejected_by: RejectedBy | None
    why: str | None
    #: The status in which its own run ended; a task of that run that is cleared goes on from there.
    stopped_in: Status | None
    columns: tuple[Column, ...] | None
    frozen_table: str | None
    prediction_table: str | None
    #: Key and the columns of [evaluation] slices, for the monitor; None without such columns.
    slice_table: str | None
    row_count: int | None
    page_count: int | None

    @property
    def place(self) -> str:
        """Where an error happened, for its message."""
        return f"model {self.model}, window [{self.window_start}, {self.window_end}), batch {self.batch_id}"

    @property
    def window(self) -> Window:
        return Window(start=self.window_start, end=self.window_end, as_of=self.as_of)

    def reached(self, status: Status) -> bool:
        """Tell whether the batch has got as far as `status`."""
        return self.status in _ORDER and _ORDER.index(self.status) >= _ORDER.index(status)


_COLUMNS = ", ".join(Batch.__dataclass_fields__)
_BY_ID = sa.text(f"SELECT {_COLUMNS} FROM ponte.batch WHERE batch_id = :batch_id")
_BY_RUN = sa.text(f"""SELECT {_COLUMNS} FROM ponte.batch
    WHERE model = :model AND window_start = :window_start AND run_key = :run_key""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """The version that a batch is scored with, and why."""

    version: int
    reason: str
    hindsight: bool


def find_batch(db: Database, model: str, window: Window, *, run: Run) -> Batch | None:
    """Return the batch of this run and window, None before it has claimed the window."""
    with db.begin() as connection:
        return _select(connection, _BY_RUN, {**window.parameters(), "model": model, **run.row()})


def claim(db: Database, model: str, window: Window, *, run: Run, choose: Callable[[], Pin | None]) -> Batch | None:
    """Return the batch of this run and window; a new one gets the next epoch and pins the version of `choose`.

    The claim fences off every older run of the window: their unfinished batches become `failed`, and none of them can
    publish any more. A retry of the same run finds its batch and claims nothing. `choose` is called while the window is
    held, so no rollback can come between the choice and the claim; when it raises, or returns None, nothing was claimed
    (and None is returned). All decisions about the model wait for it: it must wait for nothing itself, so it touches
    no table but Ponte's.
    """
    values: dict[str, object] = {**window.parameters(), "model": model, **run.row()}
    with db.begin() as connection:
        lock_decisions(connection, model)
        # The row lock of the claim makes two copies of one run take turns.
        epoch = take_over(connection, model, window.start, run=run)
        known = _select(connection, _BY_RUN, values)
        if known is not None:
            connection.rollback()
            return known
        pin = choose()
        if pin is None:
            connection.rollback()
            return None
        pinned = {"version": pin.version, "version_reason": pin.reason, "hindsight": pin.hindsight}
        batch_id = insert_row(connection, "ponte.batch", {**values, **pinned, "epoch": epoch}, returning="batch_id")
        names = {
            "batch_id": batch_id,
            "frozen": f"{model}__frozen_{batch_id}",
            "predictions": f"{model}__prediction_{batch_id}",
        }
        connection.execute(_NAME_TABLES, names)
        batch = _select(connection, _BY_ID, {"batch_id": batch_id})
        assert batch is not None
        return batch


def take_over(connection: sa.Connection, model: str, window_start: dt.date, *, run: Run) -> int:
    """Give the window to a run, in the caller's transaction; return the epoch. Older runs can no longer publish.

    Their batches that nobody ever saw become `failed`.
    """
    values = {"model": model, "window_start": window_start, **run.row()}
    epoch = connection.execute(_TAKE_OVER, values).scalar_one()
    connection.execute(_END_OLDER_RUNS, values)
    return int(epoch)


def get_batch(db: Database, batch_id: int) -> Batch:
    """Return the batch; raises PonteError when there is none."""
    with db.begin() as connection:
        return read_batch(connection, batch_id)


def read_batch(connection: sa.Connection, batch_id: int) -> Batch:
    """Return the batch as this transaction sees it, without a lock."""
    batch = _select(connection, _BY_ID, {"batch_id": batch_id})
    if batch is None:
        raise PonteError("no such batch", where="ponte.batch", got=str(batch_id))
    return batch


def lock(connection: sa.Connection, batch_id: int) -> Batch:
    """Return the batch with its row locked: steps of two copies of one run take turns."""
    connection.execute(_LOCK, {"id": batch_id})
    return read_batch(connection, batch_id)


def require(batch: Batch, status: Status) -> None:
    """Raise unless the batch has got as far as `status`: Fenced, BatchRejected, or PonteError for a step too early."""
    if batch.status == "failed" and batch.stopped_in is not None:
        fix = "clear the failed task of that run with Downstream, or trigger a new run for the window"
        where = f"{batch.place}, run {batch.run_id}"
        raise PonteError("the run of this batch has ended without publishing it", where=where, fix=fix)
    if batch.status == "failed":
        raise Fenced("the batch is over", where=batch.place, got=batch.why or "", fix="look at the run that took over")
    if batch.status == "rejected":
        fix = "mend the source or the rule, then clear freeze_batch, or trigger a new run: both freeze the rows anew"
        if batch.rejected_by == "guard":
            fix = f"to publish it all the same, trigger ponte__publish_batch with a reason; otherwise {fix}"
        raise BatchRejected("the batch was rejected", where=batch.place, got=batch.why or "", fix=fix)
    if not batch.reached(status):
        raise PonteError("a step came too early", where=batch.place, got=batch.status, expected=status)


def advance(connection: sa.Connection, batch_id: int, status: Status) -> None:
    """Set the status, in the caller's transaction."""
    connection.execute(_ADVANCE, {"status": status, "id": batch_id})


def mark_rejected(connection: sa.Connection, batch_id: int, why: str, *, by: RejectedBy, at: Status) -> None:
    """Mark the batch rejected if it still has the status `at`, in the caller's transaction."""
    connection.execute(_REJECT, {"by": by, "why": why, "id": batch_id, "at": at})


def accept(connection: sa.Connection, batch_id: int) -> None:
    """Let a batch that a guard rejected be staged after all, in the caller's transaction; it keeps what and why."""
    connection.execute(_ACCEPT, {"id": batch_id})


def reject(db: Database, batch: Batch, why: str, *, by: RejectedBy, at: Status = "frozen") -> BatchRejected:
    """Mark the batch rejected and return the error to raise. What was published before stays published.

    at : the status in which the caller works; a batch that a twin has brought further is not rejected any more.
    """
    with db.begin() as connection:
        mark_rejected(connection, batch.batch_id, why, by=by, at=at)
    return BatchRejected(
        "the batch is rejected, nothing was published",
        where=batch.place,
        got=why,
        fix=f"mend the source or the rule, then trigger {batch.model}__score for window_start {batch.window_start}",
    )


def end_run(db: Database, model: str, *, run: Run) -> int:
    """Make the unfinished batch of a run that has ended `failed`, so that nobody waits for it; return how many.

    What was published or rejected stays what it is, and so does the batch of another attempt of the same Airflow run.
    Its tables stay: `go_on` lets a task that is cleared go on with it, until a newer run claims the window.
    """
    values = {"model": model, **run.row()}
    with db.begin() as connection:
        found = connection.execute(_OF_RUN, values).scalars().all()
        for batch_id in found:
            # Whoever is about to publish it holds the lock; what it has published is seen only by a statement after.
            lock(connection, batch_id)
        return sum(connection.execute(_STOP, {**values, "id": batch_id}).rowcount for batch_id in found)


def go_on(db: Database, batch_id: int, *, run: Run) -> None:
    """Give a batch that nobody has rejected to a later attempt of its own Airflow run, in the status it had got to.

    Does nothing for the attempt that has it already, and when a newer run has claimed the window.
    """
    with db.begin() as connection:
        connection.execute(_GO_ON, {"id": batch_id, **run.row()})


def frozen_name(batch: Batch) -> tuple[str, str]:
    """Return schema and name of the frozen table; raises PonteError when it was cleaned up."""
    if batch.frozen_table is None:
        fix = "score the window again: a new run freezes it anew"
        raise PonteError("the frozen rows were cleaned up", where=batch.place, fix=fix)
    return DATA_SCHEMA, batch.frozen_table


def prediction_name(batch: Batch) -> tuple[str, str]:
    """Return schema and name of the prediction table; raises PonteError when retention or the janitor dropped it."""
    if batch.prediction_table is None:
        fix = "score the window again, or plan the rollback anew; ponte.retention_event says what retention dropped"
        raise PonteError("the predictions of this batch are gone", where=batch.place, fix=fix)
    return DATA_SCHEMA, batch.prediction_table


def store_columns(connection: sa.Connection, batch_id: int, columns: tuple[Column, ...]) -> None:
    """Record the columns of the frozen table, in the caller's transaction."""
    connection.execute(_STORE_COLUMNS, {"columns": json.dumps([c.as_json() for c in columns]), "id": batch_id})


def _select(connection: sa.Connection, query: sa.TextClause, parameters: dict[str, object]) -> Batch | None:
    row = connection.execute(query, parameters).mappings().one_or_none()
    if row is None:
        return None
    columns = row["columns"]
    return Batch(**{**row, "columns": None if columns is None else tuple(Column(**c) for c in columns)})

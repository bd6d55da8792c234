"""Predictions past the retention of their model: decided and recorded first, then dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ponte.model.spec import Retention
from ponte.publishing.tables import drop_prediction_table
from ponte.storage.database import DATA_SCHEMA, Database, leave_for_later, lock_decisions, table_exists

_SEEN = """SELECT b.batch_id, b.window_start, b.prediction_table AS relation, p.batch_id IS NOT NULL AS published,
        (SELECT e.row_count FROM ponte.publication_event e
         WHERE e.batch_id = b.batch_id ORDER BY event_id DESC LIMIT 1) AS row_count,
        (SELECT max(e.event_id) FROM ponte.publication_event e WHERE e.batch_id = b.batch_id) AS seen
        FROM ponte.batch b LEFT JOIN ponte.published p USING (batch_id)
        WHERE b.model = :model AND b.prediction_table IS NOT NULL"""

_REPLACED = sa.text(f"""SELECT * FROM (
        SELECT s.*, row_number() OVER (PARTITION BY window_start ORDER BY seen DESC) AS place FROM ({_SEEN}) AS s
        WHERE seen IS NOT NULL AND NOT published
    ) AS ranked
    WHERE place > :keep ORDER BY batch_id""")

_PAST = sa.text(f"""SELECT * FROM ({_SEEN}) AS s
    WHERE seen IS NOT NULL AND window_start
        < (SELECT max(window_start) FROM ponte.published WHERE model = :model) - 7 * CAST(:weeks AS integer)
    ORDER BY batch_id""")

_RECORD = sa.text("""INSERT INTO ponte.retention_event
    (model, window_start, batch_id, relation, row_count, byte_count, published, why)
    VALUES (:model, :window_start, :batch_id, :relation, :row_count,
        coalesce(pg_total_relation_size(to_regclass(format('ponte_data.%I', CAST(:relation AS text)))), 0),
        :published, :why)
    ON CONFLICT (batch_id) DO NOTHING""")

_FORGET_PREDICTIONS = sa.text("UPDATE ponte.batch SET prediction_table = NULL WHERE batch_id = :batch_id")
_SHOW_NOTHING = sa.text("DELETE FROM ponte.published WHERE batch_id = :batch_id")

_CLOSE_QUARANTINE = sa.text("""UPDATE ponte.quarantine SET closed_at = clock_timestamp(), resolution = 'retired'
    WHERE batch_id = :batch_id AND closed_at IS NULL""")

#: Writes the last figures of batches, by id.
LastFigures = Callable[[Sequence[int]], None]

_STILL_THERE = sa.text("""SELECT relation FROM ponte.retention_event
    WHERE model = :model AND to_regclass(format('ponte_data.%I', relation)) IS NOT NULL
    ORDER BY event_id""")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Victim:
    batch_id: int
    window_start: object
    relation: str
    row_count: int
    published: bool
    why: str


def retire(db: Database, model: str, rules: Retention, *, last_figures: LastFigures | None = None) -> int:
    """Drop the predictions that the retention of the model gives up; return how many batches.

    last_figures : called with the ids of the batches before any of them is given up, to write what can be said of them
    only while they are there. What becomes due meanwhile is left to the next call.

    First it is decided and recorded, in one transaction under the lock of decisions, so that no rollback picks a batch
    that is about to go; then the partitions are detached, which blocks no reader, and dropped. What people see for the
    newest window is never among them.
    """
    with db.begin() as connection:
        due = {victim.batch_id for victim in _victims(connection, model, rules)}
    if due and last_figures is not None:
        last_figures(sorted(due))
    with db.begin() as connection:
        lock_decisions(connection, model)
        victims = [victim for victim in _victims(connection, model, rules) if victim.batch_id in due]
        retired = sum(_record(connection, model, victim) for victim in victims)
    with db.begin() as connection:
        pending = list(connection.execute(_STILL_THERE, {"model": model}).scalars())
    for relation in pending:
        try:
            drop_prediction_table(db, model, relation)
        except sa.exc.DBAPIError as error:
            with db.begin() as connection:
                there = table_exists(connection, DATA_SCHEMA, relation)
            if there:  # else a twin was faster
                leave_for_later(error, relation)
    return retired


def _victims(connection: sa.Connection, model: str, rules: Retention) -> list[_Victim]:
    return _replaced(connection, model, rules) + _past(connection, model, rules)


def _replaced(connection: sa.Connection, model: str, rules: Retention) -> list[_Victim]:
    if rules.replaced_batches is None:
        return []
    rows = connection.execute(_REPLACED, {"model": model, "keep": rules.replaced_batches}).all()
    return [_victim(row, f"replaced_batches = {rules.replaced_batches}") for row in rows]


def _past(connection: sa.Connection, model: str, rules: Retention) -> list[_Victim]:
    if rules.weeks is None:
        return []
    rows = connection.execute(_PAST, {"model": model, "weeks": rules.weeks}).all()
    return [_victim(row, f"weeks = {rules.weeks}") for row in rows]


def _victim(row: sa.Row[tuple[object, ...]], why: str) -> _Victim:
    return _Victim(
        batch_id=row.batch_id,
        window_start=row.window_start,
        relation=row.relation,
        row_count=row.row_count,
        published=row.published,
        why=why,
    )


def _record(connection: sa.Connection, model: str, victim: _Victim) -> int:
    """Return 1, or 0 when another rule has retired the batch already."""
    values = {**{name: getattr(victim, name) for name in _Victim.__dataclass_fields__}, "model": model}
    inserted = connection.execute(_RECORD, values)
    if inserted.rowcount:
        connection.execute(_FORGET_PREDICTIONS, values)
        connection.execute(_SHOW_NOTHING, values)
    connection.execute(_CLOSE_QUARANTINE, values)
    return inserted.rowcount

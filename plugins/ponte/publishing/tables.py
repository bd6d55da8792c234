"""The tables behind `predictions.<model>`: one partitioned table per model, a table per batch that becomes a partition.

A batch is loaded into a table of its own, gets its keys and constraints there, and is attached as a partition when it
is staged, before anybody is sent to it. The CHECK on `window_start` lets the planner skip every other partition when a
reader names the window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.batches.lifecycle import Batch
from ponte.errors import PonteError
from ponte.publishing.slices import create_slice_table, require_ours
from ponte.storage.database import (
    DATA_SCHEMA,
    Database,
    limit_lock_waits,
    quote,
    table_exists,
    with_lock_retries,
)
from ponte.storage.prediction_columns import ADDED, COMMENTS, LIVE_COLUMNS, table_columns, view_columns
from ponte.versions.registry import Version
from ponte.versions.signature import Signature

_LOCK_OF_MODEL = sa.text("SELECT pg_advisory_xact_lock(hashtext('ponte.prediction'), hashtext(:model))")
_ROOM_FOR_KEYS = sa.text("SET LOCAL maintenance_work_mem = '256MB'")  # those of ten million rows
_IS_PARTITION = sa.text("SELECT relispartition FROM pg_class WHERE oid = CAST(:name AS regclass)")
_DETACH_PENDING = sa.text("SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass(:name)")

_COLUMN_TYPES = sa.text("""SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = CAST(:name AS regclass) AND attnum > 0 AND NOT attisdropped""")

_HAS_COLUMN = sa.text("""SELECT EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = to_regclass(:name) AND attname = :column)""")


#: A condition of a reader's own comes after those of the view, unless it can say nothing of the rows that it is given:
#: a cast that fails would name values of batches that nobody is sent to.
_BARRIER = "WITH (security_barrier)"

#: How long readers queue behind a change of the table or of a view, at most, before they pass and it is tried again.
CHANGE_TIMEOUT = "2s"
_OF_BATCHES = ("batch_id", "window_start")
#: What to do about a version whose predictions do not fit the earlier ones.
WAY_OUT = "a model keeps its key and label type for life: give the changed model a folder of its own"


def parent_name(model: str) -> str:
    """Return the name of the partitioned table of a model, in schema `ponte_data`."""
    return f"prediction_{model}"


def create_prediction_table(db: Database, batch: Batch, version: Version, slices: Sequence[str] = ()) -> None:
    """Create the batch's own empty tables, and once per model the partitioned table and its views.

    Those of before a revision that has added columns get them first. slices : columns of [evaluation] slices, kept
    beside the predictions for the monitor.

    Raises PonteError when the model's key or label type is no longer that of its earlier predictions.
    """
    own = quote(*batches.prediction_name(batch))
    signature = version.signature
    columns = table_columns(signature.key, version.task, signature.label)
    key = ", ".join(quote(name) for name in ("batch_id", *(c.name for c in signature.key)))
    parent = quote(DATA_SCHEMA, parent_name(batch.model))
    shown = view_columns(signature.key, version.task)
    with db.begin() as connection:
        _lock_model(connection, batch.model)
        new = not table_exists(connection, DATA_SCHEMA, parent_name(batch.model))
        if new:
            connection.exec_driver_sql(
                f"CREATE TABLE {parent} ({_body(columns)}, PRIMARY KEY ({key})) PARTITION BY LIST (batch_id)"
            )
            _comment(
                connection, "TABLE", parent, columns, f"All predictions of {batch.model}, published or not any more."
            )
        else:
            require_ours(connection, batch, parent)
            _require_columns(connection, batch, columns)
        changes = _changes(batch.model, version.task, shown)
        due = [change for change in changes if not change.is_made(connection)]
        for change in due if new else ():
            change.make(connection)
    for change in () if new else due:
        with_lock_retries(partial(_make_alone, db, batch.model, change))
    with db.begin() as connection:
        limit_lock_waits(connection, "10s")
        locked = batches.lock(connection, batch.batch_id)
        batches.require(locked, "checked")
        # What is the same in every row need not be sent with every row.
        columns["batch_id"] += f" DEFAULT {batch.batch_id:d}"
        columns["window_start"] += f" DEFAULT DATE '{batch.window_start.isoformat()}'"
        connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {own} ({_body(columns)})")
        require_ours(connection, batch, own)
        # Who shows them counts them first, and who monitors compares them with what came true.
        connection.exec_driver_sql(f"GRANT SELECT ON {own} TO ponte_promoter, ponte_monitor")
        create_slice_table(connection, locked, version.signature.key, slices)


def _body(columns: dict[str, str]) -> str:
    return ", ".join(f"{quote(name)} {definition}" for name, definition in columns.items())


def finish_prediction_table(connection: sa.Connection, batch: Batch, signature: Signature) -> None:
    """Give the loaded table its primary key and the constraints that make attaching it instant, in this transaction."""
    own = quote(*batches.prediction_name(batch))
    key = ", ".join(quote(name) for name in ("batch_id", *(c.name for c in signature.key)))
    connection.execute(_ROOM_FOR_KEYS)
    connection.exec_driver_sql(
        f"ALTER TABLE {own} ADD PRIMARY KEY ({key}), ADD CHECK (batch_id = {batch.batch_id:d}), "
        f"ADD CHECK (window_start = DATE '{batch.window_start.isoformat()}')"
    )
    connection.exec_driver_sql(f"ANALYZE {own}")


def attach_prediction_table(connection: sa.Connection, batch: Batch) -> None:
    """Make the batch's table a partition, unless it is one. Takes a lock that blocks neither readers nor writers."""
    own = quote(*batches.prediction_name(batch))
    if not connection.execute(_IS_PARTITION, {"name": own}).scalar_one():
        parent = quote(DATA_SCHEMA, parent_name(batch.model))
        # Another batch may have given the parent columns since this one's table was made.
        lacking = _column_types(connection, parent).items() - _column_types(connection, own).items()
        if lacking:
            _add_columns(connection, own, dict(lacking))
        connection.exec_driver_sql(f"ALTER TABLE {parent} ATTACH PARTITION {own} FOR VALUES IN ({batch.batch_id:d})")


def drop_prediction_table(db: Database, model: str, relation: str) -> bool:
    """Drop a batch's predictions, and tell whether there were any; readers of the other batches wait for nothing.

    A partition is detached CONCURRENTLY, which waits for the readers that have begun before and lets others pass. When
    it is interrupted in between, the next call finishes it.
    """
    own, parent = quote(DATA_SCHEMA, relation), quote(DATA_SCHEMA, parent_name(model))
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("SET lock_timeout = '2s'")
        pending = connection.execute(_DETACH_PENDING, {"name": own}).scalar_one_or_none()
        there = table_exists(connection, DATA_SCHEMA, relation)
        if pending is not None:
            how = "FINALIZE" if pending else "CONCURRENTLY"
            connection.exec_driver_sql(f"ALTER TABLE {parent} DETACH PARTITION {own} {how}")
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {own}")
        return there


@dataclass(frozen=True, slots=True)
class _Change:
    """A column more of the partitioned table or of a view, which the newest of its columns tells of."""

    relation: str
    column: str
    make: Callable[[sa.Connection], None]

    def is_made(self, connection: sa.Connection) -> bool:
        return bool(connection.execute(_HAS_COLUMN, {"name": self.relation, "column": self.column}).scalar_one())


def _changes(model: str, task: str, columns: dict[str, tuple[str, str]]) -> list[_Change]:
    """Return what gives table and views their newest columns, in the order in which they can be made.

    A view that is not there yet is made.
    """
    parent, view, latest = (
        quote(DATA_SCHEMA, parent_name(model)),
        *(quote("predictions", name) for name in (model, f"{model}_latest")),
    )
    newest = list(columns)[-1]

    def add_columns(connection: sa.Connection) -> None:
        added = ADDED[task]
        _add_columns(connection, parent, added)
        _comment_columns(connection, parent, added)

    def show(connection: sa.Connection) -> None:
        shown = ", ".join(f"{row}.{quote(column)} AS {quote(name)}" for name, (row, column) in columns.items())
        connection.exec_driver_sql(
            f"CREATE OR REPLACE VIEW {view} {_BARRIER} AS SELECT {shown} FROM {parent} p "
            f"JOIN ponte.published u ON u.batch_id = p.batch_id AND u.window_start = p.window_start "
            f"JOIN ponte.batch b ON b.batch_id = p.batch_id WHERE u.model = '{model}'"
        )
        text = f"Predictions of {model}, all windows: each window whole or not at all."
        _comment(connection, "VIEW", view, columns, text)

    def show_latest(connection: sa.Connection) -> None:
        connection.exec_driver_sql(
            f"CREATE OR REPLACE VIEW {latest} {_BARRIER} AS SELECT * FROM {view} WHERE window_start = "
            f"(SELECT max(window_start) FROM ponte.published WHERE model = '{model}')"
        )
        _comment(connection, "VIEW", latest, columns, f"Predictions of {model} for the newest window.")

    return [
        *(_Change(parent, name, add_columns) for name in list(ADDED[task])[-1:]),
        _Change(view, newest, show),
        _Change(latest, newest, show_latest),
    ]


def _make_alone(db: Database, model: str, change: _Change) -> None:
    """Make a change in a transaction of its own, unless a twin has.

    It holds back every reader until it ends, so it is about one relation: with two, it and a reader of the second one,
    who has yet to lock the first, would wait for each other. Killed between two of them, the next call goes on.
    """
    with db.begin() as connection:
        limit_lock_waits(connection, CHANGE_TIMEOUT)
        _lock_model(connection, model)
        if not change.is_made(connection):
            change.make(connection)


def _add_columns(connection: sa.Connection, relation: str, columns: Mapping[str, str]) -> None:
    added = ", ".join(f"ADD COLUMN IF NOT EXISTS {quote(name)} {kind}" for name, kind in columns.items())
    connection.exec_driver_sql(f"ALTER TABLE {relation} {added}")


def _comment(connection: sa.Connection, kind: str, relation: str, columns: Iterable[str], text: str) -> None:
    connection.exec_driver_sql(f"COMMENT ON {kind} {relation} IS '{text}'")
    _comment_columns(connection, relation, columns)


def _comment_columns(connection: sa.Connection, relation: str, columns: Iterable[str]) -> None:
    for name in columns:
        about = COMMENTS.get(name, "Key of the entity; see the model card.")
        connection.exec_driver_sql(f"COMMENT ON COLUMN {relation}.{quote(name)} IS '{about}'")


def _require_columns(connection: sa.Connection, batch: Batch, columns: dict[str, str]) -> None:
    changed = changed_columns(connection, batch.model, columns)
    if changed is not None:
        raise _other_columns(batch.place, changed)


def require_columns_of_earlier(connection: sa.Connection, version: Version) -> None:
    """Raise PonteError unless the version's predictions would fit those that the model has made before.

    Of batches and of live rows: the API and the queue would answer, and could keep nothing of it.
    """
    columns = columns_of_version(version)
    changed = changed_columns(connection, version.model, columns) or _changed_live(connection, version.model, columns)
    if changed is not None:
        raise _other_columns(version.place, changed)


def columns_of_version(version: Version) -> dict[str, str]:
    """Return column → type and constraints of the table that holds what the version predicts."""
    return table_columns(version.signature.key, version.task, version.signature.label)


def has_predictions(connection: sa.Connection, model: str) -> bool:
    """Tell whether a batch of the model was ever scored."""
    return table_exists(connection, DATA_SCHEMA, parent_name(model))


def changed_columns(connection: sa.Connection, model: str, columns: dict[str, str]) -> tuple[str, str] | None:
    """Return (these columns, those of the model's earlier predictions) for people; None when they are the same.

    None also before the first batch of the model was scored.
    """
    if not has_predictions(connection, model):
        return None
    earlier = _column_types(connection, quote(DATA_SCHEMA, parent_name(model)))
    now = {name: definition.partition(" NOT NULL")[0] for name, definition in columns.items()}
    if now == {**{name: now[name] for name in ADDED["regression"] if name in now}, **earlier}:
        return None
    return ", ".join(f"{n} {t}" for n, t in now.items()), ", ".join(f"{n} {t}" for n, t in earlier.items())


def _changed_live(connection: sa.Connection, model: str, columns: dict[str, str]) -> tuple[str, str] | None:
    """Likewise of the model's live rows, without the columns that they have beside."""
    if not table_exists(connection, DATA_SCHEMA, f"live_{model}"):
        return None
    found = _column_types(connection, quote(DATA_SCHEMA, f"live_{model}"))
    earlier = {name: kind for name, kind in found.items() if name not in LIVE_COLUMNS | {"model_version"}}
    now = {n: definition.partition(" NOT NULL")[0] for n, definition in columns.items() if n not in _OF_BATCHES}
    if now == earlier:
        return None
    return ", ".join(f"{n} {t}" for n, t in now.items()), ", ".join(f"{n} {t}" for n, t in earlier.items())


def _other_columns(where: str, changed: tuple[str, str]) -> PonteError:
    got, expected = changed
    return PonteError(
        "the key or the label is no longer that of the earlier predictions",
        where=where,
        got=got,
        expected=expected,
        fix=WAY_OUT,
    )


def _column_types(connection: sa.Connection, relation: str) -> dict[str, str]:
    found: dict[str, str] = dict(connection.execute(_COLUMN_TYPES, {"name": relation}).all())
    return found


def _lock_model(connection: sa.Connection, model: str) -> None:
    connection.execute(_LOCK_OF_MODEL, {"model": model})

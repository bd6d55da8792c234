"""What a challenger predicts of a batch that the champion has published: on the same rows, where nobody is sent to.

It claims no window and fences nobody. Where both were trained with the same text it reads the rows that the champion
was asked about; else those of its own features.sql, frozen for the same window and as_of, of which it keeps what the
champion has predicted too.
"""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.batches.lifecycle import Batch
from ponte.checks import quarantine
from ponte.errors import PonteError
from ponte.model.folders import ModelFolder
from ponte.model.inspection import inspect_features
from ponte.model.queries import AuthorQuery
from ponte.publishing.slices import require_ours
from ponte.scoring.flow import Flow
from ponte.scoring.memory import keep_freed_memory
from ponte.scoring.scorer import Scorer
from ponte.snapshots.champion import why_another_question
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import (
    DATA_SCHEMA,
    Database,
    is_transient,
    lock_decisions,
    make_empty_table,
    or_of_a_twin,
    quote,
)
from ponte.storage.prediction_columns import table_columns
from ponte.storage.receipts import Receipt, recorded
from ponte.storage.row_width import too_wide_explained
from ponte.storage.withholding import said_of
from ponte.versions import aliases, registry
from ponte.versions.loading import load_registered
from ponte.versions.marks import has_bad_mark
from ponte.versions.registry import Version
from ponte.versions.signature import require_same

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Cursor

log = logging.getLogger(__name__)

#: Every row, by a scan that begins with the first page: copies of one task meet the same key first.
ALL_ROWS = "ctid >= '(0,0)'::tid"

_WAS_SEEN = sa.text("SELECT EXISTS (SELECT FROM ponte.publication_event WHERE batch_id = :id)")

_OPEN = sa.text("""INSERT INTO ponte.duel_batch AS d (batch_id, event_id, model, window_start, version)
    VALUES (:batch_id, :event_id, :model, :window_start, :version)
    ON CONFLICT (batch_id, event_id) DO UPDATE SET status = 'open', why = NULL, row_count = NULL, finished_at = NULL,
        opened_at = clock_timestamp()
    WHERE d.status = 'failed'""")

_OF_BATCH = sa.text("SELECT duel_id FROM ponte.duel_batch WHERE batch_id = :batch_id AND event_id = :event_id")

_NAME_TABLES = sa.text("""UPDATE ponte.duel_batch SET own_rows = :own_rows, frozen_table = :frozen_table,
    prediction_table = :prediction_table WHERE duel_id = :duel_id AND status = 'open'""")

_LOCK = sa.text("SELECT FROM ponte.duel_batch WHERE duel_id = :id FOR NO KEY UPDATE")
_COUNT = sa.text("UPDATE ponte.duel_batch SET row_count = :rows WHERE duel_id = :id")
_FAIL = sa.text("""UPDATE ponte.duel_batch SET status = 'failed', why = :why, finished_at = clock_timestamp()
    WHERE duel_id = :id AND status = 'open'""")

# How far two answers are from each other, by the task of the model.
_DISTANCE = {
    "binary": "abs(p.score - q.score)",
    "multiclass": "(SELECT sum(abs(u.a - u.b)) / 2 FROM unnest(p.scores, q.scores) AS u (a, b))",
    "regression": "abs(p.prediction - q.prediction)",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Duel:
    """A row of `ponte.duel_batch`."""

    duel_id: int
    batch_id: int
    #: The alias event that had made the version challenger.
    event_id: int
    model: str
    window_start: dt.date
    version: int
    own_rows: bool | None
    frozen_table: str | None
    prediction_table: str | None
    status: Literal["open", "scored", "failed"]
    why: str | None
    row_count: int | None
    compared_rows: int | None
    differing_rows: int | None

    @property
    def place(self) -> str:
        """Where an error happened, for its message."""
        return f"model {self.model}, window {self.window_start}, duel {self.duel_id} of batch {self.batch_id}"


_COLUMNS = ", ".join(Duel.__dataclass_fields__)
_BY_ID = sa.text(f"SELECT {_COLUMNS} FROM ponte.duel_batch WHERE duel_id = :id")


def read_duel(connection: sa.Connection, duel_id: int) -> Duel:
    """Return the row as this transaction sees it."""
    return Duel(**connection.execute(_BY_ID, {"id": duel_id}).mappings().one())


def score_beside(
    db: Database, store: ArtifactStore, folder: ModelFolder, batch_id: int, *, now: dt.datetime, threads: int = 1
) -> Duel | str:
    """Let the challenger predict what the champion has published; does nothing when it has before.

    threads : how many OpenMP and Arrow may use. Returns what came of it, or in words why there is nothing to do.

    What fails for good is recorded and raised: the challenger's features.sql does not work any more, its files are not
    what was registered, it leaves more rows than `[quarantine] budget` without a prediction. Then the next call tries
    again. So does that after a killed one.
    """
    opened = open_duel(db, batch_id)
    if isinstance(opened, str) or opened.status == "scored":
        return opened

    def scored() -> Duel | None:
        with db.begin() as connection:
            found = read_duel(connection, opened.duel_id)
        return found if found.status == "scored" else None

    def work() -> Duel:
        with recorded(
            db, Receipt(model=folder.name, step="duel", batch_id=batch_id, version=opened.version)
        ) as receipt:
            receipt.row_count = _score(db, store, folder, opened, now=now, threads=threads)
        done = scored()
        assert done is not None
        return done

    try:
        return or_of_a_twin(work, scored)
    except Exception as error:
        if not is_transient(error):
            with db.begin() as connection:
                connection.execute(_FAIL, {"id": opened.duel_id, "why": said_of(error)})
        raise


def open_duel(db: Database, batch_id: int) -> Duel | str:
    """Return the duel of a published batch, opened now unless it was before; or in words why there is none."""
    model = batches.get_batch(db, batch_id).model
    with db.begin() as connection:
        lock_decisions(connection, model)
        batch = batches.lock(connection, batch_id)  # the janitor drops no frozen rows meanwhile
        found = _opponent(connection, batch)
        if isinstance(found, str):
            return found
        challenger, event_id = found
        row = {"batch_id": batch_id, "event_id": event_id, "model": model, "window_start": batch.window_start}
        connection.execute(_OPEN, {**row, "version": challenger.version})
        duel_id = connection.execute(_OF_BATCH, row).scalar_one()
        champion = registry.read_version(connection, model, batch.version)
    same_text = registry.trained_sql(db, challenger) == registry.trained_sql(db, champion)
    with db.begin() as connection:
        batch = batches.lock(connection, batch_id)
        # Another run may have swept the champion's rows before this: then the challenger reads its own.
        own = not same_text or batch.frozen_table is None
        names = {
            "duel_id": duel_id,
            "own_rows": own,
            "frozen_table": f"{model}__duel_rows_{duel_id}" if own else batch.frozen_table,
            "prediction_table": f"{model}__duel_{duel_id}",
        }
        connection.execute(_NAME_TABLES, names)
        return read_duel(connection, duel_id)


def _opponent(connection: sa.Connection, batch: Batch) -> tuple[Version, int] | str:
    alias = aliases.challenger(connection, batch.model)
    if not connection.execute(_WAS_SEEN, {"id": batch.batch_id}).scalar_one():
        return "the batch was not published"
    if alias is None:
        return "there is no challenger"
    if alias.version == batch.version:
        return f"version {alias.version} has scored the batch itself"
    if has_bad_mark(connection, batch.model, alias.version):
        return f"challenger {alias.version} is marked bad"
    challenger = registry.read_version(connection, batch.model, alias.version)
    if batch.hindsight or challenger.train_cutoff > batch.as_of:
        return "one of the two may have learned from what happened after as_of"
    return challenger, alias.event_id


# ---------------------------------------------------------------- rows and predictions


def _score(
    db: Database, store: ArtifactStore, folder: ModelFolder, duel: Duel, *, now: dt.datetime, threads: int
) -> int:
    import pyarrow as pa

    batch = batches.get_batch(db, duel.batch_id)
    version = registry.get_version(db, duel.model, duel.version)
    if why := why_another_question(version, registry.get_version(db, duel.model, batch.version)):
        raise PonteError("the challenger cannot be held against the champion", where=duel.place, got=why)
    if duel.own_rows:
        _freeze_own_rows(db, folder, duel, batch, version)
    _create_table(db, duel, batch, version)
    pa.set_cpu_count(threads)
    keep_freed_memory()
    assert batch.row_count is not None
    assert duel.frozen_table is not None
    assert duel.prediction_table is not None
    flow = DuelFlow(
        scorer=Scorer(load_registered(db, store, version)),
        source=quote(DATA_SCHEMA, duel.frozen_table),
        condition=ALL_ROWS,
        target=(DATA_SCHEMA, duel.prediction_table),
        place=duel.place,
        chunk_rows=folder.spec.scoring.chunk_rows,
        threads=threads,
        now=now,
        allowed=quarantine.allowed_rows(folder.spec.quarantine.budget, batch.row_count),
        duel=duel,
        champion=quote(*batches.prediction_name(batch)),
    )
    return flow.run(db)


def _freeze_own_rows(db: Database, folder: ModelFolder, duel: Duel, batch: Batch, version: Version) -> None:
    """Freeze rows of the challenger's own text, once; as those of a batch are."""
    assert duel.frozen_table is not None
    text, signature = registry.trained_sql(db, version), version.signature
    found = inspect_features(db, folder, text)
    for expected, got in ((signature.key, found.key), (signature.features, found.features)):
        require_same(expected, got, model=duel.model, version=version.version)
    same = " AND ".join(f"p.{quote(c.name)} = f.{quote(c.name)}" for c in signature.key)
    query = (
        f"SELECT f.* FROM (\n{AuthorQuery('features.sql', text).sql()}\n) AS f "
        f"WHERE EXISTS (SELECT FROM {quote(*batches.prediction_name(batch))} AS p WHERE {same})"
    )
    table, parameters = quote(DATA_SCHEMA, duel.frozen_table), batch.window.parameters()
    with db.begin() as connection:
        if _has_rows(connection, duel):
            return
        make_empty_table(connection, table, query, parameters)
    with db.begin() as connection:
        if _has_rows(connection, duel):
            return
        with too_wide_explained(duel.model):
            rows = connection.exec_driver_sql(f"INSERT INTO {table} {query}", parameters).rowcount
        connection.execute(_COUNT, {"rows": rows, "id": duel.duel_id})


def _has_rows(connection: sa.Connection, duel: Duel) -> bool:
    connection.execute(_LOCK, {"id": duel.duel_id})
    found = read_duel(connection, duel.duel_id)
    return found.row_count is not None or found.status != "open"


def _create_table(db: Database, duel: Duel, batch: Batch, version: Version) -> None:
    assert duel.prediction_table is not None
    own = quote(DATA_SCHEMA, duel.prediction_table)
    columns = table_columns(version.signature.key, version.task, version.signature.label)
    body = ", ".join(f"{quote(c)} {kind}" for c, kind in columns.items() if c not in ("batch_id", "window_start"))
    key = ", ".join(quote(c.name) for c in version.signature.key)
    with db.begin() as connection:
        connection.execute(_LOCK, {"id": duel.duel_id})  # IF NOT EXISTS is no help to twins
        connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {own} ({body}, PRIMARY KEY ({key}))")
        require_ours(connection, batch, own)
        connection.exec_driver_sql(f"GRANT SELECT ON {own} TO ponte_monitor")


@dataclass(slots=True, kw_only=True)
class DuelFlow(Flow):
    """The way of the challenger's rows: how they compare with the champion's commits with them."""

    duel: Duel
    #: Quoted name of the table of what the champion predicts.
    champion: str

    def finish(self, writing: Cursor, written: int) -> None:
        """Record the comparison, and that it is done; raise PonteError when a twin was faster."""
        version = self.scorer.version
        own, key = quote(*self.target), ", ".join(quote(c.name) for c in version.signature.key)
        writing.execute(f"ANALYZE {own}")
        writing.execute(
            f"UPDATE ponte.duel_batch SET status = 'scored', row_count = {self.read:d}, "
            f"unscored_rows = {self.read - written:d}, compared_rows = c.compared, differing_rows = c.differing, "
            "score_difference = c.distance, finished_at = clock_timestamp() FROM ("
            "SELECT count(*) AS compared, count(*) FILTER (WHERE p.prediction <> q.prediction) AS differing, "
            f"avg({_DISTANCE[version.task]}) AS distance FROM {self.champion} AS p JOIN {own} AS q USING ({key})) AS c "
            f"WHERE duel_id = {self.duel.duel_id:d} AND status = 'open' RETURNING duel_id"
        )
        if writing.fetchone() is None:
            raise PonteError("the duel is over", where=self.place, fix="look at ponte.duel_batch")

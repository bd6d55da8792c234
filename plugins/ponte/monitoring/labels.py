"""Labels as they come in: read for every batch that people have seen, and kept append-only as they were seen.

A label is read with the labels.sql that the version of the batch was trained with, at the moment of the reading. Only
what is new is written, by one statement per batch; the rows stay in the database.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.errors import PonteError
from ponte.model.folders import ModelFolder
from ponte.model.queries import AuthorQuery, columns_of
from ponte.model.spec import Monitoring
from ponte.model.windows import Window
from ponte.publishing.staging import lock_table
from ponte.storage.columns import SQL_TYPES, Family, select_list
from ponte.storage.database import Database, insert_row, is_transient, quote
from ponte.storage.receipts import Receipt, recorded
from ponte.storage.withholding import said_of
from ponte.versions import registry
from ponte.versions.registry import Version

log = logging.getLogger(__name__)

#: Label families of a version → those that its labels may have now.
_TAKEN: dict[Family, frozenset[Family]] = {
    "integer": frozenset({"integer"}),
    "boolean": frozenset({"boolean"}),
    "text": frozenset({"text"}),
    "number": frozenset({"number", "integer"}),
}

# Read to the end: until a reading that lies behind the last moment at which a label may still change.
_DUE = sa.text("""SELECT b.batch_id FROM ponte.batch b
    WHERE b.model = :model AND b.prediction_table IS NOT NULL
    AND EXISTS (SELECT FROM ponte.publication_event e WHERE e.batch_id = b.batch_id)
    AND NOT EXISTS (
        SELECT FROM ponte.label_read r WHERE r.batch_id = b.batch_id AND r.state = 'read'
        AND (r.as_of >= :now OR r.as_of >= (b.window_end + CAST(:days AS integer))::timestamp AT TIME ZONE 'UTC')
    )
    ORDER BY b.batch_id""")

_LABELS_SQL = sa.text("SELECT labels_sql FROM ponte.snapshot WHERE snapshot_id = :id")
_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtext('ponte.label_seen'), hashtext(:model))")

_READ_ALREADY = """SELECT EXISTS (SELECT FROM {read} WHERE {id} = :id AND state = 'read' AND as_of >= :now)"""

_OTHERS = sa.text("""SELECT b.batch_id FROM ponte.batch b JOIN ponte.batch own ON own.batch_id = :id
    WHERE b.model = own.model AND b.window_start = own.window_start AND b.batch_id <> own.batch_id
    AND EXISTS (SELECT FROM ponte.label_read r WHERE r.batch_id = b.batch_id AND r.state = 'read')""")

# One statement, so that labels.sql is run once. `returned` are its rows, `one` its keys, `here` the labels of
# predictions; of these, and of what was seen before, `news` are the rows to add.
_READ = """WITH ponte_labels AS MATERIALIZED (
{labels}
), returned AS (
    SELECT {key}, CAST(label AS {type}) AS label, {labelled_at} AS labelled_at FROM ponte_labels
), one AS (
    SELECT {names}, min(label) AS label, max(label) AS other, min(labelled_at) AS labelled_at, bool_or(later) AS later
    FROM (
        SELECT {names}, CASE WHEN {good} AND NOT later THEN CAST(label AS text) END AS label,
               CASE WHEN {good} AND NOT later THEN labelled_at END AS labelled_at, {good} AND later AS later
        FROM (SELECT *, coalesce(labelled_at > %(ponte_now)s, false) AS later FROM returned) AS r
    ) AS r
    GROUP BY {names}
), here AS (
    SELECT jsonb_build_object({pairs}) AS key, o.label, o.labelled_at
    FROM one AS o JOIN {predictions} AS p USING ({names}) WHERE o.label = o.other
), known AS (
    SELECT DISTINCT ON (key) key, label, labelled_at, state FROM {seen}
    WHERE {id} = %(ponte_id)s{of_source} ORDER BY key, label_id DESC
), news AS (
    SELECT coalesce(h.key, k.key) AS key, h.label, h.labelled_at, h.key IS NULL AS withdrawn,
           h.key IS NOT NULL AND k.state IS DISTINCT FROM 'seen' AS new
    FROM here AS h FULL JOIN known AS k ON k.key = h.key
    WHERE CASE WHEN h.key IS NULL THEN k.state = 'seen' WHEN k.state = 'seen' THEN
          (h.label, h.labelled_at) IS DISTINCT FROM (k.label, k.labelled_at) ELSE true END
), before AS (
    SELECT key, label, min(known_at) AS known_at FROM {seen}
    WHERE {id} = ANY(%(ponte_others)s) AND state = 'seen' AND labelled_at IS NULL GROUP BY key, label
), added AS (
    INSERT INTO {seen} (model, window_start, {id}, key, label, labelled_at, known_at, seen_at, state)
    SELECT %(ponte_model)s, %(window_start)s, %(ponte_id)s, n.key, n.label, n.labelled_at,
           CASE WHEN NOT n.withdrawn THEN coalesce(n.labelled_at, b.known_at, %(ponte_now)s) END, %(ponte_now)s,
           CASE WHEN n.withdrawn THEN 'withdrawn' ELSE 'seen' END
    FROM news AS n LEFT JOIN before AS b ON b.key = n.key AND b.label = n.label
)
SELECT of_keys.*, of_rows.*, of_keys.good - of_rows.labelled_rows AS unknown_keys, of_news.*
FROM (
    SELECT count(*) AS key_count, count(*) FILTER (WHERE label IS NULL AND NOT later) AS null_labels,
           count(*) FILTER (WHERE label IS NULL AND later) AS future_labels,
           count(*) FILTER (WHERE label <> other) AS contradictory, count(*) FILTER (WHERE label = other) AS good
    FROM one
) AS of_keys, (
    SELECT count(*) AS labelled_rows,
           count(*) FILTER (WHERE labelled_at < CAST(%(window_start)s AS timestamptz)) AS early_labels
    FROM here
) AS of_rows, (
    SELECT count(*) FILTER (WHERE new) AS new_labels, count(*) FILTER (WHERE withdrawn) AS withdrawn_labels,
           count(*) FILTER (WHERE NOT new AND NOT withdrawn) AS changed_labels
    FROM news
) AS of_news"""

_COUNTS = (
    "key_count", "labelled_rows", "unknown_keys", "null_labels", "future_labels", "early_labels", "contradictory",
    "new_labels", "changed_labels", "withdrawn_labels",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """Where readings and labels are kept, and the column of both that says what they are of."""

    id: str
    read: str
    seen: str
    #: Tells labels of the source from others in `seen`.
    of_source: str
    noun: str


BATCHES = Ledger(
    id="batch_id",
    read="ponte.label_read",
    seen="ponte.label_seen",
    of_source=" AND origin = 'source'",
    noun="batch",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """A row of `ponte.label_read`, or of its like for live windows."""

    #: "batch 12"
    about: str
    #: Whose labels.sql was read: version or folder; None when neither could be.
    labels_from: str | None
    why: str | None = None
    new_labels: int = 0
    changed_labels: int = 0
    withdrawn_labels: int = 0

    @property
    def changes(self) -> int:
        """How many labels were added to those that were seen."""
        return self.new_labels + self.changed_labels + self.withdrawn_labels


@dataclass(frozen=True, kw_only=True, slots=True)
class Predicted:
    """What labels are read for: the predictions of a version in a window."""

    ledger: Ledger
    #: Value of the column `ledger.id`.
    id: int
    version: Version
    window: Window
    #: The relation that has each of their keys once.
    keys: str
    #: Ids of those about the same window whose labels were read, too, by :id.
    others: sa.TextClause
    #: Tells whether they are there, and keeps them from being dropped until the transaction ends.
    are_there: Callable[[sa.Connection], bool]


def label_days(monitoring: Monitoring) -> int:
    """Return how many days after the end of a window its labels are read for the last time."""
    return max(monitoring.maturities) + monitoring.corrections_days


def read_labels(db: Database, folder: ModelFolder, *, now: dt.datetime) -> list[Reading]:
    """Read the labels of every batch of the model that was ever published and still has its rows; return what was read.

    now : the moment of the reading. A batch that was read at that moment, or later, is not read again; nor is one that
    was read after its labels can no longer change. What was seen before is not written again, so a repetition, a twin
    and a run that was killed leave what one run leaves. A batch whose labels cannot be read is recorded as such, and
    keeps what was seen before.
    """
    values = {"model": folder.name, "now": now, "days": label_days(folder.spec.monitoring)}
    with db.begin() as connection:
        due = connection.execute(_DUE, values).scalars().all()
    found = [read_batch_labels(db, folder, batch_id, now=now) for batch_id in due]
    return [reading for reading in found if reading is not None]


def require_read(model: str, readings: Sequence[Reading]) -> None:
    """Raise PonteError when labels could not be read."""
    failed = [reading for reading in readings if reading.labels_from is None]
    if failed:
        raise PonteError(
            "labels could not be read",
            where=f"model {model}, {', '.join(reading.about for reading in failed)}",
            got=str(failed[0].why),
            fix="mend the source or labels.sql; the next run reads them again, and no label is lost meanwhile",
        )


def read_batch_labels(db: Database, folder: ModelFolder, batch_id: int, *, now: dt.datetime) -> Reading | None:
    """Read the labels of one batch; None when it was read at `now` or later, or its predictions were dropped."""
    batch = batches.get_batch(db, batch_id)
    name = quote(*batches.prediction_name(batch))

    def are_there(connection: sa.Connection) -> bool:
        if batches.read_batch(connection, batch_id).prediction_table is None:
            return False
        lock_table(connection, batch, name)
        return True

    predicted = Predicted(
        ledger=BATCHES,
        id=batch_id,
        version=registry.get_version(db, batch.model, batch.version),
        window=batch.window,
        keys=name,
        others=_OTHERS,
        are_there=are_there,
    )
    with recorded(db, Receipt(model=batch.model, step="read_labels", batch_id=batch_id, version=batch.version)) as cost:
        reading = read_labels_of(db, folder, predicted, now=now)
        if reading is None or reading.labels_from:
            cost.row_count = reading.changes if reading else 0
    return reading


def read_labels_of(db: Database, folder: ModelFolder, predicted: Predicted, *, now: dt.datetime) -> Reading | None:
    """Read the labels of predictions; None when they were read at `now` or later, or are not there any more."""
    with db.begin() as connection:
        trained = str(connection.execute(_LABELS_SQL, {"id": predicted.version.snapshot_id}).scalar_one())
    texts = {"version": trained, "folder": folder.text("labels.sql")}
    if texts["folder"] == trained:
        del texts["folder"]
    faults: list[str] = []
    for labels_from, text in texts.items():
        try:
            return _Labels(db, predicted, text, now).read(labels_from, "; ".join(faults) or None)
        except (PonteError, sa.exc.DBAPIError) as error:
            if is_transient(error):
                raise
            faults.append(f"labels.sql of the {labels_from}: {said_of(error)}")
            log.warning("%s: %s", _about(predicted), faults[-1])
    return _failed(db, predicted, now, "; ".join(faults))


def _failed(db: Database, predicted: Predicted, now: dt.datetime, why: str) -> Reading | None:
    with db.begin() as connection:
        # Where they are no table, or none any more, that is what failed, and what is told.
        with suppress(PonteError, sa.exc.ProgrammingError), connection.begin_nested():
            if not predicted.are_there(connection):  # retention was faster
                return None
        row = {**_row(predicted, now), "state": "failed", "why": why}
        insert_row(connection, predicted.ledger.read, row)
    return Reading(about=_about(predicted), labels_from=None, why=why)


def _about(predicted: Predicted) -> str:
    return f"{predicted.ledger.noun} {predicted.id}"


def _row(predicted: Predicted, now: dt.datetime) -> dict[str, Any]:
    version, start = predicted.version, predicted.window.start
    return {predicted.ledger.id: predicted.id, "model": version.model, "window_start": start, "as_of": now}


@dataclass(frozen=True, slots=True)
class _Labels:
    """The labels of predictions as one text of labels.sql returns them at a moment."""

    db: Database
    of: Predicted
    text: str
    now: dt.datetime

    def read(self, labels_from: str, why: str | None) -> Reading | None:
        """Write what is new; why : what was wrong with the text tried before."""
        statement, of, model = self._statement(), self.of, self.of.version.model
        read_already = sa.text(_READ_ALREADY.format(read=of.ledger.read, id=of.ledger.id))
        with self.db.begin() as connection:
            connection.execute(_LOCK, {"model": model})
            if not of.are_there(connection):
                return None
            if connection.execute(read_already, {"id": of.id, "now": self.now}).scalar_one():
                return None
            others = list(connection.execute(of.others, {"id": of.id}).scalars())
            values = {"id": of.id, "model": model, "now": self.now, "others": others}
            parameters = {**self._parameters(), **{f"ponte_{name}": value for name, value in values.items()}}
            found = connection.exec_driver_sql(statement, parameters).mappings().one()
            counts = {name: found[name] for name in _COUNTS}
            said = {"state": "read", "labels_from": labels_from, "why": why}
            insert_row(connection, of.ledger.read, {**_row(of, self.now), **counts, **said})
        log.info("%s: %s", _about(of), ", ".join(f"{name} {count}" for name, count in counts.items()))
        return Reading(
            about=_about(of),
            labels_from=labels_from,
            why=why,
            new_labels=counts["new_labels"],
            changed_labels=counts["changed_labels"],
            withdrawn_labels=counts["withdrawn_labels"],
        )

    def _parameters(self) -> dict[str, Any]:
        return {**self.of.window.parameters(), "as_of": self.now}

    def _statement(self) -> str:
        """Return the statement; raises PonteError when the text does not return what the version was trained with."""
        query = AuthorQuery("labels.sql", self.text)
        problems = query.problems()
        if problems:
            raise PonteError(f"labels.sql {problems[0].what}")
        kinds = {name: (kind, family) for name, kind, family in columns_of(self.db, query, self._parameters())}
        key, label = self.of.version.signature.key, self.of.version.signature.label
        wanted = {column.name: frozenset({column.family}) for column in key} | {"label": _TAKEN[label]}
        for name, families in wanted.items():
            kind, family = kinds.get(name, ("nothing", None))
            if family not in families:
                raise PonteError(
                    f"labels.sql returns another {name} than the version was trained with",
                    got=kind,
                    expected=" or ".join(sorted(families)),
                )
        stamped = "labelled_at" in kinds
        if stamped and kinds["labelled_at"][0] != "timestamptz":
            raise PonteError("labels.sql returns a labelled_at that is no timestamptz", got=kinds["labelled_at"][0])
        # NaN is greater than all of them.
        finite = "coalesce(label > '-Infinity' AND label < 'Infinity', false)"
        return _READ.format(
            labels=query.sql(),
            key=select_list(key),
            names=", ".join(quote(c.name) for c in key),
            pairs=", ".join(f"'{c.name}', o.{quote(c.name)}" for c in key),
            type=SQL_TYPES[label],
            good=finite if label == "number" else "label IS NOT NULL",
            labelled_at="labelled_at" if stamped else "CAST(NULL AS timestamptz)",
            predictions=self.of.keys,
            id=self.of.ledger.id,
            seen=self.of.ledger.seen,
            of_source=self.of.ledger.of_source,
        )

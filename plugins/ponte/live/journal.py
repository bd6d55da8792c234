"""The journal: what was answered, on its way into the database. Nobody who answers ever waits for it.

Rows leave it after COMMIT; when it is full the newest are dropped, and counted where people look. Law: rows in the
tables + rows counted in `ponte.live_dropped` = rows that were put, unless the process ends before it has written what
it holds: by a kill, or by a stop while the database is away. Then that is gone and in neither: `every` seconds of it
while the database answers, else `limit` rows at most and what it has dropped since.
"""

from __future__ import annotations

import atexit
import datetime as dt
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import Any

import sqlalchemy as sa

from ponte.live.tables import LiveTable, Unscored, copy_unscored, prepare
from ponte.storage.database import JITTER, Database, insert_rows, is_transient

log = logging.getLogger(__name__)

#: Rows in one transaction, at most.
FLUSH_ROWS = 5_000
LONGEST_PAUSE = 10.0
_UNIQUE = "23505"
#: Classes of SQLSTATE that are of the rows or of their table, and do not heal: data, constraints, names and rights.
_OF_ROWS = ("22", "23", "42")

#: Called in the transaction of a flush with its number, and what was put beside the rows that it writes.
Beside = Callable[[sa.Connection, uuid.UUID, Sequence[Any]], object]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What one call of `put` gave."""

    table: LiveTable
    source: str
    lines: Sequence[str]
    unscored: Sequence[Unscored]
    first: dt.datetime
    last: dt.datetime
    beside: Any = None

    @property
    def rows(self) -> int:
        return len(self.lines) + len(self.unscored)

    def single(self) -> list[_Entry]:
        """Return it row by row; what was put beside goes with the first, unless it has a `single` of its own."""
        beside = self.beside.single() if hasattr(self.beside, "single") else [self.beside]
        parts = [replace(self, lines=[line], unscored=()) for line in self.lines]
        parts += [replace(self, lines=(), unscored=[row]) for row in self.unscored]
        return [replace(part, beside=one) for part, one in zip(parts, chain(beside, repeat(None)), strict=False)]


@dataclass
class _Drops:
    """Rows that were dropped and are not yet in `ponte.live_dropped`: (model, source) → [rows, first, last]."""

    found: dict[tuple[str, str], list[Any]] = field(default_factory=dict)

    def add(self, model: str, source: str, rows: int, first: dt.datetime, last: dt.datetime) -> None:
        known = self.found.setdefault((model, source), [0, first, last])
        known[:] = [known[0] + rows, min(known[1], first), max(known[2], last)]

    def rows(self, flush_id: uuid.UUID) -> list[dict[str, Any]]:
        return [
            {"flush_id": flush_id, "model": model, "source": source, "rows": rows, "from_at": first, "to_at": last}
            for (model, source), (rows, first, last) in self.found.items()
        ]


@dataclass(frozen=True)
class _Flush:
    """One transaction. It is tried again as it is while nobody knows how it ended."""

    number: uuid.UUID
    entries: Sequence[_Entry]
    drops: _Drops


class Journal:
    """A bounded list of rows that a thread of its own writes by COPY.

    db : as a role that may INSERT into live tables. limit : rows that may wait. every : seconds between flushes.
    beside : see `Beside`.
    """

    def __init__(
        self, db: Database, *, limit: int = 20_000, every: float = 0.5, beside: Beside = lambda *_: None
    ) -> None:
        self._db, self._limit, self._every, self._beside = db, limit, every, beside
        self._entries: deque[_Entry] = deque()
        self._lock = threading.Lock()
        self._drops = _Drops()
        self._unsure: _Flush | None = None
        self._prepared: set[str] = set()
        self._told: set[tuple[str, str]] = set()
        self._connection: sa.Connection | None = None
        self._stop = threading.Event()
        self._flushing = threading.Lock()
        self._thread: threading.Thread | None = None
        #: Figures for whoever watches: rows that were put, wait, are written, were dropped; flushes that failed.
        self.put_rows = self.waiting = self.written = self.dropped = self.failures = 0

    def start(self) -> None:
        """Begin to write, until `close` or the end of the process."""
        self._thread = threading.Thread(target=self._run, name="ponte-journal", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def put(
        self,
        table: LiveTable,
        columns: Mapping[str, Any],
        *,
        source: str,
        asked_at: dt.datetime | list[dt.datetime],
        unscored: Sequence[Unscored] = (),
        beside: Any = None,
    ) -> bool:
        """Take rows that were answered together, to be written soon; False: it is full, and they are dropped.

        columns : as `LiveTable.lines` takes them, but source and asked_at; `request_id` may be [].
        asked_at : of all of them, or a list with that of each. Never waits.
        """
        lines = table.lines({**columns, "source": source, "asked_at": asked_at}) if columns["request_id"] else []
        moments = [
            *([asked_at] if isinstance(asked_at, dt.datetime) else asked_at),
            *(row.asked_at for row in unscored),
        ]
        if not lines and not unscored:
            return True
        entry = _Entry(table, source, lines, unscored, min(moments), max(moments), beside)
        with self._lock:
            self.put_rows += entry.rows
            if self.waiting + entry.rows > self._limit:
                self._drop(entry)
                return False
            self.waiting += entry.rows
            self._entries.append(entry)
        return True

    def flush(self, *, until: int = 0) -> bool:
        """Write what waits; False when the database is away, and all that is not written is kept.

        Called by the journal's own thread; by others in tests, and where there is no thread. until : it ends when fewer
        rows than this wait. Who writes while others answer would else never end, with a transaction for every answer.
        """
        with self._flushing:
            while self._unsure or self._entries or self._drops.found:
                if not self._write(self._unsure or self._next()):
                    return False
                if self._unsure is None and self.waiting < until:
                    break
            return True

    def close(self, timeout: float = 10.0) -> int:
        """Write what waits, as far as so many seconds allow, and stop; return how many rows are lost."""
        atexit.unregister(self.close)
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None
        elif not self.flush():
            log.warning("the last live rows cannot be written")
        with self._lock:
            lost = self.waiting
        if lost:
            log.error("%d live rows were answered and never written: the database does not answer", lost)
        return lost

    def _run(self) -> None:
        pause = self._every
        while not self._stop.wait(pause * JITTER.uniform(0.9, 1.1)):
            pause = self._every if self._flush_safely(until=FLUSH_ROWS) else min(LONGEST_PAUSE, 2 * pause)
        self._flush_safely()
        self._disconnect()

    def _flush_safely(self, *, until: int = 0) -> bool:
        try:
            return self.flush(until=until)
        except Exception as error:  # noqa: BLE001 - the thread lives on: else all would be dropped
            # Without the error's words, which may hold values of rows.
            log.error("live rows were not written, and are tried again (%s)", type(error).__name__)
            self.failures += 1
            return False

    def _next(self) -> _Flush:
        """Return what the next transaction writes; nothing leaves the journal by that but the counts of drops."""
        entries: list[_Entry] = []
        rows = 0
        with self._lock:
            for entry in self._entries:
                if entries and rows + entry.rows > FLUSH_ROWS:
                    break
                entries.append(entry)
                rows += entry.rows
            drops, self._drops = self._drops, _Drops()
        return _Flush(uuid.uuid4(), entries, drops)

    def _write(self, flush: _Flush) -> bool:
        """Try a flush; return False when it has to be tried again later."""
        again = flush is self._unsure
        try:
            self._transaction(flush)
        except sa.exc.DBAPIError as error:
            state = str(getattr(error.orig, "pgcode", None) or "")
            if again and state == _UNIQUE:  # the one whose end nobody knew had come to its end
                self._done(flush)
                return True
            if state[:2] in _OF_ROWS and self._unsure is not flush:
                return self._one_by_one(flush, state)
            self._disconnect()
            self.failures += 1
            log.warning("live rows wait: the database does not take them (%s)", state or type(error.orig).__name__)
            if self._unsure is not flush:
                self._give_back(flush.drops)
            return False
        self._done(flush)
        return True

    def _transaction(self, flush: _Flush) -> None:
        """Write it whole or not at all; when nobody knows which, it is `_unsure` from now on."""
        for entry in flush.entries:
            if entry.table.model not in self._prepared:
                prepare(self._db, entry.table.model)
                self._prepared.add(entry.table.model)
        if self._connection is None:
            self._connection = self._db.engine.connect()
        connection = self._connection
        with connection.begin() as transaction:
            self._statements(connection, flush)
            self._unsure = flush  # until COMMIT has answered
            transaction.commit()

    def _statements(self, connection: sa.Connection, flush: _Flush) -> None:
        try:
            for table, lines in _by_table(flush.entries):
                table.copy(connection, lines)
            copy_unscored(connection, [row for entry in flush.entries for row in entry.unscored])
        except connection.dialect.loaded_dbapi.Error as error:
            raise sa.exc.DBAPIError.instance("COPY", (), error, Exception, dialect=connection.dialect) from None
        insert_rows(connection, "ponte.live_dropped", flush.drops.rows(flush.number))
        beside = [entry.beside for entry in flush.entries if entry.beside is not None]
        if beside:
            self._write_beside(connection, flush.number, beside)

    def _write_beside(self, connection: sa.Connection, number: uuid.UUID, beside: Sequence[Any]) -> None:
        """Write what goes with the rows; a fault of its own costs what was put beside, and no row."""
        try:
            with connection.begin_nested():
                self._beside(connection, number, beside)
        except Exception as error:
            if is_transient(error):
                raise
            self.failures += 1
            log.error("what was counted beside live rows cannot be written, and is lost (%s)", type(error).__name__)

    def _one_by_one(self, flush: _Flush, state: str) -> bool:
        """Write the entries each by itself, then the rows, and drop those that the database refuses even so."""
        self._give_back(flush.drops)
        self._disconnect()
        if not flush.entries:
            self.failures += 1
            log.error("live rows were dropped, and that cannot be written (%s)", state)
            return False
        first = flush.entries[0]
        if len(flush.entries) == 1 and (first.rows == 1 or first.table.model not in self._prepared):
            self._tell(first.table.model, state)
            with self._lock:
                self._entries.popleft()
                self.waiting -= first.rows
                self._drop(first)
            return True
        parts = flush.entries if len(flush.entries) > 1 else first.single()
        with self._lock:
            for _ in flush.entries:
                self._entries.popleft()
            self._entries.extendleft(reversed(parts))
        return all(self._write(_Flush(uuid.uuid4(), [part], _Drops())) for part in parts)

    def _tell(self, model: str, state: str) -> None:
        """Log once per model and kind of error: the count is in the database."""
        if (model, state) not in self._told:
            self._told.add((model, state))
            log.error(
                "live rows of %s cannot be kept (%s), and are dropped; ponte.live_dropped counts them", model, state
            )

    def _done(self, flush: _Flush) -> None:
        self._unsure = None
        with self._lock:
            for entry in flush.entries:
                self._entries.popleft()
                self.waiting -= entry.rows
                self.written += entry.rows

    def _drop(self, entry: _Entry) -> None:
        self.dropped += entry.rows
        self._drops.add(entry.table.model, entry.source, entry.rows, entry.first, entry.last)

    def _give_back(self, drops: _Drops) -> None:
        with self._lock:
            for (model, source), (rows, first, last) in drops.found.items():
                self._drops.add(model, source, rows, first, last)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.invalidate()
                connection.close()
            except sa.exc.SQLAlchemyError:
                log.debug("the connection of the journal was gone already")


def _by_table(entries: Iterable[_Entry]) -> list[tuple[LiveTable, list[str]]]:
    found: dict[str, tuple[LiveTable, list[str]]] = {}
    for entry in entries:
        if entry.lines:
            found.setdefault(entry.table.model, (entry.table, []))[1].extend(entry.lines)
    return list(found.values())

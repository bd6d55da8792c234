"""Live rows are counted as those of a batch are: in the bins of the version that answered, by the process that did.

A process keeps the rows that it has answered until it writes them, counts them once per flush, and writes the
counts in the transaction of the rows. So they are those of the rows that are there, of no other, and none is counted
twice: a flush that is repeated meets the keys of its rows, and its own.

Laws: the counts of a flush are those of all its rows by `ponte.counting.bins.Tally`, however they came; the rows of
`ponte.live_window` and those in `predictions.<model>_live` are as many once all was folded.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from ponte.counting.bins import DAY_MICROSECONDS, FAMILIES, Bins, Family, column_of, empty_tally
from ponte.counting.reference import read_bins
from ponte.model.spec import WindowRule
from ponte.model.windows import window_holding
from ponte.short_way.plain import PlainRows, joined
from ponte.storage.receipts import peak_bytes

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

_EPOCH = dt.date(1970, 1, 1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Counted:
    """A version whose answers are counted; one object as long as the process serves it."""

    model: str
    version: int
    window: WindowRule
    #: Empty of a version from before there were counts: its rows are counted, its columns are not.
    bins: Mapping[Family, tuple[Bins, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """Rows that a version has answered at once."""

    of: Counted
    #: When each was asked, shape (n_rows,), microseconds since 1970 UTC; one number: all at that moment.
    asked_at: Any
    #: The columns of its features, with or without others.
    rows: pa.Table | pa.RecordBatch | PlainRows
    #: n_rows values by the name of the column, as `ponte.scoring.answering` returns them. A row whose prediction is
    #: None was not answered, and is not counted.
    answers: Mapping[str, Sequence[Any]]

    def single(self) -> list[Answered]:
        """Return it answer by answer: of a request of which the database refuses a row, the others are kept."""
        import numpy as np

        asked = np.broadcast_to(self.asked_at, self.rows.num_rows)
        return [
            replace(
                self,
                asked_at=int(asked[n]),
                rows=self.rows.take([n]),
                answers={name: [values[n]] for name, values in self.answers.items()},
            )
            for n, said in enumerate(self.answers["prediction"])
            if said is not None
        ]


class Counter:
    """Counts what a process has answered, flush by flush; a `ponte.live.journal.Beside`.

    The queue's worker, which writes what it answers at once, calls it in the transaction of its rows.
    """

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def __call__(self, connection: sa.Connection, flush_id: UUID, answered: Sequence[Answered]) -> None:
        """Write the counts of rows in the transaction that writes the rows.

        What the process has used since its flush before goes with them; that of one that failed is told by nobody.
        """
        wall, cpu = time.perf_counter(), time.process_time()
        rows = counts_of(answered, flush_id=flush_id, cost=(wall - self._wall, cpu - self._cpu))
        self._wall, self._cpu = wall, cpu
        if rows:
            connection.exec_driver_sql(statement(rows))


def counted(connection: sa.Connection, model: str, version: int, window: WindowRule) -> Counted:
    """Return the version with the bins of its reference; whoever loads it to answer live calls this once."""
    return Counted(model=model, version=version, window=window, bins=read_bins(connection, model, version))


def counts_of(
    answered: Iterable[Answered], *, flush_id: UUID, cost: tuple[float, float] = (0.0, 0.0)
) -> list[dict[str, Any]]:
    """Return the rows of `ponte.live_count` of a flush: one per version and window that it has rows of.

    cost : wall and CPU seconds of the process, which are shared out by rows.
    """
    groups: dict[Counted, list[Answered]] = {}
    for part in answered:
        groups.setdefault(part.of, []).append(part)
    rows = [row for of, parts in groups.items() for row in _windows(of, parts)]
    total = sum(row["row_count"] for row in rows)
    for row in rows:
        share = row["row_count"] / total
        row |= {"seconds": cost[0] * share, "cpu_seconds": cost[1] * share, "peak_bytes": peak_bytes()}
    return [{"flush_id": str(flush_id), **row} for row in rows]


def statement(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the INSERT of rows of `ponte.live_count`, for the transaction of the rows that they count; "" of none.

    It holds numbers, days and the name of the model, and no placeholder: any driver takes it.
    """
    if not rows:
        return ""
    values = ", ".join("(" + ", ".join(_literal(value) for value in row.values()) + ")" for row in rows)
    return f"INSERT INTO ponte.live_count ({', '.join(rows[0])}) VALUES {values}"


def _windows(of: Counted, parts: Sequence[Answered]) -> list[dict[str, Any]]:
    import numpy as np
    import pyarrow as pa

    asked = _moments(parts)
    rows: dict[Family, pa.Table] = {"features": _together(of, parts), "answers": pa.table(_columns(parts))}
    answered = np.asarray(rows["answers"].column("prediction").is_valid())
    days, day_of_row = np.unique(asked // DAY_MICROSECONDS, return_inverse=True)
    windows = [window_holding(of.window, _EPOCH + dt.timedelta(days=int(day))) for day in days]
    found = []
    for window in dict.fromkeys(windows):
        here = np.array([one == window for one in windows])[day_of_row] & answered
        if not here.any():
            continue
        own = rows if here.all() else {f: t.filter(pa.array(here)) if t.num_columns else t for f, t in rows.items()}
        counts = {str(family): _counts(of.bins.get(family, ()), own[family], asked[here]) for family in FAMILIES}
        row: dict[str, Any] = {
            "model": of.model,
            "version": of.version,
            "window_start": window.start,
            "window_end": window.end,
        }
        found.append({**row, "row_count": int(here.sum()), **counts})
    return found


def _counts(bins: Sequence[Bins], rows: pa.Table, asked_at: Array) -> list[int]:
    tallies = [empty_tally(one) for one in bins]
    for tally in tallies:
        tally.several = True  # which one value it is guards look at, and live rows pass none
        tally.add(column_of(rows, tally.bins.name), as_of=asked_at)
    return [int(count) for tally in tallies for count in tally.counts]


def _together(of: Counted, parts: Sequence[Answered]) -> pa.Table:
    import pyarrow as pa

    names = [bins.name for bins in of.bins.get("features", ())]
    plain = [p.rows for p in parts if isinstance(p.rows, PlainRows)]
    if len(plain) == len(parts):
        return joined(plain, names)
    tables = [_table_of(p.rows) for p in parts]
    return pa.concat_tables(tables).select(names).combine_chunks()


def _table_of(rows: pa.Table | pa.RecordBatch | PlainRows) -> pa.Table:
    import pyarrow as pa

    if isinstance(rows, PlainRows):
        return rows.table()
    # `pa.table` of a table would take the long way through the C interface, ten times as long as all the rest.
    return rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])


def _moments(parts: Sequence[Answered]) -> Array:
    import numpy as np

    if all(isinstance(p.asked_at, int) for p in parts):
        return np.repeat(np.array([p.asked_at for p in parts]), [p.rows.num_rows for p in parts])
    return np.concatenate([np.broadcast_to(p.asked_at, p.rows.num_rows) for p in parts])


def _columns(parts: Sequence[Answered]) -> dict[str, list[Any]]:
    return {name: [value for p in parts for value in p.answers[name]] for name in parts[0].answers}


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return "'{" + ",".join(map(str, value)) + "}'"
    return repr(value) if isinstance(value, int | float) else f"'{value}'"

"""The reference of a version: bins of its columns, and counts of the windows that it was trained on; and of batches.

Its features are counted in every window of the snapshot, its answers only in those of calibration and holdout, which
its estimator was not fitted on.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from ponte.counting.bins import FAMILIES, Bins, Family, Tallies

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Part = Literal["fitting", "calibration", "holdout"]

# One statement each: a thousand columns of a year are 52,000 rows.
_STORE_COLUMNS = sa.text("""INSERT INTO ponte.reference_column
        (model, version, family, position, column_name, kind, edges, "values")
    SELECT :model, :version, r.* FROM jsonb_to_recordset(CAST(:rows AS jsonb))
        AS r (family text, position integer, column_name text, kind text, edges float8[], "values" text[])""")
_STORE_COUNTS = sa.text("""INSERT INTO ponte.reference_count
        (model, version, family, part, window_start, column_name, counts, only_value)
    SELECT :model, :version, r.* FROM jsonb_to_recordset(CAST(:rows AS jsonb))
        AS r (family text, part text, window_start date, column_name text, counts bigint[], only_value bigint)""")
_COLUMNS = sa.text("""SELECT family, column_name AS name, kind, edges, "values" FROM ponte.reference_column
    WHERE model = :model AND version = :version ORDER BY family, position""")
_COUNTS = sa.text("""SELECT family, column_name, part, window_start, counts, only_value IS NOT NULL AS constant
    FROM ponte.reference_count WHERE model = :model AND version = :version
    ORDER BY family, column_name, window_start""")
# Without the digest of a window's only value, which whoever faces a network does not read.
_SUMS = sa.text("""SELECT column_name, array_agg(n ORDER BY place) AS counts FROM (
        SELECT column_name, place, sum(c)::bigint AS n
        FROM ponte.reference_count, unnest(counts) WITH ORDINALITY AS u (c, place)
        WHERE model = :model AND version = :version AND family = 'features' GROUP BY column_name, place
    ) AS summed GROUP BY column_name""")
_BATCH_COUNTS = sa.text("""SELECT family, column_name, array_agg(n ORDER BY place) FROM (
        SELECT family, column_name, place, sum(c)::bigint AS n
        FROM ponte.batch_count, unnest(counts) WITH ORDINALITY AS u (c, place)
        WHERE batch_id = :id GROUP BY family, column_name, place
    ) AS summed GROUP BY family, column_name""")
# A shard without any value (all its rows in the last count) says nothing.
_CONSTANT = sa.text("""SELECT family, column_name FROM ponte.batch_count
    WHERE batch_id = :id AND 0 < ANY (trim_array(counts, 1))
    GROUP BY family, column_name HAVING count(*) = count(only_value) AND min(only_value) = max(only_value)""")


@dataclass(frozen=True, slots=True)
class Counted:
    """A column of a reference, in W windows."""

    bins: Bins
    #: Shape (W, bins.size): rows per window and bin, laid out as `ponte.counting.bins` says.
    counts: Array
    #: Shape (W,): whether all rows of the window that have a value have the same one.
    constant: Array


@dataclass(frozen=True, slots=True)
class Counts:
    """A family of columns, in W windows, the oldest first."""

    window_starts: tuple[dt.date, ...]
    parts: tuple[Part, ...]
    columns: tuple[Counted, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """The counts of what a version was trained on. A family may have no column: answers of no window out of sample."""

    features: Counts
    answers: Counts

    def __getitem__(self, family: Family) -> Counts:
        return self.features if family == "features" else self.answers


@dataclass(frozen=True, slots=True)
class Window:
    """Counts of the columns of one family in one window."""

    part: Part
    start: dt.date
    tallies: Tallies


def store(connection: sa.Connection, model: str, version: int, windows: Sequence[Window]) -> None:
    """Keep the reference of a version, in the transaction that registers it.

    windows : of one family all have the same bins.
    """
    bins = {window.tallies.family: window.tallies.bins for window in windows}
    columns = [
        {"family": f, "position": place, "column_name": b.name, "kind": b.kind, "edges": b.edges, "values": b.values}
        for f, of_family in bins.items()
        for place, b in enumerate(of_family)
    ]
    counts = [
        {"part": window.part, "window_start": str(window.start), **row}
        for window in windows
        for row in rows_of(window.tallies)
    ]
    for query, rows in ((_STORE_COLUMNS, columns), (_STORE_COUNTS, counts)):
        connection.execute(query, {"model": model, "version": version, "rows": json.dumps(rows, allow_nan=False)})


def rows_of(tallies: Tallies) -> Iterator[dict[str, Any]]:
    """Yield family, column_name, counts and only_value of each column."""
    for tally in tallies.columns:
        yield {
            "family": tallies.family,
            "column_name": tally.bins.name,
            "counts": tally.counts.tolist(),
            "only_value": tally.only_value,
        }


def read_bins(connection: sa.Connection, model: str, version: int) -> Mapping[Family, tuple[Bins, ...]]:
    """Return the bins of a version by family; of a version from before there were counts a family has none."""
    found: dict[Family, list[Bins]] = {family: [] for family in FAMILIES}
    for row in connection.execute(_COLUMNS, {"model": model, "version": version}).mappings():
        bins = Bins(name=row["name"], kind=row["kind"], edges=tuple(row["edges"]), values=tuple(row["values"]))
        found[row["family"]].append(bins)
    return {family: tuple(bins) for family, bins in found.items()}


def read(connection: sa.Connection, model: str, version: int) -> Reference | None:
    """Return the reference of a version; None of one from before there were counts."""
    bins = read_bins(connection, model, version)
    if not any(bins.values()):
        return None
    rows: dict[tuple[str, str], list[Any]] = {}
    for row in connection.execute(_COUNTS, {"model": model, "version": version}):
        rows.setdefault((row.family, row.column_name), []).append(row)
    return Reference(**{family: _counts(of_family, family, rows) for family, of_family in bins.items()})


def read_sums(connection: sa.Connection, model: str, version: int) -> tuple[Counted, ...]:
    """Return the features of a version, counted in all its windows as if they were one; () when they were not counted.

    Whether a value was the only one is not told.
    """
    import numpy as np

    sums = {row.column_name: row.counts for row in connection.execute(_SUMS, {"model": model, "version": version})}
    return tuple(
        Counted(bins, np.array([sums[bins.name]], dtype=np.int64), np.array([False]))
        for bins in read_bins(connection, model, version)["features"]
        if bins.name in sums
    )


def _counts(bins: Sequence[Bins], family: Family, rows: Mapping[tuple[str, str], list[Any]]) -> Counts:
    import numpy as np

    first = rows.get((family, bins[0].name), []) if bins else []
    return Counts(
        window_starts=tuple(row.window_start for row in first),
        parts=tuple(row.part for row in first),
        columns=tuple(
            Counted(
                b,
                np.array([row.counts for row in rows[family, b.name]], dtype=np.int64),
                np.array([row.constant for row in rows[family, b.name]], dtype=bool),
            )
            for b in bins
        ),
    )


def batch_counts(connection: sa.Connection, batch_id: int) -> Mapping[tuple[Family, str], Array]:
    """Return the counts of a batch by family and column, the sum of its shards so far; {} when it was not counted.

    Each has the shape (bins.size,) of the bins of its version.
    """
    import numpy as np

    rows = connection.execute(_BATCH_COUNTS, {"id": batch_id})
    return {(family, name): np.array(counts, dtype=np.int64) for family, name, counts in rows}


def constant_columns(connection: sa.Connection, batch_id: int) -> frozenset[tuple[Family, str]]:
    """Return the columns, by family and name, of which all rows of the batch that have a value have the same one."""
    return frozenset((family, name) for family, name in connection.execute(_CONSTANT, {"id": batch_id}))

"""The bins of a column, and how rows are counted in them.

Counts of a column, in this order: one per bin; of kind "value" one more, of every other text; last the rows that are
NULL or NaN, which are the same here. They add up to the rows. Counts of two sets of rows are those of both together
when they are added up, so shards need nothing else.

Kinds that are numbers ("number", "boolean", "age", "length") have `edges`, ascending: bin 0 is below the first edge,
bin i is from edge i-1 up to, and without, edge i; the last one has no end. With k edges there are k + 2 counts. The
edges of a column are those that `choosing` finds:

- the deciles of the training rows, and one edge far below and one far above them (three times the distance between the
  first and the last decile away), so that another unit shows in the first and the last bin;
- of each value that holds a twentieth of the rows, and of all values when there are at most 15, the value itself and
  the next greater number: a bin for it alone.

Kind "value" has up to 20 `values`, each a bin; any other text, which training had seen or not, is in one bin: a value
of rows of which there were fewer than 20 is named nowhere, and in training windows as in a batch some are new.

Beside the counts stands the digest of the one value that all rows have that have one, see `only_value`.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ponte.storage.columns import Family as TypeFamily

if TYPE_CHECKING:
    import datetime as dt

    import numpy as np

    Array = np.ndarray[Any, Any]

#: features: columns of features.sql; answers: prediction and scores.
Family = Literal["features", "answers"]
FAMILIES: tuple[Family, ...] = ("features", "answers")
Kind = Literal["number", "boolean", "age", "length", "value"]
#: Type family of a column → what is counted; a text may be of kind "length", too.
KINDS: dict[TypeFamily, Kind] = {
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "date": "age",
    "timestamp": "age",
    "text": "value",
}
DAY_MICROSECONDS = 86_400_000_000
#: Counts beside those of the bins between and beyond edges or values: NULL, or any other text and NULL.
_BESIDE = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Bins:
    """The bins of a column."""

    name: str
    kind: Kind
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many counts there are."""
        return (len(self.values) if self.kind == "value" else len(self.edges)) + _BESIDE

    @property
    def other(self) -> int | None:
        """Place of the count of every other text; None for numbers."""
        return len(self.values) if self.kind == "value" else None


@dataclass(slots=True)
class Tally:
    """Counts of a column, so far."""

    bins: Bins
    #: Shape (bins.size,), int64.
    counts: Array
    #: Digest of the one value that was seen; None before there is one, and once there are two.
    only_value: int | None = None
    #: Whether two values were seen.
    several: bool = False

    def add(self, values: Any, *, as_of: Any = None) -> None:
        """Count an Arrow array of the column's type.

        as_of : of kind "age": the moment, in microseconds since 1970 UTC, of all rows or of each, shape (n_rows,).
        """
        if self.bins.kind == "value":
            self._add_texts(values)
        else:
            numbers = numbers_of(values, self.bins.kind, as_of)
            self.counts += counts_of_numbers(numbers, self.bins.edges)
            if not self.several:
                if self.bins.kind == "length":
                    self._note_texts(values)
                else:
                    self._note_numbers(numbers)

    def _add_texts(self, values: Any) -> None:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        places = pc.index_in(values, value_set=pa.array(self.bins.values, values.type))
        known = len(values) - places.null_count
        found = np.bincount(np.asarray(pc.drop_null(places)), minlength=len(self.bins.values)) if known else 0
        self.counts[: len(self.bins.values)] += found
        self.counts[-2:] += (len(values) - known - values.null_count, values.null_count)
        if not self.several:
            self._note_texts(values)

    def _note_texts(self, values: Any) -> None:
        import pyarrow.compute as pc

        found: Any = pc.min_max(values).as_py()
        if found["min"] is not None:
            self._note({digest_of_text(found["min"]), digest_of_text(found["max"])})

    def _note_numbers(self, numbers: Array) -> None:
        import numpy as np

        lowest, highest = np.fmin.reduce(numbers, initial=np.nan), np.fmax.reduce(numbers, initial=np.nan)
        if not np.isnan(lowest):
            self._note({digest_of_number(float(lowest)), digest_of_number(float(highest))})

    def _note(self, digests: set[int]) -> None:
        if self.only_value is not None:
            digests.add(self.only_value)
        self.several = len(digests) > 1
        self.only_value = None if self.several else digests.pop()


def empty_tally(bins: Bins) -> Tally:
    """Return the counts of no rows."""
    import numpy as np

    return Tally(bins, np.zeros(bins.size, dtype=np.int64))


@dataclass(slots=True)
class Tallies:
    """Counts of the columns of a family, so far; made in one thread and added to by one at a time."""

    family: Family
    bins: tuple[Bins, ...]
    #: The moment of the batch or window, for ages.
    as_of: dt.datetime
    rows: int = 0
    columns: list[Tally] = field(init=False)

    def __post_init__(self) -> None:
        self.columns = [empty_tally(bins) for bins in self.bins]

    def add(self, rows: Any) -> None:
        """Count a table or record batch that holds the columns of the family; `scores` holds all scores."""
        as_of = microseconds(self.as_of)
        self.rows += rows.num_rows
        for tally in self.columns:
            tally.add(column_of(rows, tally.bins.name), as_of=as_of)


def column_of(rows: Any, name: str) -> Any:
    """Return the Arrow values of a column; of `scores[i]` those of the i-th class, from 1."""
    import pyarrow.compute as pc

    if name.startswith("scores[") and "scores" in rows.schema.names:
        return pc.list_element(rows.column("scores"), int(name[len("scores[") : -1]) - 1)
    return rows.column(name)


def numbers_of(values: Any, kind: Kind, as_of: Any) -> Array:
    """Return what is counted of an Arrow array, float64, NaN for NULL; see `Tally.add` for as_of."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if kind == "length":
        values = pc.utf8_length(values)
    if kind != "age":
        if values.type != pa.float64():
            values = pc.cast(values, pa.float64(), safe=False)
        return np.asarray(values)
    moments = pc.cast(pc.cast(values, pa.timestamp("us")), pa.int64())
    ages = (as_of - np.asarray(pc.fill_null(moments, 0))).astype(np.float64) / DAY_MICROSECONDS
    if moments.null_count:
        ages[np.asarray(pc.is_null(moments))] = np.nan
    found: Array = ages
    return found


def counts_of_numbers(numbers: Array, edges: tuple[float, ...]) -> Array:
    """Return the counts of numbers, shape (n_rows,), NaN for NULL: shape (len(edges) + 2,)."""
    import numpy as np

    # A comparison per edge is many times faster than a search per row: both are a few instructions for eight rows.
    below = [np.count_nonzero(numbers < edge) for edge in edges]
    there = len(numbers) - np.count_nonzero(np.isnan(numbers))
    return np.diff([0, *below, there, len(numbers)])


def microseconds(moment: dt.datetime) -> int:
    """Return microseconds since 1970, UTC, of an aware datetime."""
    import datetime as dt

    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def digest_of_number(number: float) -> int:
    """Return 64 bits of a digest; -0.0 is 0.0."""
    return _digest(struct.pack(">d", number + 0.0))


def digest_of_text(text: str) -> int:
    """Return 64 bits of a digest."""
    return _digest(text.encode())


def _digest(content: bytes) -> int:
    # It only tells whether two values are the same, and PostgreSQL has to find it, too.
    return int.from_bytes(hashlib.md5(content, usedforsecurity=False).digest()[:8], "big", signed=True)

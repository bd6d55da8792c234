"""The rows of a file, a chunk at a time: of CSV, of Parquet, or given as name=value.

Values come as they are written; `values` reads them. Every row has a number, from 1 in the order of the file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ponte.errors import PonteError, SignatureMismatch, did_you_mean
from ponte.offline.quotes import ClosedQuotes
from ponte.storage.columns import Column

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

PARQUET_ENDINGS = (".parquet", ".pq")
#: Bytes of CSV that are read at once; no row may be longer.
_BLOCK = 8 * 2**20
_BATCH_ROWS = 65_536
#: Longer rows are cut where they are quoted.
_QUOTED = 200


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that has not as many values as the file has columns."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Given:
    """Rows as they are written, and the rows among them that are none."""

    rows: pa.Table
    #: Shape (n_rows,), the number of each row.
    numbers: np.ndarray[Any, Any]
    broken: Sequence[Broken] = ()


@dataclass
class Source:
    """An open file of rows."""

    #: For messages.
    where: str
    names: Sequence[str]
    #: None of a row that was said.
    file: Any = None
    #: Bytes of the file; None when nobody knows.
    byte_count: int | None = None
    delimiter: str = ","
    nulls: Sequence[str] = ()
    #: Lines that the names take.
    head: int = 1
    _broken: list[Broken] = field(default_factory=list)

    def require(self, columns: Sequence[Column]) -> None:
        """Raise SignatureMismatch unless each of the columns is there, and is there once."""
        lacking = [c for c in columns if c.name not in self.names]
        twice = sorted({c.name for c in columns if list(self.names).count(c.name) > 1})
        if twice:
            raise SignatureMismatch("a column is there twice", where=self.where, got=", ".join(twice))
        if lacking:
            spare = set(self.names) - {c.name for c in columns}
            fix = "; ".join(f"{c.name}: {did_you_mean(c.name, spare)}" for c in lacking[:3] if spare)
            if len(self.names) == 1 and (found := [mark for mark in ";\t|" if mark in self.names[0]]):
                fix = f"the columns seem to be divided by {found[0]!r}: say --delimiter"
            raise SignatureMismatch(
                "columns are missing",
                where=self.where,
                got=", ".join(f"no {c.name!r} ({c.family})" for c in lacking),
                expected=", ".join(f"{c.name} ({c.family})" for c in columns),
                fix=fix,
            )

    def chunks(self, columns: Sequence[str]) -> Iterator[Given]:
        """Yield the rows, with these columns."""
        raise NotImplementedError

    def bytes_read(self) -> int:
        """Return how many bytes were read, for the progress."""
        return self.file.tell() if self.file is not None and self.file.seekable() else 0


class CsvSource(Source):
    """CSV: UTF-8, names in the first row, what is empty and not quoted is NULL."""

    def chunks(self, columns: Sequence[str]) -> Iterator[Given]:
        import numpy as np
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        first = 1
        for batch in self._batches(arrow_csv, columns):
            broken, self._broken = self._broken, []
            skipped = np.array([row.number for row in broken], dtype=np.int64)
            end = first + batch.num_rows + len(skipped)
            numbers = np.setdiff1d(np.arange(first, end), skipped)
            yield Given(pa.Table.from_batches([batch]), numbers, broken)
            first = end
        if self._broken:  # behind the last row that is one
            import pyarrow as pa

            nothing = pa.table({name: pa.array([], pa.binary()) for name in columns})
            yield Given(nothing, np.array([], dtype=np.int64), self._broken)

    def _batches(self, arrow_csv: Any, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        try:
            reader = arrow_csv.open_csv(
                ClosedQuotes(self.file, self.where, delimiter=self.delimiter, head=self.head, longest=_BLOCK),
                # In one thread, which numbers the rows; what the values mean is found out in another one.
                read_options=arrow_csv.ReadOptions(column_names=list(self.names), block_size=_BLOCK, use_threads=False),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=self._note
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(self.names, pa.binary()),
                    include_columns=list(columns),
                    null_values=["", *self.nulls],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):  # nothing below the names
                return
            raise self._unreadable(error) from error
        try:
            yield from reader
        except pa.ArrowInvalid as error:
            raise self._unreadable(error) from error

    def _note(self, row: Any) -> str:
        text = row.text if len(row.text) <= _QUOTED else f"{row.text[:_QUOTED]}…"
        reason = f"{row.actual_columns} values, and there are {row.expected_columns} columns: {text}"
        self._broken.append(Broken(row.number, reason))
        return "skip"

    def _unreadable(self, error: Exception) -> PonteError:
        fix = f"is a row longer than {_BLOCK // 2**20} MiB?"
        return PonteError("the file cannot be read as CSV", where=self.where, got=str(error), fix=fix)


class ParquetSource(Source):
    """Parquet: types as they are in there."""

    def chunks(self, columns: Sequence[str]) -> Iterator[Given]:
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        first = 1
        try:
            for batch in pq.ParquetFile(self.file).iter_batches(batch_size=_BATCH_ROWS, columns=list(columns)):
                end = first + batch.num_rows
                yield Given(pa.Table.from_batches([batch]), np.arange(first, end))
                first = end
        except (pa.ArrowInvalid, OSError) as error:
            raise _no_parquet(self.where, error) from error


class RecordSource(Source):
    """One row, said as name=value."""

    values: dict[str, str]

    def chunks(self, columns: Sequence[str]) -> Iterator[Given]:
        import numpy as np
        import pyarrow as pa

        row = {name: pa.array([self.values[name] or None], pa.string()) for name in columns}
        yield Given(pa.table(row), np.array([1]))


@contextmanager
def open_source(path: str, standard_input: IO[bytes], *, delimiter: str, nulls: Sequence[str] = ()) -> Iterator[Source]:
    """Yield the rows of a file, of standard input (CSV) when the path is "-"; raises PonteError when there are none."""
    if path == "-":
        yield _csv(standard_input, "standard input", None, delimiter, nulls)
        return
    place = Path(path)
    try:
        file = place.open("rb")
    except OSError as error:
        raise PonteError("the file cannot be opened", where=path, got=error.strerror or str(error)) from error
    with file:
        if place.suffix.lower() in PARQUET_ENDINGS:
            yield _parquet(file, path)
        else:
            yield _csv(file, path, place.stat().st_size, delimiter, nulls)


def of_record(pairs: Sequence[str]) -> Source:
    """Return the one row of pairs name=value; nothing behind the sign is NULL. Raises PonteError for anything else."""
    values = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise PonteError("no name=value", where="--record", got=pair, fix="as in --record 'income=1200'")
        values[name] = value
    found = RecordSource(where="--record", names=list(values))
    found.values = values
    return found


def _csv(file: IO[bytes], where: str, size: int | None, delimiter: str, nulls: Sequence[str]) -> CsvSource:
    names, head = _names(file, where, delimiter)
    return CsvSource(where=where, names=names, file=file, byte_count=size, delimiter=delimiter, nulls=nulls, head=head)


def _names(file: IO[bytes], where: str, delimiter: str) -> tuple[list[str], int]:
    """Return the names, and how many lines they take."""
    head = file.readline(_BLOCK)
    while head.count(b'"') % 2 and len(head) < _BLOCK and (more := file.readline(_BLOCK)):
        head += more
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PonteError("the file is no text in UTF-8", where=where, got=str(error), fix="convert it first") from error
    try:
        names = next(csv.reader([text.rstrip("\r\n")], delimiter=delimiter, strict=True), []) if text.strip() else []
    except csv.Error:  # a quote that is not closed where the name ends
        names = []
    if not names:
        raise PonteError("the first row has no names of columns", where=where, got=repr(text[:_QUOTED]))
    return names, max(head.count(b"\n"), 1)


def _parquet(file: IO[bytes], where: str) -> ParquetSource:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.ParquetFile(file).schema_arrow.names
    except (pa.ArrowInvalid, OSError) as error:
        raise _no_parquet(where, error) from error
    return ParquetSource(where=where, names=names, file=file)


def _no_parquet(where: str, error: Exception) -> PonteError:
    return PonteError("the file cannot be read as Parquet", where=where, got=str(error))

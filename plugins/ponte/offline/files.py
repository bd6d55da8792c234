"""Score the rows of a file through the one scorer, at flat memory; each row is predicted, or rejected with a reason."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ponte.errors import RowsLost
from ponte.offline.source import Given, RecordSource, Source
from ponte.offline.values import arrow_type, read_values
from ponte.offline.writing import Output
from ponte.scoring.ahead import Ahead
from ponte.scoring.flow import AHEAD, CHUNK_BYTES, rechunked
from ponte.scoring.scorer import Scorer
from ponte.storage.columns import Column
from ponte.versions.loading import LoadedVersion
from ponte.versions.registry import Version

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK_ROWS = 65_536
#: Column with the number of the row, part of the key while rows are scored: a file may hold a key twice.
_NUMBER = "ponte row"
#: Columns of the file of rejected rows, beside those that were given.
ROW, REASON = "rejected_row", "rejected_reason"
#: Longer values are cut where they are quoted.
_QUOTED = 60


@dataclass(slots=True)
class Counts:
    """Rows of a file. Law at the end: read == predicted + rejected."""

    read: int = 0
    predicted: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class _Read:
    """A chunk of rows, read as the types of the version."""

    #: As they are written, all of them, `_NUMBER` among the columns.
    given: pa.Table
    #: Those that can be read.
    rows: pa.Table
    #: Number of the row → why it cannot be read.
    reasons: dict[int, str]


def predict_rows(
    loaded: LoadedVersion,
    source: Source,
    output: Output,
    rejected: Output,
    *,
    now: dt.datetime,
    progress: Callable[[Counts], object] = lambda _: None,
    keep: Callable[[pa.RecordBatch, pa.Table], object] | None = None,
) -> Counts:
    """Write a prediction of every row that can be scored to `output`, the others with reasons to `rejected`.

    Rows keep their order. Both files appear at the end, the rejected rows first, and only when every row is in one of
    them. Raises SignatureMismatch for columns that are missing, before anything is read; RowsLost.

    keep : takes predictions, and the rows that they are of, before the files appear.
    """
    from threadpoolctl import threadpool_limits

    version = loaded.version
    # One row needs no key to be told from others.
    key = tuple(c for c in version.signature.key if not isinstance(source, RecordSource) or c.name in source.names)
    columns = (*key, *version.signature.features)
    source.require(columns)
    numbered = replace(version.signature, key=(*key, Column(name=_NUMBER, family="integer")))
    scorer = Scorer(replace(loaded, version=replace(version, signature=numbered)))
    counts = Counts()
    try:
        with Ahead(_chunks(source, columns, key), depth=AHEAD) as chunks, threadpool_limits({"blas": 1}):
            for chunk in chunks:
                predicted, refused = _score(scorer, chunk, output, rejected, now=now, keep=keep)
                counts.read += chunk.given.num_rows
                counts.predicted += predicted
                counts.rejected += refused
                progress(counts)
        if counts.read != counts.predicted + counts.rejected:
            got = f"{counts.read} read, {counts.predicted} predicted, {counts.rejected} rejected"
            raise RowsLost("rows were lost on the way", where=source.where, got=got)
        rejected.finish()
        output.finish(lambda: _empty(version, key))
    finally:
        rejected.abandon()
        output.abandon()
    return counts


def _score(
    scorer: Scorer,
    chunk: _Read,
    output: Output,
    rejected: Output,
    *,
    now: dt.datetime,
    keep: Callable[[pa.RecordBatch, pa.Table], object] | None,
) -> tuple[int, int]:
    """Write what becomes of the rows of a chunk; return how many were predicted, and how many rejected."""
    import pyarrow as pa
    import pyarrow.compute as pc

    scored = scorer.score(chunk.rows, now=now, allowed=chunk.rows.num_rows)
    reasons = {**chunk.reasons, **{row.key[_NUMBER]: f"cannot be scored: {row.error}" for row in scored.unscored}}
    for rows in scored.predictions:
        if keep is not None:
            keep(rows, chunk.rows.take(pc.index_in(rows.column(_NUMBER), value_set=chunk.rows.column(_NUMBER))))
        output.write(_as_written(pa.Table.from_batches([rows]), scorer.version))
    refused = _rejected(chunk.given, reasons)
    if refused.num_rows:
        rejected.write(refused)
    return sum(rows.num_rows for rows in scored.predictions), refused.num_rows


def _chunks(source: Source, columns: Sequence[Column], key: Sequence[Column]) -> Iterator[_Read]:
    """Yield the rows in chunks that take about the same memory, whatever the file's own parts are."""
    broken: dict[int, str] = {}

    def batches() -> Iterator[pa.RecordBatch]:
        for given in source.chunks([c.name for c in columns]):
            broken.update({row.number: row.reason for row in given.broken})
            yield from _with_broken(given).to_batches()

    for part in rechunked(batches(), rows=CHUNK_ROWS, byte_count=CHUNK_BYTES):
        yield _read(part, columns, key, broken, source.where)


def _with_broken(given: Given) -> pa.Table:
    """Return the rows with their numbers, and those that have no values as rows of NULL, in the order of the file."""
    import pyarrow as pa

    whole = given.rows.append_column(_NUMBER, pa.array(given.numbers, pa.int64()))
    if not given.broken:
        return whole
    numbers = pa.array([row.number for row in given.broken], pa.int64())
    empty = {name: pa.nulls(len(numbers), whole.schema.field(name).type) for name in given.rows.column_names}
    return pa.concat_tables([whole, pa.table({**empty, _NUMBER: numbers})]).sort_by(_NUMBER)


def _read(
    given: pa.Table, columns: Sequence[Column], key: Sequence[Column], broken: dict[int, str], where: str
) -> _Read:
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers: Any = given.column(_NUMBER)
    torn = {number: broken.pop(number) for number in (numbers.to_pylist() if broken else ()) if number in broken}
    reasons: dict[int, list[str]] = {number: [reason] for number, reason in torn.items()}
    arrays: dict[str, Any] = {}
    for column in columns:
        arrays[column.name], bad = read_values(given.column(column.name), column, where=where)
        for number, value in _where(bad, numbers, given.column(column.name)):
            reasons.setdefault(number, []).append(f"{column.name} is no {column.family}: {_quoted(value)}")
        if column in key:
            missing = pc.and_(pc.is_null(arrays[column.name]), pc.invert(bad))
            for number, _ in _where(missing, numbers, numbers):
                reasons.setdefault(number, []).append(f"{column.name} is NULL, and is of the key")
    rows = pa.table({**arrays, _NUMBER: numbers})
    if reasons:
        rows = rows.filter(pc.invert(pc.is_in(numbers, pa.array(list(reasons), pa.int64()))))
    # Of a row without values nothing more is told.
    return _Read(given, rows, {n: torn.get(n) or "; ".join(found) for n, found in reasons.items()})


def _where(mask: Any, numbers: Any, values: Any) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each row of the mask."""
    import pyarrow.compute as pc

    if pc.any(mask).as_py():
        yield from zip(numbers.filter(mask).to_pylist(), values.filter(mask).to_pylist(), strict=True)


def _quoted(value: object) -> str:
    text = _text(value) or ""
    return repr(text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…")


def _text(value: object) -> str | None:
    if value is None:
        return None
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _rejected(given: pa.Table, reasons: dict[int, str]) -> pa.Table:
    """Return the rows as they were given, as text, with their numbers and reasons: to be corrected and given again."""
    import pyarrow as pa
    import pyarrow.compute as pc

    chosen = given.filter(pc.is_in(given.column(_NUMBER), pa.array(list(reasons), pa.int64())))
    numbers: list[Any] = chosen.column(_NUMBER).to_pylist()
    columns: dict[str, Any] = {
        ROW: pa.array(numbers, pa.int64()),
        REASON: pa.array([reasons[number] for number in numbers], pa.string()),
    }
    for name in chosen.column_names:
        if name != _NUMBER:
            columns[name] = pa.array([_text(value) for value in chosen.column(name).to_pylist()], pa.string())
    return pa.table(columns)


def _as_written(rows: pa.Table, version: Version) -> pa.Table:
    """Return predictions as they stand in the file: key, prediction, score, one per class, or low and high, version."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = rows.drop_columns([_NUMBER, "scored_at"])
    if "scores" in table.column_names:
        scores = table.column("scores")
        table = table.drop_columns(["scores"])
        for place, label in enumerate(version.classes):
            table = table.append_column(f"score_{label}", pc.list_element(scores, place))
    return table.append_column("model_version", pa.repeat(pa.scalar(version.version, pa.int32()), table.num_rows))


def _empty(version: Version, key: Sequence[Column]) -> pa.Table:
    """Return the columns of a file without a prediction."""
    import pyarrow as pa

    label = arrow_type("number" if version.task == "regression" else version.signature.label)
    columns = {**{c.name: arrow_type(c.family) for c in key}, "prediction": label}
    if version.task == "binary":
        columns["score"] = pa.float64()
    if version.interval is not None:
        columns |= {"low": pa.float64(), "high": pa.float64()}
    columns |= {f"score_{label}": pa.float64() for label in (version.classes if version.task == "multiclass" else ())}
    return pa.schema({**columns, "model_version": pa.int32()}).empty_table()

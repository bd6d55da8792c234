"""Is the short way of an estimator the same, to the last bit? Asked of rows of all kinds, in calls of several sizes.

A matrix product rounds by the shape and the memory order of what it is given, so both have to be the same too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ponte.short_way.pipelines import ShortWay, Way, shorten
from ponte.short_way.plain import plain_rows
from ponte.short_way.values import NotKnown, Order

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

#: Rows of the calls that are compared.
SIZES = (1, 2, 3, 5, 8, 64, 1_024)
#: What a column of each family holds at its worst, beside the values of the golden rows.
EXTREMES: Mapping[str, tuple[Any, ...]] = {
    "number": (None, math.nan, 0.0, -0.0, 1.0, 5e-324, 1e300, -1e300),
    "integer": (None, 0, 1, -1, 2**53 + 1, -(2**62)),
    "boolean": (None, False, True),
    "text": (None, "", "\N{SNOWMAN} never seen", "x" * 300),
}


@dataclass(frozen=True, slots=True)
class Whole:
    """The way through all of an estimator, which decides."""

    estimator: Any
    #: (name, family) of its features, as `pipelines.shorten` takes them.
    columns: Sequence[tuple[str, str]]
    #: Returns what steps of the estimator make of rows, one after the other.
    matrix_of: Callable[[Sequence[Any], pa.Table], Any]
    #: Returns the predictions of rows as arrays, on the short way if there is one.
    said_of: Callable[[pa.Table, ShortWay | None], Sequence[Array | None]]


def find_way(whole: Whole, golden: pa.Table, texts: Mapping[str, Sequence[str]]) -> tuple[ShortWay | None, Way]:
    """Return the short way of an estimator, if it has one that says the same, and which way it takes for what reason.

    golden : rows that the estimator can predict. texts : of text columns, more values to try. Raises nothing that the
    estimator raises.
    """
    try:
        return _short_way(whole, golden, texts)
    except NotKnown as error:
        return None, Way("whole", str(error))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - the author's estimator may raise anything
        return None, Way("whole", f"{type(error).__name__} when both ways were compared")


def _short_way(whole: Whole, golden: pa.Table, texts: Mapping[str, Sequence[str]]) -> tuple[ShortWay, Way]:
    short = shorten(whole.estimator, whole.columns)
    if not golden.num_rows:
        raise NotKnown("no golden row to compare with")
    usual = _repeated(golden, max(SIZES))
    short = shorten(whole.estimator, whole.columns, _order_of(whole.matrix_of(short.steps, usual.slice(0, 3))))
    strange = _strange(whole, short, golden, texts)
    for rows in (*_calls(strange), strange):
        expected = whole.matrix_of(short.steps, rows)
        alike = (rows, plain_rows(rows)) if rows.num_rows <= max(SIZES) else (rows,)
        if not all(_same(expected, short.features(one)) for one in alike):
            raise NotKnown(f"another matrix for {rows.num_rows} rows")
    for rows in _calls(usual):
        if not all(_same(*both) for both in zip(whole.said_of(rows, None), whole.said_of(rows, short), strict=True)):
            raise NotKnown(f"other predictions for {rows.num_rows} rows")
    names = ", ".join(dict.fromkeys(type(step).__name__ for step in short.steps))
    compared = usual.num_rows + strange.num_rows
    return short, Way("short", f"past {names}; the same bits for {compared} rows in calls of {SIZES[0]} to {SIZES[-1]}")


def _order_of(matrix: Any) -> Order:
    flags = getattr(matrix, "flags", None)
    return "F" if flags is not None and flags.f_contiguous and not flags.c_contiguous else "C"


def _calls(rows: pa.Table) -> Iterator[pa.Table]:
    """Yield rows in calls of all sizes, others each time while there are any."""
    start = 0
    for size in SIZES:
        yield rows.slice(start if start + size <= rows.num_rows else 0, size)
        start += size


def _repeated(golden: pa.Table, count: int) -> pa.Table:
    import numpy as np

    return golden.take(np.arange(count) % golden.num_rows)


def _strange(whole: Whole, short: ShortWay, golden: pa.Table, texts: Mapping[str, Sequence[str]]) -> pa.Table:
    """Return rows of values that both ways take, each at least once; golden ones in between.

    Raises NotKnown when the short way takes a value that the pipeline refuses, or makes something else of it.
    """
    infinite = [(name, math.inf) for name, family in whole.columns if family == "number"]
    _taken_alike(whole, short, _with_values(golden, infinite))
    extreme = [(name, value) for name, family in whole.columns for value in EXTREMES.get(family, ())]
    learned = [(name, text) for name, texts_of in texts.items() for text in texts_of]
    rows = _with_values(golden, [*extreme, *learned])
    if _taken_alike(whole, short, rows):
        return rows
    return _with_values(golden, [*_taken(whole, short, golden, extreme), *learned])


Values = list[tuple[str, Any]]


def _taken(whole: Whole, short: ShortWay, golden: pa.Table, values: Values) -> Values:
    """Return those of the values, (column, value), that both ways take; raises NotKnown unless they take them alike."""
    if _taken_alike(whole, short, _with_values(golden, values)):
        return values
    middle = len(values) // 2
    halves = (values[:middle], values[middle:]) if middle else ()
    return [value for half in halves for value in _taken(whole, short, golden, half)]


def _taken_alike(whole: Whole, short: ShortWay, rows: pa.Table) -> bool:
    """Tell whether the short way takes rows; raises NotKnown if it does and the whole one makes something else of them.

    What the short way refuses goes the whole way, so that it need not refuse the same.
    """
    try:
        got = short.features(rows)
    except NotKnown:
        return False
    try:
        expected = whole.matrix_of(short.steps, rows)
    except Exception:  # noqa: BLE001 - the author's estimator may raise anything
        expected = None
    if not _same(expected, got):
        raise NotKnown("another matrix for a strange value")
    return True


def _with_values(golden: pa.Table, values: Values) -> pa.Table:
    """Return golden rows, again and again, whose columns hold their values in turn, in every second row."""
    import numpy as np
    import pyarrow as pa

    of_column: dict[str, list[Any]] = {}
    for name, value in values:
        of_column.setdefault(name, []).append(value)
    row = np.arange(max([max(SIZES), *(2 * len(own) for own in of_column.values())]))
    rows = _repeated(golden, len(row))
    for number, (name, own) in enumerate(of_column.items()):
        place = rows.column_names.index(name)
        column = rows.column(place).combine_chunks()
        both = pa.concat_arrays([pa.array(own, column.type, from_pandas=False), column])
        # Of one column in the even rows, of the next one in the odd ones.
        places = np.where((row + number) % 2, len(own) + row, row // 2 % len(own))
        rows = rows.set_column(place, name, both.take(places))
    return rows


def _same(expected: Any, got: Any) -> bool:
    """Tell whether two arrays or matrices are the same to the last bit: type, shape, memory order and values."""
    import numpy as np

    if type(expected) is not type(got):
        return False
    if hasattr(expected, "indptr"):
        parts = ("data", "indices", "indptr")
        return expected.shape == got.shape and all(_same(getattr(expected, p), getattr(got, p)) for p in parts)
    if expected is None:
        return True
    if (expected.dtype, expected.shape, _order_of(expected)) != (got.dtype, got.shape, _order_of(got)):
        return False
    if expected.dtype.kind != "f":
        return bool((expected == got).all())
    bits = f"u{expected.itemsize}"
    # Every NaN is NaN; 0 and -0 are two.
    equal = (expected.view(bits) == got.view(bits)) | (np.isnan(expected) & np.isnan(got))
    return bool(equal.all())

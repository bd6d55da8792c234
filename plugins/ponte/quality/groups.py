"""Rows by the value of a column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.snapshots.parts import Parts

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
    import pyarrow as pa


#: Values of a feature, at most, that are told apart when asking what it reaches alone.
FEATURE_BINS = 100


def groups(parts: Parts, column: str) -> tuple[Array, Array]:
    """Return the group of each row of fitting and holdout: its value, or its bin when there are many numbers.

    Rows without a value are a group of their own. The values are those of the table, not of the frame: there the type
    of a part changes with its first NULL.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    fitting, holdout = parts.fitting.rows.column(column), parts.holdout.rows.column(column)
    if pa.types.is_string(fitting.type) or pa.types.is_boolean(fitting.type) or few_values(fitting):
        return value_names(fitting), value_names(holdout)

    def numbers(values: pa.ChunkedArray[Any]) -> Array:
        if pa.types.is_temporal(values.type):
            values = pc.cast(values.cast(pa.timestamp("us")), pa.int64())
        return values.cast(pa.float64(), safe=False).to_numpy()

    known, later = numbers(fitting), numbers(holdout)
    finite = known[np.isfinite(known)]
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, FEATURE_BINS + 1)[1:-1])) if len(finite) else finite
    bins = [np.where(np.isnan(v), -1, np.searchsorted(edges, v, side="right")) for v in (known, later)]
    return bins[0], bins[1]


def few_values(values: pa.ChunkedArray[Any]) -> bool:
    """Tell whether the values are few enough to be told apart one by one."""
    import pyarrow.compute as pc

    return bool(pc.count_distinct(values).as_py() <= FEATURE_BINS)


def value_names(values: pa.ChunkedArray[Any]) -> Array:
    """Return each value as text, a missing one as "NULL", shape (n,)."""
    import pyarrow as pa

    names: Array = values.cast(pa.string()).to_numpy(zero_copy_only=False)
    names[values.is_null().to_numpy(zero_copy_only=False)] = "NULL"
    return names

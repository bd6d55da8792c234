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

    fitting, holdout = parts.fitting.rows.column(column), parts.holdout.rows.column(column)
    if pa.types.is_string(fitting.type) or pa.types.is_boolean(fitting.type) or few_values(fitting):
        return value_names(fitting), value_names(holdout)

    known, later = numbers(fitting), numbers(holdout)
    edges = bin_edges(known[~np.isnan(known)])
    bins = [np.where(np.isnan(v), -1, np.searchsorted(edges, v, side="right")) for v in (known, later)]
    return bins[0], bins[1]


def numbers(values: pa.ChunkedArray[Any]) -> Array:
    """Return numbers, booleans or moments as float64 in their order, NaN for NULL. Shape (n,)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_temporal(values.type):
        values = pc.cast(values.cast(pa.timestamp("us")), pa.int64())
    found: Array = values.cast(pa.float64(), safe=False).to_numpy()
    return found


def places_in_order(values: Array) -> list[Array]:
    """Return the place of each number in their order, once with what is missing below all, once above all.

    The order of the values alone, however many have the same one. Shape (n,), int; only one when nothing is missing.
    """
    import numpy as np

    missing = np.isnan(values)
    known = np.unique(values[~missing])
    places = np.searchsorted(known, np.where(missing, np.inf, values))
    if not missing.any():
        return [places]
    return [np.where(missing, end, places) for end in (-1, len(known))]


def bin_edges(known: Array) -> Array:
    """Return the ascending edges of bins; a value equal to an edge lies above it.

    known : numbers without NaN. The value that most rows have, and each that more than a bin's share of them have, gets
    a bin of its own: where nearly all rows have one value, all percentiles are that value, and no bin would tell it
    from the others. The rest is cut at its percentiles.
    """
    import numpy as np

    values, counts = np.unique(known, return_counts=True)
    often = values[(counts > 1) & ((counts > len(known) / FEATURE_BINS) | (counts == counts.max(initial=0)))]
    rest = known[~np.isin(known, often)]
    # A value that there is, and not one between two: infinity has no neighbour.
    shares = np.linspace(0, 1, FEATURE_BINS + 1)[1:-1]
    cuts = np.quantile(rest, shares, method="inverted_cdf") if len(rest) else rest
    return np.unique(np.concatenate([often, np.nextafter(often, np.inf), cuts]))


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

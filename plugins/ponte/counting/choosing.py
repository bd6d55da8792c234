"""Bins for a column, found in its training rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.counting.bins import KINDS, Bins, Kind, numbers_of
from ponte.storage.columns import Family as TypeFamily

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: A value of fewer training rows is named nowhere.
LEAST_ROWS = 20
#: Texts with a bin of their own, at most.
MOST_VALUES = 20
#: Texts of which the named ones hold less than this share of the rows are counted by their length.
LEAST_NAMED = 0.1
#: A number that holds this share of the rows has a bin of its own; with at most so many numbers, each has.
FREQUENT, FEW_NUMBERS = 0.05, 15
#: Quantiles are those of at most so many rows, evenly spread.
SAMPLE_ROWS = 200_000
#: How far the outermost edges are from the first and the last decile, in distances between these two.
FAR = 3.0


def choose_bins(name: str, family: TypeFamily, values: Any, *, as_of: Any = None) -> Bins:
    """Return the bins for an Arrow array of training rows.

    as_of : of dates and timestamps: the moment of each row, see `Tally.add`.
    """
    kind = KINDS[family]
    if kind == "boolean":
        return Bins(name=name, kind=kind, edges=(1.0,))
    if kind == "value":
        return _bins_of_texts(name, values)
    return Bins(name=name, kind=kind, edges=edges_of(numbers_of(values, kind, as_of)))


def bins_of_classes(name: str, family: TypeFamily, classes: tuple[Any, ...]) -> Bins:
    """Return a bin per class of a classifier, ascending."""
    known, kind = sorted(classes), KINDS[family]
    if kind == "value":
        return Bins(name=name, kind=kind, values=tuple(known))
    return Bins(name=name, kind=kind, edges=(1.0,) if kind == "boolean" else tuple(float(c) for c in known[1:]))


def _bins_of_texts(name: str, values: Any) -> Bins:
    import numpy as np
    import pyarrow.compute as pc

    found = pc.value_counts(pc.drop_null(values))
    counts = found.field("counts").to_numpy(zero_copy_only=False)
    enough = np.flatnonzero(counts >= LEAST_ROWS)
    best = sorted((-int(counts[i]), found.field("values")[int(i)].as_py()) for i in enough)[:MOST_VALUES]
    if counts.size and -sum(count for count, _ in best) < LEAST_NAMED * counts.sum():
        kind: Kind = "length"
        edges = {edge for edge in edges_of(numbers_of(values, kind, None)) if edge > 1}
        return Bins(name=name, kind=kind, edges=(1.0, *sorted(edges)))
    return Bins(name=name, kind="value", values=tuple(text for _, text in best))


def edges_of(numbers: Array) -> tuple[float, ...]:
    """Return the edges for numbers, shape (n_rows,), NaN for NULL, as `ponte.counting.bins` describes them."""
    import numpy as np

    known = numbers[np.isfinite(numbers)]
    sample = known[:: -(-len(known) // SAMPLE_ROWS) or 1]
    distinct, rows = np.unique(sample, return_counts=True)
    few = len(distinct) <= FEW_NUMBERS
    if few and len(sample) < len(known):
        distinct, rows = np.unique(known, return_counts=True)
        few = len(distinct) <= FEW_NUMBERS
    frequent = distinct[(rows >= LEAST_ROWS) & (few | (rows >= FREQUENT * rows.sum()))]
    edges = {*frequent.tolist(), *np.nextafter(frequent, np.inf).tolist()}
    if not few:
        deciles = np.quantile(sample, np.arange(1, 10) / 10)
        with np.errstate(over="ignore"):
            far = FAR * (deciles[-1] - deciles[0])
            edges |= {*deciles.tolist(), float(deciles[0] - far), float(deciles[-1] + far)}
    return tuple(sorted(float(edge) + 0.0 for edge in edges if np.isfinite(edge)))

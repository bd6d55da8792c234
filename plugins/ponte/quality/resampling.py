"""The uncertainty of figures: bootstrap resamples as row weights, and percentile intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ponte.quality.metrics import Figures

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def resampled_weights(n: int, resamples: int, *, seed: int, units: Array | None = None) -> Iterator[Array]:
    """Yield `resamples` vectors of n counts, each a draw of n rows with replacement.

    units : shape (n,), integers from 0: rows of one unit (a customer, a day) are drawn together; None: row by row.
    """
    import numpy as np

    draws = np.random.default_rng(seed)
    count = n if units is None else int(units.max()) + 1
    for _ in range(resamples):
        counts = np.bincount(draws.integers(0, count, count), minlength=count).astype(float)
        yield counts if units is None else counts[units]


def bootstrap(
    subjects: Mapping[str, Figures], names: Mapping[str, Sequence[str]], weights: Iterator[Array]
) -> dict[str, dict[str, Array]]:
    """Return, per subject and wanted name, the figure under each weight vector, all subjects under the same vectors."""
    import numpy as np

    rows: list[dict[str, dict[str, float]]] = []
    for w in weights:
        found = {subject: one.weighted(w) for subject, one in subjects.items()}
        rows.append({subject: {name: found[subject][name] for name in names[subject]} for subject in subjects})
    return {s: {name: np.array([row[s][name] for row in rows]) for name in names[s]} for s in subjects}


def interval(values: Array, confidence: float, *, units: int) -> tuple[float, float]:
    """Return the expanded percentile interval of bootstrap values, without resamples where the figure is undefined.

    units : how many were drawn for each value. The spread of resamples of n units is that of the sample, which is too
    small by the root of (n - 1) / n, and plain percentiles know nothing of how uncertain a spread of few units is: of
    two equal versions they call one better too often. So the tails are those of Student's t with n - 1 degrees of
    freedom (Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69, 2015), times
    n / (n - 1) and not its root, which tests/bench/gate_units.py has shown to be too little for a ROC AUC of units.
    With thousands of units that is the percentile interval.
    """
    import numpy as np

    if np.isnan(values).all():
        return float("nan"), float("nan")
    tail = tail_of(confidence, units)
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


def tail_of(confidence: float, units: int) -> float:
    """Return the share of bootstrap values that an interval leaves out on each side; units : at least 2.

    >>> [round(tail_of(0.95, units), 4) for units in (10, 28, 100, 100_000)]
    [0.006, 0.0167, 0.0225, 0.025]
    """
    from scipy.special import ndtr, stdtrit

    return float(ndtr(-units / (units - 1) * stdtrit(units - 1, (1 + confidence) / 2)))

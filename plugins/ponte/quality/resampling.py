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


def interval(values: Array, confidence: float) -> tuple[float, float]:
    """Return the percentile interval of bootstrap values; resamples where the figure is undefined are left out."""
    import numpy as np

    tail = (1 - confidence) / 2
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)

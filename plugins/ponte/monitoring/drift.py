"""RS-max: is a batch like the windows that its version knows? With a stated share of false alarms, at any size.

The rule judges a family of K columns in W windows by counts per bin, and knows nothing else: a shift, a wider spread,
more NULLs and new categories are all the same to it. n are rows of a batch or window, N those of the windows that it is
held against, p their shares together, q its own, B the number of bins.

1. Distance. `D = sum((q - p)^2 / (p + 1/n))` over the bins: Pearson's chi-square divided by n, with a floor, so that
   one row in a bin that is hardly ever used weighs no more than a row. Were both drawn from one law, D would be
   `E = sum(p (1 - p) (1/n + 1/N) / (p + 1/n))` on average, and no column has less than one degree of freedom: E >= 1/n.
2. How windows differ anyway. Each window is held against the others, without itself and its two neighbours on each
   side, which may resemble it: what D is above E on average is omega, the variance between windows (a design effect, as
   in Rao and Scott, "On chi-squared tests for multiway contingency tables with cell proportions estimated from survey
   data", Annals of Statistics 12, 1984).
3. `S = D / ((E + omega) c)`: c is how many times its mean such a D reaches once in so many weeks that one of K columns
   does in 2.5 % of them, if E has the degrees of freedom of its chi-square and omega one, that of a level that moves.
   So columns of two bins and of twenty have the same say: without c those of two set the limit for all. That of a
   training window uses an omega that has seen neither it nor its neighbours. `T = max(S)` over the columns: the family
   is calibrated as a whole, so there is nothing to correct for, and columns that move together cost nothing.
4. Equal sizes. Windows that are larger than the batch are thinned to its rows, drawn without replacement; a batch that
   is larger than the windows is judged as if it had the rows of the median window.
5. Limit. The prediction limit for one more window, on the logarithm of T: `exp(m + t(1 - alpha, We - 1) s sqrt(1 +
   1/We))`, m and s of log T over the windows (Hahn and Meeker, "Statistical Intervals", 1991, section 4.3), s made 15 %
   greater, because log T is skewed: with 5 % there were 7.5 % notices in one of 75 cells of quiet weeks. We is W
   reduced by serial correlation r of the windows, `W (1 - r) / (1 + r)`. It is never below what sampling alone reaches
   with K columns: a gamma distribution with the first two moments of D (Satterthwaite, Biometrics Bulletin 2, 1946), at
   the level `(1 - alpha)^(1/K)` (Sidak, JASA 62, 1967).

What it was measured to do stands in docs/explanation/drift.md. Every array may have more axes in front: so are many
families judged at once. Columns with fewer bins than others are filled up with bins that nobody uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: Share of quiet batches that a family may call a notice: two families, 5 % together.
ALPHA = 0.025
#: The same for a strong one: 0.1 % together.
STRONG_ALPHA = 0.0005
#: Fewer windows say nothing about how much windows differ.
LEAST_WINDOWS = 6
#: From so many on the stated rates hold; with fewer a verdict is provisional.
ENOUGH_WINDOWS = 20
#: Neighbours on each side that a window is not held against, from NEIGHBOURS_FROM windows on.
NEIGHBOURS, NEIGHBOURS_FROM = 2, 12
#: Times that larger windows are thinned, at most; and how many counts that may be in all.
DRAWS, LEAST_DRAWS, COUNTS_DRAWN = 20, 4, 4_000_000
#: No estimate of the serial correlation above this is believed.
_MOST_CORRELATION = 0.9
#: What the standard deviation of log T is multiplied with: its upper tail is longer than a normal one.
_FOR_SKEWNESS = 1.15
#: Instead of zero where a logarithm is taken or something divided by it.
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Limits:
    """What windows tell about a batch of a number of rows; shapes (...,) or (..., K)."""

    #: Rows that batches are judged as.
    rows: float
    #: Rows of all windows together, shape (..., K), and their shares, shape (..., K, B).
    total: Array
    pooled: Array
    #: Variance between windows, shape (..., K).
    omega: Array
    #: Mean of log T, its standard deviation times _FOR_SKEWNESS, and how many independent windows tell as much.
    mean: Array
    deviation: Array
    effective_windows: Array


@dataclass(frozen=True, slots=True)
class Judged:
    """How far a batch is from the windows; shapes (...,) or (..., K)."""

    statistic: Array
    limit: Array
    #: Share of quiet batches with such a statistic or a greater one; below ALPHA exactly when it is above the limit.
    p: Array
    #: S of each column, shape (..., K); those above the limit are named.
    columns: Array
    #: Share of rows that would have to lie in another bin to be as in all windows together, shape (..., K), 0 to 1.
    share_change: Array
    #: Share of NULL, the last count, less that of all windows together, shape (..., K), -1 to 1.
    null_change: Array
    #: Smallest shift that reaches the limit in about half of the batches, shape (..., K), 0 to 1: so large a share of
    #: the rows moves from one tenth of the column to another.
    detectable: Array


def learn(counts: Array, rows: float, *, seed: int) -> Limits:
    """Return what windows tell about batches of so many rows; the same for the same arguments.

    counts : shape (..., K, W, B), rows per bin, the windows in their order; W is at least LEAST_WINDOWS.
    rows : of the batch, above 0.
    """
    import numpy as np

    counts = np.asarray(counts, dtype=np.int64)
    sizes = counts.sum(-1)
    rows = min(float(rows), float(np.median(sizes)))
    others, others_rows, apart = _others(counts)
    distance, expected = distances(counts, others, others_rows)
    excess = distance - expected
    omega = np.maximum(excess.mean(-1), 0)
    total = sizes.sum(-1)
    pooled = counts.sum(-2) / np.maximum(total, 1)[..., None]
    tail = _tail(pooled, np.full(total.shape, rows), total, omega)
    unseen = np.maximum(excess @ apart / apart.sum(0), 0)  # of each window from the windows it is held against
    drawn = []
    draws = max(LEAST_DRAWS, min(DRAWS, COUNTS_DRAWN // counts.size)) if (sizes > rows).any() else 1
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        if draws > 1:
            distance, expected = distances(thinned(counts, int(np.ceil(rows)), rng), others, others_rows)
        drawn.append(np.log(np.maximum((distance / (expected + unseen) / tail[..., None]).max(-2), _TINY)))
    logs = np.stack(drawn)  # (draws, ..., W)
    of_windows = logs.mean(0)
    within = logs.var(0, ddof=1).mean(-1) * (1 - 1 / draws) if draws > 1 else 0.0
    return Limits(
        rows=rows,
        total=total,
        pooled=pooled,
        omega=omega,
        mean=of_windows.mean(-1),
        deviation=_FOR_SKEWNESS * np.sqrt(of_windows.var(-1, ddof=1) + within),
        effective_windows=effective_windows(counts),
    )


def judge(limits: Limits, batch: Array, *, alpha: float = ALPHA) -> Judged:
    """Return how far a batch is from the windows that `limits` was learned from.

    batch : shape (..., K, B), rows per bin.
    """
    import numpy as np
    from scipy import stats

    sizes = np.maximum(batch.sum(-1), 1).astype(float)
    distance, expected = distances(batch, limits.pooled, limits.total)
    as_sizes = np.minimum(sizes, limits.rows)
    as_expected = _expected(limits.pooled, as_sizes, limits.total)
    # The tail is that of the rows the windows were thinned to; a smaller batch has its own.
    mean = as_expected + limits.omega
    scale = mean * _tail(limits.pooled, as_sizes, limits.total, limits.omega)
    columns = (distance + np.maximum(as_expected - expected, 0)) / scale
    statistic = columns.max(-1)
    # How a quiet window lies: one more among those that were seen.
    spread = limits.deviation * np.sqrt(1 + 1 / limits.effective_windows)
    freedom = limits.effective_windows - 1
    seen = np.exp(limits.mean + stats.t.ppf(1 - alpha, freedom) * spread)
    beyond = (np.log(np.maximum(statistic, _TINY)) - limits.mean) / np.maximum(spread, _TINY)
    # How one would lie if only chance made windows differ.
    shape, unit = _gamma(limits.pooled, as_sizes, limits.total)
    count = columns.shape[-1]
    chance = (stats.gamma.ppf((1 - alpha) ** (1 / count), shape, scale=unit) / scale).max(-1)
    of_chance = stats.gamma.sf(statistic[..., None] * scale, shape, scale=unit).max(-1)
    limit = np.maximum(seen, chance)
    tenth = 0.1 + 1 / as_sizes
    change = batch / sizes[..., None] - limits.pooled
    return Judged(
        statistic=statistic,
        limit=limit,
        p=np.maximum(stats.t.sf(beyond, freedom), -np.expm1(count * np.log1p(-np.minimum(of_chance, 1 - _TINY)))),
        columns=columns,
        share_change=np.clip(np.abs(change).sum(-1) / 2, 0, 1),
        null_change=change[..., -1],
        detectable=np.minimum(np.sqrt(np.maximum(limit[..., None] * scale - mean, 0) * tenth / 2), 1),
    )


def distances(counts: Array, pooled: Array, pooled_rows: Array) -> tuple[Array, Array]:
    """Return D of counts from shares, and what it would be on average if both were drawn from one law.

    counts : shape (..., B), int64.
    pooled : shape (..., B), shares. pooled_rows : shape (...,), rows that they are of.
    """
    import numpy as np

    rows = np.maximum(counts.sum(-1), 1).astype(float)
    apart = counts / rows[..., None] - pooled
    return (apart**2 / (pooled + 1 / rows[..., None])).sum(-1), _expected(pooled, rows, pooled_rows)


def _expected(pooled: Array, rows: Array, pooled_rows: Array) -> Array:
    import numpy as np

    noise = (pooled * (1 - pooled) / (pooled + 1 / rows[..., None])).sum(-1)
    expected: Array = np.maximum(noise * (1 / rows + 1 / np.maximum(pooled_rows, 1)), 1 / rows)
    return expected


def _gamma(pooled: Array, rows: Array, pooled_rows: Array) -> tuple[Array, Array]:
    """Return shape and scale of the gamma distribution that has the first two moments of D under one law.

    D is a sum of squares of normals whose covariance is V = (1/n + 1/N) (diag(p) - p p') / sqrt(v v'), v = p + 1/n: its
    mean is the trace of V, its variance twice the trace of V V.
    """
    import numpy as np

    weight = pooled / (pooled + 1 / rows[..., None])
    once = (weight * (1 - pooled)).sum(-1)
    twice = (weight**2).sum(-1) - 2 * (weight**2 * pooled).sum(-1) + (weight * pooled).sum(-1) ** 2
    # A column of one bin is given one degree of freedom, as in E.
    once, twice = (np.where(once > _TINY, found, 1.0) for found in (once, twice))
    return once**2 / (2 * twice), 2 * twice / once * (1 / rows + 1 / np.maximum(pooled_rows, 1))


def _tail(pooled: Array, rows: Array, pooled_rows: Array, omega: Array) -> Array:
    """Return how many times its mean D reaches once in so many weeks that any of the columns does in ALPHA of all.

    Chance and weeks add up: E with the degrees of freedom of `_gamma`, omega with one, as of a level that moves.
    """
    import numpy as np
    from scipy import stats

    shape, unit = _gamma(pooled, rows, pooled_rows)
    expected = shape * unit
    freedom = (expected + omega) ** 2 / (expected**2 / (2 * shape) + omega**2)
    found: Array = stats.gamma.ppf((1 - ALPHA) ** (1 / pooled.shape[-2]), freedom / 2, scale=2 / freedom)
    return np.maximum(found, 1)


def _others(counts: Array) -> tuple[Array, Array, Array]:
    """Return for each window the shares of the windows it is held against, their rows, and which windows those are.

    Shapes (..., K, W, B), (..., K, W) and (W, W): [i, j] is 1 when window j is held against window i.
    """
    import numpy as np

    windows = counts.shape[-2]
    reach = NEIGHBOURS if windows >= NEIGHBOURS_FROM else 0
    places = np.arange(windows)
    apart = (np.abs(places[:, None] - places) > reach).astype(float)
    others = np.swapaxes(np.swapaxes(counts, -1, -2) @ apart, -1, -2)
    rows = others.sum(-1)
    return others / np.maximum(rows, 1)[..., None], rows, apart


def effective_windows(counts: Array) -> Array:
    """Return how many independent windows tell as much as these, shape (...,), at least 3.

    counts : shape (..., K, W, B). The serial correlation is that of neighbouring windows' shares, over all columns and
    bins; the part of their variance that is of sampling is taken off, and 1/W added, by which such an estimate is too
    low on average.
    """
    import numpy as np

    windows = counts.shape[-2]
    rows = np.maximum(counts.sum(-1, keepdims=True), 1)
    total = counts.sum(-2, keepdims=True)
    pooled = total / np.maximum(total.sum(-1, keepdims=True), 1)
    floor = pooled + 1 / rows
    deviations = (counts / rows - pooled) / np.sqrt(floor)
    over = (-3, -2, -1)
    together = (deviations[..., 1:, :] * deviations[..., :-1, :]).sum(over) * windows / (windows - 1)
    variance = (deviations**2).sum(over)
    between = variance - (pooled * (1 - pooled) / floor / rows).sum(over)
    told = between > 0.05 * variance  # else windows differ by sampling only
    correlation = np.where(told, together / np.where(told, between, 1) + 1 / windows, 0)
    correlation = np.clip(correlation, 0, _MOST_CORRELATION)
    effective: Array = np.maximum(windows * (1 - correlation) / (1 + correlation), 3)
    return effective


def thinned(counts: Array, rows: int, rng: np.random.Generator) -> Array:
    """Return the counts of rows drawn without replacement, as many as asked for, or all of a window that has fewer.

    counts : shape (..., B), int64.
    """
    import numpy as np

    most = counts.sum(-1).max(initial=0)
    if most >= 10**9:  # more than numpy draws from; what such windows are thinned to is no different for it
        counts = counts // (most // 10**8)
    left = counts.sum(-1)
    wanted = np.minimum(left, rows)
    drawn = np.empty_like(counts)
    for place in range(counts.shape[-1]):
        here = counts[..., place]
        drawn[..., place] = rng.hypergeometric(here, left - here, wanted)
        left = left - here
        wanted = wanted - drawn[..., place]
    return drawn

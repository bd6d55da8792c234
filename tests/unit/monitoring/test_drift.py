"""RS-max as a rule about counts; what it was measured to do, see tests/bench/drift_quiet.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ponte.monitoring import drift

Array = np.ndarray[Any, Any]


def windows_of(seed: int, *, columns: int = 5, windows: int = 20, rows: int = 1000, bins: int = 6) -> Array:
    """Return counts of windows that differ by chance only, shape (columns, windows, bins); the last bin is unused."""
    shares = np.append(np.full(bins - 1, 1 / (bins - 1)), 0)
    return np.random.default_rng(seed).multinomial(rows, shares, size=(columns, windows))


def moved(counts: Array, column: int, share: float) -> Array:
    """Return the counts of a batch, shape (columns, bins), with a share of a column's rows in another bin."""
    found = counts.copy()
    count = min(int(share * counts[column].sum()), found[column, 0])
    found[column, 0] -= count
    found[column, 1] += count
    return found


@pytest.mark.parametrize("windows", [6, 12, 20, 52])
@pytest.mark.parametrize("rows", [200, 1000, 50_000])
def test_a_batch_like_the_windows_is_quiet_and_a_shifted_column_is_named(windows: int, rows: int) -> None:
    known = windows_of(1, windows=windows + 1, rows=rows)
    limits = drift.learn(known[:, :-1], rows, seed=1)
    quiet = drift.judge(limits, known[:, -1])
    assert quiet.statistic < quiet.limit
    shifted = drift.judge(limits, moved(known[:, -1], 3, 0.2))
    assert shifted.statistic > shifted.limit
    assert [j for j in range(5) if shifted.columns[j] > shifted.limit] == [3]
    assert shifted.share_change.argmax() == 3


def test_p_is_below_the_level_exactly_when_the_limit_of_that_level_is_passed() -> None:
    known = windows_of(2, windows=21)
    limits = drift.learn(known[:, :-1], 1000, seed=1)
    for share in np.linspace(0, 0.15, 60):
        for alpha in (0.5, 0.1, drift.ALPHA, drift.STRONG_ALPHA):
            found = drift.judge(limits, moved(known[:, -1], 0, share), alpha=alpha)
            assert (found.p < alpha) == (found.statistic > found.limit), (share, alpha)


def test_the_same_windows_and_seed_give_the_same_limit_and_another_seed_nearly_the_same() -> None:
    known, batch = windows_of(3, rows=10_000), windows_of(4, rows=200)[:, 0]
    limits = [float(drift.judge(drift.learn(known, 200, seed=seed), batch).limit) for seed in (1, 1, 2)]
    assert limits[0] == limits[1] != limits[2]
    assert limits[0] == pytest.approx(limits[2], rel=0.1)


def test_larger_windows_are_thinned_so_that_a_small_batch_is_held_against_its_equals() -> None:
    """Held against whole windows, a batch of 50 rows would be far away by chance alone, or a limit never reached."""
    of_large = drift.learn(windows_of(5, rows=100_000), 50, seed=1)
    of_small = drift.learn(windows_of(6, rows=50), 50, seed=1)
    assert float(of_large.mean) == pytest.approx(float(of_small.mean), abs=0.15)
    assert float(of_large.deviation) == pytest.approx(float(of_small.deviation), abs=0.15)


@pytest.mark.parametrize(("rows", "asked"), [(1000, 50), (50, 1000), (10, 10), (2 * 10**9, 100)])
def test_thinning_draws_without_replacement(rows: int, asked: int) -> None:
    known = windows_of(7, rows=rows)
    found = drift.thinned(known, asked, np.random.default_rng(1))
    assert (found.sum(-1) == min(rows, asked)).all()
    assert (found <= known).all()


def test_a_batch_larger_than_the_windows_is_judged_as_one_of_their_size() -> None:
    """Else how much windows differ anyway would be found in every large batch."""
    rng = np.random.default_rng(8)
    shares = rng.dirichlet(np.full(6, 200.0), size=(5, 21))  # windows differ by more than chance
    limits = drift.learn(rng.multinomial(1000, shares[:, :20]), 1_000_000, seed=1)
    assert limits.rows == 1000
    found = drift.judge(limits, rng.multinomial(1_000_000, shares[:, 20]))
    assert found.statistic < found.limit


def test_one_row_in_a_bin_that_nobody_used_is_no_drift_and_many_are() -> None:
    known = windows_of(9, windows=21)
    limits = drift.learn(known[:, :-1], 1000, seed=1)
    for rows, named in ((1, False), (50, True)):
        batch = known[:, -1].copy()
        batch[2, 0] -= rows
        batch[2, -1] += rows
        found = drift.judge(limits, batch)
        assert (found.columns[2] > found.limit) == named
        assert found.null_change[2] == pytest.approx(rows / 1000)


def test_a_column_that_is_constant_has_no_part_in_it_until_it_is_not() -> None:
    known = windows_of(10)
    known[4] = 0
    known[4, :, 0] = 1000
    limits = drift.learn(known, 1000, seed=1)
    batch = known[:, 0].copy()
    found = drift.judge(limits, batch)
    assert found.columns[4] == 0
    assert found.limit < 20
    batch[4] = [999, 0, 0, 0, 0, 1]
    found = drift.judge(limits, batch)
    assert found.columns[4] < found.limit, "nor of a single row"
    batch[4] = [0, 1000, 0, 0, 0, 0]
    assert drift.judge(limits, batch).columns.argmax() == 4


def test_windows_that_resemble_their_neighbours_count_for_fewer() -> None:
    rng = np.random.default_rng(11)
    level = np.cumsum(rng.standard_normal((5, 40)), axis=1) * 0.02
    shares = np.stack([0.3 + level, 0.7 - level], axis=-1).clip(0.05, 0.95)
    shares /= shares.sum(-1, keepdims=True)
    assert drift.effective_windows(rng.multinomial(10_000, shares)) < 15
    assert drift.effective_windows(windows_of(12, windows=40)) == pytest.approx(40, rel=0.1)


def test_bins_that_nobody_uses_change_nothing() -> None:
    """Columns with fewer bins are filled up with them."""
    known = windows_of(13, windows=21)
    wide = np.concatenate([known[..., :-1], np.zeros((5, 21, 7), dtype=np.int64), known[..., -1:]], axis=-1)
    narrow, filled = (drift.judge(drift.learn(k[:, :-1], 1000, seed=1), k[:, -1]) for k in (known, wide))
    assert filled.limit == pytest.approx(float(narrow.limit))
    np.testing.assert_allclose(filled.columns, narrow.columns)


def test_what_is_called_detectable_reaches_the_limit_in_about_half_of_the_batches() -> None:
    rng = np.random.default_rng(14)
    tenths = np.append(np.full(10, 0.1), 0)
    known = rng.multinomial(1000, tenths, size=(5, 20))
    limits = drift.learn(known, 1000, seed=1)
    share = float(drift.judge(limits, known[:, 0]).detectable[0])
    shifted = tenths.copy()
    shifted[:2] += (-share, share)
    seen = 0
    for _ in range(200):
        batch = rng.multinomial(1000, tenths, size=5)
        batch[0] = rng.multinomial(1000, shifted)
        found = drift.judge(limits, batch)
        seen += bool(found.columns[0] > found.limit)
    assert 60 < seen < 140


def test_a_column_of_two_bins_does_not_set_the_limit_for_one_of_ten() -> None:
    """The square of one normal reaches ten times its mean as easily as the sum of nine reaches three times."""
    rng = np.random.default_rng(15)
    shares = np.zeros((12, 11))
    shares[:6, :10] = 0.1
    shares[6:, :2] = (0.7, 0.3)
    known = rng.multinomial(200, shares[:, None], size=(12, 20))
    limits = drift.learn(known, 200, seed=1)
    shares[0, :2] += (-0.1, 0.1)
    found = drift.judge(limits, rng.multinomial(200, shares))
    assert found.columns[0] > found.limit
    assert found.columns[6:].max() < found.limit

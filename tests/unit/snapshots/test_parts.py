"""The parts of a snapshot are independent by time, and none knows what nobody knew then."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponte.snapshots.lifecycle import Snapshot
from ponte.snapshots.parts import Parts, split
from ponte.storage.columns import Column
from ponte.versions.signature import Signature

MONDAY = dt.date(2026, 11, 2)
UTC = dt.UTC
SECOND = dt.timedelta(seconds=1)
SIGNATURE = Signature(
    key=(Column(name="id", family="integer"),),
    features=(Column(name="visits", family="number"), Column(name="plan", family="text")),
    label="integer",
)


def week(number: int) -> dt.date:
    """First day of window `number`, from 0."""
    return MONDAY + dt.timedelta(weeks=number)


def as_of(number: int) -> dt.datetime:
    """When the features of window `number` were taken: not at midnight, so that a day is not a moment."""
    return dt.datetime.combine(week(number), dt.time(6, 30), UTC)


def snapshot(*, windows: int, holdout: int, calibration: int | None = None) -> Snapshot:
    """Return the row of `ponte.snapshot`; holdout, calibration : the window each part begins with."""
    entries: list[dict[str, Any]] = [
        {"window_start": str(week(n)), "window_end": str(week(n + 1)), "as_of": as_of(n).isoformat(), "rows": 1}
        for n in range(windows)
    ]
    return Snapshot(
        snapshot_id=1, model="churn", run_id="r", as_of=as_of(windows), status="written", why=None,
        holdout_from=week(holdout), calibration_from=None if calibration is None else week(calibration),
        windows=entries, frozen_table=None, columns=SIGNATURE.as_json(), row_count=None, features_sql="",
        labels_sql="", spec_digest="", path=None, sha256=None,
    )  # fmt: skip


def table_of(rows: list[tuple[int, dt.datetime | None]]) -> pa.Table:
    """Return rows of (window, labelled_at); `id` counts them."""
    count = len(rows)
    return pa.table(
        {
            "window_start": pa.array([week(n) for n, _ in rows], pa.date32()),
            "id": pa.array(range(count), pa.int64()),
            "plan": pa.array(["basic", "gold"] * count, pa.string())[:count],
            "visits": pa.array([n / 2 for n in range(count)], pa.float64()),
            "label": pa.array([n % 2 for n in range(count)], pa.int64()),
            "labelled_at": pa.array([known for _, known in rows], pa.timestamp("us", tz="UTC")),
        }
    )


def ids(parts: Parts) -> tuple[list[int], list[int], list[int]]:
    found = [part.rows.column("id").to_pylist() for part in (parts.fitting, parts.calibration, parts.holdout)]
    return found[0], found[1], found[2]


LATER = as_of(99)
#: id → (first calibration window, rows of windows 0 to 5 of which 4 and 5 are holdout, ids per part, purged)
CASES: dict[str, tuple[int | None, list[tuple[int, dt.datetime | None]], tuple[list[int], ...], int]] = {
    "window decides the part": (2, [(n, None) for n in range(6)], ([0, 1], [2, 3], [4, 5]), 0),
    "no calibration": (None, [(n, None) for n in range(6)], ([0, 1, 2, 3], [], [4, 5]), 0),
    "rows in any order": (2, [(5, None), (0, None), (3, None), (1, None)], ([1, 3], [2], [0]), 0),
    "known when the next part began": (2, [(1, as_of(2)), (3, as_of(4)), (4, None)], ([0], [1], [2]), 0),
    "known a second later": (2, [(1, as_of(2) + SECOND), (3, as_of(4) + SECOND), (4, None)], ([], [], [2]), 2),
    "known before": (2, [(1, as_of(1)), (3, as_of(3)), (4, None)], ([0], [1], [2]), 0),
    "fitting is held to the calibration, not to the holdout": (
        2, [(1, as_of(3)), (1, as_of(4)), (0, as_of(2)), (4, None)], ([2], [], [3]), 2),
    "fitting is held to the holdout without a calibration": (
        None, [(1, as_of(3)), (1, as_of(4)), (3, as_of(4) + SECOND), (4, None)], ([0, 1], [], [3]), 1),
    "same day but later": (None, [(3, dt.datetime.combine(week(4), dt.time(6, 31), UTC)), (4, None)], ([], [], [1]), 1),
    "holdout is never purged": (2, [(0, None), (3, None), (4, LATER), (5, LATER)], ([0], [1], [2, 3]), 0),
    "every earlier row is unknown": (2, [(0, LATER), (2, LATER), (4, None)], ([], [], [2]), 2),
    "another zone, same moment": (
        None, [(3, as_of(4).astimezone(dt.timezone(dt.timedelta(hours=5)))), (4, None)], ([0], [], [1]), 0),
}  # fmt: skip


@pytest.mark.parametrize(("calibration", "rows", "expected", "purged"), CASES.values(), ids=CASES)
def test_window_and_time_of_knowledge_decide_the_part(
    calibration: int | None, rows: list[tuple[int, dt.datetime | None]], expected: tuple[list[int], ...], purged: int
) -> None:
    parts = split(table_of(rows), snapshot(windows=6, holdout=4, calibration=calibration))
    assert (ids(parts), parts.purged_rows) == (expected, purged)


def test_a_part_holds_features_in_the_order_of_the_signature_and_the_labels_of_the_same_rows() -> None:
    parts = split(table_of([(n, None) for n in range(6)]), snapshot(windows=6, holdout=4, calibration=2))
    for part, expected in zip((parts.fitting, parts.calibration, parts.holdout), ([0, 1], [2, 3], [4, 5]), strict=True):
        assert part.features.columns.tolist() == ["visits", "plan"]
        assert part.features["visits"].tolist() == [n / 2 for n in expected]
        assert part.labels.tolist() == [n % 2 for n in expected]
        assert part.rows.column("id").to_pylist() == expected


@pytest.mark.parametrize(("first", "expected"), [(4, [0, 2, 3]), (5, [0, 3]), (6, [])])
def test_rows_of_a_part_since_a_day_are_those_of_its_windows_from_that_day_on(first: int, expected: list[int]) -> None:
    rows = table_of([(5, None), (0, None), (4, LATER), (5, None), (3, None)])
    since = split(rows, snapshot(windows=6, holdout=4)).holdout.since(week(first))
    assert since.rows.column("id").to_pylist() == expected
    assert since.labels.tolist() == [n % 2 for n in expected]
    assert since.features.columns.tolist() == ["visits", "plan"]
    assert since.features["visits"].tolist() == [n / 2 for n in expected]


def test_part_without_rows_still_has_its_columns() -> None:
    parts = split(table_of([(0, None), (1, None)]), snapshot(windows=2, holdout=1))
    assert parts.calibration.features.shape == (0, 2)
    assert parts.calibration.labels.shape == (0,)


def test_rows_of_several_chunks_are_split_like_those_of_one() -> None:
    """A Parquet file is read in chunks."""
    rows = [(n % 6, as_of(n % 5)) for n in range(20)]
    whole, frozen = table_of(rows), snapshot(windows=6, holdout=4, calibration=2)
    pieces = pa.concat_tables([whole.slice(0, 7), whole.slice(7, 1), whole.slice(8)])
    assert ids(split(pieces, frozen)) == ids(split(whole, frozen))


moments = st.none() | st.tuples(st.integers(-1, 8), st.sampled_from([-SECOND, dt.timedelta(), SECOND])).map(
    lambda pair: as_of(pair[0]) + pair[1]
)


@given(st.lists(st.tuples(st.integers(0, 7), moments), max_size=30), st.data())
def test_every_row_is_in_one_part_or_purged_and_no_part_knows_the_future(
    rows: list[tuple[int, dt.datetime | None]], data: st.DataObject
) -> None:
    holdout = data.draw(st.integers(1, 7))
    calibration = data.draw(st.none() | st.integers(1, holdout - 1)) if holdout > 1 else None
    parts = split(table_of(rows), snapshot(windows=8, holdout=holdout, calibration=calibration))
    fitting, calibrating, measuring = ids(parts)
    kept = [*fitting, *calibrating, *measuring]
    assert len(kept) == len(set(kept))
    assert len(kept) + parts.purged_rows == len(rows)
    assert measuring == [n for n, (window, _) in enumerate(rows) if window >= holdout]
    for part, first, end in (
        (fitting, 0, holdout if calibration is None else calibration),
        (calibrating, holdout if calibration is None else calibration, holdout),
    ):
        known = [n for n, (_, known) in enumerate(rows) if known is None or known <= as_of(end)]
        assert part == [n for n in known if first <= rows[n][0] < end]


def test_no_rows_at_all_give_three_parts_without_rows() -> None:
    assert ids(split(table_of([]), snapshot(windows=2, holdout=1))) == ([], [], [])

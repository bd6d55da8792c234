"""Counts of live rows: those of all rows of a flush, by window, in whatever pieces they came."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any
from unittest.mock import ANY
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponte.counting.bins import Bins, Tallies, microseconds
from ponte.live.counting import Answered, Counted, counts_of, statement
from ponte.model.spec import WindowRule
from ponte.short_way.plain import plain_rows

FLUSH = UUID(int=7)
MONDAY = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
BINS: dict[Any, tuple[Bins, ...]] = {
    "features": (
        Bins(name="shop", kind="value", values=("mill", "quay")),
        Bins(name="items", kind="number", edges=(1.0, 2.0, 5.0)),
        Bins(name="since", kind="age", edges=(1.0, 3.0)),
        Bins(name="said", kind="length", edges=(1.0, 4.0)),
    ),
    "answers": (
        Bins(name="prediction", kind="boolean", edges=(1.0,)),
        Bins(name="score", kind="number", edges=(0.25, 0.5, 0.75)),
    ),
}
OF = Counted(model="visits", version=3, window=WindowRule(), bins=BINS)


def answered(count: int, at: dt.datetime, *, seed: int = 0, of: Counted = OF) -> Answered:
    """Return rows of one request, some values of which are NULL."""
    rng = np.random.default_rng(seed)
    some = [None if rng.random() < 0.2 else n for n in range(count)]
    score = rng.random(count).round(3).tolist()
    columns = {
        "visit_id": pa.array(some, pa.int64()),
        "said": pa.array([None if n is None else "x" * (n % 6) for n in some], pa.string()),
        "shop": pa.array([["mill", "quay", "park", None][n] for n in rng.integers(0, 4, count)], pa.string()),
        "items": pa.array([None if n is None else int(n) % 7 for n in some], pa.int64()),
        "since": pa.array(
            [at - dt.timedelta(days=int(n)) for n in rng.integers(0, 6, count)], pa.timestamp("us", "UTC")
        ),
    }
    said: list[Any] = [s > 0.5 for s in score]
    return Answered(
        of=of, asked_at=microseconds(at), rows=pa.table(columns), answers={"prediction": said, "score": score}
    )


def tallied(parts: list[Answered], family: Any) -> list[int]:
    """Return the counts of rows by the tallies of batches, one request at a time."""
    total = None
    for part in parts:
        moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=int(part.asked_at))
        tallies = Tallies(family, BINS[family], moment)
        tallies.add(part.rows if family == "features" else pa.table(dict(part.answers)))
        counts = np.concatenate([tally.counts for tally in tallies.columns])
        total = counts if total is None else total + counts
    assert total is not None
    return [int(n) for n in total]


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12), seed=st.integers(0, 1000))
def test_a_flush_counts_what_batches_count_however_the_rows_came(sizes: list[int], seed: int) -> None:
    parts = [answered(n, MONDAY + dt.timedelta(hours=5 * i), seed=seed + i) for i, n in enumerate(sizes)]
    [row] = counts_of(parts, flush_id=FLUSH)
    assert (row["model"], row["version"], row["row_count"]) == ("visits", 3, sum(sizes))
    assert (row["window_start"], row["window_end"]) == (dt.date(2026, 11, 23), dt.date(2026, 11, 30))
    assert row["features"] == tallied(parts, "features")
    assert row["answers"] == tallied(parts, "answers")
    assert sum(row["features"]) == 4 * sum(sizes)
    plain = [replace(part, rows=plain_rows(part.rows)) for part in parts]
    for mixed in (plain, [plain[0], *parts[1:]]):
        assert counts_of(mixed, flush_id=FLUSH) == [{**row, "peak_bytes": ANY}]


def test_rows_on_both_sides_of_midnight_are_counted_in_their_windows_and_costs_shared_by_rows() -> None:
    last, first = MONDAY + dt.timedelta(days=7, microseconds=-1), MONDAY + dt.timedelta(days=7)
    parts = [answered(3, last), answered(5, first, seed=1)]
    before, after = counts_of(parts, flush_id=FLUSH, cost=(8.0, 4.0))
    assert (before["window_start"], after["window_start"]) == (MONDAY.date(), first.date())
    assert (before["features"], after["features"]) == (tallied(parts[:1], "features"), tallied(parts[1:], "features"))
    assert (before["seconds"], before["cpu_seconds"], after["cpu_seconds"]) == (3.0, 1.5, 2.5)
    one = Answered(
        of=OF,
        asked_at=np.array([microseconds(last), microseconds(first)]),
        rows=parts[0].rows.slice(0, 2),
        answers={name: values[:2] for name, values in parts[0].answers.items()},
    )
    assert [row["row_count"] for row in counts_of([one], flush_id=FLUSH)] == [1, 1], "of one request, too"


def test_versions_are_told_apart_and_a_row_without_an_answer_is_not_counted() -> None:
    newer = Counted(model="visits", version=4, window=WindowRule(), bins={"features": (), "answers": ()})
    refused = answered(4, MONDAY)
    said = {"prediction": [None, True, None, False], "score": [None, 0.9, None, 0.1]}
    part = Answered(of=OF, asked_at=refused.asked_at, rows=refused.rows, answers=said)
    nobody = Answered(
        of=OF, asked_at=refused.asked_at, rows=refused.rows, answers={"prediction": [None] * 4, "score": [None] * 4}
    )
    rows = counts_of([part, answered(2, MONDAY, of=newer)], flush_id=FLUSH)
    assert [(row["version"], row["row_count"], sum(row["features"])) for row in rows] == [(3, 2, 8), (4, 2, 0)]
    assert rows[0]["answers"][:3] == [1, 1, 0]
    assert counts_of([nobody], flush_id=FLUSH) == []
    bare = Answered(of=newer, asked_at=refused.asked_at, rows=refused.rows, answers=said)
    assert [(row["row_count"], row["features"]) for row in counts_of([bare], flush_id=FLUSH)] == [(2, [])]


@pytest.mark.parametrize("family", ["integer", "text"])
def test_predictions_of_every_type_and_scores_of_many_classes_are_counted(family: str) -> None:
    classes: list[Any] = [0, 2] if family == "integer" else ["high", "low"]
    kinds: dict[str, Any] = (
        {"kind": "number", "edges": (2.0,)} if family == "integer" else {"kind": "value", "values": ("high", "low")}
    )
    bins: Any = {
        "features": (),
        "answers": (
            Bins(name="prediction", **kinds),
            Bins(name="scores[1]", kind="number", edges=(0.5,)),
            Bins(name="scores[2]", kind="number", edges=(0.5,)),
        ),
    }
    of = Counted(model="m", version=1, window=WindowRule(days=1), bins=bins)
    said = {"prediction": [classes[0], classes[1], classes[1]], "scores": [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]}
    part = Answered(of=of, asked_at=microseconds(MONDAY), rows=pa.table({"x": [1, 2, 3]}), answers=said)
    [row] = counts_of([part], flush_id=FLUSH)
    prediction = row["answers"][: bins["answers"][0].size]
    assert prediction == ([1, 2, 0] if family == "integer" else [1, 2, 0, 0])
    assert row["answers"][bins["answers"][0].size :] == [2, 1, 0, 1, 2, 0]
    assert row["window_end"] == dt.date(2026, 11, 24)


def test_the_statement_needs_no_parameters() -> None:
    rows = counts_of([answered(2, MONDAY)], flush_id=FLUSH, cost=(1e-7, 0.0))
    text = statement(rows)
    assert text.startswith(
        "INSERT INTO ponte.live_count (flush_id, model, version, window_start, window_end, row_count, "
    )
    assert "'2026-11-23', '2026-11-30', 2, '{" in text
    assert "%" not in text
    assert ":" not in text
    assert statement([]) == ""

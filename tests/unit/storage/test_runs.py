"""What names a run: its key is another one exactly when id, start date or number of clearings is."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponte.errors import PonteError
from ponte.storage.runs import Run, started_run

STARTED = dt.datetime(2024, 2, 12, 6, 0, 3, 40, tzinfo=dt.UTC)

#: As Airflow allows them, and what a key itself is made of.
ids = st.text("ab#@:+.0123T-", min_size=1, max_size=60) | st.sampled_from(
    ["backfill__2024-02-12T06:00:00+00:00", f"r@{STARTED.isoformat()}#0", "r#1"]
)
moments = st.integers(0, 10**15).map(lambda n: STARTED + dt.timedelta(microseconds=n))
facts = st.tuples(ids, moments, st.integers(0, 20))


def test_a_key_says_id_start_in_microseconds_and_clearings() -> None:
    run = started_run("manual__1", start_date=STARTED, clear_number=2)
    assert run == Run("manual__1", "manual__1@2024-02-12T06:00:03.000040+00:00#2")
    assert run.row() == {"run_id": "manual__1", "run_key": run.key}


@given(facts, facts)
def test_two_runs_have_one_key_exactly_when_all_three_are_the_same(
    one: tuple[str, dt.datetime, int], other: tuple[str, dt.datetime, int]
) -> None:
    keys = [started_run(id_, start_date=at, clear_number=n).key for id_, at, n in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


@pytest.mark.parametrize(
    "changed",
    [
        {"run_id": "s"},
        {"start_date": STARTED + dt.timedelta(microseconds=1)},
        {"clear_number": 1},
    ],
    ids=str,
)
def test_each_of_the_three_makes_another_key(changed: dict[str, object]) -> None:
    said: dict[str, object] = {"run_id": "r", "start_date": STARTED, "clear_number": 0}
    made = {**said, **changed}
    keys = {started_run(d.pop("run_id"), **d).key for d in (dict(said), dict(made))}  # type: ignore[arg-type]
    assert len(keys) == 2


def test_the_time_zone_in_which_the_moment_is_told_does_not_matter_nor_does_no_number() -> None:
    local = STARTED.astimezone(ZoneInfo("Asia/Kathmandu"))
    told = started_run("r", start_date=local, clear_number=None)
    assert told == started_run("r", start_date=STARTED, clear_number=0)


def test_a_run_without_a_start_date_is_refused() -> None:
    with pytest.raises(PonteError, match="the run has no start date") as caught:
        started_run("r", start_date=None, clear_number=0)
    assert "where: run r" in str(caught.value)
    assert "next: clear the task" in str(caught.value)

"""When DAGs run by themselves, and that a run which somebody asks for does its work at any time."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sample_model import VISITS_PER_WEEK, World, write_model

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.sdk import DAG
    from airflow.timetables.base import DagRunInfo

Read = Callable[..., dict[str, "DAG"]]
Run = Callable[..., tuple["DagRun", dict[str, str]]]

#: Over when the sample's data are; a run by hand is asked for long after it.
SCHEDULES = {
    "bounded": '[schedule]\nscore = "0 6 * * 1"\ntrain = "0 5 1 * *"\nstart = 2024-01-08\nend = 2024-02-26\n',
    "on demand": '[schedule]\nscore = "on demand"\ntrain = "on demand"\nstart = 2024-01-08\nend = 2024-02-26\n',
}

CRONS = ["0 6 * * 1", "0 0 * * 1", "0 5 1 * *", "0 5 1 */3 *", "30 4 * * *", "0 0 * * *", "15 */7 * * *", "0 0 29 2 *"]
DAYS = st.dates(dt.date(2019, 1, 1), dt.date(2027, 12, 31))
SPANS = st.integers(1, 400).map(dt.timedelta)
NOWS = st.datetimes(
    dt.datetime(2019, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds and adds the zone itself
    dt.datetime(2027, 12, 31),  # noqa: DTZ001
    timezones=st.just(dt.UTC),
)


def at(day: dt.date) -> dt.datetime:
    """Return 00:00 UTC of the day."""
    return dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)


def as_the_scheduler_knows(dag: DAG) -> Any:
    """Return the DAG as the scheduler and the web server read it from the metadata database."""
    from airflow.serialization.serialized_objects import DagSerialization

    return DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))


def bounded(cron: str, start: dt.date, end: dt.date | None) -> Any:
    """Return a DAG of ours, as the scheduler knows it."""
    from airflow.sdk import DAG

    from ponte.operators.timetable import BoundedCronTimetable

    return as_the_scheduler_knows(DAG("d", schedule=BoundedCronTimetable(cron, start=start, end=end), catchup=False))


def dated(cron: str, start: dt.date | None, end: dt.date | None) -> Any:
    """Return a DAG whose own dates bound it, as the scheduler knows it; without dates nothing does."""
    from airflow.sdk import DAG, CronDataIntervalTimetable

    dates = {"start_date": start and at(start), "end_date": end and at(end)}
    return as_the_scheduler_knows(
        DAG("d", schedule=CronDataIntervalTimetable(cron, timezone="UTC"), catchup=False, **dates)
    )


# ---------------------------------------------------------------- by itself


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(CRONS), DAYS, st.none() | SPANS, DAYS, SPANS)
def test_a_backfill_makes_the_runs_of_its_range_that_lie_in_the_schedule(
    cron: str, start: dt.date, length: dt.timedelta | None, first: dt.date, span: dt.timedelta
) -> None:
    end = start + length if length else None
    range_ = (at(first), at(first + span))
    ours = list(bounded(cron, start, end).iter_dagrun_infos_between(*range_))
    everything = list(dated(cron, None, None).iter_dagrun_infos_between(*range_))
    assert ours == [i for i in everything if at(start) <= i.logical_date and (not end or i.logical_date <= at(end))]


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(CRONS), DAYS, st.none() | SPANS, NOWS, st.none() | NOWS)
def test_the_next_run_by_schedule_is_that_of_a_dag_whose_dates_are_the_bounds(
    cron: str, start: dt.date, length: dt.timedelta | None, now: dt.datetime, last: dt.datetime | None
) -> None:
    """Without catching up; after a first run, and after a last one that was before, inside or after the schedule."""
    from airflow.sdk.timezone import coerce_datetime
    from airflow.timetables import interval

    end = start + length if length else None
    ours, theirs = bounded(cron, start, end), dated(cron, start, end)
    done: DagRunInfo | None = None
    if last:
        from airflow.timetables.base import DagRunInfo

        done = DagRunInfo.interval(*theirs.timetable.infer_manual_data_interval(run_after=coerce_datetime(last)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interval, "utcnow", lambda: coerce_datetime(now))
        found = ours.next_dagrun_info(last_automated_run_info=done)
        assert found == theirs.next_dagrun_info(last_automated_run_info=done)
    if found:
        assert at(start) <= found.logical_date
        assert not end or found.logical_date <= at(end)


def test_the_days_of_the_schedule_are_the_first_and_the_last_that_a_run_may_begin() -> None:
    start, end = dt.date(2024, 1, 8), dt.date(2024, 1, 29)
    long_before_and_after = at(dt.date(2023, 1, 1)), at(dt.date(2025, 1, 1))
    infos = bounded("0 0 * * 1", start, end).iter_dagrun_infos_between(*long_before_and_after)
    assert [info.logical_date for info in infos] == [at(start + dt.timedelta(days=7 * n)) for n in range(4)]


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(CRONS), DAYS, st.none() | SPANS, NOWS)
def test_the_interval_of_a_run_by_hand_knows_no_bounds(
    cron: str, start: dt.date, length: dt.timedelta | None, moment: dt.datetime
) -> None:
    from airflow.sdk.timezone import coerce_datetime

    ours = bounded(cron, start, start + length if length else None).timetable
    theirs = dated(cron, None, None).timetable
    run_after = coerce_datetime(moment)
    assert ours.infer_manual_data_interval(run_after=run_after) == theirs.infer_manual_data_interval(
        run_after=run_after
    )


@pytest.mark.parametrize("end", [None, dt.date(2024, 2, 26)])
def test_the_scheduler_reads_the_timetable_that_the_dag_file_wrote(end: dt.date | None) -> None:
    from ponte.operators.timetable import BoundedCronTimetable

    written = BoundedCronTimetable("0 6 * * 1", start=dt.date(2024, 1, 8), end=end)
    read = bounded("0 6 * * 1", dt.date(2024, 1, 8), end).timetable
    assert read == written
    assert hash(read) == hash(written)
    assert read != BoundedCronTimetable("0 6 * * 1", start=dt.date(2024, 1, 9), end=end)
    assert read != BoundedCronTimetable("0 6 * * 1", start=dt.date(2024, 1, 8), end=dt.date(2024, 2, 27))
    assert read != BoundedCronTimetable("0 6 * * 2", start=dt.date(2024, 1, 8), end=end)


def test_the_ui_shows_the_cron_expression_and_the_bounds(dags: Read, models_root: Path) -> None:
    write_model(models_root, checks=SCHEDULES["bounded"])
    timetable = as_the_scheduler_knows(dags()["visits__score"]).timetable
    assert timetable.summary == "0 6 * * 1"
    assert timetable.description == "At 06:00, only on Monday, from 2024-01-08 to 2024-02-26"


def test_a_cron_expression_that_is_none_is_refused_when_the_dag_is_made() -> None:
    from airflow.sdk import DAG
    from airflow.sdk.exceptions import AirflowTimetableInvalid

    from ponte.operators.timetable import BoundedCronTimetable

    with pytest.raises(AirflowTimetableInvalid):
        DAG("d", schedule=BoundedCronTimetable("when it rains", start=dt.date(2024, 1, 8), end=None)).validate()


# ---------------------------------------------------------------- by hand


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_dag_and_no_task_has_a_date_outside_which_airflow_would_do_nothing(
    dags: Read, models_root: Path, schedule: str
) -> None:
    """Of a run whose logical date lies outside Airflow makes no task, and the run is a success."""
    write_model(models_root, checks=SCHEDULES[schedule])
    (models_root / "broken").mkdir()
    read = {**dags(), **dags(by_hand=True)}
    assert {"visits__train", "visits__score", "broken__train", "ponte__promote"} <= read.keys()
    for dag in map(as_the_scheduler_knows, read.values()):
        assert {(task.start_date, task.end_date) for task in dag.tasks} == {(None, None)}, dag.dag_id
        assert (dag.start_date, dag.end_date, dag.catchup) == (None, None, False), dag.dag_id


#: What the form, REST, the command line and other DAGs may send: the form is filled in with now.
LOGICAL_DATES: dict[str, dt.datetime | None] = {
    "none": None,
    "before the schedule": dt.datetime(2019, 5, 14, 9, 30, tzinfo=dt.UTC),
    "inside the schedule": dt.datetime(2024, 2, 14, 9, 30, tzinfo=dt.UTC),
    "after the schedule, now": dt.datetime.now(dt.UTC),
}
BY_HAND = [*((date, "bounded") for date in LOGICAL_DATES), ("after the schedule, now", "on demand")]


@pytest.mark.parametrize(("date", "schedule"), BY_HAND, ids=str)
def test_a_train_run_by_hand_trains_whatever_its_logical_date(
    run_dag: Run, world: World, date: str, schedule: str
) -> None:
    world.with_model(checks=SCHEDULES[schedule])
    run, states = run_dag("visits__train", logical_date=LOGICAL_DATES[date], run_conf={"as_of": "2024-02-12"})
    assert str(run.state) == "success"
    assert states["freeze_windows"] == states["promote"] == "success"
    assert world.rows("SELECT version FROM ponte.champion") == [(1,)]


@pytest.mark.parametrize(("date", "schedule"), BY_HAND, ids=str)
def test_a_score_run_by_hand_scores_whatever_its_logical_date(
    run_dag: Run, trained: World, date: str, schedule: str
) -> None:
    trained.with_model(checks=SCHEDULES[schedule])
    run, states = run_dag("visits__score", logical_date=LOGICAL_DATES[date], run_conf={"window_start": "2024-02-12"})
    assert str(run.state) == "success"
    assert set(states.values()) == {"success"}
    assert trained.ask("SELECT count(*) FROM predictions.visits") == VISITS_PER_WEEK


@pytest.mark.parametrize("pipeline", ["train", "score"])
@pytest.mark.parametrize("date", [date for date in LOGICAL_DATES if not date.startswith("inside")])
def test_a_run_by_hand_that_finds_no_data_at_its_time_fails_and_says_so(
    run_dag: Run, trained: World, pipeline: str, date: str
) -> None:
    """The form just as it opens; the sample's data are of ten weeks of 2024."""
    trained.with_model(checks=SCHEDULES["bounded"])
    run, states = run_dag(f"visits__{pipeline}", logical_date=LOGICAL_DATES[date])
    assert str(run.state) == "failed"
    assert states[{"train": "freeze_windows", "score": "freeze_batch"}[pipeline]] == "failed"


def test_a_logical_date_that_is_still_to_come_is_refused(
    run_dag: Run, trained: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The interval of the run ends in the future, and its window with it; a score run claimed that window."""
    run, states = run_dag("visits__score", logical_date=dt.datetime(2096, 1, 4, tzinfo=dt.UTC))
    assert (str(run.state), states["freeze_batch"]) == ("failed", "failed")
    assert "nothing is known yet of that time" in capsys.readouterr().out
    assert trained.ask("SELECT count(*) FROM ponte.claim") == 0

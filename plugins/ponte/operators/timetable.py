"""When a DAG runs by itself: by a cron expression, from the first day of its schedule to the last."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from airflow.timetables.base import TimeRestriction, Timetable
from airflow.timetables.interval import CronDataIntervalTimetable

from ponte.model.windows import midnight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.timetables.base import DagRunInfo, DataInterval
    from pendulum import DateTime


class BoundedCronTimetable(Timetable):
    """Airflow's CronDataIntervalTimetable in UTC, for intervals that begin from `start` to `end`, both at 00:00.

    The bounds hold for what Airflow makes by itself, scheduled runs and backfills, and for nothing that a person asks
    for. `start_date` and `end_date` of a DAG would hold for that too: of a run by hand whose logical date lies outside
    Airflow runs no task, and calls it a success.

    end : None bounds nothing.

    Law: `deserialize(serialize(t)) == t`; Airflow's scheduler and web server know a DAG in this form only.
    """

    def __init__(self, cron: str, *, start: dt.date, end: dt.date | None) -> None:
        self.cron = cron
        self.start = start
        self.end = end
        self._intervals = CronDataIntervalTimetable(cron, timezone="UTC")
        self.description = f"{self._intervals.description}, from {start}{f' to {end}' if end else ''}"

    @property
    def summary(self) -> str:
        """Return what the list of DAGs shows."""
        return self._intervals.summary

    def validate(self) -> None:
        """Raise AirflowTimetableInvalid when the cron expression is none."""
        self._intervals.validate()

    def serialize(self) -> dict[str, Any]:
        """Return JSON that `deserialize` reads."""
        end = self.end.isoformat() if self.end else None
        return {"cron": self.cron, "start": self.start.isoformat(), "end": end}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> BoundedCronTimetable:
        """Return the timetable that `serialize` wrote."""
        end = dt.date.fromisoformat(data["end"]) if data["end"] else None
        return cls(data["cron"], start=dt.date.fromisoformat(data["start"]), end=end)

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """Return the next run that begins by itself, or None after the last.

        restriction : what the DAG (or a backfill, its range) asks for; the narrower bound holds.
        """
        from airflow.sdk.timezone import coerce_datetime

        first = coerce_datetime(midnight(self.start))
        earliest = max(first, restriction.earliest) if restriction.earliest else first
        latest = restriction.latest
        if self.end:
            last = coerce_datetime(midnight(self.end))
            latest = min(last, latest) if latest else last
        return self._intervals.next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval,
            restriction=TimeRestriction(earliest, latest, restriction.catchup),
        )

    def due_between(self, begin: dt.datetime, end: dt.datetime) -> Iterator[dt.datetime]:
        """Yield when the runs are due whose intervals begin at or after `begin`, up to `end`; both aware."""
        from airflow.sdk.timezone import coerce_datetime

        restriction = TimeRestriction(coerce_datetime(begin), None, catchup=True)
        last = None
        while found := self.next_dagrun_info(last_automated_data_interval=last, restriction=restriction):
            if found.run_after > end:
                return
            yield found.run_after
            last = found.data_interval

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        """Return the last whole interval before `run_after`, which may lie outside the schedule."""
        return self._intervals.infer_manual_data_interval(run_after=run_after)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoundedCronTimetable) and self.serialize() == other.serialize()

    def __hash__(self) -> int:
        return hash((self.cron, self.start, self.end))

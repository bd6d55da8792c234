"""What names a run: the id that people see, and the key by which a repetition finds the work of its run again."""

from __future__ import annotations

import datetime as dt
import getpass
from dataclasses import dataclass

from ponte.errors import PonteError


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the tables know it. Its id is shown and leads to Airflow; whatever looks for its work takes the key."""

    #: Airflow's id, as in its URLs. A run that is made again under the id of a deleted one has the same.
    id: str
    #: The same for all tasks and retries of a run; another one once it was cleared, or made again.
    key: str

    def row(self) -> dict[str, str]:
        """Return the columns of a table that is unique by run, and the parameters of a look-up."""
        return {"run_id": self.id, "run_key": self.key}


def started_run(run_id: str, *, start_date: dt.datetime | None, clear_number: int | None) -> Run:
    """Return the run that started at `start_date` (aware), after so many clearings (None: none).

    Its key is `<run id>@<start date, UTC, microseconds>#<clearings>`. Raises PonteError without a start date: whether
    this is a repetition cannot be told then.
    """
    if start_date is None:
        raise PonteError(
            "the run has no start date, so its earlier work cannot be told from that of another run under its id",
            where=f"run {run_id}",
            got="a run that somebody has queued again while its tasks ran",
            expected="a running one",
            fix="clear the task",
        )
    moment = start_date.astimezone(dt.UTC).isoformat(timespec="microseconds")
    return Run(run_id, f"{run_id}@{moment}#{clear_number or 0}")


def person() -> str:
    """Return the name of whoever works at this terminal; "unknown" where the system has none for it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "unknown"

"""Windows that people should see by now and do not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import sqlalchemy as sa

from ponte.notices.writing import add
from ponte.storage.database import Database

_FIRST = sa.text("SELECT min(at) FROM ponte.publication_event WHERE model = :model")
_NEWEST_BATCH = sa.text("""SELECT b.batch_id, b.status FROM ponte.batch b
    WHERE b.model = :model AND b.window_start = :window ORDER BY b.batch_id DESC LIMIT 1""")
_WAS_SEEN = sa.text("""SELECT EXISTS (
    SELECT FROM ponte.publication_event WHERE model = :model AND window_start = :window)""")


def note_late(
    db: Database, model: str, due: Mapping[dt.date, dt.datetime], *, hours: float, now: dt.datetime
) -> list[dt.date]:
    """Write a notice of each window that nobody has ever seen `hours` after it was due; return them, oldest first.

    due : first day of a window -> when the scheduled run for it was due. Only what was due after the model's first
    publication counts: until then nobody waits for anything.
    """
    late = []
    with db.begin() as connection:
        first = connection.execute(_FIRST, {"model": model}).scalar_one()
        for window, moment in sorted(due.items()):
            if first is None or moment <= first or moment + dt.timedelta(hours=hours) > now:
                continue
            values = {"model": model, "window": window}
            if connection.execute(_WAS_SEEN, values).scalar_one():
                continue
            batch_id, status = connection.execute(_NEWEST_BATCH, values).one_or_none() or (None, None)
            add(
                connection,
                "window_late",
                subject=f"{model} {window}",
                model=model,
                what=f"not published {hours:g} hours after its run was due; "
                + (f"its newest batch is {status}" if status else "no run has begun"),
                then=f"look at the runs of {model}__score; a run by hand with window_start {window} makes up for it",
                window_start=window,
                batch_id=batch_id,
                since=moment,
            )
            late.append(window)
    return late

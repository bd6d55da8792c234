"""Whom the guards of a batch wait for: the batches of earlier windows that others are still scoring.

Weeks that a backfill scores beside each other get the verdicts that they would get one after the other. Whoever waits
does so for earlier windows only, so nobody waits in a circle.
"""

from __future__ import annotations

import sqlalchemy as sa

from ponte.batches.lifecycle import Batch
from ponte.errors import PonteError, WindowsUnfinished
from ponte.guards.profiles import EARLIER
from ponte.model.spec import Guard
from ponte.storage.database import Database

# A window is among those compared with unless there are as many later ones that people see. A claim counts with the
# batch of its own epoch: older ones are fenced off, and a rollback that shows a kept batch has none.
_UNFINISHED = sa.text(f"""{EARLIER}
    SELECT b.batch_id, b.run_id, c.window_start, b.status
    FROM ponte.claim c JOIN ponte.batch b USING (model, window_start, epoch)
    WHERE c.model = :model AND c.window_start < :window AND b.status NOT IN ('rejected', 'failed')
    AND NOT EXISTS (SELECT FROM ponte.publication_event p WHERE p.batch_id = b.batch_id)
    AND (SELECT count(*) FROM earlier e WHERE e.window_start > c.window_start) < :count
    ORDER BY c.window_start""")

# The server's clock, and not that of one of many workers; it goes on while the task is rescheduled or tried again.
_WAIT = sa.text("""UPDATE ponte.batch SET waits_since = coalesce(waits_since, clock_timestamp())
    WHERE batch_id = :id RETURNING waits_since, waits_since <= clock_timestamp() - make_interval(mins => :minutes)""")


def require_earlier_finished(db: Database, batch: Batch, rules: Guard) -> None:
    """Raise WindowsUnfinished while a batch that this one would be compared with is neither published nor given up.

    That is one of an earlier window of the model, among the latest `rules.batches`, with the newest claim of the
    window. Windows that nobody has claimed are not waited for. After `rules.wait_minutes`, counted from the first call
    that found one, raises PonteError instead; with 0 it looks for none.
    """
    if not rules.wait_minutes:
        return
    values = {"model": batch.model, "window": batch.window_start, "count": rules.batches}
    with db.begin() as connection:
        unfinished = connection.execute(_UNFINISHED, values).all()
        if not unfinished:
            return
        since, over = connection.execute(_WAIT, {"id": batch.batch_id, "minutes": rules.wait_minutes}).one()
    names = "; ".join(
        f"window {b.window_start}: batch {b.batch_id} of run {b.run_id} is {b.status}" for b in unfinished
    )
    if not over:
        raise WindowsUnfinished("earlier windows are still being scored", where=batch.place, got=names)
    raise PonteError(
        f"earlier windows were not finished within [guard] wait_minutes = {rules.wait_minutes}; nothing was published",
        where=batch.place,
        got=f"{names}; waited for since {since:%Y-%m-%d %H:%M:%S} UTC",
        expected="each published, rejected or failed",
        fix=f"let those runs end, or trigger {batch.model}__score for a window whose run is gone; then clear guard",
    )

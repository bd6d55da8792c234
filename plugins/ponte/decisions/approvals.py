"""What people answered when they were asked. Answers are only appended."""

from __future__ import annotations

import datetime as dt
from typing import Literal

import sqlalchemy as sa

from ponte.storage.database import Database, insert_row
from ponte.storage.runs import Run

Decision = Literal["approved", "rejected", "timed out"]

_NUMBER = sa.text("""SELECT approval_id FROM ponte.approval
    WHERE verdict_id = :verdict_id AND run_key = :run_key AND answered_at = :answered_at""")


def record_approval(
    db: Database,
    verdict_id: int,
    decision: Decision,
    *,
    run: Run,
    actor: str,
    reason: str,
    answered_at: dt.datetime,
) -> int:
    """Append what was said to a verdict; return its number. The same answer, by its moment, is kept once.

    A run that was killed after an answer asks again; the new answer is a row of its own.
    """
    row = {
        "verdict_id": verdict_id,
        **run.row(),
        "decision": decision,
        "actor": actor,
        "reason": reason,
        "answered_at": answered_at,
    }
    with db.begin() as connection:
        insert_row(connection, "ponte.approval", row, unless="verdict_id, run_key, answered_at")
        return int(connection.execute(_NUMBER, row).scalar_one())

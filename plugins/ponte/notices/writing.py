"""A notice is a row, written in the transaction that it reports: what was rolled back was never told."""

from __future__ import annotations

import datetime as dt
import json
from typing import Literal

import sqlalchemy as sa

from ponte.storage.database import insert_row

Event = Literal[
    "batch_rejected",
    "guard_tripped",
    "version_refused",
    "question_waiting",
    "alarm_opened",
    "alarm_closed",
    "window_late",
    "live_astray",
]


def add(
    connection: sa.Connection,
    event: Event,
    *,
    subject: str,
    model: str,
    what: str,
    then: str,
    window_start: dt.date | None = None,
    batch_id: int | None = None,
    version: int | None = None,
    since: dt.datetime | dt.date | None = None,
) -> None:
    """Write a notice in the caller's transaction; of one event and subject there is one, however often it is tried.

    subject : "batch 12": what it is about, among all models.
    what, then : what has happened, and what can be done next. Everybody who is told reads them: no value of any row, no
    words of an estimator, of a source or of a check.
    since : since when it has been so; None: since now.
    """
    facts = {"what": what, "next": then, **({"since": since.isoformat()} if since else {})}
    row = {
        "event": event,
        "subject": subject,
        "model": model,
        "window_start": window_start,
        "batch_id": batch_id,
        "version": version,
        "facts": json.dumps(facts),
    }
    insert_row(connection, "ponte.notice", row, unless="event, subject")

"""Live rows through time: months are made ahead, those that nobody keeps are dropped, and rows of no month are told."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from ponte.live.tables import prepare
from ponte.notices.writing import add
from ponte.storage.database import DATA_SCHEMA, Database, quote, table_exists

_RETIRE = sa.text("SELECT ponte.retire_live(:model, :keep_days)")


def keep(db: Database, model: str, keep_days: int, *, now: dt.datetime) -> dict[str, int]:
    """Make the months of this and the next three, and drop those that are older than keep_days in whole.

    Does nothing for a model that has no live rows. What is in use is left to the next call. Rows that lie in no month
    even then (their clock was wrong) are told in a notice, once a month. Returns {months_dropped, astray}.
    Raises sqlalchemy's DBAPIError when the champion's rows would not fit the earlier ones.
    """
    default = f"live_{model}__default"
    with db.begin() as connection:
        if not table_exists(connection, DATA_SCHEMA, default):
            return {"months_dropped": 0, "astray": 0}
        dropped = connection.execute(_RETIRE, {"model": model, "keep_days": keep_days}).scalar_one()
    prepare(db, model)
    with db.begin() as connection:
        query = f"SELECT count(*), min(asked_at), max(asked_at) FROM ONLY {quote(DATA_SCHEMA, default)}"
        astray, first, last = connection.execute(sa.text(query)).one()
        if astray:
            where = f"{DATA_SCHEMA}.{default}"
            add(
                connection,
                "live_astray",
                subject=f"{model} {now:%Y-%m}",
                model=model,
                what=f"{astray} live rows, of {first.isoformat()} to {last.isoformat()}, lie in no month but in {where}"
                ": they slow down every new month, and are never dropped",
                then="was the clock of a machine that answers wrong? Move or delete them as the owner",
            )
    return {"months_dropped": dropped, "astray": astray}

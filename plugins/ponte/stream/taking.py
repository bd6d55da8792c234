"""Which model is next, the requests that are next in its queue, and what is left behind of takes that never ended.

A take is one transaction: its requests are deleted, and their answers written, or nothing has happened. So a worker
that dies loses nothing. But what it died of must not kill the next one, for ever: before it looks at what it took, a
worker notes the ids, in a transaction of its own, and the take that ends takes the note away. Requests with one note
left over are tried a few at a time, with two or three alone, and with DEATHS never again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

#: A request that was being worked on when so many workers died is not tried again.
DEATHS = 4
#: Requests tried together of which one, perhaps, has killed a worker.
FEW = 16
#: Younger notes are probably of takes that are at work.
_OLD = "1 minute"

# With the version that is champion at this moment, NULL for none.
_HEADS = sa.text("""SELECT m.model, h.rank IS NOT NULL AS waits, c.version,
        coalesce(ponte.is_bad(m.model, c.version), false) AS bad
    FROM unnest(CAST(:models AS text[])) AS m (model)
    LEFT JOIN LATERAL (
        SELECT r.rank, r.request_id FROM ponte.request r WHERE r.model = m.model ORDER BY r.rank, r.request_id LIMIT 1
    ) h ON true
    LEFT JOIN LATERAL (
        SELECT e.version FROM ponte.alias_event e
        WHERE e.model = m.model AND e.alias = 'champion' ORDER BY e.event_id DESC LIMIT 1
    ) c ON true
    ORDER BY h.rank, h.request_id""")

# Of those that nobody else holds: the first, and those behind it that have as many notes left over.
_TAKE = sa.text("""WITH next AS MATERIALIZED (
        SELECT r.ctid AS place, r.request_id, r.rank FROM ponte.request r
        WHERE r.model = :model ORDER BY r.rank, r.request_id LIMIT :most FOR UPDATE SKIP LOCKED
    ), noted AS MATERIALIZED (
        SELECT id AS request_id, count(*) AS deaths
        FROM ponte.stream_take t CROSS JOIN unnest(t.request_ids) AS id GROUP BY id
    ), seen AS MATERIALIZED (
        SELECT n.place, n.request_id, n.rank, coalesce(o.deaths, 0) AS deaths
        FROM next n LEFT JOIN noted o USING (request_id)
    ), taken AS MATERIALIZED (
        SELECT s.place, s.deaths FROM seen s
        WHERE s.deaths = (SELECT f.deaths FROM seen f ORDER BY f.rank, f.request_id LIMIT 1)
        ORDER BY s.rank, s.request_id
        LIMIT (SELECT CASE f.deaths WHEN 0 THEN :most WHEN 1 THEN least(:few, :most) ELSE 1 END
               FROM seen f ORDER BY f.rank, f.request_id LIMIT 1)
    )
    DELETE FROM ponte.request r USING taken t WHERE r.ctid = t.place
    RETURNING r.request_id::text, r.arrived_at, r.key::text, r.features::text, t.deaths""")

_NOTE = sa.text(
    "INSERT INTO ponte.stream_take (worker, request_ids) VALUES (:worker, CAST(:ids AS uuid[])) RETURNING take_id"
)

_ENDED = sa.text("DELETE FROM ponte.stream_take WHERE take_id = :take_id")

# What a take has deleted and not committed is still there for all others.
_SWEEP = sa.text(f"""DELETE FROM ponte.stream_take t WHERE t.at < clock_timestamp() - interval '{_OLD}'
    AND NOT EXISTS (SELECT FROM ponte.request r WHERE r.request_id = ANY (t.request_ids))""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A model, and what is first in its queue."""

    model: str
    #: Whether anything waits.
    waits: bool = field(compare=False)
    #: That is champion; None when there is none.
    version: int | None
    #: Whether the champion is marked bad.
    bad: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request that was taken."""

    request_id: str
    arrived_at: dt.datetime
    #: JSON of an object; None when no key was given.
    key: str | None
    #: JSON of an object.
    features: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """The requests of a take, in no order; at least one."""

    requests: Sequence[Request]
    #: How many workers have died while they had these; the same of all.
    deaths: int


def heads(connection: sa.Connection, models: Sequence[str]) -> list[Head]:
    """Return the models, that of the request of the least rank first, and last those for which nothing waits."""
    rows = connection.execute(_HEADS, {"models": list(models)})
    return [Head(model=row.model, waits=row.waits, version=row.version, bad=row.bad) for row in rows]


def take(connection: sa.Connection, model: str, most: int) -> Taken | None:
    """Delete the requests that are next, at most `most`, and return them; None when there is none that nobody holds.

    In the caller's transaction: until it commits they are there for everybody else, and locked.
    """
    rows = connection.execute(_TAKE, {"model": model, "most": most, "few": FEW}).all()
    if not rows:
        return None
    requests = [Request(request_id=r[0], arrived_at=r[1], key=r[2], features=r[3]) for r in rows]
    return Taken(requests=requests, deaths=rows[0].deaths)


def note(connection: sa.Connection, worker: str, ids: Sequence[str]) -> int:
    """Note that a worker begins with these requests; return the number of the note.

    connection : in autocommit, so that the note stays when the worker dies.
    """
    return int(connection.execute(_NOTE, {"worker": worker, "ids": list(ids)}).scalar_one())


def end_note(connection: sa.Connection, take_id: int) -> None:
    """Take a note away: in the transaction of the take, or when the take has failed and its worker has not."""
    connection.execute(_ENDED, {"take_id": take_id})


def sweep(connection: sa.Connection) -> None:
    """Take away the notes whose requests are all answered or set aside: those of workers that died."""
    connection.execute(_SWEEP)

"""From the requests of a take to rows of `live_<model>` and of `live_unscored`: each request becomes exactly one."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from ponte.live.counting import Answered, Counted
from ponte.live.records import Parsed, Reader
from ponte.live.tables import LiveTable, Unscored, copy_unscored
from ponte.scoring.answering import Answers, answer
from ponte.scoring.scorer import Scorer
from ponte.storage.database import is_transient
from ponte.storage.withholding import said_of
from ponte.stream.counts import RunningCounts
from ponte.stream.taking import DEATHS, Request
from ponte.versions.loading import LoadedVersion

log = logging.getLogger(__name__)

#: Ids in one message on the channel `ponte_answer`: a message has less than 8,000 bytes.
IDS_PER_MESSAGE = 200
#: SQLSTATE of what is wrong with a value, and not with the database.
_OF_VALUES = ("22", "23502", "23514")
#: Problems of a request that are told at most.
MOST_PROBLEMS = 10

_TELL = sa.text("SELECT pg_notify('ponte_answer', ids) FROM unnest(CAST(:messages AS text[])) AS ids")


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a request gets no answer."""

    #: Holds no value of the row.
    kind: str
    #: May hold values of the row.
    why: str
    #: Whether its features are kept, so that somebody can find out why.
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of requests."""

    answered: int
    failed: int


@dataclass(slots=True)
class _Found:
    """What is to be written of a take."""

    #: Line of COPY by the place of its request.
    lines: dict[int, str] = field(default_factory=dict)
    failed: dict[int, Failed] = field(default_factory=dict)
    #: Of the requests that could be read: their places, their rows, and what the version says of each.
    places: Sequence[int] = ()
    rows: Any = None
    answers: Answers | None = None


class Answering:
    """A loaded version that answers what is taken from the queue."""

    def __init__(self, loaded: LoadedVersion, counted: Counted) -> None:
        self.version = loaded.version
        self._scorer = Scorer(loaded)
        self._reader = Reader(loaded.signature)
        self._table = LiveTable.of(loaded.version)
        self._counted = counted
        self._counts = RunningCounts()

    def settle(
        self,
        connection: sa.Connection,
        requests: Sequence[Request],
        *,
        deaths: int,
        now: dt.datetime,
        log_features: bool = False,
    ) -> Counts:
        """Write the answer of each request, or why there is none, in the caller's transaction; tell who listens.

        deaths : how many workers have died while they had these. log_features : keep the features, too. Raises what the
        estimator raises about anything but rows: then the caller has to roll back.
        """
        if deaths >= DEATHS:
            why = f"{deaths} workers have died or given up while they had it, the last two with nothing else"
            found = _Found(failed=dict.fromkeys(range(len(requests)), Failed("ends its worker", why, keep=True)))
        else:
            found = self._found(requests, now, log_features)
            self._copy_those_that_fit(connection, list(found.lines.items()), found.failed)
            self._count_rows(connection, requests, found)
        copy_unscored(
            connection,
            [self._unscored(requests[place], why, log_features) for place, why in sorted(found.failed.items())],
        )
        ids = [r.request_id for r in requests]
        messages = [",".join(ids[i : i + IDS_PER_MESSAGE]) for i in range(0, len(ids), IDS_PER_MESSAGE)]
        connection.execute(_TELL, {"messages": messages})
        return Counts(len(ids) - len(found.failed), len(found.failed))

    def _found(self, requests: Sequence[Request], now: dt.datetime, log_features: bool) -> _Found:
        found = _Found()
        instances, keys = _decoded(requests, found.failed)
        parsed = self._reader.parse(instances, keys)
        for place in sorted(parsed.bad - found.failed.keys()):
            found.failed[place] = self._problem(parsed, place, instances, keys)
        found.places = places = [place for place in range(len(requests)) if place not in found.failed]
        if not places:
            return found
        found.rows = parsed.rows.take(places) if found.failed else parsed.rows
        found.answers = answer(self._scorer, found.rows)
        for place, unanswered in found.answers.unanswered.items():
            found.failed[places[place]] = Failed(unanswered.kind, unanswered.why)
        asked = [requests[place] for place in places]
        lines = self._table.lines({
            "request_id": [r.request_id for r in asked],
            "asked_at": [r.arrived_at for r in asked],
            "source": "queue",
            **{c.name: found.rows.column(c.name) for c in self.version.signature.key},
            **found.answers.columns,
            "scored_at": now,
            "model_version": self.version.version,
            "features": [r.features for r in asked] if log_features else None,
        })  # fmt: skip
        found.lines = {place: line for place, line in zip(places, lines, strict=True) if place not in found.failed}
        return found

    def _problem(self, parsed: Parsed, place: int, instances: list[Any], keys: list[Any]) -> Failed:
        told = [p for p in parsed.problems if p.instance == place]
        if not told:  # only so many are told of a request; that of one row is told
            told = list(self._reader.parse([instances[place]], [keys[place]]).problems)
        words = (
            f"{p.column or 'the features'} {p.what}" + f": got {p.got}" * bool(p.got) + f", expected {p.expected}"
            for p in told[:MOST_PROBLEMS]
        )
        return Failed("input", f"version {self.version.version} cannot read it: {'; '.join(words)}")

    def _unscored(self, request: Request, why: Failed, log_features: bool) -> Unscored:
        key: Any = request.key
        features: Any = request.features if why.keep or log_features else None
        return Unscored(
            request_id=request.request_id, model=self.version.model, source="queue", asked_at=request.arrived_at,
            why=why.why, kind=why.kind, key=key, model_version=self.version.version, features=features,
        )  # fmt: skip

    def _copy_those_that_fit(
        self, connection: sa.Connection, lines: Sequence[tuple[int, str]], failed: dict[int, Failed]
    ) -> None:
        """Write the lines; one that the table refuses, because of its values, goes into `failed`."""
        if not lines:
            return
        try:
            with connection.begin_nested():
                self._copy(connection, [line for _, line in lines])
        except sa.exc.DBAPIError as error:
            if not str(getattr(error.orig, "pgcode", None) or "").startswith(_OF_VALUES):
                raise
            if len(lines) == 1:
                failed[lines[0][0]] = Failed("refused by the table of answers", said_of(error))
                return
            half = len(lines) // 2
            self._copy_those_that_fit(connection, lines[:half], failed)
            self._copy_those_that_fit(connection, lines[half:], failed)

    def _copy(self, connection: sa.Connection, lines: Sequence[str]) -> None:
        errors: Any = connection.dialect.loaded_dbapi
        try:
            self._table.copy(connection, lines)
        except errors.Error as error:  # as SQLAlchemy raises what a statement of its own meets
            raise sa.exc.DBAPIError.instance("COPY", (), error, errors.Error, dialect=connection.dialect) from None

    def _count_rows(self, connection: sa.Connection, requests: Sequence[Request], found: _Found) -> None:
        """Count what was written, for the monitor; a fault of the counts costs the counts, and no answer."""
        if found.answers is None:
            return
        import numpy as np

        asked_at = [round(requests[place].arrived_at.timestamp() * 1e6) for place in found.places]
        said = dict(found.answers.columns)
        said["prediction"] = [
            None if place in found.failed else value
            for place, value in zip(found.places, said["prediction"], strict=True)
        ]
        answered = Answered(of=self._counted, asked_at=np.array(asked_at), rows=found.rows, answers=said)
        try:
            with connection.begin_nested():
                self._counts.add(connection, answered)
        except Exception as error:
            if is_transient(error):
                raise
            log.error("answers of %s were not counted: %s", self.version.model, said_of(error))


def _decoded(requests: Sequence[Request], failed: dict[int, Failed]) -> tuple[list[Any], list[Any]]:
    """Return features and keys of the requests; what Python cannot read is None, and said in `failed`."""
    try:
        instances = "[" + ",".join([r.features for r in requests]) + "]"
        keys = "[" + ",".join([r.key or "null" for r in requests]) + "]"
        return json.loads(instances), json.loads(keys)
    except (RecursionError, ValueError):  # too deep, or a number of too many digits
        pass
    decoded: tuple[list[Any], list[Any]] = ([], [])
    for place, request in enumerate(requests):
        for values, text in zip(decoded, (request.features, request.key or "null"), strict=True):
            try:
                values.append(json.loads(text))
            except (RecursionError, ValueError) as error:
                values.append(None)
                failed[place] = Failed("input", f"it cannot be read as JSON: {type(error).__name__}")
    return decoded

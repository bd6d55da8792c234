"""From the requests of a take to rows of `live_<model>` and of `live_unscored`: each request becomes exactly one."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import sqlalchemy as sa

from ponte.live.records import Parsed, Reader
from ponte.scoring.answering import answer
from ponte.scoring.scorer import Scorer
from ponte.storage.database import DATA_SCHEMA, quote
from ponte.storage.withholding import said_of
from ponte.stream.taking import DEATHS, Request, Taken
from ponte.versions.loading import LoadedVersion

log = logging.getLogger(__name__)

SOURCE = "queue"
#: Ids in one message on the channel `ponte_answer`: a message has less than 8,000 bytes.
IDS_PER_MESSAGE = 200
#: SQLSTATE of what is wrong with a value, and not with the database.
_OF_VALUES = ("22", "23502", "23514")

_TELL = sa.text("SELECT pg_notify('ponte_answer', ids) FROM unnest(CAST(:messages AS text[])) AS ids")

#: Problems of a request that are told at most.
MOST_PROBLEMS = 10

_UNSCORED = ("request_id", "model", "key", "source", "why", "kind", "model_version", "asked_at", "features")


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
class _Lines:
    """Answers on their way into a table: one line of COPY each, by the place of its request."""

    columns: list[str] = field(default_factory=list)
    lines: list[tuple[int, str]] = field(default_factory=list)


class Answering:
    """A loaded version that answers what is taken from the queue."""

    def __init__(self, loaded: LoadedVersion) -> None:
        self.version = loaded.version
        self._scorer = Scorer(loaded)
        self._reader = Reader(loaded.signature)

    def settle(
        self, connection: sa.Connection, taken: Taken, *, now: dt.datetime, log_features: bool = False
    ) -> Counts:
        """Write the answer of each request, or why there is none, in the caller's transaction; tell who listens.

        log_features : keep the features, too. Raises what the estimator raises about anything but rows: then the caller
        has to roll back.
        """
        failed: dict[int, Failed] = {}
        if taken.deaths >= DEATHS:
            why = f"{taken.deaths} workers have died or given up while they had it, the last of them with nothing else"
            failed = dict.fromkeys(range(len(taken.requests)), Failed("ends its worker", why, keep=True))
        else:
            found = self._answered(taken.requests, failed, now, log_features)
            table = quote(DATA_SCHEMA, f"live_{self.version.model}")
            _copy_those_that_fit(connection, table, found.columns, found.lines, failed)
        if failed:
            lines = [self._unscored(taken.requests[place], why, log_features) for place, why in sorted(failed.items())]
            _copy(connection, "ponte.live_unscored", _UNSCORED, lines)
        ids = [r.request_id for r in taken.requests]
        messages = [",".join(ids[i : i + IDS_PER_MESSAGE]) for i in range(0, len(ids), IDS_PER_MESSAGE)]
        connection.execute(_TELL, {"messages": messages})
        return Counts(len(ids) - len(failed), len(failed))

    def _answered(
        self, requests: Sequence[Request], failed: dict[int, Failed], now: dt.datetime, log_features: bool
    ) -> _Lines:
        """Return the answers that there are; the others go into `failed`."""
        import pyarrow as pa

        instances, keys = _decoded(requests, failed)
        parsed = self._reader.parse(instances, keys)
        for place in sorted(parsed.bad - failed.keys()):
            failed[place] = self._problem(parsed, place, instances, keys)
        places = [place for place in range(len(requests)) if place not in failed]
        if not places:
            return _Lines()
        rows = parsed.rows.take(pa.array(places, pa.int64())) if failed else parsed.rows
        answers = answer(self._scorer, rows)
        for place, unanswered in answers.unanswered.items():
            failed[places[place]] = Failed(unanswered.kind, unanswered.why)
        asked = [requests[place] for place in places]
        constant = {"source": SOURCE, "scored_at": now, "model_version": self.version.version}
        columns: dict[str, list[str]] = {
            "request_id": [r.request_id for r in asked],
            "asked_at": [r.arrived_at for r in asked],
            **{c.name: list(map(_text, rows.column(c.name).to_pylist())) for c in self.version.signature.key},
            **{name: list(map(_text, values)) for name, values in answers.columns.items()},
            **{name: [_text(value)] * len(asked) for name, value in constant.items()},
        }
        if log_features:
            columns["features"] = [_text(r.features) for r in asked]
        lines = zip(places, map("\t".join, zip(*columns.values(), strict=True)), strict=True)
        return _Lines(list(columns), [line for line in lines if line[0] not in failed])

    def _problem(self, parsed: Parsed, place: int, instances: list[Any], keys: list[Any]) -> Failed:
        told = [p for p in parsed.problems if p.instance == place]
        if not told:  # only so many are told of a request; that of one row is told
            told = list(self._reader.parse([instances[place]], [keys[place]]).problems)
        words = (
            f"{p.column or 'the features'} {p.what}" + f": got {p.got}" * bool(p.got) + f", expected {p.expected}"
            for p in told[:MOST_PROBLEMS]
        )
        return Failed("input", f"version {self.version.version} cannot read it: {'; '.join(words)}")

    def _unscored(self, request: Request, why: Failed, log_features: bool) -> str:
        kept = request.features if why.keep or log_features else None
        who = (request.request_id, self.version.model, request.key, SOURCE)
        values = (*who, why.why, why.kind, self.version.version, request.arrived_at, kept)
        return "\t".join(map(_text, values))


def _decoded(requests: Sequence[Request], failed: dict[int, Failed]) -> tuple[list[Any], list[Any]]:
    """Return features and keys of the requests; what Python cannot read is None, and said in `failed`."""
    try:
        instances, keys = ("[" + ",".join(values) + "]" for values in (
            [r.features for r in requests], [r.key or "null" for r in requests]))  # fmt: skip
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


def _copy_those_that_fit(
    connection: sa.Connection,
    table: str,
    columns: Sequence[str],
    lines: Sequence[tuple[int, str]],
    failed: dict[int, Failed],
) -> None:
    """Write the lines; one that the table refuses, because of its values, goes into `failed`."""
    if not lines:
        return
    try:
        with connection.begin_nested():
            _copy(connection, table, columns, [line for _, line in lines])
    except sa.exc.DBAPIError as error:
        if not str(getattr(error.orig, "pgcode", None) or "").startswith(_OF_VALUES):
            raise
        if len(lines) == 1:
            failed[lines[0][0]] = Failed("refused by the table of answers", said_of(error))
            return
        half = len(lines) // 2
        _copy_those_that_fit(connection, table, columns, lines[:half], failed)
        _copy_those_that_fit(connection, table, columns, lines[half:], failed)


def _copy(connection: sa.Connection, table: str, columns: Sequence[str], lines: Sequence[str]) -> None:
    statement = f"COPY {table} ({', '.join(map(quote, columns))}) FROM STDIN"
    driver: Any = connection.connection.driver_connection
    errors: Any = connection.dialect.loaded_dbapi
    try:
        with driver.cursor() as cursor:
            cursor.copy_expert(statement, StringIO("\n".join(lines) + "\n"))
    except errors.Error as error:  # as SQLAlchemy raises what a statement of its own meets
        raise sa.exc.DBAPIError.instance(statement, (), error, errors.Error, dialect=connection.dialect) from error


_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "?"})


def _text(value: Any) -> str:
    """Return a value as the text format of COPY has it."""
    if value is None:
        return "\\N"
    if type(value) is float:
        return repr(value)
    if isinstance(value, list):
        return "{" + ",".join(map(repr, value)) + "}"
    return str(value).encode(errors="replace").decode().translate(_ESCAPED)

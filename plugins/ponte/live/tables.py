"""The table of a model's live rows, and how rows come into it: as text for COPY, the cheapest way for all sides."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from ponte.storage.columns import Family
from ponte.storage.database import DATA_SCHEMA, Database, quote
from ponte.versions.registry import Version

Source = Literal["api", "form", "queue", "offline"]

_PREPARE = sa.text("SELECT ponte.prepare_live(:model)")
_NULL = "\\N"
_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def prepare(db: Database, model: str) -> None:
    """Make the table and the view of the model unless they are there, and its months.

    Raises sqlalchemy's DBAPIError with the words of the database when the champion has another key or label than the
    earlier rows, or when there is no champion.
    """
    with db.begin() as connection:
        connection.execute(_PREPARE, {"model": model})


def request_ids(count: int, asked_at: dt.datetime) -> list[str]:
    """Return new numbers of requests: UUIDs of version 7, which lead to the time, so that they can be found again.

    asked_at : aware; what is kept of it has to be whole milliseconds, as the numbers hold no more.
    """
    time = (asked_at - _EPOCH) // dt.timedelta(milliseconds=1) << 80
    noise = os.urandom(10 * count)
    return [
        str(
            uuid.UUID(
                int=time | int.from_bytes(noise[at : at + 10]) & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
            )
        )
        for at in range(0, 10 * count, 10)
    ]


@dataclass(frozen=True)
class LiveTable:
    """`ponte_data.live_<model>`, as the versions of a model fill it."""

    model: str
    #: Column → family of its values; "scores" and "json" are no families of the signature.
    columns: Mapping[str, Family | Literal["scores", "json", "uuid"]]
    _writers: tuple[tuple[str, Callable[[Any], str]], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_writers", tuple((name, _WRITERS[kind]) for name, kind in self.columns.items()))

    @classmethod
    def of(cls, version: Version) -> LiveTable:
        """Return the table of the version's model."""
        scores: dict[str, dict[str, Any]] = {
            "binary": {"score": "number"},
            "multiclass": {"scores": "scores"},
            "regression": {"low": "number", "high": "number"},
        }
        columns: dict[str, Any] = {
            "request_id": "uuid",
            "asked_at": "timestamp",
            "source": "text",
            **{c.name: c.family for c in version.signature.key},
            "prediction": "number" if version.task == "regression" else version.signature.label,
            **scores[version.task],
            "scored_at": "timestamp",
            "model_version": "integer",
            "features": "json",
        }
        return cls(version.model, columns)

    def lines(self, columns: Mapping[str, Any]) -> list[str]:
        """Return the rows as lines for `copy`.

        columns : column → a list with a value per row (as Arrow's `to_pylist` gives them), or one value for all; what
        is not there is NULL. `request_id` is a list; `features` is JSON text, or what can be made JSON.
        """
        count = len(columns["request_id"])
        parts: list[Any] = []
        for name, write in self._writers:
            given = columns.get(name)
            if isinstance(given, list):
                of_numbers = write is repr and set(map(type, given)) == {float}
                parts.append(_numbers(given) if of_numbers else _each(given, write))
            else:
                parts.append(repeat(_NULL if given is None else write(given), count))
        return ["\t".join(row) + "\n" for row in zip(*parts, strict=False)]

    def copy(self, connection: sa.Connection, lines: Sequence[str]) -> None:
        """Write the lines in the caller's transaction."""
        copy(connection, quote(DATA_SCHEMA, f"live_{self.model}"), list(self.columns), lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unscored:
    """A request that got no prediction, for `ponte.live_unscored`."""

    request_id: str
    model: str
    source: Source
    asked_at: dt.datetime
    why: str
    #: Class of the error.
    kind: str
    key: Mapping[str, Any] | None = None
    model_version: int | None = None
    features: Mapping[str, Any] | None = None


_UNSCORED: dict[str, str] = {
    "request_id": "uuid", "model": "text", "key": "json", "source": "text", "why": "text", "kind": "text",
    "model_version": "integer", "asked_at": "timestamp", "features": "json",
}  # fmt: skip


def copy_unscored(connection: sa.Connection, rows: Sequence[Unscored]) -> None:
    """Write the requests in the caller's transaction."""
    lines = []
    for row in rows:
        values = ((getattr(row, name), _WRITERS[kind]) for name, kind in _UNSCORED.items())
        lines.append("\t".join(_NULL if value is None else write(value) for value, write in values) + "\n")
    copy(connection, "ponte.live_unscored", list(_UNSCORED), lines)


def copy(connection: sa.Connection, table: str, columns: Sequence[str], lines: Sequence[str]) -> None:
    """Write lines of COPY's text format into a table, whose name is quoted, in the caller's transaction."""
    if not lines:
        return
    driver: Any = connection.connection.driver_connection
    names = ", ".join(quote(name) for name in columns)
    with driver.cursor() as cursor:
        cursor.copy_expert(f"COPY {table} ({names}) FROM STDIN", io.BytesIO("".join(lines).encode()), 65_536)


def _each(values: list[Any], write: Callable[[Any], str]) -> list[str]:
    return [_NULL if value is None else write(value) for value in values]


def _numbers(values: list[float]) -> list[str]:
    """Return the shortest texts that are read as the same numbers; `repr` takes ten times as long for the same."""
    written = msgspec.json.encode(values).decode()
    return list(map(repr, values)) if "null" in written else written[1:-1].split(",")  # NaN and infinity are null


def _text(value: str) -> str:
    return value.translate(_ESCAPES)


def _moment(value: dt.datetime | dt.date) -> str:
    return value.isoformat()


def _json(value: Any) -> str:
    if not isinstance(value, str):
        # jsonb has no character NUL; a date of a key is text in there.
        value = json.dumps(value, default=str, ensure_ascii=False)
    return _text(value)


#: Kind of a column → the text that COPY reads as the value.
_WRITERS: dict[str, Callable[[Any], str]] = {
    "integer": str,
    "number": repr,
    "boolean": str,
    "text": _text,
    "date": _moment,
    "timestamp": _moment,
    "uuid": str,
    "scores": lambda values: "{" + ",".join(map(repr, values)) + "}",
    "json": _json,
}

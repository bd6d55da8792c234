"""What is said of a file, left among the live rows too: all of it, or nothing."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ponte.live.counting import Answered, Counter, counted
from ponte.live.tables import LiveTable, prepare, request_ids
from ponte.model.spec import WindowRule
from ponte.storage.database import Database
from ponte.versions.registry import Version

if TYPE_CHECKING:
    import pyarrow as pa

#: Takes predictions, as the scorer returns them, and the rows that they are of.
Keep = Callable[["pa.RecordBatch", "pa.Table"], object]


@contextmanager
def kept(db: Database, version: Version, window: WindowRule, *, now: dt.datetime) -> Iterator[Keep]:
    """Yield what writes predictions to the live table of the version's model, as asked for now, and counts them.

    All of them are there when the context ends, none when it ends by an error or the process does before.
    db : as the scorer. Raises sqlalchemy's DBAPIError when the rows would not fit those that the model has.
    """
    prepare(db, version.model)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # by the time in its number an answer is found again
    table = LiveTable.of(version)
    with db.begin() as connection:
        of = counted(connection, version.model, version.version, window)
        count = Counter()

        def write(predictions: pa.RecordBatch, rows: pa.Table) -> None:
            given = {name: predictions.column(name).to_pylist() for name in predictions.schema.names}
            columns = {name: values for name, values in given.items() if name in table.columns}
            always = {"source": "offline", "asked_at": now, "scored_at": now, "model_version": version.version}
            ids = request_ids(predictions.num_rows, now)
            table.copy(connection, table.lines({**columns, **always, "request_id": ids}))
            asked_at = int(now.timestamp()) * 1_000_000
            count(connection, uuid.uuid4(), [Answered(of=of, asked_at=asked_at, rows=rows, answers=given)])

        yield write

"""A few labelled rows of two windows, read as a training reads them, and what the windows hold; nothing is written."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ponte.model.folders import ModelFolder
from ponte.model.inspection import FolderColumns
from ponte.model.queries import AuthorQuery, prefixed
from ponte.model.windows import Window, matured_windows, midnight, window_of_tick, window_starting
from ponte.storage.columns import Column, Family, select_list
from ponte.storage.database import Database, quote
from ponte.training.sufficiency import BEFORE, ENOUGH_LABELS

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows of one window that are tried, at most.
ROWS = 1_000
#: A label of this share of the rows, or more, of what is usual counts as all of them.
ALL_BUT_FEW = 0.9
_FIRST_DAY = dt.date(1970, 1, 5)
_LABELS = "labels_"
#: What makes a query one of a window.
OF_WINDOW = re.compile(r":window_(start|end)\b")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The two queries of a model folder, asked for a few of their rows."""

    db: Database
    folder: ModelFolder
    columns: FolderColumns
    now: dt.datetime

    @cached_property
    def limit(self) -> dt.datetime:
        """The moment until which windows may have ended: now, or the end of the schedule if that is past."""
        end = self.folder.spec.schedule.end
        return self.now if end is None else min(self.now, midnight(end + dt.timedelta(days=1)))

    def window(self, number: int) -> Window:
        """Return a window by its distance from the latest one that has ended, -1 the latest."""
        return self._shifted(matured_windows(self.folder.spec.window, as_of=self.limit, count=1)[0], number + 1)

    @cached_property
    def first_number(self) -> int:
        """The number of the earliest window that is looked at."""
        first = window_of_tick(self.folder.spec.window, midnight(_FIRST_DAY))
        return (first.start - self.window(-1).start).days // self.folder.spec.window.days

    @cached_property
    def latest(self) -> int | None:
        """The number of the latest window with a label; None when there is none."""
        return self.before(0)

    @cached_property
    def previous(self) -> int | None:
        """The number of the latest window with a label before that; None when there is none."""
        return None if self.latest is None else self.before(self.latest)

    @cached_property
    def earliest(self) -> int:
        """The number of the earliest window with a label among those that a training as of now would take."""
        assert self.latest is not None
        low = max(self.latest - self.folder.spec.training.windows + 1, self.first_number)
        if self.labels(low, low):
            return low
        return _first(low + 1, self.latest, lambda n: self.labels(low + 1, n) > 0)

    def before(self, number: int) -> int | None:
        """Return the number of the latest window with a label before one; None when there is none.

        Looks at the window before, then at twice as many windows each time: a source that is alive is asked for one
        window, one that has ended years ago some twenty times.
        """
        last, count = number - 1, 1
        while last >= self.first_number:
            first = max(last - count + 1, self.first_number)
            if self.labels(first, last):
                return self._latest_of(first, last)
            last, count = first - 1, 2 * count
        return None

    def _latest_of(self, first: int, last: int) -> int:
        return _first(first, last, lambda n: not self.labels(n + 1, last))

    def labels(self, first: int, last: int) -> int:
        """Return the number of labels in these windows, as known now."""
        if first > last:
            return 0
        parameters = {"window_start": self.window(first).start, "window_end": self.window(last).end, "as_of": self.now}
        file, where = "labels.sql", "WHERE label IS NOT NULL"
        if not OF_WINDOW.search(self.folder.text(file)):
            file, where = "features.sql", ""  # then it is these that say which rows a window has
        text = AuthorQuery(file, self.folder.text(file)).sql()
        statement = f"SELECT count(*) FROM (\n{text}\n) AS counted {where}"
        with self.db.read_only() as connection:
            return int(connection.exec_driver_sql(statement, parameters).scalar_one())

    def known(self, number: int, as_of: dt.datetime) -> tuple[int, int, float]:
        """Return how many rows features.sql has in a window, how many had a label by `as_of`, and how late most were.

        The last is the days after the end of the window within which 99 % of the labels were known, 0 without
        `labelled_at`.
        """
        window = self.window(number)
        in_time = "AND (l.labelled_at <= %(labels_as_of)s) IS NOT FALSE" if self.columns.has_labelled_at else ""
        late = (
            "coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM l.labelled_at - "
            "CAST(%(window_end)s AS date)::timestamptz)) / 86400, 0)"
            if self.columns.has_labelled_at
            else "0"
        )
        statement = (
            f"{self._both} SELECT (SELECT count(*) FROM ponte_features), "
            f"count(*) FILTER (WHERE l.label IS NOT NULL {in_time}), {late} "
            f"FROM ponte_features f JOIN ponte_labels l USING ({self._keys})"
        )
        with self.db.read_only() as connection:
            rows, labelled, days = connection.exec_driver_sql(statement, self._parameters(window, as_of)).one()
        return rows, labelled, max(float(days), 0.0)

    def sample(self, number: int) -> pa.Table:
        """Return at most ROWS labelled rows of a window, as many of each label as there are, in an order by chance.

        Columns: window_start, key, features, label. The same rows every time.
        """
        window, columns = self.window(number), self._read
        by_label = self.folder.spec.task != "regression"
        hashed = f"md5(concat_ws('|', {', '.join(f'f.{quote(c.name)}' for c in self.columns.key)}))"
        order = f"row_number() OVER (PARTITION BY l.label ORDER BY {hashed}), {hashed}" if by_label else hashed
        statement = (
            f"{self._both}, chosen AS (SELECT f.*, l.label FROM ponte_features f "
            f"JOIN ponte_labels l USING ({self._keys}) WHERE {self._usable} ORDER BY {order} LIMIT {ROWS}) "
            f"SELECT {select_list(columns)} FROM chosen"
        )
        with self.db.read_only() as connection:
            rows = connection.exec_driver_sql(statement, self._parameters(window, self.now)).all()
        return _table(window, columns, rows)

    def distinct(self, first: int, last: int, names: list[str]) -> dict[str, int]:
        """Return the number of different values of columns of features.sql in two windows together."""
        text = AuthorQuery("features.sql", self.folder.text("features.sql"))
        counts = ", ".join(f"count(DISTINCT {quote(name)})" for name in names)
        parts = " UNION ALL ".join(
            f"SELECT {', '.join(map(quote, names))} FROM (\n{text.sql(prefix)}\n) AS {prefix}rows"
            for prefix in ("a_", "b_")
        )
        parameters = {
            **prefixed(self.window(first).parameters(), "a_"),
            **prefixed(self.window(last).parameters(), "b_"),
        }
        with self.db.read_only() as connection:
            found = connection.exec_driver_sql(f"SELECT {counts} FROM ({parts}) AS rows_of_both", parameters).one()
        return dict(zip(names, found, strict=True))

    def set_aside(self, number: int) -> tuple[int, int]:
        """Return how many labels of a window are no finite number, so a training sets them aside, and of how many."""
        statement = (
            f"{self._both} SELECT count(*) FILTER (WHERE NOT ({self._usable})), count(*) FROM ponte_features f "
            f"JOIN ponte_labels l USING ({self._keys}) WHERE l.label IS NOT NULL"
        )
        with self.db.read_only() as connection:
            found, labels = connection.exec_driver_sql(statement, self._parameters(self.window(number), self.now)).one()
        return found, labels

    @property
    def _usable(self) -> str:
        if self.folder.spec.task != "regression":
            return "l.label IS NOT NULL"
        number = "CAST(l.label AS float8)"
        return f"{number} > '-Infinity' AND {number} < 'Infinity'"

    @property
    def _both(self) -> str:
        features = AuthorQuery("features.sql", self.folder.text("features.sql")).sql()
        labels = AuthorQuery("labels.sql", self.folder.text("labels.sql")).sql(_LABELS)
        return f"WITH ponte_features AS MATERIALIZED (\n{features}\n), ponte_labels AS MATERIALIZED (\n{labels}\n)"

    @property
    def _keys(self) -> str:
        return ", ".join(quote(c.name) for c in self.columns.key)

    @property
    def _read(self) -> list[Column]:
        family: Family = "number" if self.folder.spec.task == "regression" else self.columns.label
        return [*self.columns.key, *self.columns.features, Column(name="label", family=family)]

    def _parameters(self, window: Window, as_of: dt.datetime) -> dict[str, Any]:
        return {**window.parameters(), **prefixed({**window.parameters(), "as_of": as_of}, _LABELS)}

    def _shifted(self, window: Window, by: int) -> Window:
        rule = self.folder.spec.window
        return window_starting(rule, window.start + dt.timedelta(days=by * rule.days))


def days_to_wait(reading: Reading, last: int, as_of: dt.datetime) -> tuple[float, float, int] | None:
    """Return the share of labelled rows in the last window and usually, and the days labels take; None if all is well.

    last : the number of the last window that has ended `label_delay_days` before `as_of`. What is usual, the share
    in an earlier window, tells labels that come late from labels that never come.
    """
    rows, labelled, _ = reading.known(last, as_of)
    usual_rows, usual_labelled, late = reading.known(max(last - BEFORE, reading.earliest), as_of)
    if not rows or not usual_rows or not usual_labelled:
        return None
    share, usual = labelled / rows, usual_labelled / usual_rows
    if share >= ENOUGH_LABELS * usual:
        return None
    length = reading.folder.spec.window.days
    if late:
        return share, usual, math.ceil(late)
    back = 1
    while back < BEFORE:
        rows, labelled, _ = reading.known(last - back, as_of)
        if rows and labelled / rows >= ALL_BUT_FEW * usual:
            break
        back += 1
    return share, usual, back * length + reading.folder.spec.training.label_delay_days


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the first number of a range for which something holds that, once it does, holds for all that follow."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _table(window: Window, columns: list[Column], rows: Any) -> pa.Table:
    import pyarrow as pa

    types: dict[Family, Any] = {
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "text": pa.string(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
    arrays = [pa.array([row[place] for row in rows], types[c.family]) for place, c in enumerate(columns)]
    starts = pa.array([window.start] * len(rows), pa.date32())
    return pa.Table.from_arrays([starts, *arrays], names=["window_start", *(c.name for c in columns)])

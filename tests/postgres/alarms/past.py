"""A past for tests of monitoring: published windows with figures, without rows behind them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from tests.sample_model import World

#: First window of a past, long before the shop's visits.
FIRST = dt.date(2020, 1, 6)
#: ROC AUC of quiet weeks, as they vary.
USUAL = (0.80, 0.81, 0.79, 0.805, 0.80, 0.785, 0.815, 0.795, 0.80, 0.81)
WEEK = dt.timedelta(days=7)
ONE = ("features",)

_BATCH = """INSERT INTO ponte.batch
        (model, window_start, window_end, as_of, run_id, run_key, epoch, version, status, row_count, created_at)
    VALUES ('visits', :window, CAST(:window AS date) + 7, :window, :run, :run, 1, :version, 'staged', 350, :at)"""
_EVENT = """INSERT INTO ponte.publication_event (model, window_start, batch_id, row_count, actor, reason, at)
    SELECT model, window_start, batch_id, row_count, 'test', 'test', created_at FROM ponte.batch WHERE run_key = :run"""
_REALISED = """INSERT INTO ponte.realised (batch_id, model, window_start, version, maturity_days, metric, value, low,
        high, labelled_rows, feedback_rows, row_count, final, labels_from, label_digest, as_of)
    SELECT batch_id, model, window_start, version, :maturity, 'roc_auc', :value, :value - 0.02, :value + 0.02,
           :rows, 0, 350, true, 'version', 0, :known
    FROM ponte.batch WHERE run_key = :run"""
_DRIFT = """INSERT INTO ponte.drift_verdict (batch_id, family, state, beyond, strong, row_count, column_count, windows,
        published_windows, effective_windows, statistic, "limit", p, detectable)
    SELECT batch_id, CAST(:family AS text), :state, :beyond, false, 350, 6, :windows,
           0, :windows, :statistic, 3, 0.02, 0.1
    FROM ponte.batch WHERE run_key = :run"""


def quiet(count: int) -> list[float]:
    """Return figures of weeks in which nothing happens."""
    return [USUAL[place % len(USUAL)] for place in range(count)]


@dataclass
class Past:
    """Weeks from FIRST on, one after the other."""

    world: World
    count: int = 0

    def day(self, place: int) -> dt.date:
        """Return the first day of the week number `place`, from 0."""
        return FIRST + place * WEEK

    def publish(self, *, version: int = 1, at: dt.datetime | None = None) -> dt.date:
        """Add a published week, scored at `at`, by default on its first day."""
        with self.world.db.begin() as connection:
            return self._publish(connection, version=version, at=at)

    def measure(self, window: dt.date, value: float, *, maturity: int = 7, rows: int = 300) -> None:
        """Add what it turned out to be worth."""
        with self.world.db.begin() as connection:
            _measure(connection, window, value, maturity=maturity, rows=rows)

    def live(self, values: Sequence[float], *, version: int = 1, at: dt.datetime | None = None) -> list[dt.date]:
        """Add weeks with their figures."""
        with self.world.db.begin() as connection:
            windows = [self._publish(connection, version=version, at=at) for _ in values]
            for window, value in zip(windows, values, strict=True):
                _measure(connection, window, value)
        return windows

    def drift(self, beyond: str, *, version: int = 1, families: Sequence[str] = ONE, windows: int = 30) -> None:
        """Add weeks with verdicts on drift: `x` is beyond the limit, `.` quiet."""
        with self.world.db.begin() as connection:
            for sign in beyond:
                window = self._publish(connection, version=version)
                for family in ("features", "answers"):
                    found = sign == "x" and family in families
                    state = "provisional" if windows < 20 else "notice" if found else "quiet"
                    values = {"family": family, "state": state, "beyond": found, "statistic": 5 if found else 1}
                    connection.execute(sa.text(_DRIFT), {**values, "run": f"week {window}", "windows": windows})

    def _publish(self, connection: sa.Connection, *, version: int, at: dt.datetime | None = None) -> dt.date:
        window = self.day(self.count)
        at = at or dt.datetime.combine(window, dt.time(6), dt.UTC)
        for statement in (_BATCH, _EVENT):
            values = {"window": window, "run": f"week {window}", "version": version, "at": at}
            connection.execute(sa.text(statement), values)
        self.count += 1
        return window


def _measure(connection: sa.Connection, window: dt.date, value: float, *, maturity: int = 7, rows: int = 300) -> None:
    known = dt.datetime.combine(window, dt.time(), dt.UTC) + WEEK + dt.timedelta(days=maturity)
    values = {"maturity": maturity, "value": value, "rows": rows, "known": known}
    connection.execute(sa.text(_REALISED), {"run": f"week {window}", **values})

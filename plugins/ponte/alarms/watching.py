"""What the figures of a model mean for its alarms: opened, extended, closed; the same however often it is asked.

Figures of quality are taken in the order in which they became final, as if somebody had looked every day. A month
without a look, and a backfill, so lead to the same alarms.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from statistics import NormalDist, median
from typing import Any

import sqlalchemy as sa

from ponte.alarms import events
from ponte.alarms.events import Cause
from ponte.alarms.rules import QUIET, REFERENCE, Figure, Look, follow
from ponte.guards.rules import FEW_ROWS
from ponte.model.folders import ModelFolder
from ponte.model.spec import METRICS, ModelSpec
from ponte.storage.database import Database
from ponte.storage.runs import Run

#: Below this share of the coverage that is usual at its maturity a figure is not compared: its labels are still coming.
COVERAGE = 0.8

# What people see of a window, or saw last; a batch scored with hindsight is better than it would have been.
_CELLS = sa.text("""WITH seen AS (
        SELECT DISTINCT ON (window_start) batch_id FROM ponte.publication_event
        WHERE model = :model ORDER BY window_start, event_id DESC
    )
    SELECT q.window_start, q.window_end, q.batch_id, q.version, q.maturity_days, q.value, q.low, q.high,
           q.labelled_rows, q.coverage, b.created_at AS scored_at
    FROM seen JOIN ponte.quality q USING (batch_id) JOIN ponte.batch b USING (batch_id)
    WHERE q.metric = :metric AND q.slice_column = '' AND q.maturity_days = ANY(:maturities)
    AND q.final AND q.value IS NOT NULL AND q.labelled_rows >= :rows AND NOT b.hindsight
    AND q.window_start >= coalesce((SELECT window_start FROM ponte.normal_event
                                    WHERE model = :model ORDER BY event_id DESC LIMIT 1), '-infinity')
    ORDER BY q.window_start""")

_DRIFT = sa.text("""SELECT window_start, batch_id, version, family, state, episode_start, episode_windows, columns,
        statistic, "limit", p
    FROM ponte.drift WHERE model = :model ORDER BY window_start, family""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A final figure of the batch that people see of a window, at one maturity."""

    window_start: dt.date
    window_end: dt.date
    batch_id: int
    version: int
    maturity_days: int
    value: float
    low: float | None
    high: float | None
    labelled_rows: int
    coverage: float
    scored_at: dt.datetime

    @property
    def place(self) -> tuple[dt.date, int]:
        """Its place in the order in which figures become final."""
        return self.window_end + dt.timedelta(days=self.maturity_days), self.maturity_days


@dataclass(kw_only=True, slots=True)
class Changes:
    """Numbers of the alarms that a look has opened, extended by windows, and closed."""

    opened: list[int] = field(default_factory=list)
    extended: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)


def watch(db: Database, folder: ModelFolder, *, run: Run) -> Changes:
    """Hold the figures of a model against its rules, in one transaction; return what became of its alarms.

    A second look at the same figures changes nothing, nor do two at once.
    """
    done = Changes()
    with db.begin() as connection:
        events.lock(connection)
        _Quality(connection, folder, run, done).watch()
        _Drift(connection, folder, run, done).watch()
    return done


class _Watch:
    """One kind of alarm of one model, in one transaction."""

    kind: events.Kind

    def __init__(self, connection: sa.Connection, folder: ModelFolder, run: Run, done: Changes) -> None:
        self.connection, self.folder, self.run, self.done = connection, folder, run, done
        self.alarm = events.open_alarm(connection, folder.name, self.kind)
        self.alarm_id: int | None = self.alarm["alarm_id"] if self.alarm else None
        self.causes = events.causes(connection, folder.name, self.kind)

    def of_open(self) -> list[sa.RowMapping]:
        """Return what has opened and extended the alarm that is open."""
        return [row for row in self.causes if row["alarm_id"] == self.alarm_id]

    def open_or_extend(self, cause: Cause) -> None:
        if self.alarm_id is None:
            self.alarm_id = events.open_one(self.connection, cause, run=self.run)
            self.done.opened.append(self.alarm_id)
        else:
            events.extend(self.connection, self.alarm_id, cause, run=self.run)
            self.done.extended.append(self.alarm_id)

    def close(self, window: dt.date, reason: str) -> None:
        assert self.alarm_id is not None
        events.close(
            self.connection,
            self.alarm_id,
            self.folder.name,
            self.kind,
            actor=self.run.id,
            reason=reason,
            run=self.run,
            last_window=window,
        )
        self.done.closed.append(self.alarm_id)
        self.alarm_id = None


class _Quality(_Watch):
    kind = "quality"

    def watch(self) -> None:
        ended = events.closings(self.connection, self.folder.name, self.kind)
        self.by_person = [at for at, window in ended if window is None]
        self.through = max((window for _, window in ended if window), default=None)
        steps = _steps(_cells(self.connection, self.folder), self.folder.spec, anew_after=self.by_person)
        self.told = {(row["window_start"], row["maturity_days"]) for row in self.of_open()}
        self.lasting: dict[int, bool] = {}
        days = dt.timedelta(days=self.folder.spec.window.days)
        for cell, look in steps:
            self.lasting[cell.maturity_days] = look.lasts
            if self.alarm and self.alarm_id == self.alarm["alarm_id"]:
                maturity = self.alarm["maturity_days"]
                begin = self.alarm["window_start"] + days + dt.timedelta(days=maturity)
                if cell.place < (begin, maturity):
                    continue  # it lies before the alarm that is open
            self._step(cell, look)

    def _step(self, cell: Cell, look: Look) -> None:
        if look.rule and not self._is_past(cell):
            key = (cell.window_start, cell.maturity_days)
            if self.alarm_id is None:
                self.told = set()
            if key not in self.told:
                self.open_or_extend(_cause_of(self.folder, cell, look))
                self.told.add(key)
        elif self.alarm_id is not None and not any(self.lasting.get(maturity) for _, maturity in self.told):
            self.through = look.window_start
            self.close(look.window_start, f"the last {QUIET} windows are as they were before")

    def _is_past(self, cell: Cell) -> bool:
        """Tell whether a closed alarm has told of that window: a loss is told once."""
        if self.through is not None and cell.window_start <= self.through:
            return True
        return any(cell.scored_at <= at for at in self.by_person)


def _cells(connection: sa.Connection, folder: ModelFolder) -> list[Cell]:
    values = {
        "model": folder.name,
        "metric": folder.spec.gate.metric,
        "maturities": list(folder.spec.monitoring.maturities),
        "rows": FEW_ROWS,
    }
    return [Cell(**row) for row in connection.execute(_CELLS, values).mappings()]


def _steps(cells: Sequence[Cell], spec: ModelSpec, *, anew_after: Sequence[dt.datetime]) -> list[tuple[Cell, Look]]:
    """Return each figure that can be compared, with what the rules say of it, in the order of becoming final."""
    wide = 2 * NormalDist().inv_cdf((1 + spec.evaluation.confidence) / 2)
    higher = METRICS[spec.task][spec.gate.metric]
    steps: list[tuple[Cell, Look]] = []
    for maturity in spec.monitoring.maturities:
        own = _covered(cell for cell in cells if cell.maturity_days == maturity)
        figures = []
        for before, cell in zip([None, *own], own, strict=False):
            known = None not in (cell.low, cell.high)
            error = (cell.high - cell.low) / wide if known else 0.0  # type: ignore[operator]
            anew = before is not None and any(before.scored_at <= at < cell.scored_at for at in anew_after)
            figures.append(Figure(window_start=cell.window_start, value=cell.value, error=error, anew=anew))
        steps += zip(own, follow(figures, higher_is_better=higher), strict=True)
    return sorted(steps, key=lambda step: (step[0].place, step[0].window_start))


def _covered(cells: Iterable[Cell]) -> list[Cell]:
    kept: list[Cell] = []
    for cell in cells:
        usual = median(c.coverage for c in kept[-REFERENCE:]) if kept else 0.0
        if cell.coverage >= COVERAGE * usual:
            kept.append(cell)
    return kept


def _cause_of(folder: ModelFolder, cell: Cell, look: Look) -> Cause:
    assert look.z is not None
    assert look.reference is not None
    metric, reference = folder.spec.gate.metric, look.reference
    found = {
        "recent": f"{look.z:.1f} standard deviations worse, and so is one of the two windows before",
        "slow": "the latest windows together are worse",
    }[look.rule or "recent"]
    return Cause(
        model=folder.name,
        kind="quality",
        batch_id=cell.batch_id,
        window_start=cell.window_start,
        version=cell.version,
        provisional=look.provisional,
        reason=f"{metric} is {look.value:.4g} with labels of {cell.maturity_days} days, {found}; it was "
        f"{reference.mean:.4g} on average over {reference.windows} windows before",
        evidence={
            "rule": look.rule,
            "value": look.value,
            "z": look.z,
            "total": look.total,
            "labelled_rows": cell.labelled_rows,
            "coverage": cell.coverage,
            **asdict(reference),
        },
        metric=metric,
        maturity_days=cell.maturity_days,
    )


class _Drift(_Watch):
    kind = "drift"

    def watch(self) -> None:
        told = {
            (family, episode["start"], row["version"])
            for row in self.causes
            for family, episode in row["evidence"]["families"].items()
        }
        windows = {row["window_start"] for row in self.of_open()}
        rows = self.connection.execute(_DRIFT, {"model": self.folder.name}).all()
        for window, group in groupby(rows, key=lambda row: row.window_start):
            if windows and window <= max(windows):
                continue
            families = list(group)
            drifting = [row for row in families if row.state == "drift"]
            fresh = any((row.family, str(row.episode_start), row.version) not in told for row in drifting)
            if drifting and (fresh or self.alarm_id is not None):
                self.open_or_extend(self._cause_of(drifting))
                told |= {(row.family, str(row.episode_start), row.version) for row in drifting}
                windows.add(window)
            elif self.alarm_id is not None and not any(
                row.episode_start is not None and row.state != "provisional" for row in families
            ):
                self.close(window, "the episode is over: quiet windows, a new version or a new normal")
                windows = set()

    def _cause_of(self, drifting: Sequence[Any]) -> Cause:
        first = drifting[0]
        families = {
            row.family: {
                "start": str(row.episode_start),
                "windows": row.episode_windows,
                "columns": row.columns or [],
                "statistic": row.statistic,
                "limit": row.limit,
                "p": row.p,
            }
            for row in drifting
        }
        since = min(row.episode_start for row in drifting)
        columns = sorted({name for row in drifting for name in row.columns or ()})
        return Cause(
            model=self.folder.name,
            kind="drift",
            batch_id=first.batch_id,
            window_start=first.window_start,
            version=first.version,
            provisional=False,
            reason=f"{' and '.join(families)} have changed since window {since}"
            + (f", above all {', '.join(columns)}" if columns else ""),
            evidence={
                "episode_windows": max(row.episode_windows for row in drifting),
                "outlook": events.outlook_of(self.connection, self.folder, first.batch_id, first.version),
                "families": families,
            },
        )

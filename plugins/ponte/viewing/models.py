"""One model: its windows, how good it was over time, which columns moved, its versions, alarms, decisions, live rows.

All is read at one moment, by the same number of queries whatever the model has.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from ponte.live.summary import Live, read_live
from ponte.storage.database import Database
from ponte.viewing.overview import bound_of

#: Three years of weeks; older windows are in SQL.
MOST_WINDOWS = 160
#: Columns that have a row in the heat map, those that moved the most, and windows that have a cell.
MOST_COLUMNS, MOST_CELLS = 20, 52
MOST_VERSIONS, MOST_CHANGES, MOST_ALARMS = 25, 30, 10

# Columns by name: what the page does not show is not computed.
_WINDOWS = sa.text("""SELECT window_start, state, batch_id, version, hindsight, rollback_id,
        left(why, 300) AS why, rows_frozen, rows_quarantined, metric, bound,
        value, low, high, maturity_days, final, estimated_value, estimated_low, estimated_high,
        feedback_right, feedback_wrong, seconds, cpu_seconds, estimated_wh
    FROM ponte.window_overview WHERE model = :model ORDER BY window_start DESC LIMIT :most""")

_QUALITY = sa.text("""SELECT window_start, maturity_days, value, low, high, final FROM ponte.quality
    WHERE model = :model AND metric = :metric AND slice_column = '' AND published AND window_start >= :since
    ORDER BY maturity_days, window_start""")

_COLUMNS = sa.text("""WITH found AS MATERIALIZED (
        SELECT family, column_name, window_start, statistic, share_change, named
        FROM ponte.drift_column WHERE batch_id = ANY(:batches)
    ), ranked AS (
        SELECT family, column_name, count(*) OVER () AS of_columns, row_number() OVER (
            ORDER BY count(*) FILTER (WHERE named) DESC, max(statistic) DESC NULLS LAST, family, column_name) AS place
        FROM found GROUP BY family, column_name
    )
    SELECT r.of_columns, f.* FROM ranked r JOIN found f USING (family, column_name)
    WHERE r.place <= :most ORDER BY r.place, f.window_start""")

_VERSIONS = sa.text("""SELECT v.version, v.champion, v.origin, v.created_at, v.train_rows, v.holdout_rows, v.bad,
        v.gate_outcome, v.approval, v.metrics, h.version IS NOT NULL AS challenger,
        (SELECT min(e.at) FROM ponte.alias_event e WHERE e.model = v.model AND e.version = v.version
            AND e.alias = 'champion') AS first_champion,
        count(*) OVER () AS of_versions
    FROM ponte.version_overview v LEFT JOIN ponte.challenger h ON h.model = v.model AND h.version = v.version
    WHERE v.model = :model ORDER BY v.version DESC LIMIT :most""")

# But windows that were shown as planned: there is one a week, and the strip has them.
_CHANGES = sa.text("""SELECT at, window_start, version, left(what, 300) AS what, left(actor, 100) AS actor,
        left(reason, 300) AS reason
    FROM ponte.change WHERE model = :model AND what NOT LIKE '% is shown: %' ORDER BY at DESC LIMIT :most""")

_ALARMS = sa.text("""SELECT alarm_id, kind, state, provisional, window_start, last_window,
        left(reason, 300) AS reason, opened_at, closed_at
    FROM ponte.alarm WHERE model = :model ORDER BY state = 'closed', alarm_id DESC LIMIT :most""")

_DROPPED = sa.text("""SELECT count(*) AS batches, coalesce(sum(e.row_count), 0)::bigint AS rows
    FROM ponte.retention_event e JOIN ponte.batch b USING (batch_id) WHERE b.model = :model""")


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowCell:
    """A window, as `ponte.window_overview` tells it."""

    window_start: dt.date
    #: published, rejected, failed, running, hidden or dropped.
    state: str
    batch_id: int
    version: int
    hindsight: bool
    rollback_id: int | None
    why: str | None
    rows_frozen: int | None
    rows_quarantined: int
    metric: str | None
    bound: str | None
    value: float | None
    low: float | None
    high: float | None
    maturity_days: int | None
    final: bool | None
    estimated_value: float | None
    estimated_low: float | None
    estimated_high: float | None
    feedback_right: int
    feedback_wrong: int
    seconds: float | None
    cpu_seconds: float | None
    estimated_wh: float | None

    @property
    def set_aside(self) -> float | None:
        """Return the share of its rows that were set aside, 0 to 1; None before there are rows."""
        return self.rows_quarantined / self.rows_frozen if self.rows_frozen else None


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityPoint:
    """A realised figure of a window at one age of labels."""

    window_start: dt.date
    maturity_days: int
    value: float | None
    low: float | None
    high: float | None
    final: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnCell:
    """How far a column of a window was from the windows before."""

    family: str
    column_name: str
    window_start: dt.date
    #: 1 is where one column among all would be in 2.5 % of quiet weeks.
    statistic: float | None
    share_change: float | None
    named: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionLine:
    """A version, and what was decided about it."""

    version: int
    champion: bool
    challenger: bool
    origin: str
    created_at: dt.datetime
    train_rows: int | None
    holdout_rows: int | None
    bad: bool
    gate_outcome: str | None
    approval: str | None
    metrics: Mapping[str, float] | None
    first_champion: dt.datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeLine:
    """Something that changed what people see, or may see."""

    at: dt.datetime
    window_start: dt.date | None
    version: int | None
    what: str
    actor: str
    reason: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmLine:
    """An alarm."""

    alarm_id: int
    kind: str
    state: str
    provisional: bool
    window_start: dt.date
    last_window: dt.date
    reason: str
    opened_at: dt.datetime
    closed_at: dt.datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """All that the page of a model shows but what its folder says."""

    model: str
    #: Oldest first.
    windows: tuple[WindowCell, ...]
    #: By age of labels, in days; each oldest first.
    quality: Mapping[int, tuple[QualityPoint, ...]]
    #: (family, column) → its cells, oldest first; the column that moved the most first.
    columns: Mapping[tuple[str, str], tuple[ColumnCell, ...]]
    of_columns: int
    #: Newest first.
    versions: tuple[VersionLine, ...]
    of_versions: int
    changes: tuple[ChangeLine, ...]
    alarms: tuple[AlarmLine, ...]
    dropped_batches: int
    dropped_rows: int
    live: Live = field(default_factory=Live)

    @property
    def champion(self) -> VersionLine | None:
        """Return the version that scores now; None when there is none, or it is too old to be in the list."""
        return next((one for one in self.versions if one.champion), None)

    @property
    def metric(self) -> str | None:
        """Return the metric that the gate judges by; None before it has judged."""
        return next((one.metric for one in reversed(self.windows) if one.metric), None)

    @property
    def bound(self) -> float | None:
        """Return the least, or greatest, value that the gate lets pass; None when it asks for none."""
        text = next((one.bound for one in reversed(self.windows) if one.bound), None)
        return bound_of(text)[1] if text else None

    @property
    def feedback(self) -> tuple[int, int]:
        """Return how often people said right, and wrong, of the windows shown."""
        return sum(w.feedback_right for w in self.windows), sum(w.feedback_wrong for w in self.windows)


def read_model(db: Database, model: str) -> ModelFacts | None:
    """Return what is known of a model; None when the database has neither a version nor a window of it."""
    if "\0" in model:
        return None
    asked = {"model": model}
    with db.one_moment() as connection:

        def rows(query: sa.TextClause, **more: object) -> Sequence[sa.RowMapping]:
            return connection.execute(query, asked | more).mappings().all()

        windows = tuple(WindowCell(**row) for row in reversed(rows(_WINDOWS, most=MOST_WINDOWS)))
        versions = rows(_VERSIONS, most=MOST_VERSIONS)
        metric = next((one.metric for one in reversed(windows) if one.metric), "")
        since = windows[0].window_start if windows else dt.date.max
        quality: dict[int, list[QualityPoint]] = {}
        for row in rows(_QUALITY, metric=metric, since=since):
            quality.setdefault(row["maturity_days"], []).append(QualityPoint(**row))
        batches = [one.batch_id for one in windows[-MOST_CELLS:]]
        cells = rows(_COLUMNS, batches=batches, most=MOST_COLUMNS)
        columns: dict[tuple[str, str], list[ColumnCell]] = {}
        for row in cells:
            cell = ColumnCell(**{name: value for name, value in row.items() if name != "of_columns"})
            columns.setdefault((cell.family, cell.column_name), []).append(cell)
        changes = tuple(ChangeLine(**row) for row in rows(_CHANGES, most=MOST_CHANGES))
        alarms = tuple(AlarmLine(**row) for row in rows(_ALARMS, most=MOST_ALARMS))
        [dropped] = rows(_DROPPED)
        live = read_live(connection, model, metric=metric)
    if not windows and not versions and not changes:
        return None
    return ModelFacts(
        model=model,
        windows=windows,
        quality={age: tuple(points) for age, points in quality.items()},
        columns={name: tuple(found) for name, found in columns.items()},
        of_columns=cells[0]["of_columns"] if cells else 0,
        versions=tuple(VersionLine(**{n: v for n, v in row.items() if n != "of_versions"}) for row in versions),
        of_versions=versions[0]["of_versions"] if versions else 0,
        changes=changes,
        alarms=alarms,
        dropped_batches=dropped["batches"],
        dropped_rows=dropped["rows"],
        live=live,
    )

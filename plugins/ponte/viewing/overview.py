"""Every model at a glance: who is champion, what people see, how good it is, what it costs. See `needs` for what to do.

The number of queries is the same for one model and for a hundred.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ponte.storage.database import Database

#: Windows of the small line of each model, the newest.
WINDOWS = 26
#: Windows over which cost per week is the mean, and how far back they are looked for: as long as they are weeks.
COST_WINDOWS = 4
COST_SPAN = dt.timedelta(weeks=COST_WINDOWS)
#: A model without a window for so long is read by itself, so that it does not make the others long.
STALE = dt.timedelta(days=91)
#: What WINDOWS weeks take. Of a model with longer windows there are fewer in its line.
SPAN = dt.timedelta(weeks=WINDOWS)

_NEWEST = sa.text(
    "SELECT model, max(window_start) AS newest FROM ponte.batch WHERE model = ANY(:models) GROUP BY model"
)

# Columns by name: what nobody asks for is not computed. Texts of any length are cut here.
_WINDOWS = sa.text("""SELECT model, window_start, window_end, state, batch_id, version, left(why, 300) AS why,
        published_at, rows_frozen, rows_quarantined, guards_tripped, metric, bound, value, low, high, maturity_days,
        estimated_value, feedback_wrong
    FROM ponte.window_overview
    WHERE model = ANY(:models) AND (window_start >= :recent OR model = ANY(:stale))
    ORDER BY model, window_start""")

_BATCHES = sa.text("SELECT batch_id, rejected_by, created_at FROM ponte.batch WHERE batch_id = ANY(:batches)")

# Of a window that is not beyond its limit the verdict says all; what the windows before it were matters to the others.
_DRIFT = sa.text("""SELECT v.batch_id, v.family, coalesce(d.state, v.state) AS state, d.columns[1:5] AS columns
    FROM ponte.drift_verdict v LEFT JOIN (
        SELECT batch_id, family, state, columns FROM ponte.drift WHERE model = ANY(ARRAY(
            SELECT b.model FROM ponte.drift_verdict x JOIN ponte.batch b USING (batch_id)
            WHERE x.batch_id = ANY(:batches) AND x.beyond))
    ) d USING (batch_id, family)
    WHERE v.batch_id = ANY(:batches)""")

_COST = sa.text("""SELECT model, window_start, sum(cpu_seconds) AS cpu_seconds, sum(estimated_wh) AS wh
    FROM ponte.cost
    WHERE step <> 'live' AND model = ANY(:models) AND (window_start >= :paid OR model = ANY(:stale))
    GROUP BY model, window_start""")

_VERSIONS = sa.text("""SELECT m.model, c.version AS champion, c.since,
        c.version IS NOT NULL AND ponte.is_bad(m.model, c.version) AS bad,
        g.version AS judged, g.verdict_id, g.outcome, g.run_id, g.at, a.decision,
        EXISTS (SELECT FROM ponte.notice n
                WHERE n.event = 'question_waiting' AND n.subject = 'verdict ' || g.verdict_id) AS asked
    FROM unnest(CAST(:models AS text[])) AS m (model) LEFT JOIN ponte.champion c USING (model)
    LEFT JOIN LATERAL (
        SELECT version, verdict_id, outcome, run_id, at FROM ponte.gate_verdict WHERE model = m.model
        ORDER BY verdict_id DESC LIMIT 1
    ) g ON true
    LEFT JOIN LATERAL (
        SELECT decision FROM ponte.approval WHERE verdict_id = g.verdict_id ORDER BY approval_id DESC LIMIT 1
    ) a ON true""")

_ALARMS = sa.text("""SELECT model, alarm_id, kind, state, provisional, left(reason, 300) AS reason, opened_at
    FROM ponte.alarm WHERE state <> 'closed' AND model = ANY(:models) ORDER BY alarm_id""")

_LATE = sa.text("""SELECT n.model, n.window_start FROM ponte.notice n
    WHERE n.event = 'window_late' AND n.model = ANY(:models) AND NOT EXISTS (
        SELECT FROM ponte.publication_event e WHERE e.model = n.model AND e.window_start = n.window_start)
    ORDER BY n.model, n.window_start""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What Airflow knows of a model."""

    tags: tuple[str, ...] = ()
    owner: str = ""
    paused: bool = False
    #: When its next run will be made; None: nothing is planned.
    next_run: dt.datetime | None = None
    #: First day of the window that people should see by now; None: nothing is planned, or its folder is not here.
    due_window: dt.date | None = None
    #: Since when they should.
    due_since: dt.datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """Who is champion, and what the gate said last."""

    champion: int | None
    since: dt.datetime | None
    #: The champion is marked bad.
    bad: bool
    #: The version that the gate judged last; None: none.
    judged: int | None
    verdict_id: int | None
    outcome: str | None
    run_id: str | None
    at: dt.datetime | None
    #: What was answered last; None: nothing.
    decision: str | None
    #: People were asked.
    asked: bool

    @property
    def open(self) -> bool:
        """True while what the gate said has had no consequence: nothing has become champion since, nobody answered."""
        settled = self.since is not None and self.at is not None and self.since > self.at
        return self.judged is not None and self.judged != self.champion and not settled and self.decision is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """What the overview says of a model. Rows of the database are as the queries above name their columns."""

    model: str
    planned: Planned
    version: Version
    #: Of `ponte.window_overview`, the newest WINDOWS, oldest first.
    windows: Sequence[Any]
    #: The batch of the newest of `broken`: rejected_by, created_at; None: nothing is.
    batch: Any
    #: State and columns of drift of the newest window that people see, by family.
    drift: Mapping[str, Any]
    alarms: Sequence[Any]
    #: First day of the oldest window that is late; None: none is.
    late: dt.date | None
    #: CPU seconds and watt-hours of seven days; None: nothing was scored.
    cpu_seconds: float | None
    wh: float | None

    @property
    def newest(self) -> Any:
        """The newest window, whatever became of it; None: there is none."""
        return self.windows[-1] if self.windows else None

    @property
    def seen(self) -> Any:
        """The newest window that people see; None: they see none of the newest WINDOWS."""
        return _last(self.windows, "published")

    @property
    def broken(self) -> Sequence[Any]:
        """The windows that nobody sees, because their newest batch was rejected or has failed, oldest first."""
        return _broken(self.windows)

    @property
    def measured(self) -> Any:
        """The newest window whose quality is known; None: there is none."""
        return next((one for one in reversed(self.windows) if one.value is not None and one.bound), None)

    @property
    def bound(self) -> float | None:
        """What the gate asks of the metric now, as a number; None: it was not asked."""
        return bound_of(self.measured.bound)[1] if self.measured else None

    @property
    def misses(self) -> bool:
        """True when the newest quality that is known does not meet the bound."""
        return bool(self.measured) and lead_of(self.measured) < 0

    @property
    def drifting(self) -> str | None:
        """The worst state of drift of the newest window that people see; None: not looked at."""
        found = {row.state for row in self.drift.values()}
        return next((s for s in ("drift", "notice", "provisional", "quiet", "not_judged") if s in found), None)


def bound_of(text: str) -> tuple[bool, float]:
    """Return whether more is better, and the bound.

    >>> bound_of("≥ 0.6")
    (True, 0.6)
    """
    sign, value = text.split()
    return sign == "≥", float(value)


def lead_of(window: Any) -> float:
    """Return by how much the quality of a window is better than its bound; negative: worse."""
    higher, bound = bound_of(window.bound)
    lead: float = window.value - bound
    return lead if higher else -lead


def read_overview(db: Database, planned: Mapping[str, Planned], *, now: dt.datetime) -> list[Line]:
    """Return a line for each model of `planned`, by name, all as at one moment.

    now : aware. A window is late when it was due before, and people have seen neither it nor a later one.
    """
    models = sorted(planned)
    with db.one_moment() as connection:

        def ask(query: sa.TextClause, **values: Any) -> Sequence[Any]:
            return connection.execute(query, {"models": models, **values}).all()

        bounds = _recent({row.model: row.newest for row in ask(_NEWEST)})
        windows = _by_model(ask(_WINDOWS, **bounds))
        cost = _by_model(ask(_COST, **bounds))
        broken = {model: found[-1] for model, all_ in windows.items() if (found := _broken(all_[-WINDOWS:]))}
        seen = [one.batch_id for found in windows.values() if (one := _last(found, "published"))]
        batches = {row.batch_id: row for row in ask(_BATCHES, batches=[one.batch_id for one in broken.values()])}
        drift: dict[int, dict[str, Any]] = defaultdict(dict)
        for row in connection.execute(_DRIFT, {"batches": seen}):
            drift[row.batch_id][row.family] = row
        versions = {
            row["model"]: {name: value for name, value in row.items() if name != "model"}
            for row in connection.execute(_VERSIONS, {"models": models}).mappings()
        }
        alarms, late = _by_model(ask(_ALARMS)), _by_model(ask(_LATE))
    lines = []
    for model in models:
        found = windows.get(model, [])
        shown = _last(found, "published")
        spent = _per_week(found, cost.get(model, []))
        lines.append(
            Line(
                model=model,
                planned=planned[model],
                version=Version(**versions[model]),
                windows=found[-WINDOWS:],
                batch=batches[broken[model].batch_id] if model in broken else None,
                drift=drift.get(shown.batch_id, {}) if shown else {},
                alarms=alarms.get(model, []),
                late=_late(planned[model], shown, late.get(model, []), now=now),
                cpu_seconds=spent[0],
                wh=spent[1],
            )
        )
    return lines


def _recent(newest: Mapping[str, dt.date]) -> dict[str, Any]:
    """Return since when windows and cost are read, and the models of which all are, because they ended long before."""
    if not newest:
        return {"recent": dt.date.max, "paid": dt.date.max, "stale": []}
    top = max(newest.values())
    stale = [model for model, day in newest.items() if day < top - STALE]
    oldest = min(day for day in newest.values() if day >= top - STALE)
    return {"recent": oldest - SPAN, "paid": oldest - COST_SPAN, "stale": stale}


def _by_model(rows: Collection[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.model].append(row)
    return found


def _last(windows: Sequence[Any], state: str) -> Any:
    return next((one for one in reversed(windows) if one.state == state), None)


def _broken(windows: Sequence[Any]) -> list[Any]:
    return [one for one in windows if one.state in ("rejected", "failed")]


def _per_week(windows: Sequence[Any], cost: Sequence[Any]) -> tuple[float | None, float | None]:
    """Return CPU seconds and watt-hours of seven days, the mean of the newest COST_WINDOWS."""
    spent = {row.window_start: row for row in cost}
    counted = [one for one in windows if one.window_start in spent][-COST_WINDOWS:]
    weeks = sum((one.window_end - one.window_start).days for one in counted) / 7
    if not weeks:
        return None, None
    found = [spent[one.window_start] for one in counted]
    return sum(row.cpu_seconds for row in found) / weeks, sum(row.wh for row in found) / weeks


def _late(planned: Planned, seen: Any, noted: Sequence[Any], *, now: dt.datetime) -> dt.date | None:
    """Return the first day of the oldest window that is late: one that a notice names, or that was due by the schedule.

    What came before the newest window that people see is past, and nothing waits for it any more.
    """
    late = [row.window_start for row in noted]
    if planned.due_window and planned.due_since and planned.due_since < now and not planned.paused and seen:
        late.append(planned.due_window)
    return min((day for day in late if not seen or day > seen.window_start), default=None)

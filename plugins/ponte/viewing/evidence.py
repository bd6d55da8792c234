"""What is known of one batch, beside those that people see of the weeks before: figures and counts, no content."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

#: Weeks before that a batch is shown beside.
EARLIER = 8
#: Scores of a multiclass model that are drawn, and columns that drift lists; those that matter most.
MOST_SCORES, MOST_COLUMNS = 12, 12
#: Scores of a model, the first of these that it has.
_SCORES = ("score", "scores[", "prediction")

_EARLIER = sa.text("""SELECT p.window_start, p.batch_id, b.version, b.row_count, f.scored_count, f.score_mean,
        f.score_sd, f.class_shares,
        (SELECT count(*) FROM ponte.quarantine q WHERE q.batch_id = p.batch_id) AS set_aside,
        (SELECT array_agg(g.guard ORDER BY g.guard) FROM ponte.guard_result g
         WHERE g.batch_id = p.batch_id AND g.outcome IN ('tripped', 'warned')) AS guards
    FROM (SELECT :window AS window_start, :batch AS batch_id
          UNION ALL
          (SELECT window_start, batch_id FROM ponte.published WHERE model = :model AND window_start < :window
           ORDER BY window_start DESC LIMIT :earlier)) AS p
    JOIN ponte.batch b USING (batch_id) LEFT JOIN ponte.batch_profile f USING (batch_id)
    ORDER BY p.window_start DESC""")

_CHECKS = sa.text("""SELECT batch_id, position, expectation, arguments, on_failure, outcome, element_count,
        unexpected_count, left(detail, 301) AS detail
    FROM ponte.check_result WHERE batch_id = ANY(:batches) ORDER BY position""")

_GUARDS = sa.text("""SELECT guard, outcome, got, expected FROM ponte.guard_result WHERE batch_id = :batch
    ORDER BY outcome NOT IN ('tripped', 'warned'), outcome = 'skipped', guard""")

_SET_ASIDE = sa.text("""SELECT count(*) AS rows, count(*) FILTER (WHERE shard IS NOT NULL) AS unscored,
        count(*) FILTER (WHERE closed_at IS NULL) AS open
    FROM ponte.quarantine WHERE batch_id = :batch""")

_BINS = sa.text("""SELECT column_name, edges FROM ponte.reference_column
    WHERE model = :model AND version = :version AND family = 'answers' AND kind = 'number' ORDER BY position""")

# Shard by shard, by the primary key: a batch of 1,000 shards counts 500 other columns too.
_COUNTS = sa.text("""SELECT column_name, batch_id, array_agg(rows ORDER BY place) AS counts FROM (
        SELECT c.column_name, c.batch_id, u.place, sum(u.rows)::bigint AS rows
        FROM ponte.batch b JOIN ponte.shard s USING (batch_id)
        CROSS JOIN unnest(CAST(:columns AS text[])) AS asked (column_name)
        JOIN ponte.batch_count c ON c.batch_id = s.batch_id AND c.shard = s.shard AND c.family = 'answers'
             AND c.column_name = asked.column_name
        CROSS JOIN unnest(c.counts) WITH ORDINALITY AS u (rows, place)
        WHERE b.batch_id = ANY(:batches) AND b.version = :version
        GROUP BY c.column_name, c.batch_id, u.place
    ) AS summed GROUP BY column_name, batch_id""")

_STEPS = sa.text("""SELECT step, count(*) AS tasks, sum(row_count)::bigint AS rows, sum(seconds) AS seconds,
        max(seconds) AS longest, sum(cpu_seconds) AS cpu_seconds, max(peak_bytes) AS peak_bytes, max(at) AS ended_at
    FROM ponte.receipt WHERE batch_id = :batch GROUP BY step ORDER BY min(receipt_id)""")

_COST = sa.text("""SELECT step = 'live' AS live, sum(seconds) AS seconds, sum(cpu_seconds) AS cpu_seconds,
        sum(estimated_wh) AS wh, CASE WHEN count(estimated_g_co2e) = count(*) THEN sum(estimated_g_co2e) END AS g_co2e,
        max(predictions)::bigint AS predictions
    FROM ponte.cost WHERE model = :model AND window_start = :window GROUP BY 1 ORDER BY 1""")

_QUALITY = sa.text("""SELECT metric, maturity_days, value, low, high, coverage, final FROM ponte.quality
    WHERE model = :model AND window_start = :window AND batch_id = :batch AND slice_column = ''
    ORDER BY metric, maturity_days""")

_ESTIMATES = sa.text(
    """SELECT metric, value, low, high, method FROM ponte.estimate WHERE batch_id = :batch ORDER BY metric"""
)

_BOUND = sa.text("""SELECT split_part(rule, ' ', 1) AS metric, expected AS bound FROM ponte.gate_rule
    WHERE model = :model AND version = :version AND rule LIKE '% meets the bound' ORDER BY verdict_id DESC LIMIT 1""")

_DRIFT = sa.text("""SELECT v.family, coalesce(d.state, v.state) AS state, d.would_be, v.why, v.statistic, v."limit",
        v.detectable, v.windows, v.column_count, d.episode_start
    FROM ponte.drift_verdict v LEFT JOIN ponte.drift d
        ON d.model = :model AND d.window_start = :window AND d.batch_id = v.batch_id AND d.family = v.family
    WHERE v.batch_id = :batch ORDER BY v.family DESC""")

_DRIFT_COLUMNS = sa.text("""SELECT family, column_name, named, statistic, share_change, null_change
    FROM ponte.drift_verdict_column
    WHERE batch_id = :batch ORDER BY named DESC, statistic DESC, column_name LIMIT :most""")

_FEEDBACK = sa.text("""SELECT about, verdict, count(*) AS times, count(*) FILTER (WHERE corrected) AS corrected,
        count(DISTINCT given_by) AS people
    FROM ponte.feedback WHERE model = :model AND window_start = :window AND counts GROUP BY 1, 2 ORDER BY 1, 2""")

_ALARMS = sa.text("""SELECT alarm_id, kind, state, provisional, left(reason, 301) AS reason FROM ponte.alarm
    WHERE model = :model AND state <> 'closed' AND :window BETWEEN window_start AND last_window ORDER BY alarm_id""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Week:
    """A batch as its profile has it, this one or that of a week before."""

    window_start: dt.date
    batch_id: int
    version: int
    row_count: int | None
    scored_count: int | None
    score_mean: Sequence[float] | None
    score_sd: Sequence[float] | None
    class_shares: Mapping[str, float] | None
    set_aside: int
    #: Those that tripped or warned; None for none.
    guards: Sequence[str] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckLine:
    """A check of the batch, and how many rows did not meet it in the weeks before, the latest first."""

    expectation: str
    arguments: str
    on_failure: str
    outcome: str
    element_count: int | None
    unexpected_count: int | None
    detail: str | None
    before: tuple[int | None, ...]

    @property
    def in_order(self) -> bool:
        """Tell whether there is nothing to see: it passed."""
        return self.outcome == "passed" and not self.unexpected_count


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Shares of rows by bins of a score, of this batch and of the weeks before that the same version has scored."""

    column: str
    #: Between the bins: one fewer than there are of these.
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    before: tuple[tuple[float, ...], ...]
    #: Rows without a score.
    missing: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What is known of a batch. Rows of queries that need no more are kept as they come."""

    #: This batch first, then those that people see of the weeks before, the latest first.
    weeks: tuple[Week, ...]
    checks: tuple[CheckLine, ...]
    guards: Sequence[Mapping[str, Any]]
    set_aside: Mapping[str, Any]
    scores: tuple[Scores, ...]
    #: Scores that are not drawn, because there are too many.
    other_scores: int
    steps: Sequence[Mapping[str, Any]]
    cost: Sequence[Mapping[str, Any]]
    quality: Mapping[str, Mapping[int, Mapping[str, Any]]]
    estimates: Mapping[str, Mapping[str, Any]]
    #: metric and bound of the gate; None when the version was not judged.
    bound: Mapping[str, Any] | None
    drift: Sequence[Mapping[str, Any]]
    drift_columns: Sequence[Mapping[str, Any]]
    feedback: Sequence[Mapping[str, Any]]
    alarms: Sequence[Mapping[str, Any]]

    @property
    def maturities(self) -> list[int]:
        """Return the ages of labels, in days, at which quality is known."""
        return sorted({days for cells in self.quality.values() for days in cells})

    @property
    def metrics(self) -> list[str]:
        """Return the metrics that are known or estimated, that of the gate first."""
        first = self.bound["metric"] if self.bound else None
        return sorted({*self.quality, *self.estimates}, key=lambda name: (name != first, name))

    @property
    def reasons(self) -> list[CheckLine]:
        """Return the checks that set rows aside, or would have; the most rows first."""
        found = [c for c in self.checks if c.on_failure == "quarantine" and c.unexpected_count]
        return sorted(found, key=lambda c: -(c.unexpected_count or 0))


def read_evidence(connection: sa.Connection, model: str, start: dt.date, batch_id: int, version: int) -> Evidence:
    """Return what is known of a batch of the window, as the transaction of the caller sees it."""
    asked = {"model": model, "window": start, "batch": batch_id, "version": version, "earlier": EARLIER}

    def rows(query: sa.TextClause, **more: Any) -> Sequence[Mapping[str, Any]]:
        return [dict(row) for row in connection.execute(query, asked | more).mappings()]

    weeks = tuple(Week(**row) for row in rows(_EARLIER))
    ids = [week.batch_id for week in weeks]
    bins, left = _drawn(rows(_BINS))
    counts = {(c["column_name"], c["batch_id"]): c["counts"] for c in rows(_COUNTS, columns=list(bins), batches=ids)}
    drawn = [_scores(name, edges, [counts.get((name, i)) for i in ids]) for name, edges in bins.items()]
    return Evidence(
        weeks=weeks,
        checks=_checks(rows(_CHECKS, batches=ids), ids),
        guards=rows(_GUARDS),
        set_aside=rows(_SET_ASIDE)[0],
        scores=tuple(one for one in drawn if one is not None),
        other_scores=left,
        steps=rows(_STEPS),
        cost=rows(_COST),
        quality=_by_maturity(rows(_QUALITY)),
        estimates={row["metric"]: row for row in rows(_ESTIMATES)},
        bound=next(iter(rows(_BOUND)), None),
        drift=rows(_DRIFT),
        drift_columns=rows(_DRIFT_COLUMNS, most=MOST_COLUMNS),
        feedback=rows(_FEEDBACK),
        alarms=rows(_ALARMS),
    )


def _by_maturity(found: Sequence[Mapping[str, Any]]) -> Mapping[str, Mapping[int, Mapping[str, Any]]]:
    cells: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for row in found:
        cells[row["metric"]][row["maturity_days"]] = row
    return cells


def _checks(found: Sequence[Mapping[str, Any]], ids: Sequence[int]) -> tuple[CheckLine, ...]:
    """Return the checks of the first batch, those with something to see first, beside the same checks of the others."""
    counted = {(row["batch_id"], *_rule(row)): row["unexpected_count"] for row in found}
    lines = [
        CheckLine(
            before=tuple(counted.get((other, *_rule(row))) for other in ids[1:]),
            arguments=", ".join(f"{name}: {value}" for name, value in row["arguments"].items()),
            **{name: row[name] for name in _FIELDS},
        )
        for row in found
        if row["batch_id"] == ids[0]
    ]
    return tuple(sorted(lines, key=lambda line: line.in_order))


_FIELDS = ("expectation", "on_failure", "outcome", "element_count", "unexpected_count", "detail")


def _rule(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["expectation"], repr(sorted(row["arguments"].items()))


def _drawn(found: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Sequence[float]], int]:
    """Return the bins of the scores to draw, and how many scores are left out."""
    for start in _SCORES:
        names = [row for row in found if row["column_name"].startswith(start)]
        if names:
            return {row["column_name"]: row["edges"] for row in names[:MOST_SCORES]}, len(names[MOST_SCORES:])
    return {}, 0


def _scores(column: str, edges: Sequence[float], counts: Sequence[Sequence[int] | None]) -> Scores | None:
    """Return the shares by bin, without bins at both ends that no batch has a row in; None for a batch without counts.

    counts : per batch and bin, the last of them rows without a value; this batch first.
    """
    of_batch = counts[0]
    if of_batch is None or not any(of_batch[:-1]):
        return None
    known = [row[:-1] for row in counts if row is not None and any(row[:-1])]
    filled = [place for place in range(len(known[0])) if any(row[place] for row in known)]
    first, end = filled[0], filled[-1] + 1
    totals = [sum(row) for row in known]
    shares = [tuple(count / total for count in row[first:end]) for row, total in zip(known, totals, strict=True)]
    return Scores(
        column=column,
        edges=tuple(edges[first : end - 1]),
        shares=shares[0],
        before=tuple(shares[1:]),
        missing=of_batch[-1],
    )

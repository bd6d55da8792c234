"""What the guards say of a batch: its profile and its counts, beside those of windows before."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from ponte.batches.lifecycle import Batch
from ponte.counting import reference
from ponte.counting.reference import Reference
from ponte.guards import profiles, rules
from ponte.guards.alarms import judge_alarms
from ponte.guards.columns import Broken, broken, evidence, in_words
from ponte.guards.profiles import EARLIER
from ponte.guards.rules import GuardResult
from ponte.model.spec import Guard, ModelSpec
from ponte.versions.registry import Version

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: Published windows that columns are compared with, beside those of training; the latest.
PUBLISHED_WINDOWS = 52

_SINCE = sa.text("""SELECT max(window_start) FROM ponte.normal_event
    WHERE model = :model AND window_start <= :window""")
# A batch with a broken column tells nothing of what is usual, unless a person has called it the new normal.
_ALIKE = sa.text(f"""{EARLIER}, alike AS (
        SELECT e.batch_id FROM earlier e JOIN ponte.batch b USING (batch_id)
        WHERE b.version = :version AND (
            NOT EXISTS (
                SELECT FROM ponte.guard_result g
                WHERE g.batch_id = e.batch_id AND g.guard = 'columns' AND g.outcome IN ('tripped', 'warned')
            ) OR EXISTS (SELECT FROM ponte.normal_event n WHERE n.batch_id = e.batch_id)
        )
        ORDER BY e.window_start DESC LIMIT :count
    )
    SELECT column_name, batch_id, array_agg(rows ORDER BY place) AS counts FROM (
        SELECT c.column_name, c.batch_id, u.place, sum(u.rows)::bigint AS rows
        FROM alike JOIN ponte.batch_count c USING (batch_id), unnest(c.counts) WITH ORDINALITY AS u (rows, place)
        WHERE c.family = 'features' GROUP BY c.column_name, c.batch_id, u.place
    ) AS summed GROUP BY column_name, batch_id""")


def judge(connection: sa.Connection, batch: Batch, version: Version, spec: ModelSpec) -> list[GuardResult]:
    """Return what each guard says of a scored batch, whose profile is kept, in the caller's transaction."""
    limits = spec.guard
    profile = profiles.take_profile(connection, batch, version, limits)
    earlier = profiles.earlier_profiles(connection, batch, limits)
    known = reference.read(connection, batch.model, batch.version)
    since = connection.execute(_SINCE, {"model": batch.model, "window": batch.window_start}).scalar_one()
    training_rows = _rows_of_windows(known, since) if known else []
    found = rules.judge(profile, earlier, limits, as_of=batch.as_of, training_rows=training_rows)
    if found:
        found.append(_columns(connection, batch, limits, known, since))
    return [*found, *judge_alarms(connection, batch, spec.monitoring)]


def _rows_of_windows(known: Reference, since: dt.date | None) -> list[int]:
    places = _places(known, since)
    columns = known.features.columns
    return columns[0].counts[places].sum(axis=1).tolist() if columns else []


def _places(known: Reference, since: dt.date | None) -> list[int]:
    return [i for i, start in enumerate(known.features.window_starts) if since is None or start >= since]


def _columns(
    connection: sa.Connection, batch: Batch, limits: Guard, known: Reference | None, since: dt.date | None
) -> GuardResult:
    if limits.columns == "off" and not limits.column_overrides:
        return rules.skipped("columns", 'columns = "off"')
    if known is None:
        return rules.skipped("columns", f"version {batch.version} was trained before columns were counted")
    of_batch = reference.batch_counts(connection, batch.batch_id)
    constant = reference.constant_columns(connection, batch.batch_id)
    published = _published(connection, batch)
    found: dict[str, list[Broken]] = {"reject": [], "warn": []}
    for column in known.features.columns:
        name = column.bins.name
        rule = limits.column_overrides.get(name, limits.columns)
        counts = of_batch.get(("features", name))
        if rule == "off" or counts is None:
            continue
        windows = _stacked(column.counts[_places(known, since)], published.get(name, ()))
        fault = broken(column.bins, counts, windows, constant=("features", name) in constant)
        if fault is not None:
            found[rule].append(fault)
    return _result(found["reject"], found["warn"], len(known.features.columns))


def _result(rejected: Sequence[Broken], warned: Sequence[Broken], count: int) -> GuardResult:
    outcome: Literal["tripped", "warned", "passed"] = "tripped" if rejected else "warned" if warned else "passed"
    faults = [*rejected, *warned]
    got = in_words(faults) if faults else f"{count} columns as in the windows before"
    return GuardResult(
        guard="columns",
        outcome=outcome,
        got=got,
        expected="columns like those of the windows before",
        evidence=dict(evidence(faults)),
    )


def _published(connection: sa.Connection, batch: Batch) -> Mapping[str, list[list[int]]]:
    """Return the counts of the windows that people see or saw of the same version before, by column."""
    values = {
        "model": batch.model,
        "window": batch.window_start,
        "version": batch.version,
        "count": PUBLISHED_WINDOWS,
    }
    found: dict[str, list[list[int]]] = {}
    for name, _, counts in connection.execute(_ALIKE, values):
        found.setdefault(name, []).append(counts)
    return found


def _stacked(windows: Array, published: Sequence[list[int]]) -> Array:
    import numpy as np

    return np.vstack([windows, np.array(published, dtype=np.int64)]) if published else windows

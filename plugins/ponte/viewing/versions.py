"""The versions of a model, and two of them beside each other."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ponte.quality.figures import CANDIDATE, Figure, champion_subject, difference_subject
from ponte.storage.database import Database

#: Newest versions that a page lists, and newest windows that it links to.
MOST_VERSIONS, MOST_WINDOWS = 200, 12
#: Figures of one version that are shown; a metric has one row.
MOST_FIGURES = 100

_LIST = sa.text("""SELECT o.version, o.champion, o.bad, o.origin, o.created_at, o.train_rows, o.holdout_rows,
        o.gate_outcome, o.approval, v.run_id, h.version IS NOT NULL AS challenger,
        (SELECT count(*) FROM ponte.published p JOIN ponte.batch b USING (batch_id)
            WHERE b.model = o.model AND b.version = o.version) AS windows,
        d.what, left(d.who, 100) AS who, left(d.why, 300) AS why, d.at
    FROM ponte.version_overview o JOIN ponte.version v USING (model, version)
    LEFT JOIN ponte.challenger h ON h.model = o.model AND h.version = o.version
    LEFT JOIN LATERAL (
        SELECT a.at, a.decision AS what, a.actor AS who, a.reason AS why
        FROM ponte.approval a JOIN ponte.gate_verdict g USING (verdict_id)
        WHERE g.model = o.model AND g.version = o.version
        UNION ALL
        SELECT at, 'marked: ' || mark, actor, reason FROM ponte.version_mark
        WHERE model = o.model AND version = o.version
        UNION ALL
        SELECT at, 'became ' || alias, actor, reason FROM ponte.alias_event
        WHERE model = o.model AND version = o.version
        ORDER BY at DESC LIMIT 1
    ) d ON true
    WHERE o.model = :model AND o.version < :before ORDER BY o.version DESC LIMIT :most""")

_FACTS = sa.text("""SELECT v.version, c.version IS NOT NULL AS champion, v.task, v.origin, v.created_at, v.run_id,
        v.train_cutoff, v.train_rows, v.calibration_rows, v.holdout_rows, v.purged_rows, v.threshold, v.interval,
        v.half_width, v.byte_count, v.code_revision, v.libraries, v.snapshot_id, s.sha256 AS snapshot_sha256,
        s.row_count AS snapshot_rows, jsonb_array_length(s.windows) AS windows, s.holdout_from,
        ponte.is_bad(v.model, v.version) AS bad,
        left(s.features_sql, :largest) AS features_sql, left(s.labels_sql, :largest) AS labels_sql
    FROM ponte.version v JOIN ponte.snapshot s USING (snapshot_id)
    LEFT JOIN ponte.champion c ON c.model = v.model AND c.version = v.version
    WHERE v.model = :model AND v.version = ANY(:versions)""")

_METRICS = sa.text("""SELECT version, snapshot_id, subject, name, value, low, high, row_count FROM ponte.metric
    WHERE model = :model AND version = ANY(:versions) AND slice = '' AND subject = ANY(:subjects)
    ORDER BY snapshot_id DESC, name""")

_RULES = sa.text("""SELECT r.version, left(r.rule, 300) AS rule, left(r.got, 300) AS got,
        left(r.expected, 300) AS expected, r.outcome
    FROM ponte.gate_rule r
    WHERE r.verdict_id IN (SELECT max(verdict_id) FROM ponte.gate_verdict
        WHERE model = :model AND version = ANY(:versions) GROUP BY version)
    ORDER BY r.version, r.position LIMIT 200""")

_AROUND = sa.text("""SELECT v.run_id, (SELECT version FROM ponte.champion WHERE model = :model) AS champion,
        (SELECT max(version) FROM ponte.version WHERE model = :model AND version < :version) AS before,
        (SELECT min(version) FROM ponte.version WHERE model = :model AND version > :version) AS after,
        (SELECT substr(max(subject COLLATE "C"), 10)::integer FROM ponte.metric
            WHERE model = :model AND version = :version AND subject LIKE 'champion:%' AND snapshot_id = (
                SELECT max(snapshot_id) FROM ponte.metric
                WHERE model = :model AND version = :version AND subject LIKE 'champion:%')) AS compared_with
    FROM ponte.version v WHERE v.model = :model AND v.version = :version""")

_WINDOWS = sa.text("""SELECT b.window_start FROM ponte.published p JOIN ponte.batch b USING (batch_id)
    WHERE b.model = :model AND b.version = :version ORDER BY b.window_start DESC LIMIT :most""")


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionRow:
    """A version in the list, and the newest thing that was decided about it."""

    version: int
    champion: bool
    challenger: bool
    bad: bool
    origin: str
    created_at: dt.datetime
    train_rows: int
    holdout_rows: int
    run_id: str
    gate_outcome: str | None
    approval: str | None
    #: Windows that people see its predictions of.
    windows: int
    #: All None when nothing was decided.
    what: str | None
    who: str | None
    why: str | None
    at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Beside:
    """A figure of two versions; `difference` is the second minus the first, with an interval on the same rows only."""

    name: str
    first: Figure | None
    second: Figure | None
    difference: Figure | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two versions; `first` and `second` are rows of facts by name."""

    first: Mapping[str, Any]
    second: Mapping[str, Any]
    figures: tuple[Beside, ...]
    #: True when both were measured on the same rows with the same resamples.
    same_rows: bool
    row_count: int | None
    #: Rules of the newest verdict of each, by version.
    rules: Mapping[int, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Around:
    """What is around a version: its run, its neighbours, the champion it was measured beside, windows it scored."""

    run_id: str
    champion: int | None
    before: int | None
    after: int | None
    compared_with: int | None
    figures: tuple[Beside, ...]
    row_count: int | None
    #: Newest first, at most MOST_WINDOWS.
    windows: tuple[dt.date, ...]


def list_versions(db: Database, model: str, before: int) -> list[VersionRow]:
    """Return the versions with a lower number than `before`, newest first, at most MOST_VERSIONS. One query."""
    with db.one_moment() as connection:
        found = connection.execute(_LIST, {"model": model, "before": before, "most": MOST_VERSIONS}).mappings()
        return [VersionRow(**row) for row in found]


def compare(db: Database, model: str, first: int, second: int, *, largest: int) -> Comparison | None:
    """Return two versions beside each other; None when one of them does not exist. Three queries.

    largest : characters of their SQL that are read.
    """
    asked = {"model": model, "versions": [first, second]}
    with db.one_moment() as connection:
        facts = {
            row["version"]: dict(row) for row in connection.execute(_FACTS, asked | {"largest": largest}).mappings()
        }
        if {first, second} - facts.keys():
            return None
        metrics = _metrics(connection, model, first, second)
        rules: dict[int, list[Mapping[str, Any]]] = {first: [], second: []}
        for row in connection.execute(_RULES, asked).mappings():
            rules[row["version"]].append(dict(row))
    figures, same_rows, row_count = beside(metrics, facts[first]["snapshot_id"], facts[second]["snapshot_id"],
                                           first, second)  # fmt: skip
    return Comparison(
        first=facts[first],
        second=facts[second],
        figures=figures,
        same_rows=same_rows,
        row_count=row_count,
        rules=rules,
    )


def around(db: Database, model: str, version: int) -> Around:
    """Return what is around a version that exists. Three queries."""
    asked = {"model": model, "version": version}
    with db.one_moment() as connection:
        row = connection.execute(_AROUND, asked).mappings().one()
        other = row["compared_with"]
        metrics = _metrics(connection, model, other, version) if other else []
        windows = tuple(connection.execute(_WINDOWS, asked | {"most": MOST_WINDOWS}).scalars())
    figures, same_rows, row_count = beside(metrics, None, None, other or 0, version)
    return Around(**row, figures=figures if same_rows else (), row_count=row_count, windows=windows)


def _metrics(connection: sa.Connection, model: str, first: int, second: int) -> Sequence[Mapping[str, Any]]:
    others = [champion_subject(v) for v in (first, second)]
    subjects = [CANDIDATE, *others, *(difference_subject(s) for s in others)]
    asked = {"model": model, "versions": [first, second], "subjects": subjects}
    return [dict(row) for row in connection.execute(_METRICS, asked).mappings()]


def beside(
    metrics: Sequence[Mapping[str, Any]], own_first: int | None, own_second: int | None, first: int, second: int
) -> tuple[tuple[Beside, ...], bool, int | None]:
    """Return the figures of both, whether they come from the same rows, and how many rows those are.

    metrics : rows of `ponte.metric`, the newest snapshot first. When one of the two was evaluated with the other as its
        champion, the newest such evaluation counts; else each on the holdout of its own snapshot, `own_first` and
        `own_second`, and there is no difference: other rows, other figures.
    """
    for candidate, champion, sign in ((second, first, 1), (first, second, -1)):
        subject = champion_subject(champion)
        shared = next((m["snapshot_id"] for m in metrics
                       if m["version"] == candidate and m["subject"] == difference_subject(subject)), None)  # fmt: skip
        if shared is None:
            continue
        of = {(m["subject"], m["name"]): m for m in metrics
              if m["version"] == candidate and m["snapshot_id"] == shared}  # fmt: skip
        one, two = (subject, CANDIDATE) if sign == 1 else (CANDIDATE, subject)
        names = [name for s, name in of if s == difference_subject(subject)]
        found = tuple(
            Beside(name, _figure(of.get((one, name))), _figure(of.get((two, name))),
                   _figure(of[difference_subject(subject), name], sign))
            for name in names[:MOST_FIGURES]
        )  # fmt: skip
        return found, True, of[difference_subject(subject), names[0]]["row_count"]
    own = [
        {m["name"]: m for m in metrics
         if m["version"] == version and m["subject"] == CANDIDATE and m["snapshot_id"] == snapshot}
        for version, snapshot in ((first, own_first), (second, own_second))
    ]  # fmt: skip
    names = list(dict.fromkeys([*own[0], *own[1]]))
    return (
        tuple(Beside(n, _figure(own[0].get(n)), _figure(own[1].get(n)), None) for n in names[:MOST_FIGURES]),
        False,
        None,
    )


def _figure(row: Mapping[str, Any] | None, sign: int = 1) -> Figure | None:
    if row is None:
        return None
    low, high = row["low"], row["high"]
    if sign == -1:
        low, high = (None if high is None else -high), (None if low is None else -low)
    return Figure(sign * row["value"], low, high)

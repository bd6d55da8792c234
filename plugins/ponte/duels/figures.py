"""What labels say of a duel: each window by maturity, and all windows together at the moments of decision.

Figures of one window and maturity are a function of the labels that count, like those of realised quality. A look, all
windows together, is taken when `[gate] duel_windows` windows have come to the first maturity, and once more when twice
as many have; a look is taken once, whatever labels come later.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.duels.beside import Duel, read_duel
from ponte.duels.comparing import Compared, Pairs, compare, pairs_of, together
from ponte.model.folders import ModelFolder
from ponte.model.spec import ModelSpec
from ponte.model.windows import midnight
from ponte.monitoring.outcomes import read_outcomes
from ponte.publishing.staging import lock_table
from ponte.storage.database import Database, insert_rows, quote
from ponte.storage.receipts import Receipt, recorded
from ponte.versions import aliases, registry
from ponte.versions.predicting import Output

#: A duel may be decided after so many times `duel_windows` windows; at the last it ends.
LOOKS = (1, 2)

_MOMENT = """SELECT greatest(r.as_of, (SELECT max(l.seen_at) FROM ponte.label_seen l
        WHERE l.batch_id = b.batch_id AND l.origin = 'feedback')) AS moment
    FROM ponte.label_read r WHERE r.batch_id = b.batch_id AND r.state = 'read' AND r.labelled_rows > 0
    ORDER BY r.as_of DESC LIMIT 1"""

# Windows of which a maturity has passed that has no figures, or whose labels have changed since.
_DUE = f"""SELECT d.duel_id, known.moment FROM ponte.duel_batch d JOIN ponte.batch b USING (batch_id)
    JOIN LATERAL ({_MOMENT}) known ON true
    LEFT JOIN LATERAL (SELECT max(as_of) AS moment FROM ponte.duel_figure WHERE duel_id = d.duel_id) done ON true
    WHERE d.status = 'scored' AND d.prediction_table IS NOT NULL AND b.prediction_table IS NOT NULL AND {{which}}
    AND (EXISTS (SELECT FROM unnest(CAST(:days AS integer[])) AS m (days)
             WHERE known.moment >= (b.window_end + m.days)::timestamp AT TIME ZONE 'UTC'
             AND NOT EXISTS (SELECT FROM ponte.duel_figure f
                             WHERE f.duel_id = d.duel_id AND f.maturity_days = m.days))
        OR EXISTS (SELECT FROM ponte.label_read r WHERE r.batch_id = b.batch_id AND r.as_of > done.moment
                   AND r.new_labels + r.changed_labels + r.withdrawn_labels > 0)
        OR EXISTS (SELECT FROM ponte.label_seen l WHERE l.batch_id = b.batch_id AND l.origin = 'feedback'
                   AND l.seen_at > done.moment))
    ORDER BY d.duel_id"""
_DUE_OF_MODEL = sa.text(_DUE.format(which="d.model = :model"))
_DUE_OF_BATCHES = sa.text(_DUE.format(which="d.model = :model AND b.batch_id = ANY(:batches)"))
_DUE_OF_DUEL = sa.text(_DUE.format(which="d.duel_id = :id"))

_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtext('ponte.duel_figure'), hashtext(:model))")

_NEWEST = sa.text("""SELECT DISTINCT ON (maturity_days) maturity_days, label_digest FROM ponte.duel_figure
    WHERE duel_id = :id ORDER BY maturity_days, as_of DESC""")

# The windows of the duel against the champion of now that can be looked at, the oldest first.
_JUDGED = sa.text("""SELECT d.duel_id, max(f.as_of) AS moment
    FROM ponte.duel_batch d JOIN ponte.batch b USING (batch_id) JOIN ponte.duel_figure f USING (duel_id)
    WHERE d.event_id = :event_id AND b.version = :champion AND f.maturity_days = :days
    AND d.prediction_table IS NOT NULL AND b.prediction_table IS NOT NULL
    GROUP BY d.duel_id ORDER BY min(d.window_start), d.duel_id""")

_TAKEN = sa.text("""SELECT DISTINCT window_count FROM ponte.duel_look
    WHERE event_id = :event_id AND champion_version = :champion""")


def measure_duels(db: Database, folder: ModelFolder, batch_ids: Sequence[int] | None = None) -> dict[str, int]:
    """Measure every window of a duel whose labels have come or changed; return {windows, figures, looks}.

    batch_ids : only those of these batches, of the champion's.
    """
    values = {"model": folder.name, "days": list(folder.spec.monitoring.maturities)}
    query = _DUE_OF_MODEL if batch_ids is None else _DUE_OF_BATCHES.bindparams(batches=list(batch_ids))
    with db.begin() as connection:
        due = [row.duel_id for row in connection.execute(query, values)]
    counts = [_measure(db, folder, duel_id) for duel_id in due]
    looks = _look(db, folder)
    return {"windows": sum(count > 0 for count in counts), "figures": sum(counts), "looks": looks}


def _measure(db: Database, folder: ModelFolder, duel_id: int) -> int:
    maturities = sorted(set(folder.spec.monitoring.maturities))
    with db.begin() as connection:
        connection.execute(_LOCK, {"model": folder.name})  # twins take turns
        due = connection.execute(_DUE_OF_DUEL, {"id": duel_id, "days": maturities}).one_or_none()
        if due is None:
            return 0
        duel = read_duel(connection, duel_id)
        known = {row.maturity_days: row.label_digest for row in connection.execute(_NEWEST, {"id": duel_id})}
        receipt = Receipt(model=duel.model, step="measure_duels", batch_id=duel.batch_id, version=duel.version)
        with recorded(db, receipt) as receipt:
            passed, of_maturity, output = _pairs(
                db, connection, folder.spec, duel, moment=due.moment, maturities=maturities
            )
            receipt.row_count = max(map(len, of_maturity), default=0)
            rows: list[dict[str, Any]] = []
            for days, pairs in zip(passed, of_maturity, strict=True):
                # When nothing has changed at any of them, the last is marked as looked at.
                if known.get(days) == pairs.digest and (rows or days != passed[-1]):
                    continue
                of_window = {"duel_id": duel_id, "maturity_days": days, "label_digest": pairs.digest}
                confidence = folder.spec.evaluation.confidence
                rows += [
                    {**of_window, "as_of": due.moment, **_row(figure, pairs)}
                    for figure in compare(folder.spec, output, pairs, confidence=confidence)
                ]
            insert_rows(connection, "ponte.duel_figure", rows)
        return len(rows)


def _look(db: Database, folder: ModelFolder) -> int:
    """Take the looks that are due; return how many."""
    spec, model = folder.spec, folder.name
    days = min(spec.monitoring.maturities)
    with db.begin() as connection:
        connection.execute(_LOCK, {"model": model})
        champion, challenger = aliases.champion_of(connection, model), aliases.challenger(connection, model)
        if champion is None or challenger is None:
            return 0
        of_duel = {"event_id": challenger.event_id, "champion": champion.version}
        judged = connection.execute(_JUDGED, {**of_duel, "days": days}).all()
        taken = set(connection.execute(_TAKEN, of_duel).scalars())
        counts = [count for times in LOOKS if (count := times * spec.gate.duel_windows) <= len(judged)]
        due = [count for count in counts if count not in taken]
        if not due:
            return 0
        parts: list[Pairs] = []
        for row in judged[: max(due)]:
            duel = read_duel(connection, row.duel_id)
            _, [pairs], output = _pairs(db, connection, spec, duel, moment=row.moment, maturities=[days])
            parts.append(pairs)
        # Each look may err half as often, so that both together err no more often than one of that confidence.
        confidence = 1 - (1 - spec.evaluation.confidence) / len(LOOKS)
        for count in due:
            pairs = together(parts[:count])
            of_look = {
                "event_id": challenger.event_id,
                "champion_version": champion.version,
                "window_count": count,
                "maturity_days": days,
                "confidence": confidence,
                "as_of": max(row.moment for row in judged[:count]),
            }
            rows = [{**of_look, **_row(f, pairs)} for f in compare(spec, output, pairs, confidence=confidence)]
            insert_rows(connection, "ponte.duel_look", rows)
        return len(due)


def _pairs(
    db: Database,
    connection: sa.Connection,
    spec: ModelSpec,
    duel: Duel,
    *,
    moment: dt.datetime,
    maturities: Sequence[int],
) -> tuple[list[int], list[Pairs], Output]:
    """Return the maturities that had passed at the moment, the rows that count at each, and how the labels are."""
    batch = batches.read_batch(connection, duel.batch_id)
    beside = replace(batch, prediction_table=duel.prediction_table)
    for one in (batch, beside):
        lock_table(connection, one, quote(*batches.prediction_name(one)))
    ends = {days: midnight(batch.window_end) + dt.timedelta(days=days) for days in maturities}
    passed = [days for days in maturities if ends[days] <= moment]
    both = [
        read_outcomes(
            db,
            spec,
            one,
            registry.read_version(connection, duel.model, number),
            as_of=moment,
            moments=[ends[days] for days in passed],
        )
        for one, number in ((batch, batch.version), (beside, duel.version))
    ]
    return passed, [pairs_of(*both, place=place) for place in range(len(passed))], both[0].output


def _row(figure: Compared, pairs: Pairs) -> dict[str, Any]:
    return {
        "metric": figure.metric,
        "champion_value": figure.champion,
        "challenger_value": figure.challenger,
        "difference": figure.difference,
        "low": figure.low,
        "high": figure.high,
        "labelled_rows": len(pairs),
    }

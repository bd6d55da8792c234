"""The guard `alarm`: while an alarm that stops is open, people see nothing new of the versions that it is about."""

from __future__ import annotations

import sqlalchemy as sa

from ponte.batches.lifecycle import Batch
from ponte.guards.rules import GuardResult
from ponte.model.spec import Monitoring

# A drift that makes predictions better, as far as can be estimated, is no harm.
_STOPS = sa.text("""SELECT a.alarm_id, a.kind, a.opened_at::date AS since FROM ponte.alarm a
    WHERE a.model = :model AND a.kind = ANY(:kinds) AND a.state = 'open' AND NOT a.provisional
    AND a.evidence->>'outlook' IS DISTINCT FROM 'better'
    AND EXISTS (SELECT FROM ponte.alarm_event e WHERE e.alarm_id = a.alarm_id AND e.version = :version
                AND e.event IN ('opened', 'extended') AND NOT e.provisional)
    ORDER BY a.alarm_id""")


def judge_alarms(connection: sa.Connection, batch: Batch, rules: Monitoring) -> list[GuardResult]:
    """Return what the guard says of a batch; nothing when no alarm of the model would stop anything.

    An alarm that a person has acknowledged stops nothing, nor does a provisional one, nor one about other versions.
    """
    kinds = [k for k, reaction in (("quality", rules.on_quality), ("drift", rules.on_drift)) if reaction == "stop"]
    if not kinds:
        return []
    values = {"model": batch.model, "version": batch.version, "kinds": kinds}
    alarms = connection.execute(_STOPS, values).all()
    got = "; ".join(f"alarm {a.alarm_id} about {a.kind} is open since {a.since}" for a in alarms)
    return [
        GuardResult(
            guard="alarm",
            outcome="tripped" if alarms else "passed",
            got=got or "none is open",
            expected="no open alarm, or an acknowledged one (ponte__alarm)",
            evidence={"alarms": [a.alarm_id for a in alarms]},
        )
    ]

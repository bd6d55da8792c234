"""The gate's verdict on an evaluated version, kept with its evidence."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ponte.decisions.gate import Champion, Contract, decide
from ponte.decisions.promotion import next_step
from ponte.decisions.rules import RuleResult, Verdict
from ponte.errors import AliasMoved, PonteError
from ponte.model.folders import ModelFolder
from ponte.notices import writing as notices
from ponte.publishing.tables import WAY_OUT, changed_columns, columns_of_version, has_predictions
from ponte.quality.figures import CANDIDATE, READABLE, Figure, Measured, champion_subject
from ponte.snapshots.champion import why_not_comparable
from ponte.snapshots.lifecycle import get_snapshot
from ponte.storage.database import Database, insert_row
from ponte.storage.runs import Run
from ponte.versions import aliases, marks, registry
from ponte.versions.registry import Version

log = logging.getLogger(__name__)
# For logs that somebody keeps. On a bare terminal Python would print it beside the verdict that is shown there.
log.addHandler(logging.NullHandler())

# What readers see now: the class of a score is told by its place.
_CLASSES_SEEN = sa.text("""SELECT v.classes FROM ponte.published p JOIN ponte.batch b USING (batch_id)
    JOIN ponte.version v ON v.model = b.model AND v.version = b.version
    WHERE p.model = :model AND v.classes IS NOT NULL ORDER BY p.window_start DESC LIMIT 1""")

_VERDICT_OF_RUN = sa.text("""SELECT verdict_id, rules FROM ponte.gate_verdict
    WHERE model = :model AND version = :version AND run_key = :run_key""")

# Versions that were judged on a window that is in this version's holdout too, itself among them.
_TRIED = sa.text("""WITH holdout AS (
    SELECT v.version, (w->>'window_start')::date AS first, (w->>'window_end')::date AS end
    FROM ponte.version v JOIN ponte.snapshot s USING (snapshot_id)
    CROSS JOIN LATERAL jsonb_array_elements(s.windows) AS w
    WHERE v.model = :model AND (w->>'window_start')::date >= s.holdout_from
)
SELECT count(DISTINCT h.version) FROM holdout h JOIN holdout o ON h.first < o.end AND o.first < h.end
WHERE o.version = :version AND (h.version = :version
    OR EXISTS (SELECT FROM ponte.gate_verdict g WHERE g.model = :model AND g.version = h.version))""")

_FIGURES = sa.text("""SELECT subject, slice, name, value, low, high, row_count FROM ponte.metric
    WHERE model = :model AND version = :version AND snapshot_id = :snapshot_id""")


def judge(db: Database, folder: ModelFolder, version: int, snapshot_id: int, *, run: Run) -> tuple[int, Verdict]:
    """Return the verdict on an evaluated version, and its number in `ponte.gate_verdict`; a run gets it once.

    Raises AliasMoved when the champion is another one than was measured beside the version.
    """
    alias = aliases.current_alias(db, folder.name)
    figures = _figures(db, folder.name, version, snapshot_id)
    if not any(subject == CANDIDATE for subject, _, _ in figures):
        raise PonteError("the version was not evaluated", where=f"model {folder.name}, version {version}")
    judged = registry.get_version(db, folder.name, version)
    champion = Champion()
    if alias is not None and alias.version != version:
        champion = _champion_state(db, judged, snapshot_id, alias.version, figures)
    with db.begin() as connection:
        tried = connection.execute(_TRIED, {"model": folder.name, "version": version}).scalar_one()
    verdict = decide(
        folder.spec,
        model=folder.name,
        version=version,
        figures=figures,
        champion=champion,
        contract=_contract(db, judged),
        tried=tried,
    )
    values = {
        "model": folder.name,
        "version": version,
        "snapshot_id": snapshot_id,
        **run.row(),
        "passed": verdict.passed,
        "outcome": verdict.outcome,
        "champion_event_id": alias.event_id if alias else None,
        "rules": json.dumps([rule.as_json() for rule in verdict.rules]),
    }
    with db.begin() as connection:
        insert_row(connection, "ponte.gate_verdict", values, unless="model, version, run_key")
        # A retry gets the verdict of the first try, even if the champion has changed in between.
        verdict_id, rules = connection.execute(_VERDICT_OF_RUN, values).one()
        verdict = Verdict(model=folder.name, version=version, rules=tuple(RuleResult.from_json(rule) for rule in rules))
        _tell(connection, verdict_id, verdict, approval_required=folder.spec.promotion == "approval")
    level = logging.INFO if verdict.passed else logging.WARNING
    log.log(level, "%s (gate of %s version %d)\n%s", verdict.reason, folder.name, version, verdict.table())
    return verdict_id, verdict


def _tell(connection: sa.Connection, verdict_id: int, verdict: Verdict, *, approval_required: bool) -> None:
    """Write the notice of a verdict after which somebody has something to do, in the caller's transaction."""
    then = next_step(verdict, approval_required=approval_required)
    if not then:
        return
    refused = verdict.outcome == "refused"
    notices.add(
        connection,
        "version_refused" if refused else "question_waiting",
        subject=f"verdict {verdict_id}",
        model=verdict.model,
        what=f"the gate says of version {verdict.version}: {verdict.outcome}"
        + ("" if refused else "; whether it becomes champion is for a person to decide"),
        then=then,
        version=verdict.version,
    )


def _contract(db: Database, version: Version) -> Contract | None:
    """Return how the version's predictions fit those that people read; None before there are any."""
    with db.begin() as connection:
        changed = changed_columns(connection, version.model, columns_of_version(version))
        seen = connection.execute(_CLASSES_SEEN, {"model": version.model}).scalar_one_or_none()
        scored = has_predictions(connection, version.model)
    if changed is not None:
        return Contract(got=changed[0], expected=f"{changed[1]}: {WAY_OUT}", kept=False)
    if seen is not None and version.task == "binary" and tuple(seen[::-1]) == version.classes:
        got = f"a score is the probability of {version.classes[-1]}"
        expected = (
            f"of {seen[-1]}, as in the published predictions: set [training] positive = {json.dumps(seen[-1])} and "
            "train again, give the changed model a folder of its own, or promote by hand"
        )
        return Contract(got=got, expected=expected, kept=False)
    if seen is not None and tuple(seen) != version.classes:
        expected = f"classes {_listed(seen)}: give the changed model a folder of its own, or promote by hand"
        return Contract(got=f"classes {_listed(version.classes)}", expected=expected, kept=False)
    return Contract(got="they are", expected="the same", kept=True) if scored else None


def _listed(classes: Sequence[Any]) -> str:
    return ", ".join(str(c) for c in classes)


def _champion_state(
    db: Database, version: Version, snapshot_id: int, champion: int, figures: dict[tuple[str, str, str], Measured]
) -> Champion:
    if marks.is_bad(db, version.model, champion):
        return Champion(version=champion, state="bad")
    readable = figures.get((champion_subject(champion), "", READABLE))
    if readable is None:
        raise AliasMoved(
            f"the champion is version {champion}, which was not measured beside version {version.version}",
            where=f"model {version.model}",
            fix="it was promoted meanwhile: clear the task evaluate",
        )
    if readable.figure.value:
        return Champion(version=champion, state="measured")
    found = registry.get_version(db, version.model, champion)
    why = why_not_comparable(db, get_snapshot(db, snapshot_id), version, found)
    return Champion(version=champion, state="unreadable", why=why or "its files cannot predict these rows any more")


def _figures(db: Database, model: str, version: int, snapshot_id: int) -> dict[tuple[str, str, str], Measured]:
    with db.begin() as connection:
        rows = connection.execute(_FIGURES, {"model": model, "version": version, "snapshot_id": snapshot_id}).all()
    return {
        (r.subject, r.slice, r.name): Measured(
            subject=r.subject,
            slice=r.slice,
            name=r.name,
            figure=Figure(r.value, r.low, r.high),
            row_count=r.row_count,
        )
        for r in rows
    }

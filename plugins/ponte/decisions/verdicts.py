"""The gate's verdict on an evaluated version, kept with its evidence."""

from __future__ import annotations

import json
from dataclasses import asdict

import sqlalchemy as sa

from ponte.decisions.gate import Champion, RuleResult, Verdict, decide
from ponte.decisions.promotion import log
from ponte.errors import AliasMoved, PonteError
from ponte.model.folders import ModelFolder
from ponte.quality.figures import CANDIDATE, READABLE, Figure, Measured, champion_subject
from ponte.storage.database import Database, insert_row
from ponte.storage.runs import Run
from ponte.versions import aliases, marks

_VERDICT_OF_RUN = sa.text("""SELECT verdict_id, rules FROM ponte.gate_verdict
    WHERE model = :model AND version = :version AND run_key = :run_key""")

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
    champion = Champion()
    if alias is not None and alias.version != version:
        champion = _champion_state(db, folder.name, version, alias.version, figures)
    verdict = decide(folder.spec, model=folder.name, version=version, figures=figures, champion=champion)
    values = {
        "model": folder.name,
        "version": version,
        "snapshot_id": snapshot_id,
        **run.row(),
        "passed": verdict.passed,
        "champion_event_id": alias.event_id if alias else None,
        "rules": json.dumps([asdict(rule) for rule in verdict.rules]),
    }
    with db.begin() as connection:
        insert_row(connection, "ponte.gate_verdict", values, unless="model, version, run_key")
        # A retry gets the verdict of the first try, even if the champion has changed in between.
        verdict_id, rules = connection.execute(_VERDICT_OF_RUN, values).one()
    verdict = Verdict(model=folder.name, version=version, rules=tuple(RuleResult(**rule) for rule in rules))
    log.info("gate of %s version %d\n%s", folder.name, version, verdict.table())
    return verdict_id, verdict


def _champion_state(
    db: Database, model: str, version: int, champion: int, figures: dict[tuple[str, str, str], Measured]
) -> Champion:
    if marks.is_bad(db, model, champion):
        return Champion(version=champion, state="bad")
    readable = figures.get((champion_subject(champion), "", READABLE))
    if readable is None:
        raise AliasMoved(
            f"the champion is version {champion}, which was not measured beside version {version}",
            where=f"model {model}",
            fix="it was promoted meanwhile: clear the task evaluate",
        )
    return Champion(version=champion, state="measured" if readable.figure.value else "unreadable")


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

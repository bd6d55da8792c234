"""May a version become champion? Every rule leaves its figures."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import sqlalchemy as sa
from tabulate import tabulate

from ponte import registry
from ponte.catalog import ModelFolder
from ponte.database import Database
from ponte.errors import AliasMoved, PonteError
from ponte.evaluation import CANDIDATE, READABLE, champion_subject
from ponte.spec import METRICS, ModelSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleResult:
    """What one rule found."""

    rule: str
    got: str
    expected: str
    passed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the gate says of a version."""

    model: str
    version: int
    rules: tuple[RuleResult, ...]

    @property
    def passed(self) -> bool:
        """True when every rule passed."""
        return all(rule.passed for rule in self.rules)

    @property
    def reason(self) -> str:
        """One line for the log and for the alias event."""
        failed = [f"{r.rule}: {r.got}, expected {r.expected}" for r in self.rules if not r.passed]
        return "gate refused: " + "; ".join(failed) if failed else "gate passed"

    def table(self) -> str:
        """Return the rules as a plain text table."""
        rows = [(r.rule, r.got, r.expected, "yes" if r.passed else "NO") for r in self.rules]
        return str(tabulate(rows, headers=("rule", "got", "expected", "passed"), disable_numparse=True))


def decide(
    spec: ModelSpec,
    *,
    model: str,
    version: int,
    candidate: float,
    champion: float | None,
    champion_version: int | None,
) -> Verdict:
    """Return the verdict on `candidate`, the value of `[gate] metric` on the holdout.

    Two rules: it meets the declared bound, and it is not worse than the champion's value on the same rows. The bound
    alone decides without a champion, and with one that cannot predict these rows (`champion` is None): it cannot score
    the coming windows either, so keeping it would keep every window from being scored.
    """
    gate = spec.gate
    higher = METRICS[spec.task][gate.metric]
    bound = gate.minimum if higher else gate.maximum
    assert bound is not None

    def at_least_as_good(value: float, reference: float) -> bool:
        return value >= reference if higher else value <= reference

    sign = "≥" if higher else "≤"
    rules = [
        RuleResult(
            rule=f"{gate.metric} meets the bound",
            got=f"{candidate:.6g}",
            expected=f"{sign} {bound:g}",
            passed=at_least_as_good(candidate, bound),
        )
    ]
    if champion_version is not None:
        rules.append(
            RuleResult(
                rule=f"{gate.metric} is not worse than champion {champion_version}",
                got=f"{candidate:.6g}",
                expected=f"{sign} {champion:.6g}" if champion is not None else "nothing: it cannot predict these rows",
                passed=champion is None or at_least_as_good(candidate, champion),
            )
        )
    return Verdict(model=model, version=version, rules=tuple(rules))


def judge(db: Database, folder: ModelFolder, version: int, snapshot_id: int, *, run_id: str) -> tuple[int, Verdict]:
    """Return the verdict on an evaluated version, and its number in `ponte.gate_verdict`; a run gets it once."""
    alias = registry.current_alias(db, folder.name)
    rival = alias.version if alias is not None and alias.version != version else None
    figures = _figures(db, folder.name, version, snapshot_id, folder.spec.gate.metric)
    if CANDIDATE not in figures:
        raise PonteError("the version was not evaluated", where=f"model {folder.name}, version {version}")
    if rival is not None and not _measured(db, folder.name, version, snapshot_id, champion_subject(rival)):
        raise AliasMoved(
            f"the champion is version {rival}, which was not measured beside version {version}",
            where=f"model {folder.name}",
            fix="it was promoted meanwhile: clear the task evaluate",
        )
    verdict = decide(
        folder.spec,
        model=folder.name,
        version=version,
        candidate=figures[CANDIDATE],
        champion=figures.get(champion_subject(rival)) if rival is not None else None,
        champion_version=rival,
    )
    values = {
        "model": folder.name,
        "version": version,
        "snapshot_id": snapshot_id,
        "run_id": run_id,
        "passed": verdict.passed,
        "champion_event_id": alias.event_id if alias else None,
        "rules": json.dumps([asdict(rule) for rule in verdict.rules]),
    }
    insert = sa.text(
        f"INSERT INTO ponte.gate_verdict ({', '.join(values)}) VALUES ({', '.join(':' + name for name in values)}) "
        "ON CONFLICT (model, version, run_id) DO NOTHING"
    )
    query = sa.text(
        "SELECT verdict_id, rules FROM ponte.gate_verdict "
        "WHERE model = :model AND version = :version AND run_id = :run_id"
    )
    with db.begin() as connection:
        connection.execute(insert, values)
        # A retry gets the verdict of the first try, even if the champion has changed in between.
        verdict_id, rules = connection.execute(query, values).one()
    verdict = Verdict(model=folder.name, version=version, rules=tuple(RuleResult(**rule) for rule in rules))
    log.info("gate of %s version %d\n%s", folder.name, version, verdict.table())
    return verdict_id, verdict


def promote(db: Database, verdict_id: int, *, actor: str) -> registry.Alias | None:
    """Make the version of a passed verdict champion, if the champion is still the one it was held against.

    Return where the alias points, or None when the verdict did not pass. Raises AliasMoved when somebody else promoted
    in between.
    """
    query = sa.text("SELECT model, version, passed, champion_event_id FROM ponte.gate_verdict WHERE verdict_id = :id")
    with db.begin() as connection:
        verdict = connection.execute(query, {"id": verdict_id}).one()
    if not verdict.passed:
        return None
    current = registry.current_alias(db, verdict.model)
    if current is not None and current.version == verdict.version:
        return current
    return registry.move_alias(
        db,
        verdict.model,
        verdict.version,
        expected=registry.get_event(db, verdict.champion_event_id),
        actor=actor,
        reason="gate passed",
        evidence={"verdict_id": verdict_id},
    )


def _measured(db: Database, model: str, version: int, snapshot_id: int, subject: str) -> bool:
    """Tell whether the evaluation of the version has looked at this subject, readable or not."""
    return subject in _figures(db, model, version, snapshot_id, READABLE)


def _figures(db: Database, model: str, version: int, snapshot_id: int, metric: str) -> Mapping[str, float]:
    query = sa.text(
        "SELECT subject, value FROM ponte.metric WHERE model = :model AND version = :version "
        "AND snapshot_id = :snapshot_id AND name = :name"
    )
    parameters = {"model": model, "version": version, "snapshot_id": snapshot_id, "name": metric}
    with db.begin() as connection:
        return dict(connection.execute(query, parameters).all())

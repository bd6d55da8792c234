"""A duel is decided: the challenger becomes champion when it was shown to be no worse, else it is withdrawn.

Weeks that came after the training have one use: no version was chosen by them. So a duel answers what a holdout on
which many versions were tried cannot.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ponte.decisions.gate import MARGIN_SHARE
from ponte.duels.challengers import may_be_promoted
from ponte.duels.figures import LOOKS
from ponte.model.folders import ModelFolder
from ponte.model.spec import METRICS, ModelSpec
from ponte.publishing.tables import require_columns_of_earlier
from ponte.storage.database import Database
from ponte.storage.runs import Run
from ponte.versions import aliases, registry
from ponte.versions.aliases import Alias
from ponte.versions.marks import has_bad_mark

log = logging.getLogger(__name__)

_LOOK = sa.text("""SELECT * FROM ponte.duel_look
    WHERE event_id = :event_id AND champion_version = :champion AND metric = :metric AND window_count = ANY(:counts)
    ORDER BY window_count DESC LIMIT 1""")

_LOOKED = sa.text("""SELECT max(window_count) FROM ponte.duel_look
    WHERE event_id = :event_id AND champion_version = :champion AND window_count = ANY(:counts)""")

_PROMOTED_BY = sa.text("""SELECT event_id, version FROM ponte.alias_event
    WHERE model = :model AND alias = 'champion' AND evidence ? 'duel' AND evidence->>'run_key' = :run_key
    ORDER BY event_id DESC LIMIT 1""")

Told = Literal["no worse", "worse", "undecided"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What a duel came to."""

    #: none: there is nothing to decide; open: it goes on, or a person decides.
    outcome: Literal["none", "open", "promoted", "withdrawn"]
    why: str
    #: Where the champion alias points, when this run has moved it.
    champion: Alias | None = None


def told_by(low: float | None, high: float | None, *, higher_is_better: bool, margin: float) -> Told:
    """Return what the interval of "challenger minus champion" says.

    No worse: the whole interval is better than a loss of `margin`; worse: all of it is a loss of more than that.

    >>> told_by(-0.001, 0.009, higher_is_better=True, margin=0.002)
    'no worse'
    """
    if low is None or high is None:
        return "undecided"
    low, high = (low, high) if higher_is_better else (-high, -low)
    if low > -margin:
        return "no worse"
    return "worse" if high < -margin else "undecided"


def decide_duel(db: Database, folder: ModelFolder, *, run: Run, actor: str) -> Decision:
    """Decide the duel of a model, if `promotion` is "after_duel" and a look allows it.

    The champion and the end of the duel are one transaction. A repetition by the same run finds what it has decided.
    Raises PonteError when the challenger's predictions do not fit those that the model has made before.
    """
    spec, model = folder.spec, folder.name
    with db.begin() as connection:
        champion = aliases.lock_alias(connection, model)
        done = connection.execute(_PROMOTED_BY, {"model": model, "run_key": run.key}).one_or_none()
        if done is not None:
            moved = Alias(version=done.version, event_id=done.event_id)
            return Decision(outcome="promoted", why="this run has done so before", champion=moved)
        challenger = aliases.challenger(connection, model)
        if champion is None or challenger is None:
            return Decision(outcome="none", why="there is no challenger")
        duel = _Duel(connection, model, champion, challenger, run, actor)
        if challenger.version == champion.version or has_bad_mark(connection, model, challenger.version):
            return duel.withdraw("it is champion" if challenger.version == champion.version else "it is marked bad")
        if spec.promotion != "after_duel":
            return Decision(outcome="open", why='a person decides: promotion is not "after_duel"')
        return duel.end(*_look_at(connection, spec, champion, challenger))


@dataclass(frozen=True, slots=True)
class _Duel:
    """A duel that is decided in the transaction of `connection`, which holds the lock of decisions."""

    connection: sa.Connection
    model: str
    champion: Alias
    challenger: Alias
    run: Run
    actor: str

    @property
    def evidence(self) -> dict[str, Any]:
        return {"duel": self.challenger.event_id, "run_id": self.run.id, "run_key": self.run.key}

    def end(self, told: Literal["promote", "withdraw", "open"], why: str, figures: dict[str, Any]) -> Decision:
        if told == "withdraw":
            return self.withdraw(why, **figures)
        if told == "open":
            return Decision(outcome="open", why=why)
        if not may_be_promoted(self.connection, self.model, self.challenger.version):
            return Decision(outcome="open", why=f"{why}, but the gate has more against it: a person decides")
        return self._promote(why, figures)

    def withdraw(self, why: str, **figures: Any) -> Decision:
        evidence = {**self.evidence, **figures}
        aliases.move_challenger(
            self.connection, self.model, None, actor=self.actor, reason=f"duel: {why}", evidence=evidence
        )
        log.warning("challenger %d is withdrawn: %s", self.challenger.version, why)
        return Decision(outcome="withdrawn", why=why)

    def _promote(self, why: str, figures: dict[str, Any]) -> Decision:
        version = self.challenger.version
        require_columns_of_earlier(self.connection, registry.read_version(self.connection, self.model, version))
        moved = aliases.append_move(
            self.connection,
            self.model,
            version,
            expected=self.champion,
            actor=self.actor,
            reason=f"duel: {why}",
            evidence={**self.evidence, **figures},
        )
        ended = "duel: it became champion"
        aliases.move_challenger(
            self.connection, self.model, None, actor=self.actor, reason=ended, evidence=self.evidence
        )
        log.info("challenger %d becomes champion: %s", version, why)
        return Decision(outcome="promoted", why=why, champion=moved)


def _look_at(
    connection: sa.Connection, spec: ModelSpec, champion: Alias, challenger: Alias
) -> tuple[Literal["promote", "withdraw", "open"], str, dict[str, Any]]:
    """Return what the newest look says, in words too, and its figures."""
    metric, counts = spec.gate.metric, [times * spec.gate.duel_windows for times in LOOKS]
    values = {"event_id": challenger.event_id, "champion": champion.version, "metric": metric, "counts": counts}
    looked = connection.execute(_LOOKED, values).scalar_one()
    if looked is None:
        return "open", f"it waits for labels of {counts[0]} windows", {}
    look, last = connection.execute(_LOOK, values).one_or_none(), looked == counts[-1]
    told: Told = "undecided"
    figures: dict[str, Any] = {"windows": looked, "metric": metric}
    if look is not None and look.window_count == looked and look.labelled_rows >= spec.training.minimum_holdout_rows:
        margin = spec.gate.champion_margin
        margin = MARGIN_SHARE * abs(look.champion_value) if margin is None else margin
        told = told_by(look.low, look.high, higher_is_better=METRICS[spec.task][metric], margin=margin)
        figures |= {"difference": look.difference, "low": look.low, "high": look.high, "margin": margin}
        figures |= {"rows": look.labelled_rows, "confidence": look.confidence}
    interval = f" [{figures['low']:.4g}, {figures['high']:.4g}]" if figures.get("low") is not None else ""
    gap = f" {figures['difference']:.4g}{interval}, margin {figures['margin']:.3g}" if "difference" in figures else ""
    why = f"{told} than champion {champion.version} after {looked} windows, {metric}{gap}"
    why = why.replace("undecided than", "undecided against")
    if told == "no worse":
        return "promote", why, figures
    if told == "worse" or last:
        return "withdraw", why, figures
    return "open", f"{why}; decided after {counts[-1]} windows", figures

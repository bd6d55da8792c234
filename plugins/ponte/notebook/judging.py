"""Judge a version again, by the rules of today: after an edit of `[gate]` or `promotion` nothing has to be trained."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

from ponte.decisions import promotion, verdicts
from ponte.decisions.rules import Verdict
from ponte.duels import challengers
from ponte.notebook.surroundings import require_name, runtime_of
from ponte.quality import comparison
from ponte.schema import roles
from ponte.storage.runs import Run, person
from ponte.versions import registry
from ponte.versions.aliases import Alias


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A new verdict on a version, and what followed."""

    verdict_id: int
    verdict: Verdict
    #: Where the alias points after it; None when the verdict promotes nobody.
    alias: Alias | None
    #: What a person may do now; empty when nothing is left to do.
    next_step: str = ""

    def __str__(self) -> str:
        model, version = self.verdict.model, self.verdict.version
        done = f"Version {version} is the champion of {model}." if self.alias is not None else "Not promoted."
        lines = [self.verdict.reason, "", self.verdict.table(), "", f"{done} {self.next_step}".strip()]
        return "\n".join([f"{model}, version {version}, verdict {self.verdict_id}", *lines])

    __repr__ = __str__


def judge(model: str, version: int | None = None) -> Judged:
    """Judge a version, by default the newest, by the model folder of now; promote it if the model's mode lets it.

    The version is measured again beside the champion of now, on the rows that it was measured on when it was trained,
    and the verdict is recorded as a new one. Nothing is fitted. With `promotion = "approval"`, and when the verdict is
    undecided, a person decides: the next step says how.

    Raises PonteError naming the versions that there are, and what promoting raises: AliasMoved, VersionMarkedBad.
    """
    trainer = runtime_of(require_name(model), roles.TRAINER)
    folder = trainer.folder
    number = registry.newest(trainer.db, model) if version is None else version
    snapshot_id = registry.get_version(trainer.db, model, number).snapshot_id
    comparison.evaluate(trainer.db, trainer.store, folder, number, snapshot_id)
    promoter = runtime_of(model, roles.PROMOTER)
    run = Run(name := f"judge__{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%S}", f"{name}#{uuid.uuid4().hex}")
    verdict_id, verdict = verdicts.judge(promoter.db, folder, number, snapshot_id, run=run)
    asked = folder.spec.promotion == "approval"
    promoted = challengers.promote(promoter.db, folder.spec, verdict_id, actor=person())
    alias, then = promoted.champion, promoted.duel
    if alias is None and not then:
        then = promotion.next_step(verdict, approval_required=asked)
    return Judged(verdict_id=verdict_id, verdict=verdict, alias=alias, next_step=then)

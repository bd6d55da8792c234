"""What a decision would do, in words, before it is made: by the rules of the run that will make it, and read only.

A preview does not load a version, ask a source or take a lock. So a run may still refuse what a preview lets pass.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from ponte.decisions.rollback import Plan, foresee_rollback
from ponte.errors import HindsightRefused, NoChampion, PonteError, VersionMarkedBad, WindowError
from ponte.model.folders import ModelFolder
from ponte.model.windows import parse_day, resolve, resolve_as_of
from ponte.publishing.pointer import foresee_publication
from ponte.steering.actions import Action
from ponte.storage.database import Database
from ponte.versions import aliases, registry
from ponte.versions.choice import choose
from ponte.versions.marks import is_bad

#: Windows that are named in a sentence; of more it tells the number.
NAMED = 6

_SHOWN = sa.text("""SELECT b.batch_id, b.version, coalesce(b.row_count, 0) AS row_count
    FROM ponte.published p JOIN ponte.batch b USING (batch_id)
    WHERE b.model = :model AND b.window_start = :window""")
_ALARM = sa.text("SELECT kind, state, reason FROM ponte.alarm WHERE model = :model AND alarm_id = :alarm_id")


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """What would follow; without effects nothing would, and a warning says why.

    Problems are by field, "" for one of no field: with any, nothing would be done.
    """

    effects: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    #: What only the run can find out.
    open: tuple[str, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def startable(self) -> bool:
        """True when something would follow: only then is there a run to start."""
        return bool(self.effects) and not self.problems


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    db: Database
    folder: ModelFolder
    #: As `reading.read_form` gives it, of a form without problems.
    conf: Mapping[str, Any]
    now: dt.datetime

    @property
    def model(self) -> str:
        return self.folder.name


#: Error → the field that would let it pass, or that it is about.
_FIELDS: Mapping[type[PonteError], str] = {VersionMarkedBad: "allow_bad", HindsightRefused: "allow_hindsight"}


def foresee(action: Action, db: Database, folder: ModelFolder, conf: Mapping[str, Any], *, now: dt.datetime) -> Preview:
    """Return what the run of an action would do; what it would refuse is a problem, in its own words.

    db : as a role that reads registry, batches and publications.
    """
    asked = _Asked(db=db, folder=folder, conf=conf, now=now)
    try:
        return _PREVIEWS[action.name](asked)
    except PonteError as error:
        return Preview(problems={_field_of(action, error): _words(error)})


def _field_of(action: Action, error: PonteError) -> str:
    wanted = _FIELDS.get(type(error), "")
    if isinstance(error, WindowError):
        wanted = next((f.name for f in action.fields if f.kind in ("day", "days")), "")
    elif not wanted and not isinstance(error, NoChampion):
        wanted = next((f.name for f in action.fields if f.kind == "one"), "")
    return wanted if action.field(wanted) else ""


def _words(error: PonteError) -> str:
    parts = error.parts
    got = f": {parts['got']}" if "got" in parts else ""
    fix = f". {parts['fix'][0].upper()}{parts['fix'][1:]}" if "fix" in parts else ""
    return f"{error.what[0].upper()}{error.what[1:]}{got}{fix}."


def _named(days: Sequence[str]) -> str:
    found = ", ".join(days[:NAMED])
    return found if len(days) <= NAMED else f"{found} and {len(days) - NAMED} more"


def _windows(count: int) -> str:
    return f"{count} window{'s' if count != 1 else ''}"


def _them(windows: Sized) -> str:
    return "it" if len(windows) == 1 else "them"


# ---------------------------------------------------------------- each action


def _score(asked: _Asked) -> Preview:
    rule = asked.folder.spec.window
    window = resolve(rule, window_start=asked.conf.get("window_start"), interval_end=None, run_after=asked.now)
    allowed = bool(asked.conf.get("allow_hindsight"))
    choice = choose(asked.db, asked.model, window, now=asked.now, allow_hindsight=allowed)
    with asked.db.read_only() as connection:
        shown = connection.execute(_SHOWN, {"model": asked.model, "window": window.start}).one_or_none()
    then = "Nobody sees anything of it now; if the guards let it, people see the new batch."
    if shown is not None:
        then = (
            f"People see batch {shown.batch_id} of version {shown.version} now, {shown.row_count:,} rows. "
            "If the guards let it, the new batch takes its place; the old one is kept."
        )
    anew = (
        f"Freezes the window {window.start} to {window.end} anew, as of {window.as_of:%Y-%m-%d %H:%M} UTC, "
        f"and scores it with version {choice.version.version}: {choice.reason}."
    )
    hindsight = ("The version may have learned from what happened after: batch and rows are marked hindsight.",)
    return Preview(
        effects=(anew, then),
        warnings=hindsight if choice.hindsight else (),
        open=("what the source holds now", "what checks and guards say of it"),
    )


def _train(asked: _Asked) -> Preview:
    as_of = resolve_as_of(as_of=asked.conf.get("as_of"), interval_end=None, run_after=asked.now)
    spec = asked.folder.spec
    current = aliases.current_alias(asked.db, asked.model)
    beside = f"measures it beside version {current.version}" if current else "measures it; there is no champion yet"
    return Preview(
        effects=(
            f"Trains on {spec.training.windows} windows, as known at {as_of:%Y-%m-%d} 00:00 UTC.",
            f"Then {beside}, and asks the gate.",
            "Trained on the same rows, folder and libraries as before, it finds the same version again.",
        ),
        open=("what the source holds", "what the gate says; with approval, a person is asked"),
    )


def _roll_back(asked: _Asked) -> Preview:
    conf = asked.conf
    plan = foresee_rollback(
        asked.db,
        asked.folder,
        conf["version"],
        windows=[parse_day(day) for day in conf.get("windows", ())],
        every_window=bool(conf.get("every_window")),
        allow_bad=bool(conf.get("allow_bad")),
        allow_hindsight=bool(conf.get("allow_hindsight")),
        now=asked.now,
    )
    effects = sentences(plan, mark_bad=bool(conf.get("mark_bad")))
    if not effects:
        return Preview(warnings=("Nothing would change: the version is champion, and no window was chosen.",))
    warnings = []
    if not plan.kept and not plan.rescore:
        warnings.append("What people see of past windows stays as it is: no window was chosen.")
    return Preview(
        effects=tuple(effects),
        warnings=tuple(warnings),
        open=("whether the files of the version are whole",) + (("what checks say",) if plan.rescore else ()),
    )


def sentences(plan: Plan, *, mark_bad: bool) -> list[str]:
    """Return what a rollback will do, in words; empty when it would change nothing."""
    told = []
    if plan.from_version != plan.to_version:
        told.append(f"Moves champion {plan.from_version} → {plan.to_version}.")
    if plan.kept:
        told.append(
            f"Shows {_windows(len(plan.kept))} again as version {plan.to_version} has scored "
            f"{_them(plan.kept)} before: {_named(sorted(plan.kept))}."
        )
    if plan.rescore:
        shown = f"then shows {_them(plan.rescore)}: {_named(sorted(plan.rescore))}."
        told.append(f"Scores {_windows(len(plan.rescore))} anew, {shown}")
    if mark_bad and plan.from_version != plan.to_version:
        told.append(f"Marks version {plan.from_version} as bad.")
    return told


def _publish(asked: _Asked) -> Preview:
    batch = foresee_publication(asked.db, asked.conf["batch_id"], model=asked.model)
    with asked.db.read_only() as connection:
        shown = connection.execute(_SHOWN, {"model": asked.model, "window": batch.window_start}).one_or_none()
    instead = "before it nothing"
    if shown is not None:
        instead = f"instead of batch {shown.batch_id} of version {shown.version}, {shown.row_count:,} rows"
    told = f"Shows people batch {batch.batch_id} of version {batch.version} for {batch.window_start}"
    effects = [f"{told}, {batch.row_count or 0:,} rows, {instead}."]
    if asked.conf.get("new_normal"):
        effects.append(f"Guards and drift compare later windows only with windows from {batch.window_start} on.")
    return Preview(
        effects=tuple(effects),
        warnings=(f"A guard has rejected it: {batch.why}",) if batch.why else (),
        open=("whether its rows add up",),
    )


def _promote(asked: _Asked) -> Preview:
    version = registry.get_version(asked.db, asked.model, asked.conf["version"])
    current = aliases.current_alias(asked.db, asked.model)
    if current is not None and current.version == version.version:
        return Preview(warnings=(f"Nothing would change: version {version.version} is champion.",))
    bad = is_bad(asked.db, asked.model, version.version)
    if bad and not asked.conf.get("allow_bad"):
        return Preview(problems={"allow_bad": f"Version {version.version} is marked bad."})
    moved = f"{current.version} → {version.version}" if current else f"to version {version.version}"
    return Preview(
        effects=(
            f"Moves champion {moved}, from the next window on.",
            "What people see of past windows stays as it is.",
        ),
        warnings=(f"Version {version.version} is marked bad.",) if bad else (),
        open=("whether its files are whole", "whether its predictions fit the earlier ones"),
    )


def _mark(asked: _Asked) -> Preview:
    version, mark = asked.conf["version"], asked.conf["mark"]
    registry.get_version(asked.db, asked.model, version)
    current = aliases.current_alias(asked.db, asked.model)
    is_champion = mark == "bad" and current is not None and current.version == version
    warning = f"Version {version} is champion: no window is scored until another one is, or a rollback is made."
    return Preview(effects=(f"Marks version {version}: {mark}.",), warnings=(warning,) if is_champion else ())


def _judge(asked: _Asked) -> Preview:
    number = asked.conf.get("version") or registry.newest(asked.db, asked.model)
    registry.get_version(asked.db, asked.model, number)
    current = aliases.current_alias(asked.db, asked.model)
    beside = f" beside version {current.version}" if current and current.version != number else ""
    return Preview(
        effects=(f"Measures version {number}{beside} on the rows of its training, and asks the gate again.",),
        open=("what the gate says; what passes is promoted if the folder's promotion lets it",),
    )


def _challenge(asked: _Asked) -> Preview:
    version = registry.get_version(asked.db, asked.model, asked.conf["version"]).version
    champion = aliases.champion(asked.db, asked.model).version
    with asked.db.read_only() as connection:
        now = aliases.challenger(connection, asked.model)
    if asked.conf.get("withdraw"):
        if now is None or now.version != version:
            return Preview(problems={"version": f"Version {version} is not challenger."})
        return Preview(effects=(f"Ends the duel of version {version} with version {champion}.",))
    if version == champion:
        return Preview(problems={"version": "The champion cannot challenge itself."})
    if is_bad(asked.db, asked.model, version):
        return Preview(problems={"version": f"Version {version} is marked bad."})
    place = f", in the place of version {now.version}" if now and now.version != version else ""
    return Preview(
        effects=(f"Each week version {version} predicts beside version {champion}, unseen{place}.",),
        open=("whether their answers can be compared",),
    )


def _alarm(asked: _Asked) -> Preview:
    values = {"model": asked.model, "alarm_id": asked.conf["alarm_id"]}
    with asked.db.read_only() as connection:
        found = connection.execute(_ALARM, values).one_or_none()
    if found is None or found.state == "closed":
        what = "there is no such alarm" if found is None else "it is closed"
        return Preview(problems={"alarm_id": f"Alarm {asked.conf['alarm_id']} of {asked.model}: {what}."})
    done = "Acknowledges" if asked.conf["action"] == "acknowledge" else "Closes"
    return Preview(effects=(f"{done} alarm {asked.conf['alarm_id']} about {found.kind}: {found.reason[:300]}",))


_PREVIEWS: Mapping[str, Callable[[_Asked], Preview]] = {
    "score": _score, "train": _train, "roll-back": _roll_back, "publish": _publish, "promote": _promote, "mark": _mark,
    "judge": _judge, "challenge": _challenge, "alarm": _alarm,
}  # fmt: skip

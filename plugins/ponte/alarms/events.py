"""Alarms: one per episode, told once; what people say to them, and what follows from them.

Only events are kept, in `ponte.alarm_event`, and only appended; `ponte.alarm` says what they come to. Whoever writes
one holds a lock, so two at once take turns, and each finds what the other has written.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ponte.errors import PonteError
from ponte.model.folders import ModelFolder
from ponte.model.spec import METRICS
from ponte.notices import writing as notices
from ponte.storage.database import Database, insert_row
from ponte.storage.runs import Run

Kind = Literal["quality", "drift"]
#: What drift does, as far as the estimated quality of a batch tells. worse: the whole interval of the estimate is
#: beyond the gate's bound, or without one worse than the version's figure on its holdout; better: the whole interval is
#: better than that figure; unclear: neither; unknown: nothing was estimated.
Outlook = Literal["worse", "better", "unclear", "unknown"]

#: A retrain because of drift waits for so many windows of the episode.
DRIFT_WINDOWS = 3

_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtext('ponte.alarm'))")
_NEXT = sa.text("SELECT coalesce(max(alarm_id), 0) + 1 FROM ponte.alarm_event")
_OPEN = sa.text("SELECT * FROM ponte.alarm WHERE model = :model AND kind = :kind AND closed_at IS NULL")
_CLOSED = sa.text("""SELECT closed_at, event.window_start AS last_window
    FROM ponte.alarm JOIN ponte.alarm_event event USING (alarm_id)
    WHERE alarm.model = :model AND alarm.kind = :kind AND event.event = 'closed'""")
_BY_ID = sa.text("SELECT model, kind, state FROM ponte.alarm WHERE alarm_id = :alarm_id")
_WRITTEN = sa.text("""SELECT event_id FROM ponte.alarm_event
    WHERE alarm_id = :alarm_id AND event = :event AND run_key = :run_key""")
_LOOKS = sa.text("""SELECT alarm_id, window_start, maturity_days, version, evidence FROM ponte.alarm_event
    WHERE model = :model AND kind = :kind AND event IN ('opened', 'extended') ORDER BY event_id""")

# Of the champion of now: what another version did is no reason to train one.
_RETRAIN_DUE = sa.text("""SELECT a.alarm_id, a.kind, a.evidence FROM ponte.alarm a
    JOIN ponte.champion c USING (model)
    WHERE a.model = :model AND a.kind = ANY(:kinds) AND a.state = 'open' AND NOT a.provisional AND a.retrain_at IS NULL
    AND EXISTS (SELECT FROM ponte.alarm_event e WHERE e.alarm_id = a.alarm_id AND e.version = c.version
                AND e.event IN ('opened', 'extended') AND NOT e.provisional)
    ORDER BY a.kind DESC, a.alarm_id""")
_OWN_FIGURE = sa.text("""SELECT m.value FROM ponte.metric m JOIN ponte.version v USING (model, version, snapshot_id)
    WHERE m.model = :model AND m.version = :version AND m.subject = 'candidate' AND m.slice = ''
    AND m.name = :metric""")
_ESTIMATE = sa.text("""SELECT low, high FROM ponte.estimate WHERE batch_id = :batch AND metric = :metric
    ORDER BY method LIMIT 1""")

_RETRAIN_OF_RUN = sa.text("""SELECT alarm_id FROM ponte.alarm_event
    WHERE model = :model AND event = 'retrain' AND run_key = :run_key""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """What opens or extends an alarm: a window, and what is wrong with it."""

    model: str
    kind: Kind
    batch_id: int
    window_start: dt.date
    version: int
    provisional: bool
    reason: str
    evidence: Mapping[str, Any]
    metric: str | None = None
    maturity_days: int | None = None


def lock(connection: sa.Connection) -> None:
    """Until the transaction ends nobody else writes of an alarm."""
    connection.execute(_LOCK)


def open_alarm(connection: sa.Connection, model: str, kind: Kind) -> sa.RowMapping | None:
    """Return the row of `ponte.alarm` that is not closed, acknowledged or not; None: there is none."""
    return connection.execute(_OPEN, {"model": model, "kind": kind}).mappings().one_or_none()


def closings(connection: sa.Connection, model: str, kind: Kind) -> list[tuple[dt.datetime, dt.date | None]]:
    """Return of each closed alarm when it was closed, and after which window; None: a person closed it."""
    found = connection.execute(_CLOSED, {"model": model, "kind": kind})
    return [(row.closed_at, row.last_window) for row in found]


def causes(connection: sa.Connection, model: str, kind: Kind) -> list[sa.RowMapping]:
    """Return {alarm_id, window_start, maturity_days, version, evidence} of all that opened or extended alarms."""
    return list(connection.execute(_LOOKS, {"model": model, "kind": kind}).mappings())


def open_one(connection: sa.Connection, cause: Cause, *, run: Run) -> int:
    """Open an alarm, tell people, and return its number."""
    alarm_id = int(connection.execute(_NEXT).scalar_one())
    _append(connection, alarm_id, "opened", cause, run=run)
    notices.add(
        connection,
        "alarm_opened",
        subject=f"alarm {alarm_id}",
        model=cause.model,
        what=f"{'provisional, ' if cause.provisional else ''}{cause.kind}: {cause.reason}",
        then="look at ponte.alarm and, for the windows, at ponte."
        + ("quality" if cause.kind == "quality" else "drift")
        + f"; acknowledge or close alarm {alarm_id} with ponte__alarm",
        window_start=cause.window_start,
        batch_id=cause.batch_id,
        version=cause.version,
    )
    return alarm_id


def extend(connection: sa.Connection, alarm_id: int, cause: Cause, *, run: Run) -> None:
    """Append a further window, silently."""
    _append(connection, alarm_id, "extended", cause, run=run)


def _append(connection: sa.Connection, alarm_id: int, event: str, cause: Cause, *, run: Run) -> None:
    row = {name: getattr(cause, name) for name in Cause.__dataclass_fields__}
    row |= {"evidence": json.dumps(cause.evidence), "alarm_id": alarm_id, "event": event}
    insert_row(connection, "ponte.alarm_event", {**row, **run.row(), "actor": run.id})


def close(
    connection: sa.Connection,
    alarm_id: int,
    model: str,
    kind: Kind,
    *,
    actor: str,
    reason: str,
    run: Run,
    last_window: dt.date | None = None,
) -> None:
    """Close an alarm and tell people.

    last_window : the window after which the rules found it over; None: a person says so.
    """
    row = {"alarm_id": alarm_id, "model": model, "kind": kind, "event": "closed", "window_start": last_window}
    insert_row(connection, "ponte.alarm_event", {**row, **run.row(), "actor": actor, "reason": reason})
    notices.add(
        connection,
        "alarm_closed",
        subject=f"alarm {alarm_id}",
        model=model,
        what=f"{kind}: over after window {last_window}" if last_window else f"{kind}: a person has closed it",
        then="nothing; ponte.alarm says why",
        window_start=last_window,
    )


def outlook(
    estimate: tuple[float, float] | None, *, bound: float | None, own: float | None, higher_is_better: bool
) -> Outlook:
    """Return what an estimate means.

    estimate : lower and upper end of its interval; None: there is none.
    bound, own : what the gate demands, and what the version reached on its holdout; None: not known.
    """
    if estimate is None:
        return "unknown"
    sign = 1 if higher_is_better else -1
    worst, best = sorted(sign * end for end in estimate)
    limit = bound if bound is not None else own
    if limit is not None and best < sign * limit:
        return "worse"
    if own is not None and worst > sign * own:
        return "better"
    return "unclear"


def outlook_of(connection: sa.Connection, folder: ModelFolder, batch_id: int, version: int) -> Outlook:
    """Return what the estimate of the gate's metric says of a batch."""
    gate, higher = folder.spec.gate, METRICS[folder.spec.task][folder.spec.gate.metric]
    values = {"model": folder.name, "version": version, "metric": gate.metric, "batch": batch_id}
    own = connection.execute(_OWN_FIGURE, values).scalar_one_or_none()
    found = connection.execute(_ESTIMATE, values).one_or_none()
    bound = gate.minimum if higher else gate.maximum
    return outlook(None if found is None else (found.low, found.high), bound=bound, own=own, higher_is_better=higher)


def decide(
    db: Database,
    model: str,
    alarm_id: int,
    action: Literal["acknowledge", "close"],
    *,
    run: Run,
    actor: str,
    reason: str,
) -> str:
    """Append what a person says to an alarm; return its state: acknowledged or closed. A retry changes nothing.

    An acknowledged alarm goes on, and nothing follows from it any more; for a closed one the rules begin anew with the
    windows that are scored from now on. Raises PonteError when the model has no such alarm, or it is closed already.
    """
    event = {"acknowledge": "acknowledged", "close": "closed"}[action]
    with db.begin() as connection:
        lock(connection)
        alarm = connection.execute(_BY_ID, {"alarm_id": alarm_id}).one_or_none()
        if alarm is None or alarm.model != model:
            got = f"alarm {alarm_id}" + (f" of {alarm.model}" if alarm else "")
            raise PonteError("the model has no such alarm", where=f"model {model}", got=got, fix="see ponte.alarm")
        values = {"alarm_id": alarm_id, "event": event, "run_key": run.key}
        if connection.execute(_WRITTEN, values).scalar_one_or_none() is not None:
            return event
        if alarm.state == "closed":
            raise PonteError("the alarm is closed already", where=f"model {model}, alarm {alarm_id}")
        if action == "close":
            close(connection, alarm_id, model, alarm.kind, actor=actor, reason=reason, run=run)
        else:
            row = {**values, "model": model, "kind": alarm.kind, "actor": actor, "reason": reason}
            insert_row(connection, "ponte.alarm_event", row)
    return event


def ask_for_training(db: Database, folder: ModelFolder, *, run: Run) -> int | None:
    """Return the alarm because of which the model shall be trained now; None: there is none. Once per alarm.

    It is recorded before anybody acts on it, and the same run gets the same answer again. An alarm asks for a training
    when the model's reaction to its kind is "retrain", it is open, not acknowledged, not provisional and about the
    champion of now; one about drift only from DRIFT_WINDOWS windows on, and when harm is to be expected, or nobody can
    say: its `outlook` is `worse` or `unknown`.
    """
    rules = folder.spec.monitoring
    kinds = [k for k, reaction in (("quality", rules.on_quality), ("drift", rules.on_drift)) if reaction == "retrain"]
    if not kinds:
        return None
    with db.begin() as connection:
        lock(connection)
        found = connection.execute(_RETRAIN_OF_RUN, {"model": folder.name, "run_key": run.key}).scalar_one_or_none()
        if found is not None:
            return int(found)
        for alarm in connection.execute(_RETRAIN_DUE, {"model": folder.name, "kinds": kinds}):
            if alarm.kind == "drift" and not (
                alarm.evidence["episode_windows"] >= DRIFT_WINDOWS and alarm.evidence["outlook"] in ("worse", "unknown")
            ):
                continue
            row = {"alarm_id": alarm.alarm_id, "model": folder.name, "kind": alarm.kind, "event": "retrain"}
            why = f"[monitoring] on_{alarm.kind}"
            insert_row(connection, "ponte.alarm_event", {**row, **run.row(), "actor": run.id, "reason": why})
            return int(alarm.alarm_id)
    return None

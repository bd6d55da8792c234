"""The tasks of the monitoring DAG, in its order; then those that answer an alarm, and tell people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.configuration import conf

from ponte.errors import PonteError
from ponte.operators.base import MONITOR, PROMOTER, PonteOperator, actor_of, champion_asset, run_of
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    from ponte.notices.messages import Message
    from ponte.notices.sending import Channel

#: How many days back `ponte__tell` looks for windows that are late.
LOOK_BACK = 14


class ReadLabelsOperator(PonteOperator):
    """Read the labels of every batch of the model that was ever published, and of its live rows; keep what is new.

    With the labels.sql of the version that scored or answered, else with the folder's, as of now.
    Corrections that people gave are kept beside those of batches, if the model counts them.

    Returns `{batches, live_windows, new_labels, changed_labels, withdrawn_labels, corrections}`.
    Raises PonteError, after all, when the labels of one could not be read.
    """

    default_connection_id = MONITOR

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.monitoring.corrections import copy_corrections
        from ponte.monitoring.labels import read_labels, require_read
        from ponte.monitoring.live_outcomes import read_live_labels
        from ponte.monitoring.outcomes import ensure_outcomes_view

        now = datetime.now(UTC)
        batches = read_labels(runtime.db, runtime.folder, now=now)
        corrections = copy_corrections(runtime.db, runtime.folder, now=now)
        ensure_outcomes_view(runtime.db, self.model)
        live = read_live_labels(runtime.db, runtime.folder, now=now)
        require_read(self.model, [*batches, *live])
        names = ("new_labels", "changed_labels", "withdrawn_labels")
        sums = {name: sum(getattr(r, name) for r in (*batches, *live)) for name in names}
        return {"batches": len(batches), "live_windows": len(live), **sums, "corrections": corrections}


class MeasureOperator(PonteOperator):
    """Measure every batch and live window whose labels have changed, at each maturity; what was written stays.

    After that the months of live rows past [serving] keep_days are dropped, and new ones made ahead.

    Returns `{batches, live_windows, figures}`.
    """

    default_connection_id = MONITOR

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        from ponte.live.keeping import keep
        from ponte.monitoring.live_outcomes import measure_live
        from ponte.monitoring.realised import measure

        found = measure(runtime.db, runtime.folder)
        live = measure_live(runtime.db, runtime.folder)
        keep(runtime.db, self.model, runtime.folder.spec.serving.keep_days, now=datetime.now(UTC))
        return {**found, **live, "figures": found["figures"] + live["figures"]}


class JudgeDriftOperator(PonteOperator):
    """Judge whether a published batch is like the windows that its version knows, once; its drift rejects nothing.

    In the scoring DAG after `PublishOperator`; a failure of it is red and holds nothing up, and the monitoring DAG
    judges the batch later, and live windows that have ended.

    batch_id : what `FreezeBatchOperator` has returned; empty: all that has no verdict, batches that were published once
        and live windows.
    Returns the state of each family of the batch, `{features, answers}`; without a batch_id how many were judged,
        `{batches, live_windows}`.
    """

    template_fields = ("batch_id",)

    def __init__(self, *, batch_id: Any = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.monitoring.judging import judge_batch, judge_published
        from ponte.monitoring.live_windows import judge_live

        if self.batch_id == "":
            batches = judge_published(runtime.db, self.model)
            live = judge_live(runtime.db, self.model, now=datetime.now(UTC))
            return {"batches": len(batches), "live_windows": len(live)}
        return judge_batch(runtime.db, self.begin_batch(runtime, self.batch_id))


class MeasureDuelsOperator(PonteOperator):
    """Hold champion and challenger against each other on the labels that have come, window by window and together.

    Returns `{windows, figures, looks}`.
    """

    default_connection_id = MONITOR

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        from ponte.duels.figures import measure_duels

        return measure_duels(runtime.db, runtime.folder)


class DecideDuelOperator(PonteOperator):
    """Make the challenger champion or withdraw it, when the model is promoted after a duel and its weeks have told.

    Returns `{outcome, why}`, and `{version, alias_event_id}` when it was promoted.
    Emits `<model>_champion`.
    Raises PonteError when its predictions do not fit those that the model has made before.
    """

    default_connection_id = PROMOTER

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.duels.deciding import decide_duel

        run = run_of(context)
        decision = decide_duel(runtime.db, runtime.folder, run=run, actor=run.id)
        told: dict[str, Any] = {"outcome": decision.outcome, "why": decision.why}
        if decision.champion is not None:
            moved = {"version": decision.champion.version, "alias_event_id": decision.champion.event_id}
            self.announce(context, champion_asset(self.model), moved)
            told |= moved
        return told


class AllDoneOperator(PonteOperator):
    """Fail when a task before it has failed: the last one of a DAG in which tasks go on after a failure.

    Give it all others as upstream; without it the run would be green when its last tasks are.

    Returns nothing.
    """

    default_connection_id = MONITOR

    def execute(self, context: Context) -> None:
        """Do nothing; Airflow runs it only when all before it have succeeded."""


class WatchOperator(PonteOperator):
    """Hold quality and drift against the rules of alarms: open, extend and close what is to be.

    Returns `{opened, extended, closed}`: numbers of alarms.
    """

    default_connection_id = MONITOR

    def run(self, runtime: Runtime, context: Context) -> dict[str, list[int]]:
        from dataclasses import asdict

        from ponte.alarms.watching import watch

        return asdict(watch(runtime.db, runtime.folder, run=run_of(context)))


class RetrainOperator(PonteOperator):
    """Start `<model>__train` because of an alarm, once per alarm, if `[monitoring]` says so; else skipped.

    Its run is called `alarm_<number>`. It goes its usual way: the gate decides whether the version becomes champion.

    Returns nothing.
    Raises AirflowSkipException when no alarm asks for one.
    """

    default_connection_id = MONITOR

    def run(self, runtime: Runtime, context: Context) -> None:
        from airflow.sdk.exceptions import AirflowSkipException, DagRunTriggerException

        from ponte.alarms.events import ask_for_training

        alarm_id = ask_for_training(runtime.db, runtime.folder, run=run_of(context))
        if alarm_id is None:
            raise AirflowSkipException("no alarm asks for a training")
        self.log.warning("alarm %d asks for a training", alarm_id)
        # As TriggerDagRunOperator does, without what that loads into every DAG file. The id makes it once for Airflow.
        raise DagRunTriggerException(
            trigger_dag_id=f"{self.model}__train",
            dag_run_id=f"alarm_{alarm_id}",
            conf=None,
            logical_date=None,
            reset_dag_run=False,
            skip_when_already_exists=True,
            wait_for_completion=False,
            allowed_states=[],
            failed_states=[],
            poke_interval=60,
            deferrable=False,
            note=f"because of alarm {alarm_id}",
        )


class DecideAlarmOperator(PonteOperator):
    """Append to the alarm of the form what a person says: it is known (acknowledge), or over (close).

    Params: `alarm_id`, `action`, `reason`.
    Returns `{alarm_id, state}`.
    Raises PonteError when the model has no such alarm, or it is closed already.
    """

    default_connection_id = PROMOTER
    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.alarms.events import decide

        form = context["params"]
        state = decide(
            runtime.db,
            self.model,
            form["alarm_id"],
            form["action"],
            run=run_of(context),
            actor=actor_of(context),
            reason=form["reason"],
        )
        return {"alarm_id": form["alarm_id"], "state": state}


class FindLateOperator(PonteOperator):
    """Write a notice of each window that nobody sees `[monitoring] late_hours` after its scheduled run was due.

    Of every model with a schedule, from its first publication on, as far as LOOK_BACK days back; a model folder that is
    broken is passed over: its own DAGs tell.

    Returns first days of late windows by model.
    """

    default_connection_id = MONITOR

    def run(self, runtime: Runtime, context: Context) -> dict[str, list[str]]:
        from ponte.model.folders import ModelFolder, find_folders
        from ponte.model.spec import ON_DEMAND
        from ponte.model.windows import window_of_tick
        from ponte.notices.late import note_late
        from ponte.operators.timetable import BoundedCronTimetable
        from ponte.runtime import models_root

        now, found = datetime.now(UTC), {}
        for folder in find_folders(models_root()):
            if not isinstance(folder, ModelFolder) or folder.spec.schedule.score == ON_DEMAND:
                continue
            schedule, rules = folder.spec.schedule, folder.spec.monitoring
            timetable = BoundedCronTimetable(schedule.score, start=schedule.start, end=schedule.end)
            due: dict[Any, datetime] = {}
            for moment in timetable.due_between(now - timedelta(days=LOOK_BACK), now):
                due.setdefault(window_of_tick(folder.spec.window, moment).start, moment)
            late = note_late(runtime.db, folder.name, due, hours=rules.late_hours, now=now)
            if late:
                found[folder.name] = [str(window) for window in late]
        return found


class TellOperator(PonteOperator):
    """Send every notice that is unsent, of all models, by each channel of PONTE_NOTIFIERS; without one, nothing.

    Make it a teardown at the end of a DAG: it runs after a failure too, and its own fails no run. What it cannot send
    the next one does.

    Returns how many notices each channel has taken.
    Raises PonteError when PONTE_NOTIFIERS cannot be read, or a channel did not take a notice.
    """

    default_connection_id = MONITOR
    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        import os

        channels = channels_of(os.environ.get("PONTE_NOTIFIERS", ""), context)
        if not channels:
            return {}
        from ponte.notices.sending import send_unsent

        base_url = conf.get("api", "base_url", fallback="") or "http://localhost:8080"
        return send_unsent(runtime.db, channels, base_url=base_url)


def channels_of(text: str, context: Any) -> dict[str, Channel]:
    """Return the channels that PONTE_NOTIFIERS names.

    text : JSON, `{"smtp": {"to": "..."}, "slack": {...}, "http": {...}}`: what each of Airflow's notifiers is made
    with, beside the message itself; empty for none. Raises PonteError when it is anything else.
    """
    import json

    if not text.strip():
        return {}
    fix = """for example PONTE_NOTIFIERS='{"smtp": {"to": "team@example.org"}}'"""
    expected = f"a JSON object by channel: {', '.join(_NOTIFIERS)}"
    try:
        found = json.loads(text)
    except ValueError:
        raise PonteError("no JSON", where="PONTE_NOTIFIERS", expected=expected, fix=fix) from None
    if not isinstance(found, dict) or not all(isinstance(arguments, dict) for arguments in found.values()):
        raise PonteError("no object of objects", where="PONTE_NOTIFIERS", expected=expected, fix=fix)
    if unknown := sorted(set(found) - set(_NOTIFIERS)):
        raise PonteError("no such channel", where="PONTE_NOTIFIERS", got=", ".join(unknown), expected=expected, fix=fix)
    return {name: _channel(name, arguments, context) for name, arguments in found.items()}


def _channel(name: str, arguments: dict[str, Any], context: Any) -> Channel:
    make = _NOTIFIERS[name]

    def take(message: Message) -> None:
        # Not called, which would take what a message says for a template.
        make(message, arguments).notify(context)

    return take


def _smtp(message: Message, arguments: dict[str, Any]) -> Any:
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    headers = {"Message-ID": f"<{message.id}@ponte>", **arguments.get("custom_headers", {})}
    given = {**arguments, "custom_headers": headers}
    return SmtpNotifier(subject=message.title, html_content=message.html, **given)


def _slack(message: Message, arguments: dict[str, Any]) -> Any:
    from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

    return SlackWebhookNotifier(text=message.text, **arguments)


def _http(message: Message, arguments: dict[str, Any]) -> Any:
    from airflow.providers.http.notifications.http import HttpNotifier

    return HttpNotifier(json=message.as_json(), **arguments)


_NOTIFIERS: dict[str, Callable[[Message, dict[str, Any]], Any]] = {"smtp": _smtp, "slack": _slack, "http": _http}

"""The tasks of the DAGs by which a person decides, in the order of `dags/decide.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import (
    PROMOTER,
    TRAINER,
    PonteOperator,
    actor_of,
    champion_asset,
    predictions_asset,
    run_of,
)
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class SetChampionOperator(PonteOperator):
    """Verify the version's files and move the alias, whatever the gate said. Published windows stay as they are.

    Params: `version`, `reason`, `allow_bad`.
    Returns `{version, alias_event_id}`.
    Emits `<model>_champion`, unless the version was champion already.
    Raises PonteError for an unknown version, or one whose predictions do not fit earlier ones; ArtifactRefused when its
        files or libraries are not those registered; VersionMarkedBad unless `allow_bad`.
    """

    default_connection_id = PROMOTER
    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        from ponte.decisions.promotion import moved_by, set_champion
        from ponte.versions.loading import load_registered
        from ponte.versions.registry import get_version

        form = context["params"]
        self.begin(version=form["version"])
        version = get_version(runtime.db, self.model, form["version"])
        load_registered(runtime.db, runtime.store, version)
        alias = set_champion(
            runtime.db,
            version,
            run=run_of(context),
            actor=actor_of(context),
            reason=form["reason"],
            allow_bad=form["allow_bad"],
        )
        self.say(context, "is champion")
        champion = {"version": alias.version, "alias_event_id": alias.event_id}
        if moved_by(runtime.db, version, run=run_of(context)):
            self.announce(context, champion_asset(self.model), champion)
        return champion


class ChallengeOperator(PonteOperator):
    """Make the form's version challenger, in the place of another one, or withdraw it.

    Params: `version`, `reason`, `withdraw`.
    Returns `{version, alias_event_id}`; version is None when it was withdrawn.
    Raises NoChampion; VersionMarkedBad; PonteError for an unknown version, the champion, one whose answers cannot be
        compared with the champion's, or, to be withdrawn, one that is not challenger.
    """

    default_connection_id = PROMOTER
    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.duels.challengers import set_challenger, withdraw_challenger

        form = context["params"]
        self.begin(version=form["version"])
        self.say(context, "withdrawn" if form["withdraw"] else "challenger", form["reason"], log=False)
        act = withdraw_challenger if form["withdraw"] else set_challenger
        event_id = act(
            runtime.db,
            self.model,
            form["version"],
            run=run_of(context),
            actor=actor_of(context),
            reason=form["reason"],
        )
        return {"version": None if form["withdraw"] else form["version"], "alias_event_id": event_id}


class MeasureAgainOperator(PonteOperator):
    """Measure the form's version, the newest without one, beside the champion of now, on the rows of its training.

    Nothing is fitted.

    Params: `version`.
    Returns `{version, snapshot_id}`.
    Raises PonteError for an unknown version, or before there is one; ArtifactRefused when its files or libraries are
        not those registered.
    """

    default_connection_id = TRAINER
    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        from ponte.quality.comparison import evaluate
        from ponte.versions.registry import get_version, newest

        number = context["params"]["version"] or newest(runtime.db, self.model)
        self.begin(version=number)
        snapshot_id = get_version(runtime.db, self.model, number).snapshot_id
        evaluate(runtime.db, runtime.store, runtime.folder, number, snapshot_id)
        return {"version": number, "snapshot_id": snapshot_id}


class PlanRollbackOperator(PonteOperator):
    """Hold the form against registry and publications. Nothing moves yet.

    Params: `version`, `windows`, `every_window`, `mark_bad`, `allow_bad`, `allow_hindsight`; `dry_run`, if the DAG has
        it: whether to say what would follow, and do none of it.
    Returns the first days of the windows to score, none in a dry run, for `StageWindowOperator` to be mapped over; what
        `RollBackOperator` takes is a second XCom, `plan`.
    Raises PonteError for an unknown version; NoChampion; VersionMarkedBad unless `allow_bad`; ArtifactRefused;
        WindowError; HindsightRefused unless `allow_hindsight`.
    """

    default_connection_id = PROMOTER
    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> list[str]:
        from dataclasses import asdict
        from datetime import UTC, datetime

        from ponte.decisions.rollback import plan_rollback
        from ponte.model.windows import parse_day
        from ponte.steering.previews import sentences

        form = context["params"]
        self.begin(version=form["version"])
        plan = plan_rollback(
            runtime.db,
            runtime.store,
            runtime.folder,
            form["version"],
            windows=[parse_day(day) for day in form["windows"] or ()],
            every_window=form["every_window"],
            allow_bad=form["allow_bad"],
            allow_hindsight=form["allow_hindsight"],
            now=datetime.now(UTC),
        )
        context["ti"].xcom_push(key="plan", value=asdict(plan))
        if form.get("dry_run"):
            for sentence in sentences(plan, mark_bad=form["mark_bad"]):
                self.log.info("would follow: %s", sentence)
            self.say(
                context, "dry run: nothing is done", f"{len(plan.kept)} windows kept, {len(plan.rescore)} to score"
            )
            return []
        self.say(context, f"{len(plan.rescore)} windows to score")
        return list(plan.rescore)  # a task can be mapped over the returned value only


class StageWindowOperator(PonteOperator):
    """Freeze, check and score a window with the version of the form. People do not see it yet.

    window_start : first day of the window; an entry of what `PlanRollbackOperator` has returned.
    Params: `version`, `allow_hindsight`.
    Returns `{batch_id, window_start, rows}`.
    Raises what the operators of scoring raise: WindowError, HindsightRefused, SignatureMismatch, BatchRejected,
        ArtifactRefused, UnpredictableRows, RowsLost, Fenced.
    """

    template_fields = ("model", "window_start")

    def __init__(self, *, window_start: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.window_start = window_start

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from datetime import UTC, datetime

        from ponte.model.windows import parse_day
        from ponte.scoring.window import stage_window

        form = context["params"]
        self.begin(window=self.window_start, version=form["version"])
        batch = stage_window(
            runtime.db,
            runtime.store,
            runtime.folder,
            form["version"],
            parse_day(self.window_start),
            run=run_of(context),
            now=datetime.now(UTC),
            allow_hindsight=form["allow_hindsight"],
        )
        self.begin(rows=batch.row_count)
        self.say(context, "scored, seen by nobody yet")
        return {"batch_id": batch.batch_id, "window_start": str(batch.window_start), "rows": batch.row_count}


class RollBackOperator(PonteOperator):
    """Move the alias and the windows in one transaction; a repetition by its run changes nothing.

    plan : the XCom `plan` that `PlanRollbackOperator` has left.
    Params: `reason`, `mark_bad`, `allow_bad`, `dry_run`.
    Returns `{rollback_id, from_version, to_version, alias_event_id, windows}`, of each window `{window_start, batch_id,
        previous_batch_id, rescored}`.
    Emits `<model>_champion` when the alias has moved, `<model>_predictions` when people see another batch of any
        window.
    Raises AirflowSkipException in a dry run; AliasMoved when the champion has moved since the plan; Fenced when a newer
        run has taken a window; RowsLost; VersionMarkedBad unless `allow_bad`.
    """

    default_connection_id = PROMOTER
    template_fields = ("model", "plan")

    def __init__(self, *, plan: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from dataclasses import asdict

        from airflow.sdk.exceptions import AirflowSkipException

        from ponte.decisions.rollback import Plan, roll_back
        from ponte.publishing.pointer import changes

        form = context["params"]
        if form.get("dry_run"):
            raise AirflowSkipException("a dry run: nothing was done")
        done = roll_back(
            runtime.db,
            Plan(**self.plan),
            run=run_of(context),
            actor=actor_of(context),
            reason=form["reason"],
            mark_bad=form["mark_bad"],
            allow_bad=form["allow_bad"],
        )
        self.begin(version=done.to_version)
        self.say(
            context, f"rolled back from version {done.from_version}", f"windows: {len(done.windows)}", form["reason"]
        )
        if done.alias_event_id is not None:
            moved = {"version": done.to_version, "alias_event_id": done.alias_event_id, "rollback_id": done.rollback_id}
            self.announce(context, champion_asset(self.model), moved)
        if seen := changes(runtime.db, rollback_id=done.rollback_id):
            self.announce(context, predictions_asset(self.model), seen)
        return asdict(done)


class MarkVersionOperator(PonteOperator):
    """Append the form's mark to a version.

    Params: `version`, `mark`, `reason`.
    Returns `{mark_id, mark}`.
    Raises PonteError for an unknown version.
    """

    default_connection_id = PROMOTER
    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.versions.marks import mark_version

        form = context["params"]
        self.begin(version=form["version"])
        self.say(context, f"marked {form['mark']}", form["reason"], log=False)
        return mark_version(
            runtime.db,
            self.model,
            form["version"],
            form["mark"],
            run=run_of(context),
            actor=actor_of(context),
            reason=form["reason"],
        )


class PreparePublicationOperator(PonteOperator):
    """Make the batch of the form a partition that nobody sees yet: its table is the scorer's, the decision is not.

    Does nothing to a batch that no guard has rejected.

    Params: `batch_id`.
    Returns nothing.
    Raises PonteError when the model has no such batch.
    """

    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> None:
        from ponte.publishing.pointer import prepare_publication

        prepare_publication(runtime.db, context["params"]["batch_id"], model=self.model)


class PublishBatchOperator(PonteOperator):
    """Publish the batch of the form although a guard has tripped, with the reason.

    Params: `batch_id`, `reason`; `new_normal`, if the DAG has it: whether later windows are compared only with windows
        from this one on.
    Returns `{batch_id, previous_batch_id, rows}`; previous_batch_id is None when people saw nothing of the window
        before.
    Emits `<model>_predictions`.
    Raises PonteError when no guard has rejected the batch, or it is another model's; Fenced when a newer run has
        claimed the window; VersionMarkedBad; RowsLost.
    """

    default_connection_id = PROMOTER
    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.publishing.pointer import changes, publish_anyway

        form = context["params"]
        done = publish_anyway(
            runtime.db,
            form["batch_id"],
            model=self.model,
            run_id=context["dag_run"].run_id,
            actor=actor_of(context),
            reason=form["reason"],
            new_normal=bool(context["params"].get("new_normal")),
        )
        seen = changes(runtime.db, batch_id=done.batch_id)
        if seen:
            self.begin(window=seen["windows"][0]["window_start"], version=seen["version"], rows=done.row_count)
            self.say(context, "published anyway", form["reason"])
            self.announce(context, predictions_asset(self.model), seen)
        return {"batch_id": done.batch_id, "previous_batch_id": done.previous_batch_id, "rows": done.row_count}

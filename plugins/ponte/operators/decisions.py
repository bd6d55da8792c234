"""The tasks of the DAGs by which a person decides, in the order of `dags/decide.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import (
    PROMOTER,
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
    """Verify the version's files and move the alias, whatever the gate said; returns `{version, alias_event_id}`."""

    default_connection_id = PROMOTER
    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        from ponte.decisions.promotion import moved_by, set_champion
        from ponte.versions.loading import load_registered
        from ponte.versions.registry import get_version

        form = context["params"]
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
        champion = {"version": alias.version, "alias_event_id": alias.event_id}
        if moved_by(runtime.db, version, run=run_of(context)):
            self.announce(context, champion_asset(self.model), champion)
        return champion


class PlanRollbackOperator(PonteOperator):
    """Hold the form against registry and publications; returns the windows to score, and `plan` as a second XCom."""

    default_connection_id = PROMOTER
    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> list[str]:
        from dataclasses import asdict
        from datetime import UTC, datetime

        from ponte.decisions.rollback import plan_rollback
        from ponte.model.windows import parse_day

        form = context["params"]
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
        return list(plan.rescore)  # a task can be mapped over the returned value only


class StageWindowOperator(PonteOperator):
    """Freeze, check and score a window; returns `{batch_id, window_start, rows}`. People do not see it yet."""

    template_fields = ("model", "window_start")

    def __init__(self, *, window_start: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.window_start = window_start

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from datetime import UTC, datetime

        from ponte.model.windows import parse_day
        from ponte.scoring.window import stage_window

        form = context["params"]
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
        return {"batch_id": batch.batch_id, "window_start": str(batch.window_start), "rows": batch.row_count}


class RollBackOperator(PonteOperator):
    """Move the alias and the windows in one transaction; returns `{rollback_id, from_version, to_version, windows}`."""

    default_connection_id = PROMOTER
    template_fields = ("model", "plan")

    def __init__(self, *, plan: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from dataclasses import asdict

        from ponte.decisions.rollback import Plan, roll_back
        from ponte.publishing.pointer import changes

        form = context["params"]
        done = roll_back(
            runtime.db,
            Plan(**self.plan),
            run=run_of(context),
            actor=actor_of(context),
            reason=form["reason"],
            mark_bad=form["mark_bad"],
            allow_bad=form["allow_bad"],
        )
        if done.alias_event_id is not None:
            moved = {"version": done.to_version, "alias_event_id": done.alias_event_id, "rollback_id": done.rollback_id}
            self.announce(context, champion_asset(self.model), moved)
        if seen := changes(runtime.db, rollback_id=done.rollback_id):
            self.announce(context, predictions_asset(self.model), seen)
        return asdict(done)


class MarkVersionOperator(PonteOperator):
    """Append the form's mark; returns `{mark_id, mark}`."""

    default_connection_id = PROMOTER
    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.versions.marks import mark_version

        form = context["params"]
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
    """Make the batch of the form a partition that nobody sees yet: its table is the scorer's, the decision is not."""

    template_fields = ("model",)

    def run(self, runtime: Runtime, context: Context) -> None:
        from ponte.publishing.pointer import prepare_publication

        prepare_publication(runtime.db, context["params"]["batch_id"], model=self.model)


class PublishBatchOperator(PonteOperator):
    """Publish the batch of the form although a guard has tripped; returns `{batch_id, previous_batch_id, rows}`."""

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
        )
        if seen := changes(runtime.db, batch_id=done.batch_id):
            self.announce(context, predictions_asset(self.model), seen)
        return {"batch_id": done.batch_id, "previous_batch_id": done.previous_batch_id, "rows": done.row_count}

"""The tasks of the training DAG, in its order; only the question to a person is in `approval`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import PROMOTER, TRAINER, PonteOperator, champion_asset, run_of
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class FreezeWindowsOperator(PonteOperator):
    """Freeze the labelled rows of the latest matured windows, as they were known at the run's moment.

    as_of : a day, as text, for 00:00 UTC of it; empty: the day on which the run's data interval ends, or it was asked
        for. By default the run's param of that name.
    Returns `{snapshot_id, rows}`, each an XCom of its own too.
    Raises ModelFolderError; WindowError when as_of is still to come; TrainingRefused without labelled rows; RowsLost.
    """

    default_connection_id = TRAINER
    template_fields = ("as_of",)

    def __init__(self, *, as_of: str = "{{ params.as_of or '' }}", **kwargs: Any) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.as_of = as_of

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.model.windows import matured_windows, resolve_as_of
        from ponte.snapshots.freezing import freeze_snapshot

        spec, dag_run = runtime.folder.spec, context["dag_run"]
        as_of = resolve_as_of(
            as_of=self.as_of or None, interval_end=dag_run.data_interval_end, run_after=dag_run.run_after
        )
        windows = matured_windows(
            spec.window, as_of=as_of, count=spec.training.windows, label_delay_days=spec.training.label_delay_days
        )
        snapshot = freeze_snapshot(runtime.db, runtime.folder, windows, as_of=as_of, run=run_of(context))
        self.begin(rows=snapshot.row_count)
        self.say(context, f"{len(windows)} windows, frozen as of {as_of:%Y-%m-%d}")
        return {"snapshot_id": snapshot.snapshot_id, "rows": snapshot.row_count}


class CheckSnapshotOperator(PonteOperator):
    """Evaluate the model's expectations on the frozen rows, and set rows aside that a quarantine check names.

    snapshot_id : what `FreezeWindowsOperator` has returned.
    Returns how many expectations passed, failed and erred.
    Raises TrainingRefused when a check that stops did not pass or more rows would be set aside than the budget allows;
        RowsLost.
    """

    default_connection_id = TRAINER
    template_fields = ("snapshot_id",)

    def __init__(self, *, snapshot_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.snapshot_id = snapshot_id

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        from ponte.checks.sorting import describe
        from ponte.snapshots.checking import check_snapshot

        done = describe(check_snapshot(runtime.db, runtime.folder, int(self.snapshot_id)))
        self.say(context, f"{done['passed']} of {sum(done.values())} checks passed")
        return done


class SnapshotOperator(PonteOperator):
    """Write the snapshot as Parquet, named by its content, and drop the tables of dead runs.

    snapshot_id : what `FreezeWindowsOperator` has returned.
    Returns `{sha256, rows}`.
    """

    default_connection_id = TRAINER
    template_fields = ("snapshot_id",)

    def __init__(self, *, snapshot_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.snapshot_id = snapshot_id

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.publishing.janitor import sweep_snapshots
        from ponte.snapshots.parquet import write_snapshot

        written = write_snapshot(runtime.db, runtime.store, int(self.snapshot_id))
        sweep_snapshots(runtime.db, self.model)
        return {"sha256": written.sha256, "rows": written.row_count}


class TrainOperator(PonteOperator):
    """Fit on the snapshot's training windows and register the result; the same inputs find the same version again.

    snapshot_id : what `FreezeWindowsOperator` has returned.
    Returns the number of the version.
    Raises TrainingRefused when the rows cannot support a model, the estimator fails on them or the folder was edited
        since they were frozen; ModelFolderError for an estimator that cannot be used; UnpredictableRows;
        ArtifactRefused; RowsLost.
    """

    default_connection_id = TRAINER
    template_fields = ("snapshot_id",)

    def __init__(self, *, snapshot_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.snapshot_id = snapshot_id

    def run(self, runtime: Runtime, context: Context) -> int:
        from ponte.training.versioning import train

        version = train(
            runtime.db,
            runtime.store,
            runtime.folder,
            int(self.snapshot_id),
            run_id=context["dag_run"].run_id,
            code_revision=runtime.code_revision,
        )
        self.begin(version=version.version)
        self.say(context, "registered")
        return version.version


class EvaluateOperator(PonteOperator):
    """Measure the version, the champion and the baselines on the same rows.

    snapshot_id : what `FreezeWindowsOperator` has returned.
    version : what `TrainOperator` has returned.
    Returns values of the metrics by subject: `{subject: {metric: value}}`.
    Raises ArtifactRefused when the version's files or libraries are not those registered.
    """

    default_connection_id = TRAINER
    template_fields = ("snapshot_id", "version")

    def __init__(self, *, snapshot_id: Any, version: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.snapshot_id = snapshot_id
        self.version = version

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.quality.comparison import evaluate

        self.begin(version=self.version)
        metrics = evaluate(runtime.db, runtime.store, runtime.folder, int(self.version), int(self.snapshot_id))
        self.say(context, f"measured: {', '.join(metrics)}")
        return {subject: dict(figures) for subject, figures in metrics.items()}


class GateOperator(PonteOperator):
    """Give and keep the verdict on a version. A refusal is no failure.

    reason begins with PASSED, REFUSED or UNDECIDED.

    snapshot_id : what `FreezeWindowsOperator` has returned.
    version : what `TrainOperator` has returned.
    Returns `{reason, verdict_id, passed, outcome, table}`, each an XCom of its own too.
    Raises AliasMoved when the champion is another one than was measured beside the version.
    """

    default_connection_id = PROMOTER
    template_fields = ("model", "snapshot_id", "version")

    def __init__(self, *, snapshot_id: Any, version: Any, **kwargs: Any) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.snapshot_id = snapshot_id
        self.version = version

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.decisions.verdicts import judge

        self.begin(version=self.version)
        verdict_id, verdict = judge(
            runtime.db, runtime.folder, int(self.version), int(self.snapshot_id), run=run_of(context)
        )
        self.say(context, verdict.reason)
        return {
            "reason": verdict.reason,
            "verdict_id": verdict_id,
            "passed": verdict.passed,
            "outcome": verdict.outcome,
            "table": verdict.table("github"),
        }


class PromoteOperator(PonteOperator):
    """Make the version champion if the gate passed it, and a person where one is asked; else skipped, with the reason.

    With `promotion = "after_duel"` it becomes challenger instead, unless there is no champion to hold it against.

    verdict_id : what `GateOperator` has returned.
    reason : what `GateOperator` has returned; for the log.
    approval_id : number of the person's answer, as `ApproveOperator` has returned it; empty when nobody is asked.
    Returns `{version, alias_event_id}`.
    Emits `<model>_champion`.
    Raises AirflowSkipException when it is not promoted; AliasMoved when somebody else has moved the champion since the
        verdict; VersionMarkedBad when the version was marked meanwhile.
    """

    default_connection_id = PROMOTER
    template_fields = ("model", "verdict_id", "reason", "approval_id")

    def __init__(self, *, verdict_id: Any, reason: str, approval_id: Any = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.verdict_id = verdict_id
        self.reason = reason
        self.approval_id = approval_id

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        from airflow.sdk.exceptions import AirflowSkipException

        from ponte.duels.challengers import promote

        promoted = promote(
            runtime.db,
            runtime.folder.spec,
            int(self.verdict_id),
            actor=context["dag_run"].run_id,
            approval_id=int(self.approval_id) if self.approval_id else None,
        )
        if promoted.duel:
            raise AirflowSkipException(f"Not promoted yet: {promoted.duel}")
        alias = promoted.champion
        if alias is None:
            open_question = not self.reason.startswith("REFUSED") and not self.approval_id
            decide = f"{self.reason.partition(':')[0]}: decide with ponte__promote. " if open_question else ""
            self.say(context, f"{decide}not promoted", self.reason)
            raise AirflowSkipException(
                f"{decide}Not promoted: the gate did not pass it or nobody consented, see verdict {self.verdict_id} in "
                "ponte.gate_rule and ponte.approval"
            )
        self.begin(version=alias.version)
        self.say(context, "is champion")
        moved = {"version": alias.version, "alias_event_id": alias.event_id}
        self.announce(context, champion_asset(self.model), moved)
        return moved

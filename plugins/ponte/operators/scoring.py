"""The tasks of the scoring DAG, in its order."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ponte.errors import PonteError
from ponte.operators.base import MONITOR, PonteOperator, predictions_asset, run_of, runtime_of
from ponte.pages.formats import rows as in_rows
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

#: How often `guard` looks whether the batches it waits for are finished.
POLL = timedelta(seconds=5)


def batch_of_run(task: PonteOperator, runtime: Runtime, context: Context, batch_id: Any) -> int:
    """Return the id of the batch that `freeze_batch` left; a task that was cleared goes on with it where it stopped."""
    from ponte.batches.lifecycle import go_on

    go_on(runtime.db, int(batch_id), run=run_of(context))
    return task.begin_batch(runtime, batch_id)


class FreezeBatchOperator(PonteOperator):
    """Claim a window of the model for this run, and freeze its rows.

    A retry finds what the run has frozen. The version is the champion, of now or of the window's as_of.

    window_start : first day of the window, as text; empty: the one that the end of the run's data interval, or else the
        moment it was asked for, means. By default the run's param of that name.
    Params: `allow_hindsight`, if the DAG has it: whether a version may score a window that it may have learned from.
    Returns `{batch_id, window_start, rows, version, hindsight}`, each an XCom of its own too.
    Raises WindowError when no window begins that day or its as_of is still to come; NoChampion; VersionMarkedBad;
        HindsightRefused; SignatureMismatch when columns have changed since the version was trained; BatchRejected when
        the window is empty; Fenced when a newer run has claimed the window.
    """

    template_fields = ("window_start",)

    def __init__(self, *, window_start: str = "{{ params.window_start or '' }}", **kwargs: Any) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.window_start = window_start

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from datetime import UTC, datetime

        from ponte.batches.freezing import freeze_batch
        from ponte.model.windows import resolve

        dag_run = context["dag_run"]
        window = resolve(
            runtime.folder.spec.window,
            window_start=self.window_start or None,
            interval_end=dag_run.data_interval_end,
            run_after=dag_run.run_after,
        )
        self.begin(window=window.start)
        batch = freeze_batch(
            runtime.db,
            runtime.folder,
            window,
            run=run_of(context),
            now=datetime.now(UTC),
            allow_hindsight=bool(context["params"].get("allow_hindsight")),
        )
        self.begin(version=batch.version, rows=batch.row_count)
        self.say(context, "frozen", "in hindsight" if batch.hindsight else "")
        return {
            "batch_id": batch.batch_id,
            "window_start": str(batch.window_start),
            "rows": batch.row_count,
            "version": batch.version,
            "hindsight": batch.hindsight,
        }


class CheckBatchOperator(PonteOperator):
    """Evaluate the model's expectations on the frozen rows, and set rows aside that a quarantine check names.

    batch_id : what `FreezeBatchOperator` has returned.
    Returns how many expectations passed, failed and erred.
    Raises BatchRejected when a check that stops did not pass or more rows would be set aside than the budget allows;
        Fenced.
    """

    template_fields = ("batch_id",)

    def __init__(self, *, batch_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        from ponte.batches.checking import check_batch
        from ponte.checks.sorting import describe

        batch_id = batch_of_run(self, runtime, context, self.batch_id)
        done = describe(check_batch(runtime.db, runtime.folder, batch_id))
        self.say(context, f"{done['passed']} of {sum(done.values())} checks passed")
        return done


class PlanOperator(PonteOperator):
    """Make the batch's prediction table, and cut its rows into page ranges.

    batch_id : what `FreezeBatchOperator` has returned.
    Returns the shards as a list of `{shard, shards, first_page, end_page}`, at least one, for `ScoreOperator` to be
        mapped over.
    Raises SignatureMismatch when the frozen columns are not those of the batch's version; Fenced.
    """

    template_fields = ("batch_id",)

    def __init__(self, *, batch_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id

    def run(self, runtime: Runtime, context: Context) -> list[dict[str, int]]:
        from dataclasses import asdict

        from ponte.scoring.plan import plan_shards

        batch_id = batch_of_run(self, runtime, context, self.batch_id)
        shards = [asdict(shard) for shard in plan_shards(runtime.db, runtime.folder, batch_id)]
        self.say(context, f"in {len(shards)} shard{'s' if len(shards) > 1 else ''}")
        return shards


class ScoreOperator(PonteOperator):
    """Score the rows of one page range, in one transaction; a shard that was committed before is left as it is.

    batch_id : what `FreezeBatchOperator` has returned.
    shard : an entry of what `PlanOperator` has returned.
    Returns how many rows were predicted.
    Raises ArtifactRefused when the version's files or libraries are not those registered; UnpredictableRows;
        BatchRejected when more rows cannot be scored than the budget allows; RowsLost; Fenced.
    """

    template_fields = ("batch_id", "shard")

    def __init__(self, *, batch_id: Any, shard: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id
        self.shard = shard

    def run(self, runtime: Runtime, context: Context) -> int:
        import os
        from datetime import UTC, datetime

        from ponte.scoring.plan import Shard, threads_for
        from ponte.scoring.shards import score_shard

        shard = Shard(**self.shard)
        # As many shards run at once as the pool has slots; without a pool of its own, one is taken for granted.
        threads = threads_for(shard, slots=_slots(os.environ.get("PONTE_SCORE_SLOTS", "1")))
        predicted = score_shard(
            runtime.db,
            runtime.store,
            runtime.folder,
            batch_of_run(self, runtime, context, self.batch_id),
            shard,
            now=datetime.now(UTC),
            threads=threads,
        )
        self.say(context, f"shard {shard.shard + 1} of {shard.shards}: {in_rows(predicted)} predicted")
        return predicted


def _slots(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise PonteError("no number of slots", where="environment of the task, PONTE_SCORE_SLOTS", got=repr(text))
    return int(text)


class GuardOperator(PonteOperator):
    """Count, key and constrain the predictions of a batch, and ask the guards. Nobody sees them yet.

    While batches that it would be compared with are still being scored, the task gives its slot back and asks again
    every POLL. That is no retry: it neither uses one up nor begins the time that it waits anew.

    batch_id : what `FreezeBatchOperator` has returned.
    Returns how many predictions there are.
    Raises BatchRejected when a guard has tripped, or more rows are set aside than the budget allows; RowsLost; Fenced;
        PonteError when it has waited for longer than `[guard] wait_minutes`.
    """

    template_fields = ("batch_id",)

    def __init__(self, *, batch_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id

    def run(self, runtime: Runtime, context: Context) -> int:
        from datetime import UTC, datetime

        from airflow.sdk.exceptions import AirflowRescheduleException

        from ponte.errors import WindowsUnfinished
        from ponte.publishing.staging import guard_batch

        try:
            batch_id = batch_of_run(self, runtime, context, self.batch_id)
            predictions = guard_batch(runtime.db, runtime.folder, batch_id)
            self.say(context, f"{in_rows(predictions)} predicted", "no guard has tripped")
            return predictions
        except WindowsUnfinished as unfinished:
            self.log.info("waiting: %s", unfinished)
            again = datetime.now(UTC) + POLL
            raise AirflowRescheduleException(again) from unfinished  # type: ignore[no-untyped-call]


class PublishOperator(PonteOperator):
    """Show the batch in its window to everybody, in one transaction; publishing it again changes nothing.

    batch_id : what `FreezeBatchOperator` has returned.
    Returns `{batch_id, previous_batch_id, rows}`; previous_batch_id is None when people saw nothing of the window
        before.
    Emits `<model>_predictions`.
    Raises Fenced when a newer run has claimed the window; VersionMarkedBad when the version was marked since it was
        chosen; RowsLost.
    """

    template_fields = ("batch_id",)

    def __init__(self, *, batch_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from ponte.publishing.pointer import changes, publish

        actor = context["dag_run"].run_id
        done = publish(
            runtime.db, batch_of_run(self, runtime, context, self.batch_id), actor=actor, reason="scored by its run"
        )
        self.begin(rows=done.row_count)
        self.say(context, "published")
        if seen := changes(runtime.db, batch_id=done.batch_id):
            self.announce(context, predictions_asset(self.model), seen)
        return {"batch_id": done.batch_id, "previous_batch_id": done.previous_batch_id, "rows": done.row_count}


class DuelOperator(PonteOperator):
    """Let the challenger predict the batch that the run has published, on the same rows; nobody sees it.

    Make it a teardown after `PublishOperator`: then its failure is red and holds nothing up, and the state of the run
    is that of what was published.

    batch_id : what `FreezeBatchOperator` has returned; empty when there is none.
    Returns `{duel_id, version, compared_rows, differing_rows}`, or `{why}` when there is nothing to do.
    Raises PonteError, UnpredictableRows, ArtifactRefused, SignatureMismatch: the challenger could not predict it.
    """

    template_fields = ("batch_id",)

    def __init__(self, *, batch_id: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from datetime import UTC, datetime

        import joblib

        from ponte.duels.beside import score_beside

        if not self.batch_id:
            return {"why": "there is no batch"}
        done = score_beside(
            runtime.db,
            runtime.store,
            runtime.folder,
            self.begin_batch(runtime, self.batch_id),
            now=datetime.now(UTC),
            threads=joblib.cpu_count(),
        )
        if isinstance(done, str):
            self.log.info("no duel: %s", done)
            return {"why": done}
        return {name: getattr(done, name) for name in ("duel_id", "version", "compared_rows", "differing_rows")}


class CleanUpOperator(PonteOperator):
    """Drop what dead and finished runs of the model left, this one among them, and what its retention gives up.

    The batch that its own run leaves unfinished becomes `failed`, so that nobody waits for it. It can still be
    continued (a failed task cleared and run again), so it keeps its tables, as does a rejected one, whose failed
    checks name the SQL that finds the rows, until a newer run takes its window. Make it a teardown, so that it runs
    after a failure too, but without a setup.

    Before predictions go, their labels are read once more and measured, see `MeasureOperator`.

    retention : False leaves predictions alone: right after a rollback the way back shall be there.
    monitor_connection_id : Airflow connection by which labels are read and measured; by default that of the role that
        monitors.
    Returns `{dropped_tables, retired_batches}`.
    """

    template_fields = ("model",)

    def __init__(self, *, retention: bool = True, monitor_connection_id: str = MONITOR, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.retention = retention
        self.monitor_connection_id = monitor_connection_id

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        from ponte.duels.sweeping import sweep_duels
        from ponte.publishing.janitor import tidy

        done = tidy(
            runtime.db,
            runtime.folder,
            run=run_of(context),
            retention=self.retention,
            last_figures=lambda batch_ids: self._last_figures(runtime, batch_ids),
        )
        return {**done, "dropped_tables": done["dropped_tables"] + sweep_duels(runtime.db, self.model)}

    def _last_figures(self, runtime: Runtime, batch_ids: Sequence[int]) -> None:
        from datetime import UTC, datetime

        from ponte.duels.figures import measure_duels
        from ponte.monitoring.realised import last_figures

        # As the role that may read labels, which this task needs only when predictions are about to go.
        db = runtime_of(self.monitor_connection_id, runtime.model).db
        last_figures(db, runtime.folder, batch_ids, now=datetime.now(UTC))
        measure_duels(db, runtime.folder, batch_ids)

"""The tasks of the monitoring DAG, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ponte.operators.base import MONITOR, PROMOTER, PonteOperator, champion_asset, run_of
from ponte.runtime import Runtime

if TYPE_CHECKING:
    from airflow.sdk import Context


class ReadLabelsOperator(PonteOperator):
    """Read the labels of every batch of the model that was ever published, and keep what is new.

    With the labels.sql that the version of the batch was trained with, else with the folder's, as of now.
    Corrections that people gave are kept beside them, if the model counts them.

    Returns `{batches, new_labels, changed_labels, withdrawn_labels, corrections}`.
    Raises PonteError, after all batches, when the labels of one could not be read.
    """

    default_connection_id = MONITOR

    def run(self, runtime: Runtime, context: Context) -> dict[str, Any]:
        from datetime import UTC, datetime

        from ponte.monitoring.corrections import copy_corrections
        from ponte.monitoring.labels import read_labels, require_read
        from ponte.monitoring.outcomes import ensure_outcomes_view

        now = datetime.now(UTC)
        readings = read_labels(runtime.db, runtime.folder, now=now)
        corrections = copy_corrections(runtime.db, runtime.folder, now=now)
        ensure_outcomes_view(runtime.db, self.model)
        require_read(self.model, readings)
        counts = ("new_labels", "changed_labels", "withdrawn_labels")
        sums = {name: sum(getattr(r, name) for r in readings) for name in counts}
        return {"batches": len(readings), **sums, "corrections": corrections}


class MeasureOperator(PonteOperator):
    """Measure every batch of the model whose labels have changed, at each maturity; what was written stays.

    Returns `{batches, figures}`.
    """

    default_connection_id = MONITOR

    def run(self, runtime: Runtime, context: Context) -> dict[str, int]:
        from ponte.monitoring.realised import measure

        return measure(runtime.db, runtime.folder)


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
    """

    default_connection_id = MONITOR

    def execute(self, context: Context) -> None:
        """Do nothing; Airflow runs it only when all before it have succeeded."""

"""The monitoring DAG in Airflow's own task runner, as the role that monitors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.postgres.monitoring.test_labels import change_source
from tests.sample_model import NEXT_WEEK, WEEK, World

Run = Callable[..., tuple[Any, dict[str, str]]]


def test_labels_are_read_and_measured_and_outcomes_shown_to_nobody_yet(run_dag: Run, scored: World) -> None:
    run, states = run_dag("visits__monitor")
    assert (run.state, set(states.values())) == ("success", {"success"})
    quality = "SELECT count(DISTINCT maturity_days), bool_and(final), min(coverage) FROM ponte.quality"
    assert scored.rows(quality) == [(3, True, 1.0)]
    owner = "SELECT relowner::regrole::text, relacl IS NULL FROM pg_class WHERE relname = 'visits_outcomes'"
    assert scored.rows(owner) == [("ponte_monitor", True)]


def test_when_labels_cannot_be_read_the_run_is_red_and_what_was_read_is_measured(run_dag: Run, scored: World) -> None:
    scored.run(run_id="next", week=NEXT_WEEK)
    broken = f"CASE WHEN day >= DATE '{NEXT_WEEK}' THEN (1 / (visit_id - visit_id))::int::boolean ELSE returned END"
    change_source(scored, f"{broken} AS returned, spent, known_at")
    run, states = run_dag("visits__monitor")
    red = {"read_labels": "failed", "all_done": "upstream_failed"}
    assert states == {**dict.fromkeys(states, "success"), **red}
    assert "measure" in states
    assert run.state == "failed"
    assert scored.rows("SELECT DISTINCT window_start FROM ponte.quality") == [(WEEK,)]


def test_cleaning_up_writes_the_last_figures_as_the_monitor(run_dag: Run, scored: World) -> None:
    scored.with_model(checks="[retention]\nreplaced_batches = 0\n")
    run, states = run_dag("visits__score", run_conf={"window_start": str(WEEK)})
    assert (run.state, set(states.values())) == ("success", {"success"})
    assert scored.ask("SELECT count(*) FROM ponte.retention_event WHERE batch_id = 1") == 1
    found = "SELECT DISTINCT batch_id, labelled_rows, final FROM ponte.quality"
    assert scored.rows(found) == [(1, 350, True)]

"""Alarms through the DAGs: found by <model>__monitor, answered by ponte__alarm, and a training that one asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from tests.postgres.alarms.past import Past, quiet
from tests.sample_model import World

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

Run = Callable[..., tuple["DagRun", dict[str, str]]]
LOSS = [0.70, 0.69]


def test_the_monitor_opens_an_alarm_and_a_form_answers_it(
    run_dag: Run, scored: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each task with the rights of its own role."""
    Past(scored).live([*quiet(30), *LOSS])
    _, states = run_dag("visits__monitor")
    assert (states["alarms"], states["all_done"], states["tell"]) == ("success", "success", "success")
    assert scored.rows("SELECT state FROM ponte.alarm") == [("open",)]
    form = {"model": "visits", "alarm_id": 1, "reason": "we know"}
    for action, state in (("acknowledge", "acknowledged"), ("close", "closed")):
        _, states = run_dag("ponte__alarm", run_conf={**form, "action": action})
        assert states == {"decide_alarm": "success", "tell": "success"}
        assert scored.rows("SELECT state, coalesce(closed_why, acknowledged_why) FROM ponte.alarm") == [
            (state, "we know")
        ]
    run, states = run_dag("ponte__alarm", run_conf={**form, "action": "close"})
    assert (str(run.state), states["decide_alarm"]) == ("failed", "failed")
    assert "the alarm is closed already" in capsys.readouterr().out


def test_an_alarm_starts_one_training(run_dag: Run, scored: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.sdk.execution_time import task_runner

    asked: list[tuple[str, str]] = []
    handle = task_runner._handle_trigger_dag_run

    def seen(error: object, *rest: object) -> object:
        asked.append((error.trigger_dag_id, error.dag_run_id))  # type: ignore[attr-defined]
        return handle(error, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(task_runner, "_handle_trigger_dag_run", seen)
    Past(scored).live([*quiet(30), *LOSS])
    scored.with_model(checks='[monitoring]\non_quality = "retrain"')
    for expected in ([("visits__train", "alarm_1")], []):
        asked.clear()
        _, states = run_dag("visits__monitor")
        assert asked == expected
        assert (states["retrain"], states["all_done"]) == ("success" if expected else "skipped", "success")
    assert DagRun.find(dag_id="visits__train", run_id="alarm_1")

"""Runs say what they are: window, version, rows and verdict, where Airflow's lists, logs and events show it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from tests.sample_model import VISITS_PER_WEEK, World

from ponte.errors import LINE, BatchRejected, DatabaseUnavailable, ModelFolderError, PonteError, Problem

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

Run = Callable[..., tuple["DagRun", dict[str, str]]]

SCORED = {"window_start": "2024-02-12"}


def beside_the_names(run: DagRun) -> dict[str, str | None]:
    """Return what the list of a run's tasks says beside their names."""
    return {ti.task_id: ti.rendered_map_index for ti in run.get_task_instances()}


def links_of(run: DagRun) -> dict[tuple[str, str], str]:
    """Return the links that Airflow keeps, by task and button, those that lead nowhere left out."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    query = sa.select(XComModel.task_id, XComModel.key, XComModel.value)
    with create_session() as session:
        found = session.execute(query.where(XComModel.run_id == run.run_id, XComModel.key.startswith("_link_"))).all()
    texts = {(task, key[6:-4]): json.loads(text) if text.startswith('"') else text for task, key, text in found}
    return {of: text for of, text in texts.items() if text}


def noted(run: DagRun, before: str = "") -> str | None:
    """Return the note that a run has once the scheduler has ended it, and had it to do with a note before."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.sqlalchemy import prohibit_commit

    # As the scheduler does, which forbids everybody else to commit.
    with create_session() as session, prohibit_commit(session) as guard:
        here = session.get_one(DagRun, run.id)
        here.note = before or None
        session.flush()
        here.state = run.state
        here.notify_dagrun_state_changed(msg="of a test")
        guard.commit()
    with create_session() as session:
        return session.get_one(DagRun, run.id).note


def said_in(printed: str) -> list[str]:
    """Return what was logged, without time, level and place."""
    return [m[1] for line in printed.splitlines() if (m := re.match(r"\S+Z \[\w+ *\] (.*?) +\[[\w.]+\] ", line + " "))]


def test_a_scoring_run_says_window_version_rows_and_what_it_came_to(
    run_dag: Run, trained: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, states = run_dag("visits__score", run_conf=SCORED)
    assert set(states.values()) == {"success"}
    about = f"2024-02-12 · version 1 · {VISITS_PER_WEEK} rows"
    assert beside_the_names(run) == {
        "freeze_batch": f"{about} · frozen",
        "check": f"{about} · 2 of 2 checks passed",
        "plan": f"{about} · in 1 shard",
        "score": f"{about} · shard 1 of 1: {VISITS_PER_WEEK} predicted",
        "guard": f"{about} · {VISITS_PER_WEEK} predicted · no guard has tripped",
        "publish": f"{about} · published",
        "judge_drift": f"{about} · features provisional, answers not judged",
        "duel": f"{about} · there is no challenger",
        "clean_up": "dropped tables 1, retired batches 0",
        "tell": None,
    }
    # The first line of each log that is not Airflow's own, and nothing that no link can find.
    printed = capsys.readouterr().out
    said = said_in(printed)
    assert said.count(f"visits · {about}") == 7
    assert said.index("visits · 2024-02-12") < said.index(f"{about} · frozen")
    assert "XCom not found" not in printed

    links = links_of(run)
    window = {task for task, name in links if name == "Window"}
    assert window == {task for task, name in links if name == "Report"} == states.keys() - {"clean_up", "tell"}
    assert {task for task, name in links if name == "Model"} == states.keys()
    assert {(name, link) for (_, name), link in links.items()} == {
        ("Window", "/ponte/model/visits/2024-02-12"),
        ("Model", "/ponte/model/visits"),
        ("Report", "/ponte/report/visits/1"),
    }

    [event] = events_of(run)
    assert event["in_words"] == f"{about} · published"
    assert event["windows"][0]["rows"] == VISITS_PER_WEEK
    assert noted(run) == f"Ponte: {about} · published"
    assert noted(run, "Ponte: what an attempt before has come to") == f"Ponte: {about} · published"
    assert noted(run, "a person's") == "a person's"
    with monkeypatch.context() as patch:
        patch.setattr("ponte.operators.dags.VERDICTS", None)
        assert noted(run) is None  # and the scheduler goes on


def test_a_run_that_fails_says_why_in_short_lines_the_next_step_first_and_without_a_traceback(
    run_dag: Run, trained: World, capsys: pytest.CaptureFixture[str]
) -> None:
    trained.execute("UPDATE shop.visit SET price = -1 WHERE visit_id >= 2100")
    check = '[[checks]]\nexpectation = "expect_column_values_to_be_between"\ncolumn = "price"\nmin_value = 0\n'
    trained.with_model(checks=check)
    run, states = run_dag("visits__score", run_conf=SCORED)
    assert (states["check"], states["publish"]) == ("failed", "upstream_failed")

    printed = capsys.readouterr().out
    assert "Traceback" not in printed
    assert "exit_code=BatchRejected" in printed
    said = said_in(printed)
    about = f"2024-02-12 · version 1 · {VISITS_PER_WEEK} rows"
    why = str(beside_the_names(run)["check"])
    assert why.startswith(f"{about} · BatchRejected: ")
    first = next(n for n, line in enumerate(said) if line.startswith("BatchRejected: "))
    step = max(n for n in range(first) if said[n].startswith("next: "))
    assert all(len(line) <= LINE for line in said[step : first + 3])
    assert noted(run) == f"Ponte: check · {why}"[: len("Ponte: ") + LINE]


def test_a_refused_version_is_no_failure_and_says_so_where_the_run_is_listed(
    run_dag: Run, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.with_model(bound="minimum = 0.999")
    run, states = run_dag("visits__train", run_conf={"as_of": "2024-02-12"})
    assert states["promote"] == "skipped"
    says = beside_the_names(run)
    assert says["train"] == "version 1 · registered"
    assert str(says["gate"]).startswith("version 1 · REFUSED: ")
    assert str(says["promote"]).startswith("Not promoted")
    assert noted(run) == f"Ponte: {says['gate']}"
    assert links_of(run)["promote", "Report"] == "/ponte/report/visits/1"


def events_of(run: DagRun) -> list[dict[str, Any]]:
    """Return the `extra` of the events that a run has emitted."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session

    with create_session() as session:
        return list(session.scalars(sa.select(AssetEvent.extra).where(AssetEvent.source_run_id == run.run_id)))


@pytest.mark.parametrize(
    "error",
    [
        DatabaseUnavailable("gone", where="here", fix="wait"),
        ModelFolderError("m", [Problem(file="model.toml", what="wrong")]),
        BatchRejected("bad rows"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_without_traceback_is_to_everybody_else_what_it_was(error: PonteError) -> None:
    from ponte.operators.base import silent
    from ponte.operators.dags import RETRY

    error.__cause__ = ValueError("why")
    told = silent(error)
    assert isinstance(told, SystemExit)
    assert isinstance(told, type(error))
    assert (str(told), told.parts, told.__cause__) == (str(error), error.parts, error.__cause__)
    assert getattr(told, "problems", None) == getattr(error, "problems", None)
    action = RETRY["retry_policy"].evaluate(told, 1, 4).action.value
    assert action == ("retry" if isinstance(error, DatabaseUnavailable) else "fail")

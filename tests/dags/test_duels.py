"""A duel in Airflow: red when it fails, and nothing waits for it or looks failed for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.postgres.duels.test_duels import THOUSANDFOLD, candidate
from tests.sample_model import VISITS_PER_WEEK

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sample_model import World

import datetime as dt

TICK = dt.datetime(2024, 2, 12, 6, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("fails", "files"),
    [(False, {}), (False, {"features.sql": THOUSANDFOLD}), (True, {})],
    ids=["scored", "own rows", "failed"],
)
def test_a_failed_duel_is_red_and_the_run_is_what_publish_is(
    run_dag: Callable[..., Any], trained: World, monkeypatch: pytest.MonkeyPatch, fails: bool, files: Any
) -> None:
    candidate(trained, files=files)
    if fails:
        monkeypatch.setattr("ponte.duels.beside.load_registered", lambda *_: 1 / 0)
    run, states = run_dag("visits__score", logical_date=TICK)
    assert states.pop("duel") == ("failed" if fails else "success")
    assert (set(states.values()), str(run.state)) == ({"success"}, "success")
    assert trained.ask("SELECT count(*) FROM predictions.visits") == VISITS_PER_WEEK
    [(status, why, own)] = trained.rows("SELECT status, why, own_rows FROM ponte.duel_batch")
    assert own is bool(files)
    assert (status, why) == (("failed", "ZeroDivisionError") if fails else ("scored", None))
    left = trained.rows(
        "SELECT relname FROM pg_class WHERE relname ~ '(frozen|duel)_' AND relkind = 'r' AND relname NOT LIKE 'duel%'"
    )
    assert left == ([] if fails else [("visits__duel_1",)])


def test_a_run_that_publishes_nothing_is_red_and_its_duel_has_nothing_to_do(
    run_dag: Callable[..., Any], trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate(trained)
    monkeypatch.setattr("ponte.publishing.pointer.publish", lambda *_, **__: 1 / 0)
    run, states = run_dag("visits__score", logical_date=TICK)
    assert (states["publish"], states["duel"], states["clean_up"], str(run.state)) == (
        *("failed", "success", "success", "failed"),
    )
    assert trained.ask("SELECT count(*) FROM ponte.duel_batch") == 0


def test_the_form_makes_a_challenger_and_withdraws_it(run_dag: Callable[..., Any], trained: World) -> None:
    candidate(trained, promotion="auto")
    for withdraw, now in ((False, 2), (True, None)):
        form = {"model": "visits", "version": 2, "reason": "let us see", "withdraw": withdraw}
        run, states = run_dag("ponte__challenge", run_conf=form)
        assert states == {"challenge": "success", "tell": "success"}
        [(version, evidence)] = trained.rows(
            "SELECT version, evidence FROM ponte.alias_event WHERE alias = 'challenger' ORDER BY event_id DESC LIMIT 1"
        )
        assert (version, evidence["run_id"]) == (now, run.run_id)


def test_score_and_monitor_end_a_duel_each_as_its_role(run_dag: Callable[..., Any], trained: World) -> None:
    candidate(trained, gate="champion_margin = 0.3\nduel_windows = 1")
    for dag_id, options in (("visits__score", {"logical_date": TICK}), ("visits__monitor", {})):
        run, states = run_dag(dag_id, **options)
        assert set(states.values()) == {"success"}
    said = run.get_task_instance("decide_duel").xcom_pull(task_ids="decide_duel")
    assert (said["outcome"], said["version"]) == ("promoted", 2)
    assert trained.champion().version == 2
    assert trained.ask("SELECT labelled_rows FROM ponte.duel WHERE metric = 'roc_auc'") == VISITS_PER_WEEK

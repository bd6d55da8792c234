"""The DAGs run, in this process, on a real database: what the tasks hand on, and how they end."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tests.sample_model import VISITS_PER_WEEK, WEEK, World, write_model

from ponte.errors import BatchRejected, DatabaseUnavailable, PonteError

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

Run = Callable[..., tuple["DagRun", dict[str, str]]]

TRAIN_AS_OF = {"as_of": "2024-02-12"}
TICK = dt.datetime(2024, 2, 12, 6, tzinfo=dt.UTC)


def test_train_then_score_publishes_the_week_of_the_data_interval(run_dag: Run, world: World) -> None:
    run, states = run_dag("visits__train", run_conf=TRAIN_AS_OF)
    assert set(states.values()) == {"success"}
    assert world.champion().run_id == run.run_id
    assert world.champion().code_revision == "abc123"
    # The data interval ends on 12 February, where the coming window starts.
    run, states = run_dag("visits__score", logical_date=TICK)
    assert set(states.values()) == {"success"}
    rows = world.rows("SELECT window_start, count(*), min(model_version) FROM predictions.visits GROUP BY 1")
    assert rows == [(WEEK, VISITS_PER_WEEK, 1)]
    [(actor, count)] = world.rows("SELECT actor, row_count FROM ponte.publication_event")
    assert (actor, count) == (run.run_id, VISITS_PER_WEEK)
    assert (
        world.rows("SELECT tablename FROM pg_tables WHERE tablename LIKE '%frozen%' OR tablename LIKE '%training%'")
        == []
    )
    # Asset events say what was made, to whoever is scheduled on them.
    assert _events("ponte://predictions/visits")[-1]["windows"][0]["rows"] == VISITS_PER_WEEK
    assert _events("ponte://champion/visits")[-1]["version"] == 1


def test_what_the_last_task_says_and_what_the_shards_are_called(run_dag: Run, trained: World) -> None:
    """A person reads both in the UI, without any SQL."""
    trained.with_model(shard_rows=80, checks="[retention]\nreplaced_batches = 0")
    trained.run(run_id="replaced", until="publish")
    run, states = run_dag("visits__score", logical_date=TICK)
    assert set(states.values()) == {"success"}
    shards = trained.ask("SELECT count(*) FROM ponte.shard WHERE batch_id = 2")
    assert shards > 2
    called = sorted(ti.rendered_map_index for ti in run.get_task_instances() if ti.task_id == "score")
    assert [text.split(" · ")[-1].partition(":")[0] for text in called] == [
        f"shard {n} of {shards}" for n in range(1, shards + 1)
    ]
    said = run.get_task_instance("clean_up").xcom_pull(task_ids="clean_up")
    assert said == {"dropped_tables": 2, "retired_batches": 1}


@pytest.mark.parametrize(("bad", "state"), [(2, "success"), (40, "failed")], ids=["within", "over"])
def test_rows_that_fail_a_quarantine_check_make_the_run_red_only_over_the_budget(
    run_dag: Run, trained: World, capsys: pytest.CaptureFixture[str], bad: int, state: str
) -> None:
    check = '[[checks]]\nexpectation = "expect_column_values_to_be_between"\ncolumn = "price"\nmax_value = 900\n'
    trained.with_model(checks=f'{check}on_failure = "quarantine"')
    trained.execute("UPDATE shop.visit SET price = 999 WHERE visit_id >= 2100 AND visit_id < 2100 + :n", n=bad)
    _, states = run_dag("visits__score", logical_date=TICK)
    assert (states["check"], states["publish"]) == (state, "success" if state == "success" else "upstream_failed")
    assert states["clean_up"] == "success"
    if state == "failed":
        assert "40 of 350 rows would be set aside, [quarantine] budget allows 7" in capsys.readouterr().out
    else:
        assert trained.ask("SELECT count(*) FROM ponte.quarantine") == bad
        assert _events("ponte://predictions/visits")[-1]["windows"][0]["rows"] == VISITS_PER_WEEK - bad


def test_the_window_of_the_form_wins_over_the_data_interval(run_dag: Run, trained: World) -> None:
    _, states = run_dag("visits__score", logical_date=TICK, run_conf={"window_start": "2024-02-19"})
    assert set(states.values()) == {"success"}
    assert trained.rows("SELECT window_start FROM ponte.published") == [(dt.date(2024, 2, 19),)]


@pytest.mark.parametrize(
    ("pipeline", "conf", "said"),
    [
        ("score", {"window_start": "2096-01-02"}, "window [2096-01-02, 2096-01-09)"),
        ("train", {"as_of": "2096-01-02"}, "as_of 2096-01-02T00:00:00+00:00 in a run of 2"),
    ],
)
def test_a_run_of_a_time_that_is_still_to_come_is_refused(  # noqa: PLR0917
    run_dag: Run,
    trained: World,
    capsys: pytest.CaptureFixture[str],
    pipeline: str,
    conf: dict[str, str],
    said: str,
) -> None:
    """Its features would be those of today, and the claim would keep the window from the run that knows more."""
    before = trained.ask("SELECT count(*) FROM ponte.snapshot")
    _, states = run_dag(f"visits__{pipeline}", run_conf=conf)

    first = {"score": "freeze_batch", "train": "freeze_windows"}[pipeline]
    assert states[first] == "failed"
    printed = capsys.readouterr().out
    assert "nothing is known yet of that time" in printed
    assert said in printed
    assert trained.ask("SELECT count(*) FROM ponte.claim") == 0
    assert trained.ask("SELECT count(*) FROM ponte.snapshot") == before


@pytest.mark.parametrize(("covers", "window_start"), [("coming", dt.date(2024, 2, 12)), ("past", dt.date(2024, 2, 5))])
def test_a_run_in_the_middle_of_a_week_means_the_week_it_is_in_or_the_one_before(
    trained: World, covers: str, window_start: dt.date
) -> None:
    """A run without a data interval: asked for on a Thursday, its tick is that moment."""
    from ponte.operators.base import runtime_of
    from ponte.operators.scoring import FreezeBatchOperator

    folder = trained.with_model(checks=f'[window]\ncovers = "{covers}"').folder
    thursday = dt.datetime(2024, 2, 15, 12, tzinfo=dt.UTC)
    facts = {"run_id": "r", "start_date": thursday, "clear_number": 0, "data_interval_end": None, "run_after": thursday}
    runtime = runtime_of("ponte_scorer", "visits")
    runtime.__dict__.update(db=trained.db, folder=folder)
    task = FreezeBatchOperator(task_id="freeze_batch", model="visits", window_start="")

    found = task.run(runtime, {"dag_run": SimpleNamespace(**facts), "params": {}})
    assert found["window_start"] == str(window_start)
    as_of = trained.ask("SELECT as_of FROM ponte.batch")
    assert as_of == dt.datetime(2024, 2, 12, tzinfo=dt.UTC)
    assert as_of <= thursday


def test_without_a_champion_scoring_fails_at_once(
    run_dag: Run, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    _, states = run_dag("visits__score", logical_date=TICK)
    assert states["freeze_batch"] == "failed"
    assert states["publish"] == "upstream_failed"
    assert states["clean_up"] == "success"
    assert world.rows("SELECT * FROM ponte.batch") == []
    assert "train visits first: it has no champion" in capsys.readouterr().out


def test_a_refused_version_skips_promotion_and_the_run_is_green(run_dag: Run, world: World) -> None:
    world.with_model(bound="minimum = 0.999")
    run, states = run_dag("visits__train", run_conf=TRAIN_AS_OF)
    assert str(run.state) == "success"
    assert states["promote"] == "skipped"
    assert world.rows("SELECT passed FROM ponte.gate_verdict") == [(False,)]
    assert world.rows("SELECT version FROM ponte.version") == [(1,)]
    assert world.rows("SELECT * FROM ponte.alias_event") == []


def test_a_broken_folder_fails_its_own_run_with_every_problem(
    run_dag: Run, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(world.folder.path.parent, "other", files={"features.sql": "SELECT 1 AS visit"})
    _, states = run_dag("other__train", run_conf=TRAIN_AS_OF)
    assert states["freeze_windows"] == "failed"
    assert "features.sql returns no column 'visit_id'" in capsys.readouterr().out
    _, states = run_dag("visits__train", run_conf=TRAIN_AS_OF)
    assert set(states.values()) == {"success"}


def test_the_dag_of_a_broken_model_toml_fails_with_every_problem(
    run_dag: Run, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    (world.folder.path / "model.toml").write_text('descripton = "typo"\n')
    _, states = run_dag("visits__score")
    assert states == {"read_model_folder": "failed"}
    assert "did you mean 'description'?" in capsys.readouterr().out


def test_an_empty_window_that_the_model_allows_is_published_empty(run_dag: Run, trained: World) -> None:
    trained.with_model(empty="allow")
    _, states = run_dag("visits__score", run_conf={"window_start": "2024-06-03"})
    assert set(states.values()) == {"success"}
    assert trained.rows("SELECT row_count FROM ponte.publication_event") == [(0,)]


def context_of(start_date: dt.datetime | None = TICK, clear_number: int = 0, **params: Any) -> Any:
    """Return the context of a task of the run `scheduled__1`, as Airflow gives it on every try."""
    facts = {"run_id": "scheduled__1", "start_date": start_date, "clear_number": clear_number}
    when = {"data_interval_end": TICK, "run_after": TICK}
    return {"dag_run": SimpleNamespace(**facts, **when, triggering_user_name=None), "params": params}


#: What becomes another run under the same id: cleared, or deleted and made again.
OTHERS = [context_of(clear_number=1), context_of(start_date=TICK + dt.timedelta(microseconds=1))]


@pytest.mark.parametrize("other", OTHERS, ids=["cleared", "made again"])
def test_a_cleared_run_and_one_under_the_id_of_a_deleted_one_freeze_anew_and_a_retry_does_not(
    trained: World, other: Any
) -> None:
    from ponte.operators.base import run_of, runtime_of
    from ponte.operators.scoring import FreezeBatchOperator, PublishOperator

    runtime = runtime_of("ponte_scorer", "visits")
    runtime.__dict__.update(db=trained.db, folder=trained.folder)

    def run(context: Any) -> int:
        batch_id = FreezeBatchOperator(task_id="f", model="visits", window_start="").run(runtime, context)["batch_id"]
        for step in ("check", "score", "guard"):
            getattr(trained, step)(batch_id)
        PublishOperator(task_id="p", model="visits", batch_id=batch_id).run(runtime, context)
        return int(batch_id)

    first = run(context_of())
    assert run(context_of()) == first
    again = run(other)
    assert again != first
    assert trained.rows("SELECT DISTINCT batch_id FROM predictions.visits") == [(again,)]
    keys = [run_of(context).key for context in (context_of(), other)]
    assert trained.rows("SELECT run_id, run_key FROM ponte.batch ORDER BY batch_id") == [
        ("scheduled__1", key) for key in keys
    ]
    # What people read is Airflow's id, which is in its URLs.
    assert trained.rows("SELECT DISTINCT actor FROM ponte.publication_event") == [("scheduled__1",)]
    assert trained.rows("SELECT run_id FROM ponte.claim") == [("scheduled__1",)]


@pytest.mark.parametrize("other", OTHERS, ids=["cleared", "made again"])
def test_whoever_decides_by_hand_decides_again_under_an_old_id(trained: World, other: Any) -> None:
    from ponte.operators.base import runtime_of
    from ponte.operators.decisions import MarkVersionOperator

    runtime = runtime_of("ponte_promoter", "visits")
    runtime.__dict__.update(db=trained.db, folder=trained.folder)
    for context, mark in ((context_of(), "bad"), (OTHERS[0], "not bad"), (context_of(), "bad"), (other, "bad")):
        form = {"version": 1, "mark": mark, "reason": "a reason"}
        MarkVersionOperator(task_id="m", model="visits").run(runtime, {**context, "params": form})
    marks = trained.rows("SELECT mark, run_id, actor FROM ponte.version_mark ORDER BY mark_id")
    assert marks == [(mark, "scheduled__1", "scheduled__1") for mark in ("bad", "not bad", "bad")]


def test_a_task_whose_run_has_no_start_date_fails_and_says_what_to_do(trained: World) -> None:
    """Somebody has set a running run back to queued: its tasks could not be told from those of another run."""
    from ponte.operators.base import runtime_of
    from ponte.operators.scoring import FreezeBatchOperator

    runtime = runtime_of("ponte_scorer", "visits")
    runtime.__dict__.update(db=trained.db, folder=trained.folder)
    task = FreezeBatchOperator(task_id="f", model="visits", window_start="")
    with pytest.raises(PonteError, match="the run has no start date"):
        task.run(runtime, context_of(start_date=None))
    assert trained.rows("SELECT * FROM ponte.claim") == []


def test_all_tasks_of_a_run_have_one_key_of_its_id_and_start_date(run_dag: Run, world: World) -> None:
    """Those of a window that is scored anew, which are mapped, too."""
    run, states = run_dag("visits__train", run_conf=TRAIN_AS_OF)
    assert set(states.values()) == {"success"}
    keys = {f"{run.run_id}@{run.start_date.isoformat(timespec='microseconds')}#0"}
    for table in ("snapshot", "gate_verdict"):
        assert {key for (key,) in world.rows(f"SELECT run_key FROM ponte.{table}")} == keys
    form = {"model": "visits", "version": 1, "reason": "a reason", "windows": [str(WEEK)]}
    run, states = run_dag("ponte__rollback", run_conf=form)
    assert set(states.values()) == {"success"}
    keys = {f"{run.run_id}@{run.start_date.isoformat(timespec='microseconds')}#0"}
    for table in ("batch", "rollback"):
        assert {key for (key,) in world.rows(f"SELECT run_key FROM ponte.{table}")} == keys


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (DatabaseUnavailable("gone"), "retry"),
        (BatchRejected("bad rows"), "fail"),
        (ValueError("a bug"), "fail"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_only_passing_database_faults_are_retried(error: Exception, action: str) -> None:
    from ponte.operators.dags import RETRY

    assert RETRY["retry_policy"].evaluate(error, 1, 4).action.value == action


def test_a_lost_connection_is_a_passing_fault(trained: World) -> None:
    import sqlalchemy as sa

    from ponte.storage.database import transient_faults_marked

    with pytest.raises(DatabaseUnavailable), transient_faults_marked(), trained.db.begin() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))


def _events(uri: str) -> list[dict[str, Any]]:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = select(AssetEvent.extra).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        return list(session.scalars(query.where(AssetModel.uri.startswith(uri)).order_by(AssetEvent.id)))


def test_guard_gives_its_slot_back_while_an_earlier_week_is_scored_and_goes_on_after(
    run_dag: Run, trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait is no retry: none is used up."""
    from ponte.errors import WindowsUnfinished
    from ponte.guards import waiting
    from ponte.operators import scoring

    earlier = trained.run(run_id="earlier", until="guard")
    asked = []

    def look(*args: Any) -> None:
        try:
            waiting.require_earlier_finished(*args)
        except WindowsUnfinished:
            asked.append("waits")
            if len(asked) == 2:
                trained.publish(earlier.batch_id)
            raise
        asked.append("goes on")

    monkeypatch.setattr("ponte.publishing.staging.require_earlier_finished", look)
    monkeypatch.setattr(scoring, "POLL", dt.timedelta(0))
    run, states = run_dag("visits__score", logical_date=TICK, run_conf={"window_start": "2024-02-19"})
    assert set(states.values()) == {"success"}
    assert asked == ["waits", "waits", "goes on"]
    assert run.get_task_instance("guard").try_number == run.get_task_instance("publish").try_number
    assert trained.ask("SELECT count(*) FROM ponte.published") == 2


@pytest.mark.parametrize("stops_in", ["score", "guard", "publish"])
def test_a_run_that_fails_ends_its_batch_and_a_cleared_task_goes_on_with_it(
    run_dag: Run, trained: World, monkeypatch: pytest.MonkeyPatch, stops_in: str
) -> None:
    from ponte.operators.base import runtime_of
    from ponte.operators.scoring import CleanUpOperator, GuardOperator, PublishOperator, ScoreOperator

    where = {"score": "scoring.shards.score_shard", "guard": "publishing.staging.guard_batch"}
    with monkeypatch.context() as patch:
        patch.setattr(f"ponte.{where.get(stops_in, 'publishing.pointer.publish')}", lambda *_, **__: 1 / 0)
        run, states = run_dag("visits__score", logical_date=TICK)
    assert (states[stops_in], states["clean_up"], str(run.state)) == ("failed", "success", "failed")
    reached = {"score": "checked", "guard": "checked", "publish": "staged"}[stops_in]
    assert trained.rows("SELECT status, stopped_in FROM ponte.batch") == [("failed", reached)]

    runtime = runtime_of("ponte_scorer", "visits")
    runtime.__dict__.update(db=trained.db, store=trained.store, folder=trained.folder)
    facts = {"run_id": run.run_id, "start_date": TICK, "clear_number": 1}
    context: Any = {"dag_run": SimpleNamespace(**facts), "params": {}}
    shard = trained.ask("SELECT page_count FROM ponte.batch")
    tasks = (
        ScoreOperator(task_id="s", model="visits", batch_id=1, shard={"shard": 0, "first_page": 0, "end_page": shard}),
        GuardOperator(task_id="g", model="visits", batch_id=1),
        PublishOperator(task_id="p", model="visits", batch_id=1),
        CleanUpOperator(task_id="c", model="visits"),
    )
    for task in tasks[("score", "guard", "publish").index(stops_in) :]:
        task.run(runtime, context)
    assert trained.ask("SELECT count(*) FROM predictions.visits") == VISITS_PER_WEEK
    assert trained.rows("SELECT status, why, stopped_in FROM ponte.batch") == [("staged", None, None)]

"""Who is scheduled on a model's assets hears of everything that changes them, and the documented example runs."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tests.sample_model import FEATURES_SQL, NEXT_WEEK, NOW, VISITS_PER_WEEK, WEEK, World, write_model

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.sdk import DAG

    from ponte.operators.base import PonteOperator
    from ponte.runtime import Runtime

Run = Callable[..., tuple["DagRun", dict[str, str]]]
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own_dags.py"
WHY = "complaints"
#: Consumers of the assets of two models: who hears of what.
CONSUMERS = """
from airflow.sdk import DAG, task

from ponte.operators.base import DECISIONS, champion_asset, predictions_asset

for asset in (DECISIONS, *(of(model) for model in ("visits", "other") for of in (champion_asset, predictions_asset))):
    with DAG(f"hears_{asset.name}", schedule=[asset], catchup=False):

        @task
        def hear(triggering_asset_events, asset=asset):
            return [e.extra for e in sorted(triggering_asset_events[asset], key=lambda e: e.timestamp)]

        hear()
"""


class Scheduler:
    """What Airflow's scheduler does about assets, once and at a call, for DAGs of a file of its own."""

    def __init__(self, file: Path, text: str) -> None:
        from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
        from airflow.models.asset import AssetDagRunQueue, AssetEvent
        from airflow.models.dag import DagModel
        from airflow.models.dagbundle import DagBundleModel
        from airflow.utils.session import create_session
        from sqlalchemy import delete, update

        file.parent.mkdir()
        file.write_text(text)
        bag = BundleDagBag(dag_folder=str(file.parent), bundle_path=file.parent, bundle_name=file.stem)
        assert bag.import_errors == {}
        self.dags: dict[str, DAG] = dict(bag.dags)
        with create_session() as session:
            session.merge(DagBundleModel(name=file.stem))
        sync_bag_to_db(bag, file.stem, None)
        with create_session() as session:
            session.execute(update(DagModel).where(DagModel.dag_id.in_(self.dags)).values(is_paused=False))
            session.execute(delete(AssetDagRunQueue))
            session.execute(delete(AssetEvent))  # of other tests; who is new would hear of them too

    def emit(self, asset: Any, **extra: Any) -> None:
        """Announce an asset, as `POST /assets/events` does."""
        from airflow.assets.manager import asset_manager
        from airflow.utils.session import create_session

        with create_session() as session:
            asset_manager.register_asset_change(asset=asset, extra=extra, session=session)

    def run_who_is_due(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
        """Run every DAG whose assets have new events; return what its tasks have returned, by DAG and task."""
        from airflow.jobs.job import Job
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
        from airflow.models.dag import DagModel
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            query, triggered = DagModel.dags_needing_dagruns(session)
            models = [model for model in query.all() if model.dag_id in triggered and model.dag_id in self.dags]
            due = [model.dag_id for model in models]
            runner = SchedulerJobRunner(job=Job(), executors=[])
            runner._create_dag_runs_asset_triggered(dag_models=models, session=session)
        found = {}
        for dag_id in sorted(due):
            # dag.test() makes a run by hand, which no event has triggered; here it takes the scheduler's.
            def scheduled(*, dag: Any, session: Any, dag_id: str = dag_id, **_: Any) -> DagRun:
                run = session.scalars(
                    select(DagRun).where(DagRun.dag_id == dag_id).order_by(DagRun.id.desc()).limit(1)
                ).one()
                run.dag, run.state, run.start_date = dag, "running", dt.datetime.now(dt.UTC)
                session.commit()
                return run

            with monkeypatch.context() as patch:
                patch.setattr("airflow.models.dagrun.get_or_create_dagrun", scheduled)
                patch.setattr(time, "sleep", lambda seconds, sleep=time.sleep: sleep(min(seconds, 0.05)))
                run = self.dags[dag_id].test(logical_date=None)
            states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
            assert set(states.values()) == {"success"}, states
            found[dag_id] = {ti.task_id: ti.xcom_pull(task_ids=ti.task_id) for ti in run.get_task_instances()}
        return found


@pytest.fixture
def heard(
    airflow_db: None, run_dag: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], dict[str, list[dict[str, Any]]]]]:
    """Return a function that runs the consumers that are due and returns the `extra` of each event, by asset."""
    scheduler = Scheduler(tmp_path / "consumers" / "consumers.py", CONSUMERS)

    def hear() -> dict[str, list[dict[str, Any]]]:
        runs = scheduler.run_who_is_due(monkeypatch)
        return {dag_id.removeprefix("hears_"): told["hear"] for dag_id, told in runs.items()}

    return hear


def test_consumers_hear_of_training_and_scoring_of_their_model(run_dag: Run, world: World, heard: Any) -> None:
    write_model(world.folder.path.parent, "other")
    run_dag("visits__train", run_conf={"as_of": "2024-02-12"})
    assert heard() == {"visits_champion": [{"version": 1, "alias_event_id": 1, "in_words": "version 1 is champion"}]}
    run_dag("visits__score", run_conf={"window_start": str(WEEK)})
    window = {"window_start": str(WEEK), "batch_id": 1, "previous_batch_id": None, "rows": VISITS_PER_WEEK}
    words = f"{WEEK} · version 1 · {VISITS_PER_WEEK} rows · published"
    windows = [{**window, "publication_event_id": 1}]
    assert heard() == {
        "visits_predictions": [{"version": 1, "rollback_id": None, "windows": windows, "in_words": words}]
    }


def test_consumers_hear_of_what_people_decide(run_dag: Run, scored: World, heard: Any) -> None:
    write_model(scored.folder.path.parent, "other")
    scored.with_model(files={"features.sql": FEATURES_SQL + "-- again\n"}).train(run_id="second", promote=False)
    form = {"model": "visits", "reason": WHY}

    run_dag("ponte__promote", run_conf={**form, "version": 2})
    moved = [{"version": 2, "alias_event_id": 2, "in_words": "version 2 is champion"}]
    assert heard() == {"visits_champion": moved, "ponte_decisions": moved}
    run_dag("ponte__promote", run_conf={**form, "version": 2})
    assert heard() == {}, "it was champion"

    run_dag("ponte__rollback", run_conf={**form, "version": 1, "windows": [str(WEEK), str(NEXT_WEEK)]})
    window = {"window_start": str(NEXT_WEEK), "batch_id": 2, "previous_batch_id": None, "rows": VISITS_PER_WEEK}
    changed = {"version": 1, "rollback_id": 1, "windows": [{**window, "publication_event_id": 3}]}
    changed["in_words"] = f"{NEXT_WEEK} · version 1 · {VISITS_PER_WEEK} rows · rolled back"
    assert scored.rows("SELECT event_id, batch_id, previous_batch_id FROM ponte.publication_event ORDER BY 1") == [
        (1, 1, None), (2, 1, 1), (3, 2, None),
    ]  # fmt: skip
    words = "version 1 is champion · by a rollback"
    moved = [{"version": 1, "alias_event_id": 3, "rollback_id": 1, "in_words": words}]
    assert heard() == {
        "visits_champion": moved,
        "visits_predictions": [changed],
        "ponte_decisions": [*moved, changed],
    }, "what people saw already is no news"

    scored.execute("DELETE FROM shop.visit WHERE visit_id BETWEEN 2550 AND 2800")
    scored.with_model(checks="[guard]\nminimum_batches = 1")
    _, states = run_dag("visits__score", run_conf={"window_start": str(NEXT_WEEK)})
    assert (states["guard"], heard()) == ("failed", {})
    run_dag("ponte__publish_batch", run_conf={**form, "batch_id": 3})
    [(rows, before)] = scored.rows(
        "SELECT row_count, previous_batch_id FROM ponte.publication_event WHERE event_id = 4"
    )
    window = {"window_start": str(NEXT_WEEK), "batch_id": 3, "previous_batch_id": before, "rows": rows}
    assert before == 2
    changed = {"version": 1, "rollback_id": None, "windows": [{**window, "publication_event_id": 4}]}
    changed["in_words"] = f"{NEXT_WEEK} · version 1 · {rows} rows · published"
    assert heard() == {"visits_predictions": [changed], "ponte_decisions": [changed]}


class Outlets(dict[Any, Any]):
    """The events that a task leaves, as Airflow's context has them."""

    def __missing__(self, outlet: Any) -> Any:
        added: list[Any] = []
        self[outlet.name] = SimpleNamespace(
            extra=None, added=added, add=lambda asset, extra: added.append((asset.name, extra))
        )
        return self.setdefault(outlet, self[outlet.name])


@pytest.mark.parametrize("decision", ["promote", "rollback", "publish"])
def test_what_is_told_comes_after_the_commit_and_again_at_a_retry(
    scored: World, monkeypatch: pytest.MonkeyPatch, decision: str
) -> None:
    """A task that is killed between its commit and its end has told nobody; its retry does."""
    from ponte.operators import decisions
    from ponte.operators.base import DECISIONS, runtime_of

    scored.with_model(files={"features.sql": FEATURES_SQL + "-- again\n"}).train(run_id="second", promote=False)
    runtime = runtime_of("ponte_promoter", "visits")
    runtime.__dict__.update(db=scored.db, store=scored.store, folder=scored.folder)
    task, form, where = prepared(decision, scored, runtime, decisions, outlets=[DECISIONS])

    def told() -> list[Any]:
        events = Outlets()
        task.run(runtime, {**context(form), "outlet_events": events})
        return [fact for outlet in {id(o): o for o in events.values()}.values() for fact in outlet.added]

    with monkeypatch.context() as patch:
        patch.setattr(where, lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            told()
    assert scored.rows("SELECT * FROM ponte.publication_event WHERE event_id > 1") == []
    assert scored.ask("SELECT count(*) FROM ponte.alias_event") == 1
    first = told()
    assert [name.removeprefix("visits_") for name, _ in first] == {
        "promote": ["champion"],
        "rollback": ["champion", "predictions"],
        "publish": ["predictions"],
    }[decision]
    assert told() == first


def context(form: dict[str, Any]) -> Any:
    facts = {"run_id": "by hand", "start_date": NOW, "clear_number": 0, "triggering_user_name": "Ada"}
    return {"dag_run": SimpleNamespace(**facts), "params": {"reason": WHY, "allow_bad": False, **form}}


def prepared(
    decision: str, scored: World, runtime: Runtime, operators: Any, **settings: Any
) -> tuple[PonteOperator, dict[str, Any], str]:
    """Return the task that carries a decision out, its form, and the function that does it in one transaction."""
    settings |= {"task_id": decision, "model": "visits"}
    if decision == "promote":
        return operators.SetChampionOperator(**settings), {"version": 2}, "ponte.decisions.promotion.set_champion"
    if decision == "publish":
        scored.execute("DELETE FROM shop.visit WHERE visit_id BETWEEN 2550 AND 2800")
        guarded = scored.with_model(checks="[guard]\nminimum_batches = 1")
        batch = guarded.freeze(run_id="rejected", week=NEXT_WEEK)
        guarded.check(batch.batch_id)
        guarded.score(batch.batch_id)
        with pytest.raises(Exception, match="guard"):
            guarded.guard(batch.batch_id)
        form = {"batch_id": batch.batch_id}
        operators.PreparePublicationOperator(task_id="p", model="visits").run(runtime, context(form))
        return operators.PublishBatchOperator(**settings), form, "ponte.publishing.pointer.publish_anyway"
    form = {"version": 2, "windows": [str(WEEK)], "every_window": False, "mark_bad": False, "allow_hindsight": True}
    left: dict[str, Any] = {}
    ti = SimpleNamespace(xcom_push=lambda *, key, value: left.update({key: value}))
    plan = operators.PlanRollbackOperator(task_id="plan", model="visits")
    for day in plan.run(runtime, {**context(form), "ti": ti}):
        stage = operators.StageWindowOperator(task_id="stage", model="visits", window_start=day)
        stage.run(runtime, context(form))
    return operators.RollBackOperator(plan=left["plan"], **settings), form, "ponte.decisions.rollback.roll_back"


def test_the_example_scores_what_was_loaded_and_tells_what_people_see_anew(
    run_dag: Run, trained: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk import Asset

    from ponte.schema import roles

    text = EXAMPLE.read_text()
    assert text.count("flight_delay") == 1
    run_dag("ponte__mark_version", run_conf={"model": "visits", "version": 1, "reason": WHY, "mark": "not bad"})
    scheduler = Scheduler(tmp_path / "own" / "own_dags.py", text.replace("flight_delay", "visits"))
    roles.grant(trained.db)
    scheduler.emit(Asset(name="departures_loaded", uri="warehouse://flights/departure"), window_start=str(WEEK))
    runs = scheduler.run_who_is_due(monkeypatch)
    assert set(runs) == {"visits__score_when_loaded"}
    assert runs["visits__score_when_loaded"]["which_window"] == str(WEEK)
    assert trained.rows("SELECT window_start, count(*) FROM predictions.visits GROUP BY 1") == [(WEEK, VISITS_PER_WEEK)]
    assert trained.rows("SELECT tablename FROM pg_tables WHERE tablename LIKE '%frozen%'") == []
    assert scheduler.run_who_is_due(monkeypatch) == {"visits__tell": {"what_is_new": {str(WEEK): 1}}}

"""What a person decides, through the DAGs: approve, promote, roll back, mark, publish all the same."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tests.sample_model import FEATURES_SQL, NEXT_WEEK, NOW, WEEK, World, run_named, write_model

from ponte.errors import PonteError

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.sdk import DAG
    from tests.conftest import Cluster, Template

Run = Callable[..., tuple["DagRun", dict[str, str]]]
WHY = "complaints"


@pytest.fixture(scope="module")
def two_versions_template(
    server: Cluster, scored_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Template]:
    """Version 2 is champion, and has published the week that version 1 published before."""

    def succeed(world: World) -> None:
        second = world.with_model(files={"features.sql": FEATURES_SQL + "-- again\n"})
        second.train(run_id="second")
        second.run(run_id="by 2")
        assert shown(second) == [(WEEK, 2)]

    with scored_template.after(server, tmp_path_factory.mktemp("two versions"), succeed) as found:
        yield found


@pytest.fixture
def two_versions(server: Cluster, two_versions_template: Template, tmp_path: Path) -> Iterator[World]:
    """A private copy of it."""
    with two_versions_template.copy(server, tmp_path) as world:
        yield world


def shown(world: World) -> list[Any]:
    return world.rows("SELECT DISTINCT window_start, model_version FROM predictions.visits ORDER BY 1")


def test_the_rollback_form_moves_champion_and_windows(run_dag: Run, two_versions: World) -> None:
    form = {"model": "visits", "version": 1, "reason": WHY, "windows": [str(WEEK), str(NEXT_WEEK)]}
    run, states = run_dag("ponte__rollback", run_conf=form)
    assert set(states.values()) == {"success"}
    assert shown(two_versions) == [(WEEK, 1), (NEXT_WEEK, 1)]
    [(version, reason, actor)] = two_versions.rows("SELECT version, reason, actor FROM ponte.champion")
    assert (version, reason) == (1, WHY)
    assert actor
    assert two_versions.rows("SELECT run_id, from_version, to_version FROM ponte.rollback") == [(run.run_id, 2, 1)]
    assert two_versions.rows("SELECT tablename FROM pg_tables WHERE tablename LIKE '%frozen%'") == []


def test_a_dry_run_says_what_would_follow_and_does_none_of_it(
    run_dag: Run, two_versions: World, capsys: pytest.CaptureFixture[str]
) -> None:
    before = shown(two_versions)
    form = {"model": "visits", "version": 1, "reason": WHY, "windows": [str(WEEK), str(NEXT_WEEK)], "dry_run": True}
    _, states = run_dag("ponte__rollback", run_conf=form)
    assert (states["plan"], states["score_window"], states["roll_back"]) == ("success", "skipped", "skipped")
    printed = capsys.readouterr().out
    for said in ("Moves champion 2 → 1.", f"before: {WEEK}.", f"Scores 1 window anew, then shows it: {NEXT_WEEK}."):
        assert re.search(f"would follow: .*{re.escape(said)}", printed)
    assert shown(two_versions) == before
    assert two_versions.ask("SELECT count(*) FROM ponte.rollback") == 0
    assert two_versions.ask("SELECT max(version) FROM ponte.champion") == 2


def test_an_undo_needs_no_scoring(run_dag: Run, two_versions: World) -> None:
    """Whatever the model's retention is: what a rollback has replaced is what somebody may want back at once."""
    with (two_versions.folder.path / "model.toml").open("a") as file:
        file.write("[retention]\nreplaced_batches = 0\n")
    form = {"model": "visits", "reason": WHY, "windows": [str(WEEK)]}
    _, states = run_dag("ponte__rollback", run_conf={**form, "version": 1, "mark_bad": False})
    assert (states["score_window"], states["roll_back"]) == ("skipped", "success")
    _, states = run_dag("ponte__rollback", run_conf={**form, "version": 2})
    assert (states["score_window"], states["roll_back"], states["clean_up"]) == ("skipped", "success", "success")
    assert shown(two_versions) == [(WEEK, 2)]


def test_a_rollback_that_cannot_be_done_moves_nothing(
    run_dag: Run, two_versions: World, capsys: pytest.CaptureFixture[str]
) -> None:
    form = {"model": "visits", "version": 7, "reason": WHY, "windows": [str(WEEK)]}
    _, states = run_dag("ponte__rollback", run_conf=form)
    assert states == {
        "plan": "failed",
        "score_window": "upstream_failed",
        "roll_back": "upstream_failed",
        "clean_up": "success",  # whatever has been staged goes
        "tell": "success",
    }
    assert "expected: one of [1, 2]" in capsys.readouterr().out
    assert shown(two_versions) == [(WEEK, 2)]


def test_marks_and_promotions_by_hand(run_dag: Run, two_versions: World, capsys: pytest.CaptureFixture[str]) -> None:
    form = {"model": "visits", "version": 1, "reason": WHY}
    told = {"tell": "success"}
    assert run_dag("ponte__mark_version", run_conf={**form, "mark": "bad"})[1] == {"mark_version": "success", **told}
    assert run_dag("ponte__promote", run_conf=form)[1] == {"set_champion": "failed", **told}
    assert "the version is marked bad" in capsys.readouterr().out
    assert run_dag("ponte__promote", run_conf={**form, "allow_bad": True})[1] == {"set_champion": "success", **told}
    assert two_versions.ask("SELECT version FROM ponte.champion") == 1


@pytest.mark.parametrize(
    ("dag_id", "conf"),
    [
        ("ponte__rollback", {"version": 1}),
        ("ponte__rollback", {"version": 1, "reason": "no"}),
        ("ponte__rollback", {"version": 0, "reason": WHY}),
        ("ponte__rollback", {"version": 1, "reason": WHY, "model": "unknown"}),
        ("ponte__rollback", {"version": 1, "reason": WHY, "windows": ["last week"]}),
        ("ponte__promote", {"reason": WHY}),
        ("ponte__mark_version", {"version": 1, "reason": WHY, "mark": "ugly"}),
        ("ponte__publish_batch", {"batch_id": 1}),
        ("ponte__publish_batch", {"reason": WHY}),
        ("ponte__publish_batch", {"batch_id": 0, "reason": WHY}),
        ("ponte__publish_batch", {"batch_id": "newest", "reason": WHY}),
        ("ponte__alarm", {"alarm_id": 1, "action": "forget", "reason": WHY}),
    ],
    ids=[
        "no reason", "a short reason", "version 0", "unknown model", "no day", "no version", "no such mark",
        "batch without a reason", "no batch", "batch 0", "batch by name",
        "no such action",
    ],
)  # fmt: skip
def test_a_form_refuses_what_it_cannot_mean(
    dags: Callable[..., dict[str, DAG]], models_root: Any, dag_id: str, conf: dict[str, Any]
) -> None:
    """As Airflow does when somebody triggers it: with 400, before there is a run."""
    from airflow.sdk.exceptions import ParamValidationError

    write_model(models_root)
    params = dags(by_hand=True)[dag_id].params
    about = next(name for name in ("batch_id", "alarm_id", "version") if name in params)
    good = {about: 1, "reason": WHY, **({"mark": "bad"} if "mark" in params else {})}
    good |= {"action": "close"} if "action" in params else {}
    params.deep_merge(good) if hasattr(params, "deep_merge") else params.update(good)
    params.validate()

    params = dags(by_hand=True)[dag_id].params
    with pytest.raises(ParamValidationError):  # noqa: PT012 - either may refuse
        params.update(conf)
        params.validate()


def test_a_batch_that_a_guard_rejected_is_published_through_the_form(
    run_dag: Run, scored: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found red in the UI, looked at, and decided: by whom and why is kept."""
    scored.execute("DELETE FROM shop.visit WHERE visit_id >= 2550")
    scored.with_model(checks="[guard]\nminimum_batches = 1")
    _, states = run_dag("visits__score", run_conf={"window_start": str(NEXT_WEEK)})
    assert (states["guard"], states["publish"], states["clean_up"]) == ("failed", "upstream_failed", "success")
    assert "trigger ponte__publish_batch with a reason" in capsys.readouterr().out
    assert shown(scored) == [(WEEK, 1)]

    form = {"model": "visits", "batch_id": 2, "reason": WHY}
    run, states = run_dag("ponte__publish_batch", run_conf=form)
    assert states == dict.fromkeys(["prepare", "publish_batch", "clean_up", "tell"], "success")
    assert shown(scored) == [(WEEK, 1), (NEXT_WEEK, 1)]
    [(batch_id, run_id, actor, reason)] = scored.rows(
        "SELECT batch_id, run_id, actor, reason FROM ponte.guard_override"
    )
    assert (batch_id, run_id, reason) == (2, run.run_id, WHY)
    assert actor
    assert scored.rows("SELECT guards_tripped, published_anyway FROM ponte.batch_overview WHERE batch_id = 2") == [
        (["row_count"], WHY)
    ]


def test_a_batch_that_no_guard_rejected_cannot_be_published_through_the_form(
    run_dag: Run, trained: World, capsys: pytest.CaptureFixture[str]
) -> None:
    trained.run(run_id="r", until="score")
    for batch_id, task, said in (
        (1, "publish_batch", "no guard has rejected this batch"),
        (7, "prepare", "no such batch"),
    ):
        form = {"model": "visits", "batch_id": batch_id, "reason": WHY}
        states = run_dag("ponte__publish_batch", run_conf=form)[1]
        assert [name for name, state in states.items() if state == "failed"] == [task]
        assert states["clean_up"] == "upstream_failed"
        assert said in capsys.readouterr().out
    assert trained.ask("SELECT count(*) FROM ponte.published") == 0


def test_without_a_model_there_is_nothing_to_decide(dags: Callable[..., dict[str, DAG]]) -> None:
    assert set(dags(by_hand=True)) == {"ponte__tell"}


# ---------------------------------------------------------------- approval


def test_a_model_with_approval_asks_between_gate_and_promotion(
    dags: Callable[..., dict[str, DAG]], models_root: Any
) -> None:
    write_model(models_root, promotion="approval")
    task = dags()["visits__train"].get_task("approve")
    assert (task.upstream_task_ids, task.downstream_task_ids) == ({"gate"}, {"promote"})
    assert task.defaults is None, "silence is no consent"
    write_model(models_root, promotion="auto")
    assert "approve" not in dags()["visits__train"].task_ids


def approve_task(**settings: Any) -> Any:
    from ponte.operators.approval import ApproveOperator

    return ApproveOperator(
        task_id="approve", model="visits", subject="s", body="b", timeout_hours=1, **{"outcome": "passed", **settings}
    )


def test_nobody_is_asked_about_a_refused_version() -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException, match="the gate refused: see verdict 5"):
        approve_task(verdict_id="5", outcome="refused").execute({})


@pytest.mark.parametrize(
    ("event", "row", "champion"),
    [
        ({"chosen_options": ["Approve"], "params_input": {"reason": WHY}}, ("approved", "Ada", WHY), 2),
        ({"chosen_options": ["Reject"], "params_input": {"reason": WHY}}, ("rejected", "Ada", WHY), 1),
        ({"error": "too late", "error_type": "timeout"}, ("timed out", "second", "nobody answered in 1 hours"), 1),
    ],
    ids=["approved", "rejected", "timed out"],
)
def test_every_answer_is_kept_and_only_consent_promotes(  # noqa: PLR0917
    run_dag: Run,
    dags: Callable[..., dict[str, DAG]],
    trained: World,
    event: dict[str, Any],
    row: tuple[str, str, str],
    champion: int,
) -> None:
    from airflow.providers.standard.exceptions import HITLTimeoutError
    from airflow.sdk.exceptions import DownstreamTasksSkipped

    from ponte.decisions import promotion

    second = trained.with_model(files={"features.sql": FEATURES_SQL + "-- again\n"}, promotion="approval")
    run = second.train(run_id="second", promote=False)
    task = dags()["visits__train"].get_task("approve")
    task.verdict_id, task.timeout_hours = str(run.verdict_id), 1
    dag_run = SimpleNamespace(run_id="second", start_date=NOW, clear_number=0, triggering_user_name="somebody")
    ti = SimpleNamespace(map_index=-1, xcom_push=lambda **_: None)
    context: Any = {"dag_run": dag_run, "ti": ti, "task": task}
    answered = {"responded_at": dt.datetime.now(dt.UTC), "responded_by_user": {"id": "7", "name": "Ada"}, **event}

    if "error" in event:
        with pytest.raises(HITLTimeoutError):
            task.execute_complete(context, answered)
    elif row[0] == "rejected":
        with pytest.raises(DownstreamTasksSkipped):
            task.execute_complete(context, answered)
    else:
        assert task.execute_complete(context, answered)["decision"] == row[0]
    assert trained.rows("SELECT decision, actor, reason FROM ponte.approval") == [row]
    approval_id = trained.ask("SELECT approval_id FROM ponte.approval")
    promotion.promote(trained.db, run.verdict_id, actor="second", approval_id=approval_id, approval_required=True)
    assert trained.champion().version == champion
    if champion == 2:
        event_row = "SELECT actor, reason FROM ponte.alias_event ORDER BY event_id DESC LIMIT 1"
        assert trained.rows(event_row) == [("Ada", WHY)]


def answer_of(run_id: str, choice: str, reason: str | None, minute: int = 0) -> tuple[Any, dict[str, Any]]:
    """Return the context of a task and what it gets when Ada has answered."""
    ti = SimpleNamespace(map_index=-1, xcom_push=lambda **_: None)
    context: Any = {"dag_run": SimpleNamespace(run_id=run_id, start_date=NOW, clear_number=0), "ti": ti}
    return context, {
        "chosen_options": [choice],
        "params_input": {"reason": reason},
        "responded_at": NOW + dt.timedelta(minutes=minute),
        "responded_by_user": {"id": "7", "name": "Ada"},
    }


@pytest.mark.parametrize("reason", [None, "", "  "], ids=["none", "empty", "blank"])
def test_consent_without_a_reason_is_none(
    run_dag: Run, dags: Callable[..., dict[str, DAG]], world: World, reason: str | None
) -> None:
    run = world.with_model(promotion="approval").train(run_id="first", promote=False)
    task = dags()["visits__train"].get_task("approve")
    task.verdict_id = str(run.verdict_id)
    context, event = answer_of("first", "Approve", reason)
    with pytest.raises(PonteError, match="consent without a reason is none"):
        task.execute_complete({**context, "task": task}, event)
    assert world.rows("SELECT * FROM ponte.approval") == []


def test_a_rejection_is_kept_however_short_its_reason(
    run_dag: Run, dags: Callable[..., dict[str, DAG]], world: World
) -> None:
    """An answer that broke a rule of the form would be lost, and a rejection that is lost is none."""
    from airflow.sdk.exceptions import DownstreamTasksSkipped

    run = world.with_model(promotion="approval").train(run_id="first", promote=False)
    for minute, reason in enumerate(("no", None)):
        task = dags()["visits__train"].get_task("approve")
        task.verdict_id = str(run.verdict_id)
        context, event = answer_of("first", "Reject", reason, minute)
        with pytest.raises(DownstreamTasksSkipped):
            task.execute_complete({**context, "task": task}, event)
    kept = "SELECT decision, actor, reason, answered_at FROM ponte.approval ORDER BY approval_id"
    assert world.rows(kept) == [
        ("rejected", "Ada", "no", NOW),
        ("rejected", "Ada", "none given", NOW + dt.timedelta(minutes=1)),
    ]


def test_an_answer_that_is_recorded_again_by_a_retry_is_kept_once(
    run_dag: Run, dags: Callable[..., dict[str, DAG]], world: World
) -> None:
    run = world.with_model(promotion="approval").train(run_id="first", promote=False)
    task = dags()["visits__train"].get_task("approve")
    task.verdict_id = str(run.verdict_id)
    context, event = answer_of("first", "Approve", WHY)
    first, again = [task.execute_complete({**context, "task": task}, event) for _ in range(2)]
    assert first == again
    assert world.rows("SELECT approval_id, answered_at FROM ponte.approval") == [(first["approval_id"], NOW)]


def test_an_answer_to_another_verdict_promotes_nothing(world: World) -> None:
    from ponte.decisions import approvals, promotion, verdicts

    first = world.train(run_id="first", promote=False)
    other = verdicts.judge(world.db, world.folder, 1, first.snapshot.snapshot_id, run=run_named("other"))[0]
    answer = approvals.record_approval(
        world.db, other, "approved", run=run_named("other"), actor="Ada", reason=WHY, answered_at=NOW
    )
    with pytest.raises(PonteError, match="no such answer"):
        promotion.promote(world.db, first.verdict_id, actor="x", approval_id=answer, approval_required=True)


@pytest.mark.parametrize(
    "case",
    [
        ("auto", "promote", ""),
        ("auto", "keep", "Not promoted"),
        ("approval", "promote", "PASSED: decide with ponte__promote"),
    ],
)
def test_a_version_is_judged_again_by_the_gate_of_now(
    run_dag: Run, trained: World, capsys: pytest.CaptureFixture[str], case: tuple[str, str, str]
) -> None:
    mode, outcome, said = case
    gate, state = f'champion_indistinguishable = "{outcome}"', "skipped" if said else "success"
    refusing = trained.with_model(training="seed = 7", gate='champion_indistinguishable = "keep"')
    assert refusing.train(run_id="second").alias is None
    trained.with_model(training="seed = 7", gate=gate, promotion=mode)
    _, states = run_dag("ponte__judge", run_conf={"model": "visits"})
    assert states == {"measure_again": "success", "judge_again": "success", "promote": state, "tell": "success"}
    assert said in capsys.readouterr().out
    verdicts = trained.rows("SELECT version, passed FROM ponte.gate_verdict ORDER BY verdict_id")
    assert verdicts == [(1, True), (2, False), (2, "promote" in gate)]
    assert trained.champion().version == (2 if state == "success" else 1)
    assert trained.ask("SELECT count(*) FROM ponte.version") == 2

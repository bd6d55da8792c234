"""The whole thing as a user runs it: PostgreSQL, the four components of Airflow, its REST API, real flights.

One stack for the module, driven in the order of the tests; each test says which step of a newcomer's first hour it is.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import sqlalchemy as sa

from ponte.demo import flights
from ponte.embedded import postgres
from ponte.local import processes, stack
from ponte.local.airflow_api import AirflowApi, connect
from ponte.local.environment import airflow_environment
from ponte.local.secrets import load_or_create
from ponte.local.settings import Settings
from ponte.schema import roles
from ponte.storage.database import Database

ROOT = Path(__file__).parents[2]
MODEL = "flight_delay"
#: Tasks of a run: of a model without approval, of one shard.
TRAIN_TASKS, SCORE_TASKS = 8, 10
MINUTES_10 = 600.0


@dataclass(frozen=True)
class Stack:
    """A running stack and how to talk to it."""

    settings: Settings
    api: AirflowApi
    db: Database
    models: Path

    def rows(self, query: str) -> list[Any]:
        """Return the rows of a query on the database `ponte`."""
        with self.db.begin() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]

    def finish(self, dag_id: str, run_id: str, conf: dict[str, Any] | None = None) -> tuple[str, dict[str, str]]:
        """Start a run unless it is there, wait for its end; return its state and those of its tasks."""
        states: dict[str, str] = {}
        if conf is not None:
            self.api.run(dag_id, run_id, conf)
        state = self.api.wait_for_run(
            dag_id, run_id, seconds=MINUTES_10, on_task=lambda task: states.update({task["task_id"]: task["state"]})
        )
        return state, states

    def published_by(self, run_id: str) -> list[Any]:
        """Return the windows that a run has published."""
        return self.rows(f"SELECT window_start::text FROM ponte.publication_event WHERE actor = '{run_id}'")

    def process_of(self, dag_id: str, run_id: str, task_id: str) -> psutil.Process | None:
        """Return the process that runs a task now; Airflow puts the (cut) id of the task instance into its title."""
        ids = [t["id"] for t in self.api.tasks(dag_id, run_id) if t["task_id"] == task_id and t["state"] == "running"]
        for process in psutil.process_iter(["cmdline"]):
            title = " ".join(process.info["cmdline"] or []).strip()
            marked = title.removeprefix("airflow worker -- ")
            if marked != title and len(marked) > 20 and any(i.startswith(marked) for i in ids):
                return process
        return None

    def log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Return the log of a task."""
        [task] = [t for t in self.api.tasks(dag_id, run_id) if t["task_id"] == task_id]
        return self.api.log_tail(dag_id, run_id, task, lines=200)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


@pytest.fixture(scope="module")
def running(airflow: None, postgres_programs: None) -> Iterator[Stack]:
    """A stack with the flights loaded, a small version of the model, and a broken folder beside it."""
    # Not below pytest's own folder, which every session closes to other users: as root, PostgreSQL runs as one.
    folder = Path(tempfile.mkdtemp(prefix="ponte-e2e-"))
    models = folder / "models"
    shutil.copytree(ROOT / "include" / "models" / MODEL, models / MODEL)
    toml = models / MODEL / "model.toml"
    small = toml.read_text()
    for key, value in (("windows", 10), ("holdout_windows", 2), ("minimum", 0.55)):
        small = re.sub(rf"^{key} = [0-9.]+", f"{key} = {value}", small, count=1, flags=re.MULTILINE)
    toml.write_text(small)
    (models / "broken").mkdir()
    (models / "broken" / "model.toml").write_text('descripton = "a typo"\n')

    ports = dict(
        zip(
            ("PONTE_UI_PORT", "PONTE_LOG_PORT", "PONTE_TRIGGERER_LOG_PORT", "PONTE_SCHEDULER_PORT"),
            map(str, free_ports(4)),
            strict=True,
        )
    )
    settings = Settings.from_environment({"PONTE_HOME": str(folder / "home"), **ports})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PONTE_MODELS", str(models))
        for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
            patch.delenv(name)  # of the tests that run Airflow in this process
        # A task whose supervisor is gone is run again after this time, not after five minutes.
        patch.setenv("AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT", "20")
        patch.setenv("AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL", "2")
        try:
            stack.up(settings)
            secrets = load_or_create(settings.secrets_file)
            db = Database(postgres.describe(settings.data_dir).url("ponte", "postgres", secrets.postgres_password))
            flights.load(db.url.render_as_string(hide_password=False))
            with db.begin() as connection:
                roles.open_source(connection, "flights")
            with connect(settings.ui_url, user="admin", password=secrets.admin_password) as api:
                yield Stack(settings, api, db, models)
        finally:
            stack.down(settings)
    assert processes.members(settings) == []
    assert not postgres.is_running(settings.data_dir)
    shutil.rmtree(folder)


def test_every_model_has_its_dags_and_a_broken_folder_hides_no_other(running: Stack) -> None:
    by_hand = ("ponte__promote", "ponte__rollback", "ponte__mark_version")
    for dag_id in (f"{MODEL}__train", f"{MODEL}__score", "broken__train", *by_hand):
        running.api.wait_for_dag(dag_id)
    assert running.api.call("GET", "/importErrors")["total_entries"] == 0
    details = running.api.call("GET", "/dags/broken__train/details")
    assert "did you mean 'description'?" in details["doc_md"]
    assert {tag["name"] for tag in details["tags"]} == {"ponte", "broken"}


def test_score_tasks_have_a_pool_and_what_tasks_import_is_loaded_before_they_start(running: Stack) -> None:
    assert running.api.call("GET", "/pools/ponte_score")["slots"] == running.settings.score_slots
    scheduler = processes.alive(running.settings)["scheduler"]
    mapped = {Path(m.path).parts[-2] for m in scheduler.memory_maps() if m.path.endswith(".so")}
    assert {"ensemble", "adbc_driver_manager"} <= mapped, "parts of scikit-learn, and the database driver"


def test_scoring_before_training_fails_at_once_and_says_what_to_do(running: Stack) -> None:
    dag_id = f"{MODEL}__score"
    state, tasks = running.finish(dag_id, "too_early", {"window_start": "2013-10-07"})
    assert (state, tasks["freeze_batch"]) == ("failed", "failed")
    assert f"train {MODEL} first: it has no champion" in running.log(dag_id, "too_early", "freeze_batch")
    [task] = [t for t in running.api.tasks(dag_id, "too_early") if t["task_id"] == "freeze_batch"]
    assert task["try_number"] == 1, "no retry can heal this"


def test_a_wrong_window_is_refused_by_the_form_or_named_by_the_task(running: Stack) -> None:
    from ponte.errors import PonteError

    with pytest.raises(PonteError, match="400"):
        running.api.run(f"{MODEL}__score", "no_date", {"window_start": "next week"})
    state, _ = running.finish(f"{MODEL}__score", "tuesday", {"window_start": "2013-10-08"})
    assert state == "failed"
    log = running.log(f"{MODEL}__score", "tuesday", "freeze_batch")
    assert "did you mean 2013-10-07 or 2013-10-14?" in log


def test_training_promotes_version_1(running: Stack) -> None:
    state, tasks = running.finish(f"{MODEL}__train", "first", {"as_of": "2013-09-30"})
    assert state == "success", tasks
    assert set(tasks.values()) == {"success"}
    assert running.rows("SELECT model, version, actor FROM ponte.champion") == [(MODEL, 1, "first")]
    # From now on a person is asked. The DAG is read again while the next tests go on.
    toml = running.models / MODEL / "model.toml"
    text = toml.read_text().replace('task = "binary"', 'task = "binary"\npromotion = "approval"', 1)
    toml.write_text(text.replace("[gate]\n", '[gate]\nchampion_indistinguishable = "promote"\n', 1))


def test_a_backfill_scores_each_past_week_with_its_own_as_of(running: Stack) -> None:
    dag_id = f"{MODEL}__score"
    running.api.backfill(dag_id, first="2013-09-30T00:00:00Z", last="2013-10-08T00:00:00Z", max_active_runs=2)
    runs = [r for r in running.api.runs(dag_id) if r["run_type"] == "backfill"]
    assert len(runs) == 2
    for run in runs:
        state, tasks = running.finish(dag_id, run["dag_run_id"])
        assert state == "success", tasks
    found = running.rows(
        f"SELECT p.window_start, count(*), count(DISTINCT departure_id), min(as_of) = p.window_start::timestamptz "
        f"FROM predictions.{MODEL} p JOIN ponte.batch USING (batch_id) GROUP BY p.window_start ORDER BY 1"
    )
    assert [str(row[0]) for row in found] == ["2013-10-07", "2013-10-14"]
    for _, rows, distinct, as_of_is_window_start in found:
        assert 5_000 < rows == distinct
        assert as_of_is_window_start


def test_a_published_week_is_announced_with_its_version_and_rows(running: Stack) -> None:
    events = running.api.call("GET", "/assets/events", params={"source_dag_id": f"{MODEL}__score"})["asset_events"]
    [(batch_id, rows)] = running.rows(
        "SELECT batch_id, row_count FROM ponte.publication_event ORDER BY event_id DESC LIMIT 1"
    )
    extra = next(e["extra"] for e in events if e["extra"]["windows"][0]["batch_id"] == batch_id)
    assert (extra["version"], extra["windows"][0]["rows"]) == (1, rows)


def test_a_backfill_made_again_after_its_run_was_deleted_publishes_the_corrected_source(running: Stack) -> None:
    """The new run has the id of the deleted one, because ids of backfills follow from the date."""
    dag_id, week = f"{MODEL}__score", "2013-10-07"
    told = f"SELECT count(*), md5(string_agg(score::text, ',' ORDER BY departure_id)) FROM predictions.{MODEL}"
    told += f" WHERE window_start = '{week}'"
    batches = f"SELECT run_id, run_key FROM ponte.batch WHERE window_start = '{week}' ORDER BY batch_id"
    [run] = [r for r in running.api.runs(dag_id, run_type="backfill") if r["data_interval_end"].startswith(week)]
    path = f"/dags/{dag_id}/dagRuns/{run['dag_run_id']}"
    [(rows, before)] = running.rows(told)

    running.api.call("DELETE", path)
    [(one,)] = running.rows(f"SELECT min(departure_id) FROM predictions.{MODEL} WHERE window_start = '{week}'")
    change = (
        f"UPDATE flights.departure SET distance = distance {{}} WHERE flight_date BETWEEN '{week}' AND '2013-10-13'"
    )
    move = f"UPDATE flights.departure SET flight_date = DATE '{{}}' WHERE departure_id = {one}"
    with running.db.begin() as connection:
        [day] = connection.exec_driver_sql(
            f"SELECT flight_date FROM flights.departure WHERE departure_id = {one}"
        ).one()
        connection.exec_driver_sql(f"{change.format('+ 20')}; {move.format('2014-06-02')}")
    try:
        deadline = time.monotonic() + MINUTES_10
        while "detail" in running.api.call("GET", path, accept=frozenset({404})):
            assert time.monotonic() < deadline, "the first backfill has no end"
            running.api.backfill(dag_id, first="2013-09-30T00:00:00Z", last="2013-10-01T00:00:00Z", max_active_runs=1)
            time.sleep(1)
        state, tasks = running.finish(dag_id, run["dag_run_id"])
    finally:
        with running.db.begin() as connection:
            connection.exec_driver_sql(f"{move.format(day)}; {change.format('- 20')}")
    assert state == "success", tasks
    [(rows_now, after)] = running.rows(told)
    assert (rows_now, after != before) == (rows - 1, True)
    again = running.api.call("GET", path)
    assert running.rows(batches) == [(run["dag_run_id"], key_of(run)), (run["dag_run_id"], key_of(again))]
    actors = f"SELECT actor FROM ponte.publication_event WHERE window_start = '{week}' ORDER BY event_id"
    assert running.rows(actors) == [(run["dag_run_id"],)] * 2


def key_of(run: dict[str, Any]) -> str:
    """Return the key that the tables have of a run, by what REST says of it."""
    started = dt.datetime.fromisoformat(run["start_date"]).astimezone(dt.UTC)
    return f"{run['dag_run_id']}@{started.isoformat(timespec='microseconds')}#0"


def test_scoring_a_week_again_replaces_what_readers_see(running: Stack) -> None:
    before = running.rows(f"SELECT batch_id FROM predictions.{MODEL} WHERE window_start = '2013-10-07'")
    state, _ = running.finish(f"{MODEL}__score", "again", {"window_start": "2013-10-07"})
    assert state == "success"
    after = running.rows(f"SELECT batch_id FROM predictions.{MODEL} WHERE window_start = '2013-10-07'")
    assert len(after) == len(before) + 1, "the departure that the source had lost for a while is back"
    assert set(before).isdisjoint(after), "another batch"


def test_a_killed_task_is_tried_again_and_leaves_one_clean_week(running: Stack) -> None:
    """SIGKILL of the process that scores; the retry finds the frozen rows and nothing half-written."""
    dag_id, run_id = f"{MODEL}__score", "killed"
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'ponte.shard'::regclass"
    with running.db.begin() as connection:
        # Scoring takes half a second. So it must wait, with its rows written and not committed, until it is found.
        connection.execute(sa.text("LOCK TABLE ponte.shard IN SHARE ROW EXCLUSIVE MODE"))
        running.api.run(dag_id, run_id, {"window_start": "2013-10-14"})
        deadline = time.monotonic() + MINUTES_10
        while not (running.rows(waiting) and (victim := running.process_of(dag_id, run_id, "score"))):
            assert time.monotonic() < deadline, "score never ran"
            time.sleep(0.1)
        victim.kill()
    state, _ = running.finish(dag_id, run_id)
    assert state == "success"
    [task] = [t for t in running.api.tasks(dag_id, run_id) if t["task_id"] == "score"]
    assert task["try_number"] == 2
    [(rows, distinct, batches)] = running.rows(
        f"SELECT count(*), count(DISTINCT departure_id), count(DISTINCT batch_id) FROM predictions.{MODEL} "
        "WHERE window_start = '2013-10-14'"
    )
    assert (rows, batches) == (distinct, 1)
    assert running.rows("SELECT tablename FROM pg_tables WHERE tablename LIKE '%frozen%'") == []


def test_a_task_whose_supervisor_is_killed_runs_twice_at_once_and_scores_the_week_once(running: Stack) -> None:
    """The orphan lives on; Airflow misses the heartbeat and starts a second copy, while the first is still at work."""
    dag_id, run_id, week = f"{MODEL}__score", "twins", "2013-10-14"
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'ponte.shard'::regclass"
    deadline = time.monotonic() + MINUTES_10
    with running.db.begin() as connection:
        # Both wait here, with their rows written and not committed.
        connection.execute(sa.text("LOCK TABLE ponte.shard IN SHARE ROW EXCLUSIVE MODE"))
        running.api.run(dag_id, run_id, {"window_start": week})
        while not (running.rows(waiting) == [(1,)] and (orphan := running.process_of(dag_id, run_id, "score"))):
            assert time.monotonic() < deadline, "score never ran"
            time.sleep(0.1)
        supervisor = orphan.parent()
        assert supervisor is not None
        assert "LocalExecutor" in " ".join(supervisor.cmdline())
        supervisor.kill()
        while running.rows(waiting) != [(2,)]:
            assert time.monotonic() < deadline, "there was no second copy"
            time.sleep(0.1)
        assert orphan.is_running(), "the first copy is still there"
    state, tasks = running.finish(dag_id, run_id)
    assert state == "success", tasks
    [task] = [t for t in running.api.tasks(dag_id, run_id) if t["task_id"] == "score"]
    assert task["try_number"] == 2
    [(rows, distinct, batches)] = running.rows(
        f"SELECT count(*), count(DISTINCT departure_id), count(DISTINCT batch_id) FROM predictions.{MODEL} "
        f"WHERE window_start = '{week}'"
    )
    assert 5_000 < rows == distinct
    assert batches == 1
    shards = "SELECT sum(s.row_count) FROM ponte.shard s JOIN ponte.batch USING (batch_id) WHERE run_id = 'twins'"
    assert running.rows(shards) == [(rows,)]


def test_a_tampered_artifact_is_refused_and_the_published_week_stays(running: Stack) -> None:
    [(path,)] = running.rows("SELECT path FROM ponte.version WHERE version = 1")
    model = running.settings.home / "artifacts" / path / "model.joblib"
    whole = model.read_bytes()
    published = running.rows("SELECT * FROM ponte.published ORDER BY 1, 2")
    model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        state, tasks = running.finish(f"{MODEL}__score", "tampered", {"window_start": "2013-10-14"})
    finally:
        model.write_bytes(whole)
    assert (state, tasks["score"]) == ("failed", "failed")
    assert "changed file model.joblib" in running.log(f"{MODEL}__score", "tampered", "score")
    assert running.rows("SELECT * FROM ponte.published ORDER BY 1, 2") == published


def test_the_report_is_linked_from_the_run_and_shown_only_behind_the_login(running: Stack) -> None:
    task = f"/dags/{MODEL}__train/dagRuns/first/taskInstances/"
    for name in ("train", "evaluate", "gate", "promote"):
        links = running.api.call("GET", f"{task}{name}/links")["extra_links"]
        assert links["Report"].endswith(f"/ponte/report/{MODEL}/1"), (name, links)
    page = f"{running.settings.ui_url}/ponte/report/{MODEL}/1"
    assert httpx.get(page, trust_env=False, follow_redirects=False).status_code in {302, 303, 307, 401}
    shown = running.api.page(f"/ponte/report/{MODEL}/1")
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert MODEL in shown.text
    assert "is better than a constant" in shown.text, "what the gate said"


def test_a_person_is_asked_and_name_and_reason_are_kept(running: Stack) -> None:
    wait_for_the_task_approve(running, is_there=True)
    state, tasks = answered(running, "second", "Approve", "better in the weeks that matter")
    assert (state, tasks["promote"]) == ("success", "success")
    assert running.rows(
        "SELECT version, actor, reason, evidence ? 'approval_id' FROM ponte.alias_event ORDER BY event_id DESC LIMIT 1"
    ) == [(2, "admin", "better in the weeks that matter", True)]

    state, tasks = answered(running, "third", "Reject", "one was enough")
    assert (state, tasks["approve"], tasks["promote"]) == ("success", "success", "skipped")
    assert running.rows("SELECT decision, actor, reason FROM ponte.approval ORDER BY approval_id DESC LIMIT 1") == [
        ("rejected", "admin", "one was enough")
    ]
    assert running.rows("SELECT version FROM ponte.champion") == [(2,)]

    for run_id in ("second", "third"):  # who is resumed by an answer is the run that asked
        run = running.api.call("GET", f"/dags/{MODEL}__train/dagRuns/{run_id}")
        for table in ("snapshot", "gate_verdict", "approval"):
            assert running.rows(f"SELECT run_key FROM ponte.{table} WHERE run_id = '{run_id}'") == [(key_of(run),)]

    # Nobody is asked any more. The DAG is read again while the next tests go on.
    toml = running.models / MODEL / "model.toml"
    toml.write_text(toml.read_text().replace('promotion = "approval"', 'promotion = "auto"', 1))


def wait_for_the_task_approve(running: Stack, *, is_there: bool) -> None:
    """Wait until the DAG of the training has the task, or has it no more."""
    deadline = time.monotonic() + MINUTES_10
    tasks = f"/dags/{MODEL}__train/tasks"
    while is_there != ("approve" in {t["task_id"] for t in running.api.call("GET", tasks)["tasks"]}):
        assert time.monotonic() < deadline, "the DAG is as it was"
        time.sleep(1)


def answered(running: Stack, run_id: str, choice: str, reason: str) -> tuple[str, dict[str, str]]:
    """Train, and answer in the way the UI does when the run asks."""
    dag_id = f"{MODEL}__train"
    running.api.run(dag_id, run_id, {"as_of": "2013-10-14"})
    waiting = f"/dags/{dag_id}/dagRuns/{run_id}/hitlDetails"
    deadline = time.monotonic() + MINUTES_10
    while not (asked := running.api.call("GET", waiting)["hitl_details"]):
        assert time.monotonic() < deadline, "nobody was asked"
        time.sleep(1)
    assert "champion 1" in asked[0]["body"] or run_id == "third"
    assert "/ponte/report/" in asked[0]["body"]
    # Nobody reads so fast. The worker that asked tells its end up to a second late, and Airflow lets
    # the task fail when it runs again by then: [workers] min_heartbeat_interval.
    time.sleep(3)
    body = {"chosen_options": [choice], "params_input": {"reason": reason}}
    path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
    running.api.call("PATCH", path, json=body)
    return running.finish(dag_id, run_id)


def test_a_rollback_takes_back_what_was_served_and_an_undo_brings_it_back(running: Stack) -> None:
    week = "2013-10-21"
    state, _ = running.finish(f"{MODEL}__score", "by_2", {"window_start": week})
    assert state == "success"
    shown = f"SELECT DISTINCT model_version, batch_id FROM predictions.{MODEL} WHERE window_start = '{week}'"
    [(version, batch_of_2)] = running.rows(shown)
    assert version == 2

    form = {"model": MODEL, "reason": "complaints about week 3", "windows": [week]}
    state, tasks = running.finish("ponte__rollback", "back", {**form, "version": 1})
    assert state == "success", tasks
    [(version, batch_of_1)] = running.rows(shown)
    assert (version, batch_of_1 != batch_of_2) == (1, True)
    assert running.rows("SELECT version, actor, reason FROM ponte.champion") == [(1, "admin", form["reason"])]

    state, tasks = running.finish("ponte__rollback", "undo", {**form, "version": 2})
    assert (state, tasks["score_window"]) == ("success", "skipped"), "its batch was kept"
    assert running.rows(shown) == [(2, batch_of_2)]
    windows = running.rows(
        "SELECT from_version, to_version, windows->0->>'window_start' FROM ponte.rollback ORDER BY 1"
    )
    assert windows == [(1, 2, week), (2, 1, week)]
    told = {}
    events = running.api.call("GET", "/assets/events", params={"source_dag_id": "ponte__rollback"})["asset_events"]
    for event in events:
        told[event["source_run_id"], event["name"]] = event["extra"]
    for run_id, version, batch_id in (("back", 1, batch_of_1), ("undo", 2, batch_of_2)):
        assert told[run_id, f"{MODEL}_champion"]["version"] == version
        [window] = told[run_id, f"{MODEL}_predictions"]["windows"]
        assert (window["window_start"], window["batch_id"]) == (week, batch_id)


def test_a_marked_version_is_refused_until_the_form_says_so(running: Stack) -> None:
    marked = {"model": MODEL, "version": 1, "reason": "wrong units"}
    assert running.finish("ponte__mark_version", "bad", {**marked, "mark": "bad"})[0] == "success"
    state, _ = running.finish("ponte__promote", "no", marked)
    assert state == "failed"
    assert "the version is marked bad" in running.log("ponte__promote", "no", "set_champion")
    assert running.finish("ponte__promote", "yes", {**marked, "allow_bad": True})[0] == "success"
    assert running.rows("SELECT version FROM ponte.champion") == [(1,)]
    state, _ = running.finish(f"{MODEL}__score", "bad_champion", {"window_start": "2013-10-28"})
    assert state == "failed"
    assert "the champion is marked bad" in running.log(f"{MODEL}__score", "bad_champion", "freeze_batch")


def test_hindsight_is_refused_with_both_dates_unless_the_form_allows_it(running: Stack) -> None:
    form = {"model": MODEL, "version": 2, "reason": "back to the good one"}
    assert running.finish("ponte__promote", "good", form)[0] == "success"
    dag_id = f"{MODEL}__score"
    state, _ = running.finish(dag_id, "leak", {"window_start": "2013-09-16"})
    assert state == "failed"
    said = running.log(dag_id, "leak", "freeze_batch")
    assert "train cutoff 2013-10-14T00:00:00+00:00" in said
    assert "as_of 2013-09-16T00:00:00+00:00" in said
    state, _ = running.finish(dag_id, "allowed", {"window_start": "2013-09-16", "allow_hindsight": True})
    assert state == "success"
    assert running.rows(f"SELECT DISTINCT window_start::text, hindsight FROM predictions.{MODEL} ORDER BY 1") == [
        ("2013-09-16", True), ("2013-10-07", False), ("2013-10-14", False), ("2013-10-21", False),
    ]  # fmt: skip


#: After the training of version 2, so no hindsight; the schedule of the model has ended in 2013.
ENDED_WEEK = "2013-10-28"
#: What the form, REST and other DAGs may send as logical date; the form is filled in with now. Other tests send none.
LOGICAL_DATES: dict[str, Callable[[], str]] = {
    "before": lambda: "2011-05-09T12:00:00Z",
    "after": lambda: datetime.now(UTC).isoformat(),
}


def test_nothing_bounds_a_run_by_hand_and_promotion_is_automatic_again(running: Stack) -> None:
    """The next tests are about triggers; nobody shall be asked."""
    wait_for_the_task_approve(running, is_there=False)
    for dag_id in (f"{MODEL}__train", f"{MODEL}__score", "broken__train", "ponte__promote", "ponte__rollback"):
        details = running.api.call("GET", f"/dags/{dag_id}/details")
        assert (details["start_date"], details["end_date"]) == (None, None), dag_id
    score = running.api.call("GET", f"/dags/{MODEL}__score")
    assert score["timetable_summary"] == "0 6 * * 1"
    assert score["timetable_description"].endswith("from 2013-01-07 to 2013-12-31")
    assert score["next_dagrun_run_after"] is None, "the schedule is over"


def test_a_score_run_by_hand_scores_whatever_its_logical_date(running: Stack) -> None:
    dag_id = f"{MODEL}__score"
    for name, date in LOGICAL_DATES.items():
        body = {"dag_run_id": f"date_{name}", "logical_date": date(), "conf": {"window_start": ENDED_WEEK}}
        running.api.call("POST", f"/dags/{dag_id}/dagRuns", json=body)
    for name in LOGICAL_DATES:
        state, tasks = running.finish(dag_id, f"date_{name}")
        assert (state, set(tasks.values()), len(tasks)) == ("success", {"success"}, SCORE_TASKS), name
        assert running.published_by(f"date_{name}") == [(ENDED_WEEK,)]


def test_a_train_run_by_hand_trains_before_its_schedule_too(running: Stack) -> None:
    """After it, that is what a person does with the form, below."""
    dag_id = f"{MODEL}__train"
    body = {"dag_run_id": "date_before", "logical_date": LOGICAL_DATES["before"](), "conf": {"as_of": "2013-10-21"}}
    running.api.call("POST", f"/dags/{dag_id}/dagRuns", json=body)
    state, tasks = running.finish(dag_id, "date_before")
    assert (state, len(tasks), tasks["gate"]) == ("success", TRAIN_TASKS, "success"), tasks


def test_the_command_line_and_an_asset_start_runs_that_do_their_work(running: Stack) -> None:
    dag_id, conf = f"{MODEL}__score", {"window_start": ENDED_WEEK}
    settings = running.settings
    secrets, server = load_or_create(settings.secrets_file), postgres.describe(settings.data_dir)
    command = ["dags", "trigger", dag_id, "--conf", json.dumps(conf), "--run-id", "by_cli"]
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *command, "--logical-date", datetime.now(UTC).isoformat()],
        env={**os.environ, **airflow_environment(settings, secrets, server)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [asset] = running.api.call("GET", "/assets", params={"uri_pattern": f"ponte://predictions/{MODEL}"})["assets"]
    body = {"dag_run_id": "by_asset", "logical_date": LOGICAL_DATES["after"](), "conf": conf}
    running.api.call("POST", f"/assets/{asset['id']}/materialize", json=body)
    for run_id in ("by_cli", "by_asset"):
        state, tasks = running.finish(dag_id, run_id)
        assert (state, set(tasks.values()), len(tasks)) == ("success", {"success"}, SCORE_TASKS), run_id
        assert running.published_by(run_id) == [(ENDED_WEEK,)]


def test_a_run_of_a_paused_dag_waits_and_does_its_work_when_the_dag_may_run(running: Stack) -> None:
    dag_id = f"{MODEL}__score"
    running.api.call("PATCH", f"/dags/{dag_id}", json={"is_paused": True})
    body = {"dag_run_id": "paused", "logical_date": LOGICAL_DATES["after"](), "conf": {"window_start": ENDED_WEEK}}
    running.api.call("POST", f"/dags/{dag_id}/dagRuns", json=body)
    other = {"model": MODEL, "version": 2, "reason": "the scheduler has looked at all runs since", "mark": "not bad"}
    running.finish("ponte__mark_version", "meanwhile", other)
    assert running.api.call("GET", f"/dags/{dag_id}/dagRuns/paused")["state"] == "queued"
    running.api.call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
    state, tasks = running.finish(dag_id, "paused")
    assert (state, set(tasks.values()), len(tasks)) == ("success", {"success"}, SCORE_TASKS)


def test_a_backfill_ends_where_the_schedule_does_and_is_refused_beyond(running: Stack) -> None:
    from ponte.errors import PonteError

    dag_id = f"{MODEL}__score"
    range_ = {"dag_id": dag_id, "from_date": "2012-11-01T00:00:00Z", "to_date": "2014-03-01T00:00:00Z"}
    found = running.api.call("POST", "/backfills/dry_run", json={**range_, "reprocess_behavior": "completed"})
    dates = [run["logical_date"] for run in found["backfills"]]
    assert (dates[0], dates[-1], len(dates)) == ("2013-01-07T06:00:00Z", "2013-12-30T06:00:00Z", 52)
    with pytest.raises(PonteError, match="No runs to create"):
        running.api.backfill(dag_id, first="2014-01-06T00:00:00Z", last="2014-03-01T00:00:00Z", max_active_runs=1)
    running.api.backfill(dag_id, first="2013-12-30T00:00:00Z", last="2014-03-01T00:00:00Z", max_active_runs=1)
    [run] = [r for r in running.api.runs(dag_id) if r["logical_date"] == "2013-12-30T06:00:00Z"]
    state, tasks = running.finish(dag_id, run["dag_run_id"])
    assert (state, tasks["freeze_batch"]) == ("failed", "failed"), "the data end with the year"


def test_a_person_triggers_by_the_form_as_it_is_filled_in(running: Stack) -> None:
    """By clicks alone, in a browser; only days are typed. PONTE_TEST_PICTURES names a folder for pictures of it."""
    from tests.e2e.browser import logged_in

    folder = os.environ.get("PONTE_TEST_PICTURES")
    pictures = Path(folder) if folder else None
    password = load_or_create(running.settings.secrets_file).admin_password
    with logged_in(running.settings.ui_url, user="admin", password=password) as browser:
        for pipeline, first, typed in (
            ("train", "freeze_windows", {"as_of": "2013-11-04"}),
            ("score", "freeze_batch", {"window_start": "2013-11-04"}),
        ):
            dag_id = f"{MODEL}__{pipeline}"
            run_id = browser.trigger(dag_id)
            state, tasks = running.finish(dag_id, run_id)
            assert (state, tasks.get(first)) == ("failed", "failed"), "there are no data of this year"
            run_id = browser.trigger(dag_id, picture=pictures and pictures / f"form-{pipeline}.png", **typed)
            state, tasks = running.finish(dag_id, run_id)
            count = TRAIN_TASKS if pipeline == "train" else SCORE_TASKS
            assert (state, len(tasks), tasks[first]) == ("success", count, "success"), tasks
            browser.see_the_tasks_of_the_run(tasks, picture=pictures and pictures / f"run-{pipeline}.png")


def test_a_second_up_changes_nothing(running: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: process.pid for name, process in processes.alive(running.settings).items()}
    secrets = running.settings.secrets_file.read_bytes()
    stack.up(running.settings)
    assert {name: process.pid for name, process in processes.alive(running.settings).items()} == before
    assert running.settings.secrets_file.read_bytes() == secrets
    assert all(psutil.pid_exists(pid) for pid in before.values())


def test_no_password_reaches_a_log(running: Stack) -> None:
    secrets = load_or_create(running.settings.secrets_file)
    values = [v.encode() for v in vars_of(secrets).values()]
    for file in (p for p in running.settings.logs.rglob("*") if p.is_file()):
        content = file.read_bytes()
        assert not any(value in content for value in values), file


def vars_of(secrets: Any) -> dict[str, str]:
    """Return the fields of the secrets."""
    return {name: getattr(secrets, name) for name in secrets.__dataclass_fields__}

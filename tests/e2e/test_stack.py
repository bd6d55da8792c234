"""The whole thing as a user runs it: PostgreSQL, the four components of Airflow, its REST API, real flights.

One stack for the module, driven in the order of the tests; each test says which step of a newcomer's first hour it is.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from ponte.database import Database
from ponte.demo import flights
from ponte.local import postgres, processes, stack
from ponte.local.airflow_api import AirflowApi, connect
from ponte.local.secrets import load_or_create
from ponte.local.settings import Settings

ROOT = Path(__file__).parents[2]
MODEL = "flight_delay"
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
def running() -> Iterator[Stack]:
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
        try:
            stack.up(settings)
            secrets = load_or_create(settings.secrets_file)
            url = postgres.describe(settings.data_dir).url("ponte", "ponte", secrets.ponte_password)
            flights.load(url)
            with connect(settings.ui_url, user="admin", password=secrets.admin_password) as api:
                yield Stack(settings, api, Database(url), models)
        finally:
            stack.down(settings)
    assert processes.members(settings) == []
    assert not postgres.is_running(settings.data_dir)
    shutil.rmtree(folder)


def test_every_model_has_its_dags_and_a_broken_folder_hides_no_other(running: Stack) -> None:
    for dag_id in (f"{MODEL}__train", f"{MODEL}__score", "broken__train"):
        running.api.wait_for_dag(dag_id)
    assert running.api.call("GET", "/importErrors")["total_entries"] == 0
    details = running.api.call("GET", "/dags/broken__train/details")
    assert "did you mean 'description'?" in details["doc_md"]
    assert {tag["name"] for tag in details["tags"]} == {"ponte", "broken"}


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
    extra = next(e["extra"] for e in events if e["extra"]["batch_id"] == batch_id)
    assert (extra["version"], extra["rows"]) == (1, rows)


def test_scoring_a_week_again_replaces_what_readers_see(running: Stack) -> None:
    before = running.rows(f"SELECT * FROM predictions.{MODEL} WHERE window_start = '2013-10-07'")
    state, _ = running.finish(f"{MODEL}__score", "again", {"window_start": "2013-10-07"})
    assert state == "success"
    after = running.rows(f"SELECT * FROM predictions.{MODEL} WHERE window_start = '2013-10-07'")
    assert len(after) == len(before)
    assert {row[-1] for row in before}.isdisjoint({row[-1] for row in after}), "another batch"


def test_a_killed_task_is_tried_again_and_leaves_one_clean_week(running: Stack) -> None:
    """SIGKILL of the process that scores; the retry finds the frozen rows and nothing half-written."""
    dag_id, run_id = f"{MODEL}__score", "killed"
    running.api.run(dag_id, run_id, {"window_start": "2013-10-14"})
    deadline = time.monotonic() + MINUTES_10
    while not (victim := running.process_of(dag_id, run_id, "score")):
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


def test_a_tampered_artifact_is_refused_and_the_published_week_stays(running: Stack) -> None:
    [(path,)] = running.rows("SELECT path FROM ponte.version")
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

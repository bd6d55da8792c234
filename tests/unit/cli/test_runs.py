"""`./ponte train` and `./ponte score`: the DAG of a model is found, unpaused, run once, and what came of it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.door import ponte

from ponte.errors import StackError
from ponte.local import airflow_api, status
from ponte.local.airflow_api import AirflowApi
from ponte.local.status import airflow_of

#: What `./ponte versions` lists.
ROW = dict.fromkeys(("version", "champion", "as_of", "train_rows", "holdout_rows", "metric", "value", "gate"), 1)


class Airflow:
    """Answers of Airflow 3.3.2 about one paused DAG, which it finds when it is asked a second time."""

    def __init__(self, dag_id: str, *, ends: str = "success") -> None:
        self.dag_id, self.ends = dag_id, ends
        self.asked = 0
        self.paused = True
        self.runs: dict[str, Any] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v2")
        body = json.loads(request.content) if request.content else {}
        runs = f"/dags/{self.dag_id}/dagRuns"
        if path == "/importErrors":
            return httpx.Response(200, json={"import_errors": []})
        if path == f"/dags/{self.dag_id}":
            if request.method == "PATCH":
                self.paused = body["is_paused"]
            self.asked += 1
            answer = {"detail": "not found"} if self.asked == 1 else {"is_paused": self.paused}
            return httpx.Response(404 if self.asked == 1 else 200, json=answer)
        if path == runs:
            assert not self.paused, "a run of a paused DAG waits for ever"
            self.runs[body["dag_run_id"]] = body
            return httpx.Response(200, json={"state": "queued"})
        run_id, _, rest = path.removeprefix(f"{runs}/").partition("/")
        if run_id not in self.runs:
            return httpx.Response(404, json={"detail": "not found"})
        task = {"id": "1", "task_id": "work", "state": self.ends, "duration": 2.0, "end_date": "2026-11-28"}
        task |= {"try_number": 1, "map_index": -1, "rendered_map_index": None}
        log = {"content": [{"event": "ValueError: what went wrong"}]}
        answers: dict[str, Any] = {"": {"state": self.ends}, "taskInstances": {"task_instances": [task]}}
        return httpx.Response(200, json=answers.get(rest, log))


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "churn").mkdir()
    monkeypatch.setenv("PONTE_MODELS", str(tmp_path))
    monkeypatch.setattr(airflow_api.time, "sleep", lambda _: None)
    monkeypatch.setattr(status, "airflow_of", lambda _: ("http://airflow", "secret"))
    monkeypatch.setattr("ponte.notebook.comparing.versions", lambda _: [ROW])
    return tmp_path


def give(airflow: Airflow, monkeypatch: pytest.MonkeyPatch, *command: str) -> int:
    @contextmanager
    def connect(url: str, *, user: str, password: str) -> Iterator[AirflowApi]:
        assert (url, user, password) == ("http://airflow", "admin", "secret")
        yield AirflowApi(httpx.Client(base_url=url, transport=httpx.MockTransport(airflow)))

    monkeypatch.setattr(airflow_api, "connect", connect)
    return ponte(*command)


@pytest.mark.parametrize(
    ("command", "dag_id", "conf", "last"),
    [
        (("train", "churn"), "churn__train", {}, "champion"),
        (("train", "churn", "--as-of", "2026-09-21"), "churn__train", {"as_of": "2026-09-21"}, "champion"),
        (("score", "churn"), "churn__score", {}, "predictions.churn"),
        (("score", "churn", "2026-09-21"), "churn__score", {"window_start": "2026-09-21"}, "predictions.churn"),
        (("score", "churn", "--allow-hindsight"), "churn__score", {"allow_hindsight": True}, "predictions.churn"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("models")
def test_each_command_makes_one_run_and_a_second_time_another(  # noqa: PLR0917 - pytest gives them by name
    command: tuple[str, ...],
    dag_id: str,
    conf: dict[str, Any],
    last: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    airflow = Airflow(dag_id)
    assert give(airflow, monkeypatch, *command) == 0
    said = capsys.readouterr().out
    assert [run["conf"] for run in airflow.runs.values()] == [conf]
    assert "success  work  2.0 s" in said
    assert last in said
    assert give(airflow, monkeypatch, *command) == 0
    assert len(airflow.runs) == 2, "an edited folder is trained again, as of the same day"


@pytest.mark.usefixtures("models")
def test_a_failed_run_is_told_with_its_log_and_is_no_success(monkeypatch, capsys) -> None:
    assert give(Airflow("churn__train", ends="failed"), monkeypatch, "train", "churn") == 1
    told = capsys.readouterr()
    assert "ValueError: what went wrong" in told.err
    assert "champion" not in told.out


@pytest.mark.usefixtures("models")
def test_a_name_that_is_no_model_and_an_airflow_that_is_not_there_are_said(monkeypatch, capsys) -> None:
    assert ponte("score", "chrn") == 1
    assert "did you mean 'churn'?" in capsys.readouterr().err
    monkeypatch.setattr(status, "airflow_of", lambda _: ("http://127.0.0.1:1", "secret"))
    assert ponte("score", "churn") == 1
    told = capsys.readouterr().err
    assert "Airflow does not answer" in told
    assert "./ponte up" in told


def test_airflow_is_that_of_the_environment_or_of_the_local_stack(tmp_path: Path) -> None:
    compose = {"PONTE_ADMIN_URL": "postgresql://db", "PONTE_UI_URL": "http://ui", "AIRFLOW_ADMIN_PASSWORD": "secret"}
    assert airflow_of(compose) == ("http://ui", "secret")
    with pytest.raises(StackError, match="AIRFLOW_ADMIN_PASSWORD"):
        airflow_of({**compose, "AIRFLOW_ADMIN_PASSWORD": ""})
    with pytest.raises(StackError, match=r"\./ponte up"):
        airflow_of({"PONTE_HOME": str(tmp_path)})

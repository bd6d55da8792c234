"""The reports in Airflow's web server, asked as a browser would: who may see them, and what they show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from tests.dags.browsing import Open, pages

from ponte.pages.formats import retold
from ponte.pages.rendering import rule_words
from ponte.pages.report import DECISIONS
from ponte.versions.loading import REPORT

if TYPE_CHECKING:
    from tests.sample_model import World

ROOT = Path(__file__).parents[2]
PAGE = "/ponte/report/visits/1"


@pytest.fixture
def client(airflow_db: None, trained: World) -> Iterator[Open]:
    with pages(trained.db, trained.store) as log_in:
        yield log_in


# ---------------------------------------------------------------- who may see it


def test_a_program_without_a_login_gets_401(client: Open) -> None:
    answer = client(None).get(PAGE)
    assert answer.status_code == 401
    assert "visits" not in answer.text


def test_a_browser_without_a_login_is_sent_to_the_login_and_back(client: Open) -> None:
    answer = client(None).get(PAGE, headers={"accept": "text/html,*/*"})
    assert answer.status_code == 307
    assert answer.headers["location"] == "/api/v2/auth/login?next=%2Fponte%2Freport%2Fvisits%2F1"


def test_below_a_path_the_login_is_there_too(client: Open) -> None:
    answer = client(None, below="/airflow").get("/airflow" + PAGE, headers={"accept": "text/html"})
    assert answer.headers["location"] == "/airflow/api/v2/auth/login?next=%2Fairflow%2Fponte%2Freport%2Fvisits%2F1"


def test_a_forged_session_is_refused(client: Open) -> None:
    browser = client("admin")
    browser.cookies.set("_token", "forged")
    assert browser.get(PAGE).status_code == 403


def test_a_user_who_may_not_read_the_dag_gets_403(client: Open) -> None:
    answer = client("").get(PAGE)
    assert answer.status_code == 403
    assert "visits" not in answer.text


def test_the_training_dag_of_the_model_is_what_has_to_be_readable(
    client: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.app import create_auth_manager

    manager = create_auth_manager()
    asked = []

    def only_other(**question: Any) -> bool:
        asked.append((question["method"], question["details"].id))
        return question["details"].id == "other__train"

    monkeypatch.setattr(manager, "is_authorized_dag", only_other)
    browser = client("admin")
    assert browser.get(PAGE).status_code == 403
    assert browser.get("/ponte/report/other/1").status_code == 404
    assert asked == [("GET", "visits__train"), ("GET", "other__train")]


def test_the_application_has_no_pages_that_are_open_to_everybody(client: Open) -> None:
    browser = client(None)
    found = {path: browser.get(f"/ponte/{path}").status_code for path in ("docs/", "redoc", "openapi.json", "")}
    assert found == {"docs/": 401, "redoc": 404, "openapi.json": 404, "": 401}


# ---------------------------------------------------------------- what it shows


def plain(text: str) -> str:
    """Return the page without what keeps the direction of a text from its surroundings."""
    return text.replace("<bdi>", "").replace("</bdi>", "")


def test_a_viewer_sees_the_report_with_what_was_decided(client: Open, trained: World) -> None:
    trained.mark(1, "bad", run_id="a")
    answer = client("viewer").get(PAGE)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>visits" in answer.text
    assert DECISIONS not in answer.text
    text = plain(answer.text)
    for rule, got in trained.rows("SELECT rule, got FROM ponte.gate_rule"):
        assert f">{rule_words(rule)}</th><td>{retold(got) if got else '–'}</td>" in text.replace("&#39;", "'").replace(
            "&#34;", '"'
        )
    events = [text.index(f"<strong>{what}</strong> by {who}")
              for what, who in (("became champion", "first"), ("marked: bad", "a person"))]  # fmt: skip
    assert events == sorted(events)


def test_the_newest_verdict_counts_and_leaving_is_told(client: Open, trained: World) -> None:
    with trained.db.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO ponte.gate_verdict (model, version, snapshot_id, run_id, run_key, passed, outcome, rules) "
                "SELECT model, version, snapshot_id, 'again', 'again', false, 'refused', :rules FROM ponte.gate_verdict"
            ),
            {"rules": json.dumps([{"rule": "a <new> rule", "got": None, "expected": "1", "passed": False}])},
        )
        verdict = connection.execute(sa.text("SELECT max(verdict_id) FROM ponte.gate_verdict")).scalar_one()
        connection.execute(
            sa.text(
                "INSERT INTO ponte.approval (verdict_id, run_id, run_key, decision, actor, reason, answered_at) "
                "VALUES (:verdict, 'again', 'again', 'rejected', 'eve', '<script>', now())"
            ),
            {"verdict": verdict},
        )
    text = plain(client("viewer").get(PAGE).text)
    assert ">a &lt;new&gt; rule</th><td>–</td><td>1</td>" in text
    assert "1 of 1 rules failed" in text
    assert "<strong>rejected</strong> by eve" in text
    assert "<script" not in text


def test_a_version_that_was_replaced_says_by_which(client: Open, trained: World) -> None:
    with trained.db.begin() as connection:
        columns = (
            "snapshot_id, task, path, manifest_sha256, signature, spec_digest, libraries, train_cutoff, train_rows, "
            "holdout_rows, byte_count, run_id"
        )
        connection.exec_driver_sql(
            f"INSERT INTO ponte.version (model, version, train_key, {columns}) "
            f"SELECT model, 2, 'another', {columns} FROM ponte.version"
        )
    trained.set_champion(2)
    text = plain(client("viewer").get(PAGE).text)
    assert "<strong>gave way as champion to version 2</strong> by a person" in text


def test_headers_forbid_scripts_and_keeping(client: Open) -> None:
    wanted = {
        "content-security-policy": (
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; frame-ancestors 'self'"
        ),
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }
    browser = client("viewer")
    for path in (PAGE, "/ponte/report/visits/9"):
        headers = browser.get(path).headers
        assert {name: headers[name] for name in wanted} == wanted


# ---------------------------------------------------------------- what is not there


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("visits/9", "no such version"),
        ("other/1", "no such version"),
        ("visits/99999999999999999999", "has no version"),
        ("%3Cscript%3E/1", "<script>"),
    ],
)
def test_what_is_not_known_is_404_in_plain_text(client: Open, path: str, said: str) -> None:
    answer = client("viewer").get(f"/ponte/report/{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/plain")
    assert said in answer.text


@pytest.mark.parametrize("path", ["visits/first", "visits/-1", "visits/1/2"])
def test_what_is_no_version_is_404(client: Open, path: str) -> None:
    assert client("viewer").get(f"/ponte/report/{path}").status_code == 404


def test_a_version_of_before_there_were_reports_says_so(client: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from ponte.web import reports

    monkeypatch.setattr(reports, "read_file", lambda *_: None)
    answer = client("viewer").get(PAGE)
    assert answer.status_code == 404
    assert "trained before there were any" in answer.text


def test_a_report_that_was_changed_is_not_shown(client: Open, trained: World) -> None:
    [file] = Path(trained.store.root.path).rglob(REPORT)
    file.write_bytes(file.read_bytes().replace(b"<h1>", b"<h1>Best! "))
    answer = client("viewer").get(PAGE)
    assert answer.status_code == 500
    assert "The page cannot be shown" in answer.text
    assert "Best!" not in answer.text


# ---------------------------------------------------------------- how it gets there


def test_the_plugin_is_loaded_and_listed_by_airflow(airflow_db: None) -> None:
    """In a process of its own: Airflow keeps its plugins for the life of a process."""
    program = (
        "import json, sys\n"
        "from airflow import plugins_manager as p\n"
        "plugins, errors = p._get_plugins()\n"
        "loaded = [m for m in ('ponte', 'sklearn', 'pandas') if m in sys.modules]\n"
        "print(json.dumps([[x.name for x in plugins], errors, loaded,\n"
        "                  [i['fastapi_apps'] for i in p.get_plugin_info() if i['name'] == 'ponte']]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    names, errors, loaded, apps = json.loads(done.stdout.splitlines()[-1])
    assert "ponte" in names
    assert errors == {}
    assert loaded == []
    assert apps == [[{"name": "ponte", "app": "fastapi.applications.FastAPI", "url_prefix": "/ponte"}]]


@pytest.mark.parametrize(
    ("base_url", "link"),
    [
        ("http://localhost:8080", "/ponte/report/visits/3"),
        ("https://example.org/airflow/", "/airflow/ponte/report/visits/3"),
        ("", "/ponte/report/visits/3"),
    ],
)
def test_a_link_keeps_the_path_that_the_ui_is_served_below(
    base_url: str, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ponte.operators.base import report_url

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    assert report_url("visits", 3) == link


@pytest.mark.parametrize(("returned", "link"), [(3, "/ponte/report/visits/3"), (None, ""), ("nonsense", "")])
def test_a_task_links_to_the_version_that_train_of_its_run_returned(
    returned: object, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.execution_time.xcom import XCom

    from ponte.operators.base import ReportLink

    asked = []

    def get_one(**question: Any) -> object:
        asked.append(question)
        return returned

    monkeypatch.setattr(XCom, "get_one", get_one)
    key: Any = SimpleNamespace(dag_id="visits__train", run_id="r1", task_id="gate", map_index=-1)
    operator: Any = SimpleNamespace(model="visits", get_flat_relative_ids=lambda **_: {"train"})
    assert ReportLink().get_link(operator, ti_key=key) == link
    assert asked == [
        {"key": "return_value", "dag_id": "visits__train", "task_id": "train", "run_id": "r1", "map_index": -1}
    ]


def test_tasks_of_a_run_keep_their_link_where_the_ui_looks(run_dag: Callable[..., Any], world: World) -> None:
    from airflow.models.dagbag import DBDagBag
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    run, states = run_dag("visits__train", run_conf={"as_of": "2024-02-12"})
    assert set(states.values()) == {"success"}
    with create_session() as session:
        found = session.execute(
            sa.select(XComModel.task_id, XComModel.value).where(
                XComModel.run_id == run.run_id, XComModel.key == "_link_ReportLink"
            )
        )
        links = {task_id: json.loads(value) if value.startswith('"') else value for task_id, value in found}
    after = ["train", "evaluate", "gate", "promote", "tell"]
    assert {task: link for task, link in links.items() if link} == dict.fromkeys(after, "/ponte/report/visits/1")
    # What the web server reads: how DAGs are deserialised is global state of Airflow, which each bag sets as it needs.
    with create_session() as session:
        dag = DBDagBag().get_latest_version_of_dag("visits__train", session=session)
        assert dag
        [ti] = [ti for ti in run.get_task_instances(session=session) if ti.task_id == "gate"]
        task = dag.get_task("gate")
        assert sorted(task.extra_links) == ["Model", "Report", "Window"]
        assert task.get_extra_links(ti, "Report") == "/ponte/report/visits/1"


# ---------------------------------------------------------------- what it costs


def test_a_page_reads_the_report_and_nothing_else_of_the_version(client: Open, trained: World) -> None:
    """Six readers of a forest of 250 MB cost the server of all tasks 1.5 GB: it is not even looked at."""
    for file in (trained.store.root / trained.champion().path).iterdir():
        if file.name not in {REPORT, "manifest.json"}:
            file.unlink()
    assert client("viewer").get(PAGE).status_code == 200

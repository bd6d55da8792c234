"""Who may decide about which model, asked of Airflow's real API server: through its API, and by forms of Ponte's pages.

Two models, `mine` and `theirs`, and the DAGs that serve both. Nothing runs: a run is created, or refused.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import Depends, FastAPI, Request
from tests.dags.browsing import Open, api_server, clients

if TYPE_CHECKING:
    from starlette.testclient import TestClient

ROOT = Path(__file__).parents[2]
PROMOTE = "/api/v2/dags/ponte__promote/dagRuns"
FORM = {"version": 1, "reason": "because"}
OTHER_DAG = "mine__score"
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"


@pytest.fixture(scope="module")
def server(airflow_db: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """Airflow's API server with the DAGs of two models, and the simple auth manager."""
    from tests.sample_model import write_model

    models = tmp_path_factory.mktemp("models")
    for name in ("mine", "theirs"):
        write_model(models, name)
    with api_server(models) as app:
        yield app


@pytest.fixture(scope="module")
def client(server: FastAPI) -> Iterator[Open]:
    """Return a function that opens a client by the role of its user."""
    with clients(lambda _: server, server.state.auth_manager) as log_in:
        yield log_in


def trigger(client: TestClient, model: str | None, *, dag: str = "ponte__promote", **more: Any) -> Any:
    conf = {**FORM, **({"model": model} if model else {})} if dag.startswith("ponte__") else {}
    return client.post(f"/api/v2/dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf, **more})


@pytest.fixture(scope="module")
def runs(client: Open) -> dict[str, str]:
    """A run of `ponte__promote` about each model, one that says no model, and one of another DAG."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import update

    found = {model: trigger(client("admin"), model).json()["dag_run_id"] for model in ("mine", "theirs")}
    found["nobody's"] = trigger(client("admin"), "mine", dag_run_id="by_cli").json()["dag_run_id"]
    found["other"] = trigger(client("admin"), None, dag=OTHER_DAG).json()["dag_run_id"]
    with create_session() as session:
        session.execute(update(DagRun).where(DagRun.run_id == "by_cli").values(conf={}))
    return found


@pytest.fixture
def operator_of_mine(server: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    """An auth manager that lets everybody edit every DAG but the training DAG of `theirs`."""
    manager = server.state.auth_manager
    asked = type(manager).is_authorized_dag

    def all_but_theirs(**question: Any) -> bool:
        details = question.get("details")
        if question["method"] != "GET" and details is not None and details.id == "theirs__train":
            return False
        return asked(manager, **question)

    monkeypatch.setattr(manager, "is_authorized_dag", all_but_theirs)


# ---------------------------------------------------------------- roles of the simple auth manager


@pytest.mark.parametrize(
    ("role", "sees", "starts"), [("viewer", 200, 403), ("user", 200, 200), ("op", 200, 200), ("admin", 200, 200)]
)
def test_roles_of_the_simple_auth_manager_hold_for_every_model(client: Open, role: str, sees: int, starts: int) -> None:
    browser = client(role)
    assert browser.get(PROMOTE).status_code == sees
    for model in ("mine", "theirs"):
        assert trigger(browser, model).status_code == starts


def test_nobody_who_is_not_logged_in_starts_anything(server: FastAPI) -> None:
    from starlette.testclient import TestClient

    with TestClient(server) as stranger:
        assert trigger(stranger, "mine").status_code == 401
        stranger.cookies.set("_token", "forged")
        assert trigger(stranger, "mine").status_code == 403


# ---------------------------------------------------------------- runs that are another model's

#: Requests about what {run} is a run of; each has to be refused exactly when it concerns `theirs` or says no model.
ABOUT_A_RUN: dict[str, tuple[str, str, Any]] = {
    "patch a run": ("PATCH", "dags/ponte__promote/dagRuns/{run}", {"note": "x"}),
    "delete a run": ("DELETE", "dags/ponte__promote/dagRuns/{run}", {"dag_run_id": "{mine}"}),
    "clear a run": ("POST", "dags/ponte__promote/dagRuns/{run}/clear", {"dry_run": False}),
    "clear runs": ("POST", "dags/ponte__promote/clearDagRuns", {"dag_runs": [{"dag_run_id": "{run}"}]}),
    "clear runs of any DAG": (
        "POST", "dags/~/clearDagRuns", {"dag_runs": [{"dag_id": "ponte__promote", "dag_run_id": "{run}"}]},
    ),
    "clear tasks": ("POST", "dags/ponte__promote/clearTaskInstances", {"dag_run_id": "{run}", "only_failed": False}),
    "clear partitions": ("POST", "dags/ponte__promote/clearPartitions", {"run_id": "{run}"}),
    "patch a task": (
        "PATCH", "dags/ponte__promote/dagRuns/{run}/taskInstances/set_champion", {"new_state": "failed"},
    ),
    "patch a task without doing it": (
        "PATCH", "dags/ponte__promote/dagRuns/{run}/taskInstances/set_champion/dry_run", {"new_state": "failed"},
    ),
    "patch runs": (
        "PATCH", "dags/ponte__promote/dagRuns",
        {"actions": [{"action": "update", "entities": [{"dag_run_id": "{run}", "note": "x"}]}]},
    ),
    "delete runs by name": (
        "PATCH", "dags/ponte__promote/dagRuns", {"actions": [{"action": "delete", "entities": ["{mine}", "{run}"]}]},
    ),
    "delete tasks by name": (
        "PATCH", "dags/ponte__promote/dagRuns/{run}/taskInstances",
        {"actions": [{"action": "delete", "entities": ["set_champion"]}]},
    ),
    "patch runs from another DAG": (
        "PATCH", "dags/mine__score/dagRuns",
        {"actions": [{"action": "update", "entities": [
            {"dag_id": "ponte__promote", "dag_run_id": "{run}", "note": "x"}]}]},
    ),
    "patch tasks from another DAG": (
        "PATCH", "dags/mine__score/dagRuns/~/taskInstances",
        {"actions": [{"action": "update", "entities": [
            {"dag_id": "ponte__promote", "dag_run_id": "{run}", "task_id": "set_champion", "new_state": "failed"}]}]},
    ),
    "answer an approval": (
        "PATCH", "dags/ponte__promote/dagRuns/{run}/taskInstances/set_champion/-1/hitlDetails",
        {"chosen_options": ["Approve"]},
    ),
    "write what a task returned": (
        "POST", "dags/ponte__promote/dagRuns/{run}/taskInstances/set_champion/xcomEntries", {"key": "a", "value": "b"},
    ),
}  # fmt: skip


def filled(template: Any, runs: dict[str, str], whose: str) -> str:
    text = template if isinstance(template, str) else json.dumps(template)
    return text.replace("{run}", runs[whose]).replace("{mine}", runs["mine"])


@pytest.mark.parametrize("request_", ABOUT_A_RUN.values(), ids=ABOUT_A_RUN)
@pytest.mark.parametrize("whose", ["theirs", "nobody's"])
def test_runs_of_a_model_are_changed_by_whoever_may_decide_about_it(
    client: Open,
    runs: dict[str, str],
    operator_of_mine: None,
    request_: tuple[str, str, Any],
    whose: str,
) -> None:
    method, path, body = request_
    answer = client("user").request(
        method, f"/api/v2/{filled(path, runs, whose)}", content=filled(body, runs, whose),
        headers={"content-type": "application/json"},
    )  # fmt: skip
    assert answer.status_code == 403, answer.text
    said = answer.json()["detail"]
    assert ("takes the right to edit theirs__train" in said) is (whose == "theirs")
    assert ("every model" in said) is (whose == "nobody's")


def test_their_own_run_the_operator_of_a_model_may_change(client: Open, operator_of_mine: None) -> None:
    browser = client("user")
    runs = {"mine": trigger(browser, "mine").json()["dag_run_id"]}
    got = {}
    for name, (method, path, body) in ABOUT_A_RUN.items():
        if "delete" not in name:
            answer = browser.request(
                method, f"/api/v2/{filled(path, runs, 'mine')}", content=filled(body, runs, "mine"),
                headers={"content-type": "application/json"},
            )  # fmt: skip
            got[name] = answer.status_code
    assert 403 not in got.values(), got
    assert got["patch a run"] == got["clear a run"] == got["patch runs from another DAG"] == 200
    assert browser.delete(f"{PROMOTE}/{runs['mine']}").status_code in {204, 409}  # running: Airflow refuses


@pytest.mark.parametrize(
    "request_",
    [
        ("POST", "dags/ponte__promote/clearTaskInstances", {"dry_run": False}),
        ("POST", "dags/ponte__promote/clearTaskInstances", {"dag_run_id": "{mine}", "include_past": True}),
        ("POST", "dags/ponte__promote/clearDagRuns", {"partition_key": "x"}),
        (
            "PATCH",
            "dags/ponte__promote/dagRuns/{mine}/taskInstances/set_champion",
            {"new_state": "failed", "include_future": 1},
        ),
        ("PATCH", "dags/ponte__promote", {"is_paused": True}),
        ("PATCH", "dags?dag_id_pattern=~", {"is_paused": True}),
        ("DELETE", "dags/ponte__promote", {"dag_run_id": "{mine}"}),
        ("POST", "backfills", {"dag_id": "ponte__tell", "from_date": "2026-01-01", "to_date": "2026-01-02"}),
        ("POST", "dags/ponte__tell/dagRuns", {"logical_date": None}),
    ],
)
def test_what_reaches_runs_of_any_model_takes_the_right_for_all(
    client: Open,
    runs: dict[str, str],
    operator_of_mine: None,
    request_: tuple[str, str, Any],
) -> None:
    method, path, body = request_
    answer = client("user").request(
        method, f"/api/v2/{filled(path, runs, 'mine')}", content=filled(body, runs, "mine"),
        headers={"content-type": "application/json"},
    )  # fmt: skip
    assert answer.status_code == 403, answer.text
    assert re.search("every model|by one", answer.json()["detail"])


def test_all_models_are_those_that_there_are(client: Open, operator_of_mine: None) -> None:
    """One whose folder is gone is in nobody's way; without any nobody may."""
    from airflow.models import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select, update

    def set_stale(names: set[str], stale: bool) -> None:
        with create_session() as session:
            session.execute(update(DagModel).where(DagModel.dag_id.in_(names)).values(is_stale=stale))

    with create_session() as session:
        there = select(DagModel.dag_id).where(DagModel.dag_id.endswith("__train"), ~DagModel.is_stale)
        every = set(session.scalars(there))
    got = []
    for gone in (set(), {"theirs__train"}, every):
        set_stale(gone, True)
        got.append(client("user").post("/api/v2/dags/ponte__tell/dagRuns", json={"logical_date": None}).status_code)
        set_stale(gone, False)
    assert got == [403, 200, 403]


# ---------------------------------------------------------------- new runs


def test_a_run_is_created_for_the_model_that_its_conf_names(client: Open, operator_of_mine: None) -> None:
    browser = client("user")
    assert trigger(browser, "mine").status_code == 200
    refused = trigger(browser, "theirs")
    assert refused.status_code == 403
    assert refused.json() == {"detail": "You may not decide about theirs: that takes the right to edit theirs__train."}
    # The form would choose a model, and not say which.
    assert trigger(browser, None).status_code == 403
    assert trigger(client("admin"), "mine", dag="theirs__score").status_code == 200  # Airflow's own permission


@pytest.mark.parametrize(
    "content",
    [
        b"no JSON",
        b"[]",
        b'{"conf": null}',
        b'{"conf": {"model": ["mine"]}}',
        b'{"conf": {"model": "mine"}, "conf": {"model": "theirs"}}',
        b'{"conf": {"model": "mine", "model": "theirs"}}',
        '{"conf": {"model": "theirs"}}'.encode("utf-16"),
        b"\xff\xff",
        b"[" * 100_000,
    ],
)
def test_what_cannot_be_read_is_refused(client: Open, operator_of_mine: None, content: bytes) -> None:
    answer = client("user").post(PROMOTE, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 403, answer.text


@pytest.mark.parametrize("path", ["dags/ponte%5F%5Fpromote/dagRuns", "dags/%70onte__promote/dagRuns"])
def test_no_way_of_writing_the_path_gets_past(client: Open, operator_of_mine: None, path: str) -> None:
    body = {"logical_date": None, "conf": {**FORM, "model": "theirs"}}
    assert client("user").post(f"/api/v2/{path}", json=body).status_code == 403


def test_below_a_path_it_is_the_same(client: Open, server: FastAPI, operator_of_mine: None) -> None:
    body = json.dumps({"logical_date": None, "conf": {**FORM, "model": "theirs"}}).encode()
    cookie = client("user").cookies["_token"]
    inner, answered, _ = passed_through(server, f"/airflow{PROMOTE}", [body], cookie, below="/airflow")
    assert answered[0]["status"] == 403
    assert not inner.got


@pytest.fixture(scope="module")
def ids(server: FastAPI) -> dict[str, int]:
    """An asset that `ponte__promote` makes, one that it waits for, one of neither, and backfills of two DAGs."""
    from airflow.models.asset import AssetModel, DagScheduleAssetReference, TaskOutletAssetReference
    from airflow.models.backfill import Backfill
    from airflow.utils.session import create_session
    from tests.sample_model import NOW

    with create_session() as session:
        made = {name: AssetModel(name=name, uri=f"x://{name}", group="asset") for name in ("made", "awaited", "plain")}
        dates = {"from_date": NOW, "to_date": NOW, "reprocess_behavior": "none"}
        backfills = {dag_id: Backfill(dag_id=dag_id, **dates) for dag_id in ("ponte__tell", OTHER_DAG)}
        session.add_all([*made.values(), *backfills.values()])
        session.flush()
        session.add(TaskOutletAssetReference(asset_id=made["made"].id, dag_id="ponte__promote", task_id="set_champion"))
        session.add(DagScheduleAssetReference(asset_id=made["awaited"].id, dag_id="ponte__promote"))
        return {name: row.id for name, row in (*made.items(), *backfills.items())}


def test_runs_by_assets_and_backfills_count_too(client: Open, ids: dict[str, int], operator_of_mine: None) -> None:
    browser = client("op")

    def materialize(model: str) -> int:
        body = {"conf": {**FORM, "model": model}}
        return browser.post(f"/api/v2/assets/{ids['made']}/materialize", json=body).status_code

    assert (materialize("mine"), materialize("theirs")) == (200, 403)
    events = {
        name: browser.post("/api/v2/assets/events", json={"asset_id": ids[name]}) for name in ("awaited", "plain")
    }
    assert {name: answer.status_code for name, answer in events.items()} == {"awaited": 403, "plain": 200}
    for action in ("pause", "unpause", "cancel"):
        got = {name: browser.put(f"/api/v2/backfills/{ids[name]}/{action}") for name in ("ponte__tell", OTHER_DAG)}
        assert {name: answer.status_code for name, answer in got.items()} == {"ponte__tell": 403, OTHER_DAG: 200}
    assert browser.put("/api/v2/backfills/999/cancel").status_code == 404
    assert browser.put("/api/v2/backfills/x/cancel").status_code == 422


def test_every_route_of_airflow_that_changes_runs_is_known() -> None:
    """A new release of Airflow may bring a way to start runs that names no DAG in its path: then read it."""
    from airflow.api_fastapi.core_api.routes.public import public_router

    from ponte.rights.guarding import READS

    unknown = {
        (method, route.path)
        for route in public_router.routes
        for method in getattr(route, "methods", set()) - READS
        if "{dag_id}" not in route.path
        and not re.search("/(connections|pools|variables|auth)|/state-store", route.path)
    }
    assert unknown == {
        ("POST", "/api/v2/assets/events"),
        ("POST", "/api/v2/assets/{asset_id}/materialize"),
        ("DELETE", "/api/v2/assets/{asset_id}/queuedEvents"),
        ("POST", "/api/v2/backfills"),
        ("POST", "/api/v2/backfills/dry_run"),
        ("PUT", "/api/v2/backfills/{backfill_id}/pause"),
        ("PUT", "/api/v2/backfills/{backfill_id}/unpause"),
        ("PUT", "/api/v2/backfills/{backfill_id}/cancel"),
        ("PATCH", "/api/v2/dags"),
        ("PUT", "/api/v2/parseDagFile/{file_token}"),
    }


# ---------------------------------------------------------------- what is not ours stays as it is


class Inner:
    """An application that reads whatever it is sent, with one route of Airflow's for each of two DAGs."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            self.got.append(message.get("body", b""))
            if not message.get("more_body"):
                break


def passed_through(
    server: FastAPI, path: str, parts: list[bytes], cookie: str, *, below: str = ""
) -> tuple[Inner, list[Any], int]:
    """Return what is behind the middleware, what was answered before it, and how many parts had been read by then."""
    from ponte.rights.guarding import Guard

    inner, answered, taken = Inner(), [], 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": parts[taken - 1], "more_body": taken < len(parts)}

    async def send(message: dict[str, Any]) -> None:
        answered.append(message)

    headers = [(b"cookie", f"_token={cookie}".encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "root_path": below, "headers": headers, "app": server}
    asyncio.run(Guard(inner)(scope, receive, send))
    return inner, answered, taken


def test_a_body_in_parts_arrives_in_these_parts(client: Open, server: FastAPI) -> None:
    text = json.dumps({"logical_date": None, "conf": {**FORM, "model": "mine"}}).encode()
    parts = [text[:7], text[7:20], b"", text[20:]]
    cookie = client("user").cookies["_token"]
    for path in (PROMOTE, "/api/v2/dags/mine__score/dagRuns", "/ponte/act"):
        inner, answered, _ = passed_through(server, path, parts, cookie)
        assert inner.got == parts
        assert not answered


def test_a_body_without_end_is_not_held(client: Open, server: FastAPI) -> None:
    from ponte.rights.guarding import LARGEST_BODY

    parts = [b"x" * (LARGEST_BODY // 4)] * 20
    cookie = client("user").cookies["_token"]
    inner, answered, taken = passed_through(server, PROMOTE, parts, cookie)
    assert not inner.got
    assert taken == 5
    assert answered[0]["status"] == 413
    inner, _, _ = passed_through(server, "/api/v2/dags/mine__score/dagRuns", parts, cookie)
    assert inner.got == parts


def test_requests_about_other_dags_are_not_looked_into(
    client: Open, runs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ponte.rights import guarding

    monkeypatch.setattr(guarding, "create_session", lambda: pytest.fail("asked the database"))
    browser = client("user")
    assert trigger(browser, None, dag=OTHER_DAG).status_code == 200
    assert browser.patch(f"/api/v2/dags/{OTHER_DAG}/dagRuns/{runs['other']}", json={"note": "x"}).status_code == 200
    assert browser.get(PROMOTE).status_code == 200
    assert browser.post("/api/v2/dags/ponte__promote/favorite").status_code == 204


# ---------------------------------------------------------------- forms of Ponte's own pages


@pytest.fixture
def form(server: FastAPI, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A page that starts a run of what is posted to it, mounted where pages are; `token` and `post` of its form."""
    from airflow.api_fastapi.core_api.security import get_user
    from starlette.routing import Mount

    from ponte.rights.starting import csrf_token, start_run

    page = FastAPI()

    @page.get("/token")
    def token(request: Request, user: Any = Depends(get_user)) -> str:  # noqa: B008
        return csrf_token(request, user)

    @page.post("/act")
    def act(request: Request, body: dict[str, Any], user: Any = Depends(get_user)) -> str:  # noqa: B008
        return start_run(request, user, body["dag"], body["conf"], token=body["csrf"], note=body["note"])

    mounted = Mount("/trial", page)
    server.router.routes.insert(0, mounted)

    def post(browser: TestClient, csrf: str, *, headers: dict[str, str] | None = None, **conf: Any) -> Any:
        dag = conf.pop("dag", "ponte__promote")
        note = conf.pop("note", "from a page")
        body = {"dag": dag, "csrf": csrf, "note": note, "conf": {**FORM, "model": "mine", **conf}}
        return browser.post("/trial/act", json=body, headers=headers)

    yield SimpleNamespace(token=lambda browser: browser.get("/trial/token").json(), post=post)
    server.router.routes.remove(mounted)


def found_runs(dag_id: str = "ponte__promote") -> dict[str, Any]:
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.orm import joinedload

    with create_session() as session:
        found = session.scalars(select(DagRun).where(DagRun.dag_id == dag_id).options(joinedload(DagRun.dag_run_note)))
        return {run.run_id: (run.triggering_user_name, run.conf, run.note, str(run.run_type)) for run in found}


def audit(run_id: str) -> list[tuple[Any, ...]]:
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        columns = (Log.event, Log.owner, Log.owner_display_name, Log.dag_id, Log.extra)
        return [tuple(row) for row in session.execute(select(*columns).where(Log.run_id == run_id))]


def test_a_run_from_a_page_is_the_persons_and_in_airflows_audit_log(client: Open, form: SimpleNamespace) -> None:
    browser = client("user")
    answer = form.post(browser, form.token(browser))
    assert answer.status_code == 200, answer.text
    run_id = answer.json()
    assert found_runs()[run_id] == ("a user", {**FORM, "model": "mine"}, "from a page", "manual")
    [(event, owner, shown, dag_id, extra)] = audit(run_id)
    assert (event, owner, shown, dag_id) == ("trigger_dag_run", "a user", "a user", "ponte__promote")
    assert trigger(browser, "mine", note="from a page").status_code == 200
    assert json.loads(extra) == {**json.loads(newest_audit(dag_id)), "dag_run_id": run_id}


def newest_audit(dag_id: str) -> str:
    """Return the extras of the newest row of the audit log about a run that its creator has not named."""
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        newest = select(Log.extra).where(Log.dag_id == dag_id, Log.run_id.is_(None)).order_by(Log.id.desc()).limit(1)
        return str(session.scalar(newest))


def test_a_note_is_cut_to_what_airflow_keeps(client: Open, form: SimpleNamespace) -> None:
    browser = client("user")
    run_id = form.post(browser, form.token(browser), note="why? " * 1000).json()
    assert found_runs()[run_id][2] == "why? " * 200


def test_a_form_that_is_sent_twice_starts_one_run(
    client: Open, form: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ponte.rights import starting

    browser = client("user")
    csrf, before = form.token(browser), found_runs().keys()
    first, second = form.post(browser, csrf), form.post(browser, csrf)
    assert first.json() == second.json()
    assert len(audit(first.json())) == 1
    # Both clicks at once: neither sees the other's run before it creates its own.
    seen = iter([False, True])
    monkeypatch.setattr(starting, "_is_there", lambda *_: next(seen))
    assert form.post(browser, csrf).json() == first.json()
    monkeypatch.undo()
    changed, another = form.post(browser, csrf, version=2), form.post(browser, form.token(browser))
    made = [answer.json() for answer in (first, changed, another)]
    assert len(set(made)) == 3
    assert found_runs().keys() - before == set(made)


def test_only_a_form_that_was_shown_to_the_person_starts_a_run(
    client: Open, form: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ponte.rights import starting

    browser, before = client("user"), found_runs().keys()
    good = form.token(browser)
    shown, name, seal = good.split(".")
    bad = [
        "",
        "x",
        form.token(client("op")),
        f"{int(shown) + 1}.{name}.{seal}",
        f"{shown}.{'0' * 32}.{seal}",
        good[:-1],
    ]
    for csrf in bad:
        answer = form.post(browser, csrf)
        assert (answer.status_code, "not sent from a form" in answer.text) == (403, True), csrf
    now = starting.time.time()
    monkeypatch.setattr(starting, "time", SimpleNamespace(time=lambda: now + starting.FORM_LASTS + 2))
    answer = form.post(browser, good)
    assert (answer.status_code, "four hours ago" in answer.text) == (403, True)
    assert found_runs().keys() == before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "same-origin", "origin": "http://testserver"}, 200),
        ({"origin": "http://testserver"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "origin": "http://testserver"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://testserver.evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
def test_a_form_of_another_site_starts_nothing(
    client: Open, form: SimpleNamespace, headers: dict[str, str], status: int
) -> None:
    browser = client("user")
    assert form.post(browser, form.token(browser), headers=headers).status_code == status


def test_from_a_page_the_same_people_may(client: Open, form: SimpleNamespace, operator_of_mine: None) -> None:
    before = found_runs().keys()
    browser = client("user")
    refused = form.post(browser, form.token(browser), model="theirs")
    assert refused.status_code == 403
    assert "theirs__train" in refused.json()["detail"]
    viewer = client("viewer")
    assert form.post(viewer, form.token(viewer)).status_code == 403
    assert found_runs().keys() == before
    assert form.post(browser, form.token(browser)).status_code == 200


def test_a_page_gives_no_right_that_airflow_does_not_give(
    client: Open, server: FastAPI, form: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, before = client("user"), found_runs().keys()
    csrf = form.token(browser)
    manager = server.state.auth_manager
    monkeypatch.setattr(manager, "is_authorized_dag", lambda **question: question["details"].id != "ponte__promote")
    answer = form.post(browser, csrf)
    assert (answer.status_code, "start runs of ponte__promote" in answer.text) == (403, True)
    assert found_runs().keys() == before


def test_a_run_that_cannot_be_is_refused_in_plain_words(client: Open, form: SimpleNamespace) -> None:
    from airflow.models import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    def set_dag(**values: Any) -> None:
        with create_session() as session:
            session.execute(update(DagModel).where(DagModel.dag_id == "ponte__challenge").values(**values))

    browser, before = client("user"), found_runs("ponte__challenge")
    answer = form.post(browser, form.token(browser), dag="ponte__challenge", version=0)
    assert (answer.status_code, "minimum of 1" in answer.text) == (400, True), answer.text
    answer = form.post(browser, form.token(browser), dag="ponte__challenge", reason="be\x00cause")
    assert (answer.status_code, "number zero" in answer.text) == (400, True)
    answer = form.post(browser, form.token(browser), dag="ponte__nothing")
    assert (answer.status_code, "ponte__nothing" in answer.text) == (404, True)
    for values, status, said in (({"is_paused": True}, 409, "is paused"), ({"is_stale": True}, 404, "not found")):
        set_dag(**values)
        answer = form.post(browser, form.token(browser), dag="ponte__challenge")
        set_dag(is_paused=False, is_stale=False)
        assert (answer.status_code, said in answer.text) == (status, True), answer.text
    assert found_runs("ponte__challenge") == before


# ---------------------------------------------------------------- FAB: a role for one model


@pytest.fixture
def fab(server: FastAPI, monkeypatch: pytest.MonkeyPatch) -> Iterator[FastAPI]:
    """Airflow's API server with the FAB auth manager, on the same database."""
    from airflow.api_fastapi import app as api
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils.session import create_session

    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", FAB)
    from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
    from airflow.providers.fab.auth_manager.models.db import FABDBManager

    simple, api._AuthManagerState.instance = api._AuthManagerState.instance, None
    with create_session() as session:
        FABDBManager(session).initdb()
    with create_session() as session:  # what the DAG processor does when it has read a DAG
        for dag in DagBag(str(ROOT / "dags")).dags.values():
            FabAuthManager.sync_dag_perms(dag, session=session)
    yield api.create_app(apps="core")
    api._AuthManagerState.instance = simple


def airflow_cli(line: str) -> None:
    """Run a command of Airflow in this process."""
    from airflow.cli.cli_parser import get_parser

    arguments = get_parser().parse_args(shlex.split(line)[1:])
    arguments.func(arguments)


def documented_commands() -> list[str]:
    page = (ROOT / "docs/reference/roles.md").read_text(encoding="utf-8")
    [block] = [block for block in re.findall("```sh\n(.*?)```", page, re.DOTALL) if "airflow roles create" in block]
    return block.splitlines()


@pytest.mark.filterwarnings("ignore")  # of FAB and what it loads
def test_with_fab_a_role_is_for_one_model(fab: FastAPI, capsys: pytest.CaptureFixture[str]) -> None:
    from starlette.testclient import TestClient

    from ponte.rights.permission import may_act, models_of

    for line in documented_commands():
        airflow_cli(line)
    for role in ("Viewer", "User", "Op", "Admin"):
        airflow_cli(f"airflow users create -u {role} -f a -l b -e {role}@example.org -r {role} -p secret")
    manager = fab.state.auth_manager
    got: dict[str, tuple[int, ...]] = {}
    for name in ("Viewer", "User", "Op", "Admin", "ana"):
        with TestClient(fab, raise_server_exceptions=False) as browser:
            user = manager.security_manager.find_user(name)
            browser.cookies.set("_token", manager.generate_jwt(user))
            sees = browser.get(PROMOTE).status_code
            starts = [trigger(browser, model).status_code for model in ("mine", "theirs")]
            starts += [trigger(browser, None, dag=f"{model}__score").status_code for model in ("mine", "theirs")]
            pauses = browser.patch("/api/v2/dags/ponte__promote", json={"is_paused": False}).status_code
            answers = [
                browser.patch(
                    f"/api/v2/dags/{model}__train/dagRuns/none/taskInstances/approve/-1/hitlDetails",
                    json={"chosen_options": ["Approve"]},
                ).status_code  # 404: they may, and there is no such run
                for model in ("mine", "theirs")
            ]
            # The menu's entry and the tab of a DAG are there for whoever may ask for this.
            menu = browser.get("/api/v2/plugins").status_code
            may = [may_act(user, model, "ponte__promote") for model in ("mine", "theirs")]
            decides = models_of(user, "PUT")
            assert [model in decides for model in ("mine", "theirs")] == may, "whom the overview leads to forms"
            got[name] = (menu, sees, *starts, pauses, *answers, *may)
    everything = (200, 200, 200, 200, 200, 200, 200, 404, 404, True, True)
    assert got == {
        "Viewer": (200, 200, 403, 403, 403, 403, 403, 403, 403, False, False),
        "User": everything,
        "Op": everything,
        "Admin": everything,
        "ana": (200, 200, 200, 403, 200, 403, 403, 404, 403, True, False),
    }

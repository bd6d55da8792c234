"""Decisions on Ponte's own pages: the form, what would follow, and the run that it starts, in Airflow's API server."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.airflow_connections import set_connections
from tests.dags.browsing import Open, api_server, clients

from ponte.steering.actions import ACTIONS

if TYPE_CHECKING:
    from starlette.testclient import TestClient
    from tests.conftest import Cluster, Template
    from tests.sample_model import World

WEEK = "2024-02-12"


@pytest.fixture(scope="module")
def world(
    airflow_db: None, server: Cluster, scored_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A scored week, and a second version that is marked bad."""
    with scored_template.copy(server, tmp_path_factory.mktemp("acting")) as found:
        found.with_model(
            files={"README.md": "# Another\n", "estimator.py": found.folder.text("estimator.py") + "\n# 2\n"}
        ).train(run_id="second", promote=False)
        found.mark(2, "bad", run_id="marked")
        yield found


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[Open]:
    """Return a function that opens a client at Airflow's API server, by the role of its user."""
    with pytest.MonkeyPatch.context() as patch:
        set_connections(world.db, patch)
        patch.setenv("PONTE_ARTIFACTS", Path(world.store.root.path).as_uri())
        with (
            api_server(world.folder.path.parent) as server,
            clients(lambda _: server, server.state.auth_manager) as log_in,
        ):
            yield log_in


class Form:
    """A form as a browser holds it: what is hidden in it, and what is typed."""

    def __init__(self, client: TestClient, address: str) -> None:
        self.client = client
        self.page = client.get(address)
        assert self.page.status_code == 200, self.page.text

    def send(self, step: str = "preview", headers: dict[str, str] | None = None, **typed: Any) -> Any:
        """Send it with a button; a browser says where it stood."""
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', self.page.text))
        fields = {**{name: html.unescape(value) for name, value in hidden.items()}, "step": step, **typed}
        answer = self.client.post(
            "/ponte/act", data=fields, headers={"Sec-Fetch-Site": "same-origin", **(headers or {})}
        )
        if answer.headers.get("content-type", "").startswith("text/html") and "csrf" in answer.text:
            self.page = answer
        return answer


def runs(dag_id: str) -> list[Any]:
    """Return the runs of a DAG that a page has started for the model."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.orm import joinedload

    with create_session() as session:
        of_pages = select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id.like("page%"))
        found = session.scalars(of_pages.options(joinedload(DagRun.dag_run_note)))
        return [run for run in found if run.conf.get("model", "visits") == "visits"]


@pytest.mark.parametrize("action", [action.name for action in ACTIONS])
def test_each_form_has_its_fields_with_help_and_says_what_is_missing(client: Open, action: str) -> None:
    form = Form(client("admin"), f"/ponte/act/{action}/visits")
    [found] = [one for one in ACTIONS if one.name == action]
    for field in found.fields:
        assert f'name="{field.name}"' in form.page.text
        assert html.escape(field.help, quote=False)[:40] in form.page.text.replace("&#39;", "'").replace("&#34;", '"')
    missing = [field for field in found.fields if not field.empty and field.kind in ("one", "word", "reason")]
    answer = form.send()
    assert answer.status_code == (422 if missing else 200)
    assert answer.text.count("-problem") == 2 * len(missing)
    assert ('value="do"' in answer.text) is (not missing), "only what has been seen can be started"


def test_a_form_is_filled_in_by_its_address_and_lists_what_there_is(client: Open) -> None:
    text = Form(client("admin"), f"/ponte/act/roll-back/visits?version=2&window={WEEK}").page.text
    assert re.search(r'<option value="2" selected>version 2 · marked bad', text)
    assert re.search(r'<option value="1">version 1 · champion since', text)
    assert re.search(rf'value="{WEEK}" checked', text)
    assert f"{WEEK} · version 1, batch" in text


def test_a_rollback_is_foreseen_and_then_started_in_the_persons_name(client: Open, world: World) -> None:
    form = Form(client("op"), f"/ponte/act/roll-back/visits?version=2&window={WEEK}")
    typed = {"version": "2", "windows": WEEK, "reason": "complaints"}
    refused = form.send(**typed)
    assert refused.status_code == 422
    assert "marked bad" in refused.text
    assert form.send("do", **typed).status_code == 422, "what would be refused is not started, even if it was seen"
    typed["allow_bad"] = typed["allow_hindsight"] = "on"
    seen = form.send(**typed)
    assert seen.status_code == 200, seen.text
    assert "Moves champion 1 → 2." in seen.text
    assert f"Scores 1 window anew, then shows it: {WEEK}." in seen.text
    without = {name: value for name, value in typed.items() if name != "allow_hindsight"}
    assert "Something has changed" in form.send("do", **without).text, "though the same would follow"
    assert not runs("ponte__rollback")
    form.send(**typed)
    typed["reason"] = "complaints, many"  # which changes nothing of what is done
    started = form.send("do", **typed)
    assert started.status_code == 303, started.text
    [run] = runs("ponte__rollback")
    assert run.note == "complaints, many"
    assert run.triggering_user_name == "a op"
    assert run.conf == {
        "model": "visits", "version": 2, "windows": [WEEK], "every_window": False, "mark_bad": False, "allow_bad": True,
        "allow_hindsight": True, "reason": "complaints, many",
    }  # fmt: skip
    after = client("op").get(started.headers["location"])
    assert f'href="/dags/ponte__rollback/runs/{run.run_id}"' in after.text
    again = form.send("do", **typed)
    assert again.status_code == 303
    assert len(runs("ponte__rollback")) == 1, "sent twice it is one run"


def test_what_nobody_has_seen_is_not_started(client: Open) -> None:
    form = Form(client("admin"), "/ponte/act/promote/visits")
    typed = {"version": "2", "allow_bad": "on", "reason": "because"}
    answer = form.send("do", **typed)
    assert answer.status_code == 200
    assert "Moves champion 1 → 2" in answer.text
    assert "Something has changed" in answer.text
    assert form.send("do", **{**typed, "version": "1"}).status_code == 200, "another version than the one that was seen"
    assert not runs("ponte__promote")


def test_what_would_follow_by_now_is_seen_before_it_is_done(client: Open, world: World) -> None:
    form = Form(client("admin"), "/ponte/act/promote/visits")
    typed = {"version": "2", "allow_bad": "on", "reason": "because"}
    assert "Version 2 is marked bad." in form.send(**typed).text
    world.mark(2, "not bad", run_id="meanwhile")
    try:
        answer = form.send("do", **typed)
        assert "Something has changed" in answer.text
        assert "is marked bad." not in answer.text
    finally:
        world.mark(2, "bad", run_id="again")
    assert not runs("ponte__promote")


def test_a_run_of_the_models_own_dag_says_no_model(client: Open) -> None:
    form = Form(client("admin"), f"/ponte/act/score/visits?window={WEEK}")
    typed = {"window_start": WEEK}
    form.send(**typed)
    assert form.send("do", **typed).status_code == 303
    [run] = runs("visits__score")
    assert run.conf == {"window_start": WEEK, "allow_hindsight": False}


def test_a_form_that_was_too_old_can_be_sent_again(client: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from ponte.rights import starting

    form = Form(client("admin"), "/ponte/act/judge/visits")
    form.send()
    now = starting.time.time()
    monkeypatch.setattr(starting, "time", SimpleNamespace(time=lambda: now + starting.FORM_LASTS + 2))
    refused = form.send("do")
    assert (refused.status_code, "four hours ago" in refused.text) == (403, True)
    form.send()
    assert form.send("do").status_code == 303


@pytest.mark.parametrize(
    ("action", "typed", "said"),
    [
        ("promote", {"version": "99", "reason": "because"}, "no such version"),
        ("promote", {"version": "2", "reason": "because"}, "marked bad"),
        ("promote", {"version": "<b>1", "reason": "because"}, "is no number of a version"),
        ("promote", {"version": "99", "reason": "</textarea><b>1"}, "no such version"),
        ("score", {"window_start": "2024-02-13"}, "window"),
        ("score", {"window_start": "2030-01-07"}, "nothing is known yet"),
        ("publish", {"batch_id": "1", "reason": "because"}, "no guard has rejected this batch"),
        ("challenge", {"version": "1", "reason": "because"}, "cannot challenge itself"),
        ("alarm", {"alarm_id": "7", "action": "close", "reason": "because"}, "there is no such alarm"),
        ("mark", {"version": "1", "mark": "worse", "reason": "because"}, "is none of"),
    ],
)
def test_what_the_run_would_refuse_is_said_at_its_field_and_what_was_typed_stays(
    client: Open, action: str, typed: dict[str, str], said: str
) -> None:
    answer = Form(client("admin"), f"/ponte/act/{action}/visits").send(**typed)
    assert answer.status_code == 422
    assert said.lower() in html.unescape(answer.text).lower()
    assert 'value="do"' not in answer.text
    assert "<b>1" not in answer.text
    if "reason" in typed:
        assert f">{html.escape(typed['reason'])}</textarea>" in answer.text


def test_nothing_of_a_preview_is_written(client: Open, world: World) -> None:
    count = "SELECT (SELECT count(*) FROM ponte.alias_event) + (SELECT count(*) FROM ponte.batch)"
    before = world.ask(count)
    for action in ("score", "train", "judge"):
        assert Form(client("admin"), f"/ponte/act/{action}/visits").send().status_code == 200
    assert world.ask(count) == before


def test_who_may_not_decide_sees_no_form_and_starts_nothing(client: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    assert client("viewer").get("/ponte/act/promote/visits").status_code == 403
    form = Form(client("admin"), "/ponte/act/promote/visits")
    form.client = client("viewer")
    assert form.send("do", version="1", reason="because").status_code == 403
    assert form.send(version="1", reason="because").status_code == 403, "nor what would follow"
    assert client("").get("/ponte/act/promote/visits/started/page__1").status_code == 403
    assert client("admin").get("/ponte/act/no-such/visits").status_code == 404
    # Who may decide about a model, and may not look at it, is not told either what would follow.
    monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", lambda **question: question["method"] != "GET")
    form.client = client("admin")
    assert form.send(version="1", reason="because").status_code == 403


def test_a_form_of_another_site_or_of_another_kind_starts_nothing(client: Open) -> None:
    form = Form(client("admin"), "/ponte/act/mark/visits")
    typed = {"version": "2", "mark": "not bad", "reason": "because"}
    form.send(**typed)
    answer = form.send("do", headers={"Sec-Fetch-Site": "cross-site"}, **typed)
    assert answer.status_code == 403
    assert client("admin").post("/ponte/act", json=typed).status_code == 415
    assert client("admin").post("/ponte/act", data={"reason": "x" * 300_000}).status_code == 413
    assert not runs("ponte__mark_version")


def test_a_form_of_somebody_who_is_logged_out_goes_nowhere(client: Open) -> None:
    form = Form(client("admin"), "/ponte/act/mark/visits")
    browser = form.client
    browser.cookies.clear()
    typed = {"version": "2", "mark": "not bad", "reason": "because"}
    answer = form.send("do", headers={"Accept": "text/html"}, **typed)
    # A redirect (307) would have had the browser post it to the login.
    assert (answer.status_code, answer.headers.get("location")) == (401, None)
    assert "Nothing was started" in answer.text
    assert 'href="/api/v2/auth/login?next=%2Fponte%2F"' in answer.text
    assert browser.post("/ponte/act", data=typed).status_code == 401
    assert browser.get("/ponte/act/mark/visits", headers={"Accept": "text/html"}).status_code == 307
    assert not runs("ponte__mark_version")


@pytest.mark.parametrize(
    ("action", "typed"),
    [
        ("promote", {"version": "1", "reason": "because"}),
        ("roll-back", {"version": "1", "mark_bad": "on", "reason": "because"}),
    ],
)
def test_what_would_change_nothing_is_not_offered_and_starts_nothing(
    client: Open, action: str, typed: dict[str, str]
) -> None:
    form = Form(client("admin"), f"/ponte/act/{action}/visits")
    dag_id = form.page.text.split("a run of <code><bdi>")[1].split("<")[0]
    before = len(runs(dag_id))
    seen = form.send(**typed)
    assert "Nothing would change: " in seen.text
    assert "Nothing would follow" in seen.text
    assert 'value="do"' not in seen.text
    sent = form.send("do", **typed)
    assert (sent.status_code, "Nothing would change: " in sent.text) == (200, True)
    assert 'value="do"' not in sent.text
    assert "Something has changed" not in sent.text
    assert len(runs(dag_id)) == before


#: Below /ponte; whether it has a form for who may decide.
PAGES = (
    ("/tab/visits__score", False),
    ("/tab/ponte__rollback", False),
    ("/", False),
    ("/model/visits", True),
    (f"/model/visits/{WEEK}", True),
    ("/model/visits/compare?a=2&b=1", False),
    ("/report/visits", False),
    ("/report/visits/1", False),
    ("/docs/", False),
    ("/act/promote/visits", True),
    ("/act/promote/visits/started/page__1", False),
    ("/model/visits/2999-01-01", False),
)


def links(text: str) -> list[str]:
    return [html.unescape(link) for link in re.findall(r'href="([^"]*)"', text)]


@pytest.mark.parametrize(("address", "_"), PAGES)
def test_in_the_frame_at_a_dag_no_page_leads_out_of_ponte(client: Open, address: str, _: bool) -> None:
    """Where a tab leads to is a frame, too; and the words of what would lead out stay."""
    whole, framed = (
        client("admin").get(f"/ponte{address}", headers={"Sec-Fetch-Dest": where}) for where in ("document", "iframe")
    )
    assert framed.status_code == whole.status_code
    left = [link for link in links(whole.text) if re.match(r"[a-z]+:|/(?!ponte/)", link)]
    assert links(framed.text) == [link for link in links(whole.text) if link not in left]
    assert bool(left) is not address.startswith("/tab/"), "the tab says where its whole page is, and leads to none"
    words = [re.sub(r"<[^>]*>", "", answer.text) for answer in (framed, whole)]
    assert words[0] == words[1] or "csrf" in whole.text
    assert {**framed.headers, "content-length": ""} == {**whole.headers, "content-length": ""}


@pytest.mark.parametrize(("address", "decides"), PAGES)
def test_who_may_not_decide_is_led_to_no_form(client: Open, address: str, decides: bool) -> None:
    """Each of them would only be refused."""

    def forms(role: str) -> bool:
        text = client(role).get(f"/ponte{address}").text
        return any(link.startswith("/ponte/act") for link in links(text)) or 'method="post"' in text

    assert not forms("viewer")
    if address != "/":  # what waits there for a person is a matter of the clock
        assert forms("admin") is decides

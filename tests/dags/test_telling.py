"""People are told by Airflow's notifiers: a real SMTP server counts what comes."""

from __future__ import annotations

import datetime as dt
import email
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from email.message import Message as Mail
from typing import TYPE_CHECKING, Any

import pytest
from tests.sample_model import NEXT_WEEK, WEEK, World

from ponte.errors import PonteError
from ponte.model.windows import midnight
from ponte.notices import writing
from ponte.notices.messages import Message
from ponte.notices.sending import send_unsent

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

Run = Callable[..., tuple["DagRun", dict[str, str]]]
SETTING = json.dumps({"smtp": {"to": "team@example.org"}})
URL = "https://ui.example/below"


class _Session(socketserver.StreamRequestHandler):
    """One mail of SMTP, as RFC 5321 has it, as far as smtplib goes."""

    def handle(self) -> None:
        self.say("220 here")
        while line := self.rfile.readline().decode().strip():
            verb = line.upper()[:4]
            if verb == "DATA":
                self.say("354 go on")
                body = b""
                while (part := self.rfile.readline()) != b".\r\n":
                    body += part
                self.server.mails.append(email.message_from_bytes(body))
                self.say("451 later" if self.server.refuses else "250 taken")
            else:
                self.say("221 bye" if verb == "QUIT" else "250 yes")

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


class Server(socketserver.ThreadingTCPServer):
    """Keeps the mails that come; `refuses` says no after having read them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.mails: list[Mail] = []
        self.refuses = False


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A mail server on this machine, known as Airflow's connection smtp_default."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        extra = {"disable_ssl": True, "disable_tls": True, "from_email": "ponte@example.org", "retry_limit": 0}
        host, port = server.server_address
        found = {"conn_type": "smtp", "host": host, "port": port, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(found))
        yield server
        server.shutdown()


def channel() -> Callable[[Message], None]:
    from ponte.operators.monitoring import channels_of

    return channels_of(SETTING, {})["smtp"]


def note(world: World, subject: str, **facts: Any) -> None:
    with world.db.begin() as connection:
        given = {"model": "visits", "what": "something <b>& more", "then": "look {{ dag }}", **facts}
        writing.add(connection, "batch_rejected", subject=subject, **given)


def send(world: World, take: Callable[[Message], None]) -> dict[str, int]:
    return send_unsent(world.db, {"smtp": take}, base_url=URL)


def test_a_notice_is_one_mail_which_says_what_where_since_when_and_what_next(scored: World, post: Server) -> None:
    note(scored, "batch 1", batch_id=1, window_start=WEEK, version=1, since=WEEK)
    note(scored, "batch 1", batch_id=1)  # of one event and subject there is one
    assert send(scored, channel()) == {"smtp": 1}
    assert send(scored, channel()) == {"smtp": 0}
    [mail] = post.mails
    assert mail["Subject"] == "[Ponte 1] visits: batch rejected"
    assert (mail["Message-ID"], mail["To"]) == ("<ponte-notice-1@ponte>", "team@example.org")
    body = mail.get_payload()[0].get_payload(decode=True).decode()  # type: ignore[index,union-attr]
    for part in (
        "something &lt;b&gt;&amp; more",
        f"model visits, window {WEEK}, batch 1, version 1",
        str(WEEK),
        "look {{ dag }}",  # no template
        f'href="{URL}/dags/visits__score"',
    ):
        assert part in body
    assert scored.rows("SELECT what, sent->>'smtp' IS NOT NULL FROM ponte.notice_overview") == [
        ("something <b>& more", True)
    ]


def test_a_sender_that_is_killed_before_it_could_mark_sends_again_under_the_same_id(world: World, post: Server) -> None:
    for subject in ("batch 1", "batch 2"):
        note(world, subject)

    def killed(message: Message) -> None:
        channel()(message)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send(world, killed)
    assert send(world, channel()) == {"smtp": 2}
    assert [mail["Message-ID"].split("@")[0] for mail in post.mails] == [
        "<ponte-notice-1",
        "<ponte-notice-1",
        "<ponte-notice-2",
    ]


def test_a_channel_that_refuses_holds_up_no_other_and_is_tried_again(world: World, post: Server) -> None:
    note(world, "batch 1")
    taken: list[str] = []
    channels = {"smtp": channel(), "other": lambda message: taken.append(message.id)}
    post.refuses = True
    with pytest.raises(PonteError, match="smtp: SMTPDataError") as told:
        send_unsent(world.db, channels, base_url=URL)
    assert "example.org" not in str(told.value)
    assert taken == ["ponte-notice-1"]
    post.refuses = False
    assert send_unsent(world.db, channels, base_url=URL) == {"smtp": 1, "other": 0}


def test_two_senders_send_once(world: World, post: Server) -> None:
    note(world, "batch 1")
    inner: list[dict[str, int]] = []

    def take(message: Message) -> None:
        inner.append(send(world, channel()))
        channel()(message)

    assert (send(world, take), inner, len(post.mails)) == ({"smtp": 1}, [{"smtp": 0}], 1)


def test_what_is_older_than_a_week_is_not_sent_any_more(world: World, post: Server) -> None:
    """A channel that is configured today does not begin with the history of the model."""
    with world.db.begin() as connection:
        row = {"event": "batch_rejected", "subject": "batch 1", "model": "visits", "facts": "{}"}
        old = dt.datetime.now(dt.UTC) - dt.timedelta(days=8)
        writing.insert_row(connection, "ponte.notice", {**row, "created_at": old})
    assert send(world, channel()) == {"smtp": 0}


def test_a_rejected_batch_is_told_by_its_own_run(
    run_dag: Run, scored: World, post: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PONTE_NOTIFIERS", SETTING)
    scored.execute("DELETE FROM shop.visit WHERE visit_id >= 2550")
    scored.with_model(checks="[guard]\nminimum_batches = 1")
    _, states = run_dag("visits__score", run_conf={"window_start": str(NEXT_WEEK)})
    assert (states["guard"], states["tell"]) == ("failed", "success")
    assert [mail["Subject"].partition("] ")[2] for mail in post.mails] == ["visits: a guard has tripped"]


@pytest.mark.parametrize("settings", ["", SETTING], ids=["off", "on"])
def test_the_hourly_dag_tells_of_late_windows_and_of_what_nobody_has_sent(
    run_dag: Run, scored: World, post: Server, monkeypatch: pytest.MonkeyPatch, settings: str
) -> None:
    monkeypatch.setenv("PONTE_NOTIFIERS", settings)
    schedule = '[schedule]\nscore = "0 6 * * *"\n[window]\ndays = 1\n[monitoring]\nlate_hours = 30'
    scored.with_model(checks=schedule)
    # Everything was published a week ago, by its clock, and nothing since.
    scored.execute("ALTER TABLE ponte.publication_event DISABLE TRIGGER append_only")
    scored.execute("UPDATE ponte.publication_event SET at = now() - interval '5 days'")
    note(scored, "batch 1")
    run, states = run_dag("ponte__tell")
    assert (str(run.state), states) == ("success", {"find_late": "success", "tell": "success"})
    late = scored.rows("SELECT subject FROM ponte.notice WHERE event = 'window_late' ORDER BY 1")
    today = dt.datetime.now(dt.UTC)
    due = [midnight((today - dt.timedelta(days=n)).date()) + dt.timedelta(hours=6) for n in range(7, -1, -1)]
    first, last = today - dt.timedelta(days=5), today - dt.timedelta(hours=30)
    assert late == [(f"visits {moment.date()}",) for moment in due if first < moment <= last]
    assert len(post.mails) == (len(late) + 1 if settings else 0)


@pytest.mark.parametrize(
    ("schedule", "published"),
    [
        ('score = "on demand"', True),
        ('score = "0 6 * * *"\nend = 2024-03-01', True),
        ('score = "0 6 * * *"', False),
    ],
    ids=["on demand", "after the end", "before the first publication"],
)
def test_no_window_is_late_that_nobody_waits_for(run_dag: Run, scored: World, schedule: str, published: bool) -> None:
    scored.with_model(checks=f"[schedule]\n{schedule}\n[window]\ndays = 1")
    scored.execute("ALTER TABLE ponte.publication_event DISABLE TRIGGER append_only")
    ago = "5 days" if published else "0 days"
    scored.execute(f"UPDATE ponte.publication_event SET at = now() - interval '{ago}'")
    run_dag("ponte__tell")
    assert scored.rows("SELECT subject FROM ponte.notice") == []


@pytest.mark.parametrize("text", ["{", "[]", '{"smtp": "team"}', '{"pigeon": {}}'])
def test_a_setting_that_means_nothing_says_what_it_could_be(text: str) -> None:
    from ponte.operators.monitoring import channels_of

    with pytest.raises(PonteError, match="PONTE_NOTIFIERS"):
        channels_of(text, {})

"""The form before a real service: the words of the version, what the role may read, and what becomes of an answer."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import sqlalchemy as sa
from tests.postgres.serving.served import ROW, SERVED, Served
from tests.sample_model import World

from ponte.model.folders import load_folder

FORM = "/form/visits"
CARD = "# Visits\n\n## Columns\n| column | label |\n|---|---|\n| price | What it cost |\n"
TYPED = {
    "c.shop": "=mill", "c.items": "3", "c.price": "12,5", "c.distance": "2.5", "c.member": "yes", "c.shop_rate": "0.4",
}  # fmt: skip


class Visitor:
    """A browser with its cookie."""

    def __init__(self, served: Served) -> None:
        self.served, self.cookies, self.token = served, "", ""

    def ask(self, path: str, typed: dict[str, str] | None = None) -> httpx.Response:
        body: dict[str, Any] = {} if typed is None else {"content": urlencode({"token": self.token, **typed})}
        headers = {"Cookie": self.cookies, "Sec-Fetch-Site": "same-origin"}
        reply = self.served.ask("GET" if typed is None else "POST", path, token=None, headers=headers, **body)
        for line in reply.headers.get_list("set-cookie"):
            self.cookies = "; ".join(filter(None, (self.cookies, line.partition(";")[0])))
        if found := re.search(r'name="token" value="([^"]+)"', reply.text):
            self.token = found[1]
        return reply


@pytest.fixture
def served(trained: World) -> Iterator[Served]:
    """One that no other test has asked: what an address may ask for is counted."""
    found = Served(trained, address_per_minute=6)
    yield found
    found.stop()


def say(served: Served, form: str) -> None:
    """Let model.toml say what the form is."""
    served.world.with_model(gate=f'champion_indistinguishable = "promote"\n{SERVED}form = "{form}"\n')
    served.look()


def test_a_person_asks_and_the_answer_is_that_of_the_api_and_is_kept(served: Served) -> None:
    say(served, "public")
    visitor = Visitor(served)
    page = visitor.ask(FORM)
    assert page.status_code == 200
    # There was never another value; a quarter of the rows have none.
    assert set(re.findall(r'value="=(\w+)"', page.text)) == {"mill", "quay", "park"}
    assert "may be left empty" in page.text
    assert re.search(r"usually 0(\.\d+)? to \d", page.text)

    reply = visitor.ask(FORM, TYPED)
    assert reply.status_code == 200
    score = served.predict([ROW]).json()["predictions"][0]["score"]
    assert f"({round(max(score, 1 - score) * 100)}\u00a0%)" in reply.text
    assert "version 1" in reply.text

    request_id = re.search(r"<code>([0-9a-f-]{36})</code>", reply.text)
    assert request_id
    early = visitor.ask(f"{FORM}/feedback", {"request_id": request_id[1], "verdict": "right"})
    served.service.journal.flush()
    kept = visitor.ask(f"{FORM}/feedback", {"request_id": request_id[1], "verdict": "right", "comment": "yes"})
    assert (early.status_code, kept.status_code) == (409, 200)
    assert "not yet" in early.text
    with served.world.db.begin() as connection:
        live = connection.execute(
            sa.text("SELECT source, request_id FROM ponte_data.live_visits WHERE source = 'form'")
        )
        assert ("form", uuid.UUID(request_id[1])) in live.all()
        said = connection.execute(sa.text("SELECT verdict, comment, given_by FROM ponte.live_feedback"))
        assert said.all() == [("right", "yes", "form")]


def test_a_form_has_a_key_or_none_as_the_model_says(served: Served) -> None:
    visitor = Visitor(served)
    assert visitor.ask(FORM).status_code == 404
    assert visitor.ask("/form/nothing").status_code == 404
    say(served, "key")
    assert 'type="password"' in visitor.ask(FORM).text
    other = served.key("another_model", name="other")[1]
    assert visitor.ask(f"{FORM}/key", {"key": other}).status_code == 403
    assert visitor.ask(f"{FORM}/key", {"key": served.token}).status_code == 303
    assert "c.price" in visitor.ask(FORM).text
    assert visitor.ask(FORM, TYPED).status_code == 200


def test_an_address_may_ask_so_often_and_then_waits(served: Served) -> None:
    say(served, "public")
    visitor = Visitor(served)
    visitor.ask(FORM)
    replies = [visitor.ask(FORM, TYPED) for _ in range(20)]
    codes = [reply.status_code for reply in replies]
    assert codes[:6] == [200] * 6
    assert 429 in codes
    assert int(replies[codes.index(429)].headers["retry-after"]) >= 1


def test_a_value_that_the_api_does_not_take_comes_back_at_its_field(served: Served) -> None:
    say(served, "public")
    visitor = Visitor(served)
    visitor.ask(FORM)
    reply = visitor.ask(FORM, {**TYPED, "c.items": "9" * 30, "c.shop": "=boat"})
    assert reply.status_code == 422
    assert "this number is too large" in reply.text
    assert "please choose one of the list" in reply.text
    assert "9" * 30 in reply.text


def test_the_words_are_those_of_the_version_and_not_of_the_folder_of_today(world: World) -> None:
    """A version keeps its card; one that has none is asked in the names of its columns."""
    (world.folder.path / "README.md").write_text(CARD, encoding="utf-8")
    replace(world, folder=load_folder(world.folder.path)).train(run_id="first")
    served = Served(world)  # which writes the folder anew
    assert "What it cost" not in served.service.champions.folders["visits"].card
    try:
        say(served, "public")
        page = Visitor(served).ask(FORM).text
        assert "What it cost" in page
        assert "Shop rate" in page
    finally:
        served.stop()

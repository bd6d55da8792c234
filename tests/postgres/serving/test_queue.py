"""Requests for the queue by HTTP, and what became of them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from tests.postgres.serving.served import ROW, Served, open_queue

ENQUEUE = "/v1/models/visits:enqueue"


def test_instances_go_into_the_queue_all_or_none_and_are_found_again(own: Served) -> None:
    open_queue(own)
    reply = own.ask("POST", ENQUEUE, json={"instances": [ROW, ROW], "keys": [{"visit_id": 1}, None], "priority": 7})
    assert reply.status_code == 202, reply.text
    ids = reply.json()["request_ids"]
    waiting = own.world.rows("SELECT request_id::text, key, features, priority FROM ponte.request ORDER BY request_id")
    assert waiting == [(ids[0], {"visit_id": 1}, ROW, 7), (ids[1], None, ROW, 7)]
    state = own.ask("GET", f"/v1/requests/{ids[1]}").json()
    assert (state["state"], state["model"], state["ahead"]) == ("waiting", "visits", 1)
    _, token = own.key("another")
    own.look()
    assert own.ask("GET", f"/v1/requests/{ids[1]}", token=token).status_code == 404  # another's model

    reply = own.ask("POST", ENQUEUE, json={"instances": [ROW, {**ROW, "items": "many"}]})
    assert (reply.status_code, reply.json()["problems"][0]["instance"]) == (422, 1)
    assert own.world.ask("SELECT count(*) FROM ponte.request") == 2


def test_an_answer_of_the_api_is_found_by_its_number(own: Served) -> None:
    row = own.predict([ROW]).json()["predictions"][0]
    own.service.journal.flush()
    state = own.ask("GET", f"/v1/requests/{row['request_id']}").json()
    assert state["state"] == "answered"
    assert state["answer"]["score"] == row["score"]


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no queue": ({"instances": [ROW]}, 409, "no queue of this model"),
    "a priority that there is not": ({"instances": [ROW], "priority": 10}, 422, "the body is not what is expected"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_go_into_the_queue_is_told_why(served: Served, name: str) -> None:
    body, status, what = REFUSED[name]
    reply = served.ask("POST", ENQUEUE, json=body)
    assert (reply.status_code, reply.json()["error"]["what"][: len(what)]) == (status, what)


def test_a_full_queue_says_when_to_come_back(own: Served) -> None:
    open_queue(own)
    own.world.execute("UPDATE ponte.queue SET most_waiting = 1")
    reply = own.ask("POST", ENQUEUE, json={"instances": [ROW, ROW]})
    assert (reply.status_code, reply.headers["Retry-After"]) == (429, "5"), reply.text
    assert "is full" in reply.json()["error"]["what"]


def test_a_request_that_there_is_not_is_not_found(served: Served) -> None:
    assert served.ask("GET", f"/v1/requests/{uuid.uuid4()}").status_code == 404
    assert served.ask("GET", "/v1/requests/1").status_code == 422

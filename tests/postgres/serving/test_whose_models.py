"""Keys and the models of requests, and what is told while no model is served."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.postgres.serving.served import ROW, Served, open_queue, served_world

NOBODY = "019aca5c-0000-7000-8000-000000000000"


def answered(served: Served) -> str:
    request_id = served.predict([ROW]).json()["predictions"][0]["request_id"]
    assert served.service.journal.flush()
    return str(request_id)


def waiting(served: Served) -> str:
    open_queue(served)
    reply = served.ask("POST", "/v1/models/visits:enqueue", json={"instances": [ROW]})
    return str(reply.json()["request_ids"][0])


@pytest.mark.parametrize("request_of", [answered, waiting])
def test_a_key_is_told_of_another_models_request_what_it_is_told_of_none(served: Served, request_of: Any) -> None:
    request_id = request_of(served)
    (_, mine), (_, other) = served.key("visits", name="mine"), served.key("other", name="other")
    served.look()

    def told(token: str, of: str, verdict: str = "right") -> list[tuple[int, str]]:
        said = {"json": {"request_id": of, "verdict": verdict, "comment": "good"}}
        replies = [served.ask("POST", "/v1/feedback", token=token, **said)]
        replies += [served.ask("GET", f"/v1/requests/{of}", token=token)]
        return [(reply.status_code, reply.text.replace(of, "ID")) for reply in replies]

    assert [status for status, _ in told(other, request_id)] == [404, 404]
    assert told(other, request_id) == told(other, NOBODY) == told(mine, NOBODY) == told(served.token, NOBODY)
    assert told(other, request_id, "yes") == told(other, NOBODY, "yes")
    kept = "SELECT given_by FROM ponte.live_feedback WHERE request_id = CAST(:id AS uuid) ORDER BY 1"
    assert served.world.rows(kept, id=request_id) == []

    expected = 201 if request_of is answered else 404
    assert [status for status, _ in told(mine, request_id)] == [expected, 200]
    assert [status for status, _ in told(served.token, request_id)] == [expected, 200]
    assert served.world.rows(kept, id=request_id) == ([("mine",), ("test",)] if request_of is answered else [])


@pytest.fixture
def nothing_served(served: Served) -> Iterator[Served]:
    served.world.with_model()
    served.look()
    yield served
    served_world(served.world)
    served.look()


def test_it_says_that_no_model_is_served_and_what_to_do(nothing_served: Served) -> None:
    reply = nothing_served.ask("GET", "/health/ready", token=None)
    assert reply.status_code == 503
    assert "no model is served" in reply.json()["why"]
    assert "model.toml" in reply.json()["fix"]
    reply = nothing_served.predict([ROW])
    assert (reply.status_code, reply.json()) == (404, {"error": {"what": "no such model is served", "got": "visits"}})

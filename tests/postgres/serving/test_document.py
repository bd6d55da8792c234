"""The OpenAPI document is true: what it allows is answered, what it does not is refused in the way that it says."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from tests.postgres.serving.served import Served, open_queue

#: Cases per operation and kind; PONTE_API_CASES is for a longer look by hand.
CASES = 12


def without_lifespan(app: Any) -> Any:
    """Return the application as one that has neither a start nor an end: its parts are started by the test."""

    async def asked(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        await app(scope, receive, send)

    return asked


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # schemathesis does
@pytest.mark.parametrize("kind", ["allowed", "not allowed"])
def test_what_the_document_allows_is_answered_and_nothing_else(served: Served, kind: str) -> None:
    import os

    import schemathesis
    from schemathesis import GenerationMode

    open_queue(served)
    headers = {"Authorization": f"Bearer {served.token}"}
    served.look()
    schema = schemathesis.openapi.from_asgi("/openapi.json", without_lifespan(served.app), headers=headers)
    mode = GenerationMode.POSITIVE if kind == "allowed" else GenerationMode.NEGATIVE
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {"POST /v1/models/visits:predict", "POST /v1/feedback"} <= {operation.label for operation in operations}
    asked = 0
    for operation in operations:
        if kind == "not allowed" and not (operation.body or operation.path_parameters):
            continue  # nothing can be wrong with it

        @settings(
            max_examples=int(os.environ.get("PONTE_API_CASES", CASES)),
            derandomize="PONTE_API_CASES" not in os.environ,  # the same cases each time, unless somebody looks longer
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(mode))
        def ask(case: Any) -> None:
            nonlocal asked
            asked += 1
            if kind == "allowed":
                as_many_keys(case.body)
            case.call_and_validate(headers=headers)

        ask()
    print(f"{kind}: {asked} cases")
    assert asked > CASES


def as_many_keys(body: Any) -> None:
    """Give a body as many keys as it has instances: what no schema can say."""
    if isinstance(body, dict) and isinstance(body.get("keys"), list) and isinstance(body.get("instances"), list):
        keys = body["keys"]
        body["keys"] = [keys[place] if place < len(keys) else None for place in range(len(body["instances"]))]


def test_the_examples_of_the_document_are_answered(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    document = served.ask("GET", "/openapi.json").json()
    operation = document["paths"]["/v1/models/visits:predict"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    with caplog.at_level(logging.DEBUG, "ponte"):
        assert served.ask("POST", "/v1/models/visits:predict", json=example).status_code == 200
    assert not caplog.records

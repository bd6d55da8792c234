"""Every page of the API: what it answers, and what it says of each thing that can be wrong with a request."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from typing import Any

import pytest
from tests.postgres.serving.served import ROW, Served

PREDICT = "/v1/models/visits:predict"


def body(*instances: Any, **more: Any) -> bytes:
    return json.dumps({"instances": list(instances), **more}).encode()


def test_an_answer_is_what_the_version_says_and_has_a_number(served: Served) -> None:
    before = dt.datetime.now(dt.UTC)
    rows = [ROW, {**ROW, "items": None, "shop": "somewhere else"}, {**ROW, "member": False, "distance": 11}]
    reply = served.predict(rows, keys=[{"visit_id": 1}, None, {"visit_id": 3}])
    assert reply.status_code == 200
    assert reply.headers["X-Ponte-Version"] == "1"
    assert reply.json()["model_version"] == 1

    loaded = served.service.champions.get("visits").loaded
    parsed = served.service.champions.get("visits").reader.parse(rows)
    expected = loaded.predictions(parsed.rows.table())
    got = reply.json()["predictions"]
    assert [row["prediction"] for row in got] == expected.prediction.tolist()
    assert [row["score"] for row in got] == pytest.approx(expected.score.tolist(), rel=1e-12)
    ids = [uuid.UUID(row["request_id"]) for row in got]
    assert len(set(ids)) == 3
    assert {number.version for number in ids} == {7}
    made = dt.datetime.fromtimestamp((ids[0].int >> 80) / 1000, dt.UTC)
    assert abs(made - before) < dt.timedelta(minutes=1)


WRONG: dict[str, tuple[Any, dict[str, Any]]] = {
    "missing": ({k: v for k, v in ROW.items() if k != "price"}, {"column": "price", "what": "is missing"}),
    "unknown": ({**ROW, "prise": 1}, {"column": "prise", "fix": "did you mean 'price'?"}),
    "another type": ({**ROW, "price": "12.5"}, {"column": "price", "got": "the text '12.5'", "what": "is no number"}),
    "out of range": ({**ROW, "items": 2**70}, {"column": "items", "what": "is out of range"}),
    "no object": ([1, 2], {"column": "", "what": "is no object"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_an_instance_is_told_by_place_and_column(served: Served, name: str) -> None:
    instance, expected = WRONG[name]
    reply = served.predict([ROW, instance])
    assert reply.status_code == 422
    [problem] = reply.json()["problems"]
    expected = {part: text for part, text in expected.items() if text}
    assert problem["instance"] == 1
    assert {part: problem.get(part) for part in expected} == expected
    assert reply.json()["error"]["what"].endswith("nothing was scored")


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no key": ({"token": None, "content": body(ROW)}, 401, "no key"),
    "another key": ({"token": "ponte_" + "x" * 43, "content": body(ROW)}, 401, "no valid key"),
    "a long key": ({"token": "x" * 5000, "content": body(ROW)}, 401, "no valid key"),
    "a password": ({"token": None, "headers": {"Authorization": "Basic eDp5"}, "content": body(ROW)}, 401, "no key"),
    "no JSON": ({"content": b"{"}, 422, "the body is no JSON"),
    "no UTF-8": ({"content": b'{"instances": ["\xff"]}'}, 422, "the body is no JSON"),
    "NaN": ({"content": b'{"instances": [NaN]}'}, 422, "the body is no JSON"),
    "deep": ({"content": b'{"instances": ' + b"[" * 100_000}, 422, "the body is no JSON"),
    "empty": ({"content": b""}, 422, "the body is no JSON"),
    "another shape": ({"content": b"[1]"}, 422, "the body is not what is expected"),
    "no instances": ({"content": b'{"instance": []}'}, 422, "the body is not what is expected"),
    "none": ({"content": body()}, 422, "there is no instance"),
    "fewer keys": ({"content": body(ROW, ROW, keys=[{"visit_id": 1}])}, 422, "there are not as many keys as instances"),
    "a wrong key": ({"content": body(ROW, keys=[{"visit_id": "1"}])}, 422, "the request cannot be understood"),
    "too many": ({"content": body(*[1] * 1001)}, 422, "too many instances"),
    "too large": ({"content": b'"' + b"x" * 4 * 1024**2 + b'"'}, 413, "the body is too large"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_request_that_cannot_be_understood_is_told_why(served: Served, name: str) -> None:
    more, status, what = REFUSED[name]
    reply = served.ask("POST", PREDICT, **more)
    assert (reply.status_code, reply.json()["error"]["what"][: len(what)]) == (status, what)


def test_a_name_that_is_close_is_told(served: Served) -> None:
    error = served.ask("POST", PREDICT, content=b'{"instance": []}').json()["error"]
    assert error["fix"] == "did you mean 'instances'? Known: instances, keys"
    error = served.ask("POST", "/v1/models/visit:predict", content=body(ROW)).json()["error"]
    assert (error["what"], error["fix"]) == ("no such model is served", "did you mean 'visits'? Known: visits")


def test_what_is_served_is_told(served: Served) -> None:
    [known] = served.ask("GET", "/v1/models").json()["models"]
    assert known["name"] == "visits"
    assert known["version"] == 1
    told = served.ask("GET", "/v1/models/visits").json()
    assert told["features"] == [
        {"name": name, "type": kind}
        for name, kind in zip(ROW, ["text", "integer", "number", "number", "boolean", "number"], strict=True)
    ]
    assert (told["key"], told["card"], told["behind"]) == ([{"name": "visit_id", "type": "integer"}], "# Visits\n", "")
    schema = served.ask("GET", "/v1/models/visits/schema").json()
    assert sorted(schema["required"]) == sorted(ROW)


def test_health_needs_no_key_and_everything_else_does(served: Served) -> None:
    assert served.ask("GET", "/health/live", token=None).json() == {"status": "alive"}
    assert served.ask("GET", "/health/ready", token=None).json() == {"status": "ready"}
    open_paths = set()
    for route in served.app.routes:
        path = route.path.replace(":name", "").format(model="visits", request_id=uuid.uuid4(), file="start.js")
        for method in route.methods - {"HEAD"}:
            if served.ask(method, path, token=None).status_code != 401:
                open_paths.add(path)
    assert {path for path in open_paths if not path.startswith("/form/")} == {"/health/live", "/health/ready"}


def test_a_path_and_a_method_that_are_not_there_are_told_in_the_same_words(served: Served) -> None:
    assert served.ask("GET", "/v2").json()["error"]["what"] == "not found"
    reply = served.ask("GET", PREDICT)
    assert (reply.status_code, reply.headers["Allow"]) == (405, "POST")


def test_a_prediction_passes_by_the_layers_that_the_other_pages_go_through(own: Served) -> None:
    async def broken(*_: Any) -> None:
        raise AssertionError("a layer was asked")

    own.app.middleware_stack = broken
    assert own.predict([ROW]).status_code == 200
    assert own.ask("POST", "/v1/models/vis%69ts:predict", content=body(ROW)).status_code == 200
    assert own.ask("POST", "/v1/models/nobody:predict", content=body(ROW)).status_code == 404
    for method, path in (("GET", PREDICT), ("POST", f"{PREDICT}/"), ("POST", "/v1/models/a/b:predict"), ("GET", "/v2")):
        with pytest.raises(AssertionError, match="a layer was asked"):
            own.ask(method, path)


def test_metrics_say_requests_rows_and_version(own: Served) -> None:
    served = own
    served.predict([ROW, ROW])
    served.predict(["no row"])
    said = served.ask("GET", "/metrics").text
    for line in (
        'ponte_api_requests_total{endpoint="predict",model="visits",status="200"} 1.0',
        'ponte_api_requests_total{endpoint="predict",model="visits",status="422"} 1.0',
        'ponte_api_rows_total{model="visits",outcome="answered"} 2.0',
        'ponte_api_model_version{model="visits"} 1.0',
        'ponte_api_batch_rows_count{model="visits"} 1.0',
        'ponte_api_request_seconds_count{model="visits"} 1.0',
    ):
        assert line in said
    served.ask("POST", "/v1/models/anything:predict", content=b"")
    assert "anything" not in served.ask("GET", "/metrics").text  # else anybody could fill the memory


def test_the_page_about_it_needs_no_other_server(served: Served) -> None:
    login = {"token": None, "headers": {"Authorization": "Basic " + _base64(f"me:{served.token}")}}
    page = served.ask("GET", "/docs", **login)
    assert page.status_code == 200
    assert "http" not in page.text
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        assert f'"/docs/{name}"' in page.text
        assert served.ask("GET", f"/docs/{name}", **login).status_code == 200
    asked = served.ask("GET", "/docs", token=None)
    assert (asked.status_code, asked.headers["WWW-Authenticate"][:5]) == (401, "Basic")


def _base64(text: str) -> str:
    import base64

    return base64.b64encode(text.encode()).decode()

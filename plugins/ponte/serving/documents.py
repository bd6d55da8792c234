"""What the API says of itself: the OpenAPI document, exact for each model, and the page that shows it.

The page is Swagger UI, as it lies in the package that brings Airflow's users; no script comes from elsewhere.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from ponte.access.keys import Key
from ponte.live.records import schema_of, schema_of_key
from ponte.serving.batching import Serving
from ponte.serving.replies import Receive, Reply, Scope, token_of
from ponte.serving.service import Refused, Service, refused

#: Where Swagger UI lies, below the package flask_appbuilder.
_SWAGGER = {
    "swagger-ui-bundle.js": ("static/appbuilder/js/swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": ("static/appbuilder/css/swagger/swagger-ui.css", "text/css"),
}
_TEMPLATES = Path(__file__).with_name("templates")
#: Swagger UI sets styles of elements, and has its pictures in its style sheet.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: A row of an example, by family.
_EXAMPLES: Mapping[str, Any] = {
    "integer": 3, "number": 1.5, "boolean": True, "text": "a text", "date": "2026-11-28",
    "timestamp": "2026-11-28T09:30:00Z",
}  # fmt: skip


def _key(service: Service, scope: Scope) -> Key:
    """Return the key of a request; a browser that has none asks the person for it, as the password."""
    try:
        return service.key_of(token_of(scope, password=True))
    except Refused as error:
        error.headers["WWW-Authenticate"] = 'Basic realm="ponte: the API key is the password"'
        raise


async def page(service: Service, scope: Scope, _: Receive) -> Reply:
    """Show the OpenAPI document to people."""
    _key(service, scope)
    page_text = (_TEMPLATES / "docs.html").read_bytes()
    return Reply(page_text, headers={"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": _POLICY})


async def file(service: Service, scope: Scope, _: Receive) -> Reply:
    """Give a file of the page."""
    _key(service, scope)
    name = scope["path_params"]["file"]
    if name == "start.js":
        return Reply((_TEMPLATES / "docs.js").read_bytes(), headers={"Content-Type": "text/javascript"})
    if name not in _SWAGGER:
        raise refused(HTTPStatus.NOT_FOUND, "no such file", got=name[:60])
    path, kind = _SWAGGER[name]
    return Reply(swagger_file(path), headers={"Content-Type": kind})


def swagger_file(path: str) -> bytes:
    """Return a file of Swagger UI; raises Refused (404) where the package is not installed."""
    found = importlib.util.find_spec("flask_appbuilder")
    if found is None or found.origin is None:
        raise refused(HTTPStatus.NOT_FOUND, "Swagger UI is not installed here", fix="read /openapi.json")
    return (Path(found.origin).parent / path).read_bytes()


async def openapi(service: Service, scope: Scope, _: Receive) -> Reply:
    """Give the OpenAPI document."""
    return Reply(document(service, _key(service, scope)))


def document(service: Service, key: Key) -> dict[str, Any]:
    """Return the OpenAPI document of what a key may ask: a path per model, with what exactly its instances are."""
    paths: dict[str, Any] = dict(_PATHS)
    schemas: dict[str, Any] = dict(_SCHEMAS)
    for name in sorted(service.champions.folders):
        serving = service.champions.get(name)
        if serving is None or not key.may_ask(name):
            continue
        description = service.champions.folders[name].spec.description
        schemas |= {f"{name}.instance": _instance(serving), f"{name}.key": schema_of_key(serving.loaded.signature)}
        paths[f"/v1/models/{name}:predict"] = {"post": _predict(name, description, serving, service)}
        paths[f"/v1/models/{name}:enqueue"] = {"post": _enqueue(name, serving, service)}
        for path, what in (("", f"What is known of {name}."), ("/schema", f"JSON Schema of an instance of {name}.")):
            paths[f"/v1/models/{name}{path}"] = {"get": _get("models", what, _ANY, 404, 503)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ponte",
            "version": "1",
            "description": "Answers of registered models, one by one. Errors say what, where, got, expected and how to "
            "fix it; problems of instances also which instance and which column.",
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "./ponte keys create"}},
        },
        "security": [{"key": []}],
    }


def _instance(serving: Serving) -> dict[str, Any]:
    found = schema_of(serving.loaded.signature)
    found.pop("$schema", None)
    return {**found, "examples": [example(serving)]}


def example(serving: Serving) -> dict[str, Any]:
    """Return an instance that the model takes: of each type the same value, which is of no row."""
    signature = serving.loaded.signature
    return {c.name: _EXAMPLES[c.family] for c in signature.features}


def _predict(name: str, description: str, serving: Serving, service: Service) -> dict[str, Any]:
    version = serving.version
    label = {"integer": "integer", "boolean": "boolean", "text": "string", "number": "number"}
    prediction = {"type": "number" if version.task == "regression" else label[version.signature.label]}
    scores: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
    answered = {
        "type": "object",
        "properties": {
            "prediction": prediction,
            "score": {**scores, "description": f"Probability of {version.classes[-1:]}."},
            "scores": {"type": "array", "items": scores, "description": f"Of {list(version.classes)}, in this order."},
            "low": {"type": "number"},
            "high": {"type": "number"},
            "request_id": _UUID,
        },
        "required": ["prediction", "request_id"],
        "additionalProperties": False,
    }
    return {
        "tags": [name],
        "operationId": f"predict_{name}",
        "summary": f"Predict with {name}",
        "description": description,
        "requestBody": _body(_rows(name, service.settings.instances, {}), {"instances": [example(serving)]}),
        "responses": _responses({
            "type": "object",
            "properties": {
                "predictions": {
                    "type": "array",
                    "items": {"oneOf": [answered, {"$ref": "#/components/schemas/unanswered"}]},
                },
                "model_version": {"type": "integer"},
            },
            "required": ["predictions", "model_version"],
        }, 404, 408, 413, 422, 503),
    }  # fmt: skip


def _enqueue(name: str, serving: Serving, service: Service) -> dict[str, Any]:
    priority = {"type": "integer", "minimum": 0, "maximum": 9, "default": 0, "description": "9 is the most urgent."}
    body = _rows(name, service.settings.instances, {"priority": priority})
    properties = {"request_ids": {"type": "array", "items": _UUID}}
    ids = {"type": "object", "properties": properties, "required": ["request_ids"]}
    return {
        "tags": [name],
        "operationId": f"enqueue_{name}",
        "summary": f"Put instances for {name} into the queue",
        "description": "All or none. GET /v1/requests/{request_id} tells the answers when they are there.",
        "requestBody": _body(body, {"instances": [example(serving)], "priority": 5}),
        "responses": _responses(ids, 404, 408, 409, 413, 422, 503, success=HTTPStatus.ACCEPTED),
    }


def _rows(name: str, most: int, more: Mapping[str, Any]) -> dict[str, Any]:
    of = f"#/components/schemas/{name}"
    instances = {"type": "array", "items": {"$ref": f"{of}.instance"}, "minItems": 1, "maxItems": most}
    keys = {
        "type": ["array", "null"],
        "items": {"$ref": f"{of}.key"},
        "description": "Of each instance its key, or null; as many as there are instances. Kept with the answers.",
    }
    properties = {"instances": instances, "keys": keys, **more}
    return {"type": "object", "properties": properties, "required": ["instances"], "additionalProperties": False}


def _body(schema: Mapping[str, Any], shown: Any) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": shown}}}


def _get(tag: str, summary: str, schema: Mapping[str, Any], *errors: int) -> dict[str, Any]:
    return {"tags": [tag], "summary": summary, "responses": _responses(schema, *errors)}


def _responses(schema: Mapping[str, Any], *errors: int, success: int = HTTPStatus.OK) -> dict[str, Any]:
    found = {str(int(success)): {"description": "Done.", "content": {"application/json": {"schema": schema}}}}
    for status in (401, 403, 429, *errors):
        found[str(status)] = {
            "description": _ERRORS[status],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/error"}}},
        }
    return dict(sorted(found.items()))


_ANY: Mapping[str, Any] = {"type": "object"}
_UUID: Mapping[str, Any] = {"type": "string", "format": "uuid"}
_ERRORS: Mapping[int, str] = {
    401: "No key, or one that is not valid.",
    403: "The key is not for this model.",
    404: "There is no such thing.",
    408: "The body did not arrive.",
    409: "Something has changed at this moment: try again.",
    413: "Too many bytes.",
    422: "The request cannot be understood: says where, and what would be right. Nothing was done.",
    429: "The key has asked for too much: try again as Retry-After says.",
    503: "No answer at the moment: try again as Retry-After says.",
}
_PROBLEM_PARTS = ("where", "got", "expected", "fix")


def _texts(names: Sequence[str], required: Sequence[str]) -> dict[str, Any]:
    return {"type": "object", "properties": {n: {"type": "string"} for n in names}, "required": list(required)}


_SCHEMAS: Mapping[str, Any] = {
    "error": {
        "type": "object",
        "properties": {
            "error": _texts(("what", *_PROBLEM_PARTS), ["what"]),
            "problems": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "instance": {"type": "integer", "description": "Place in instances, from 0."},
                        **{n: {"type": "string"} for n in ("column", "what", "got", "expected", "fix")},
                    },
                    "required": ["instance", "what"],
                },
            },
        },
        "required": ["error"],
    },
    "unanswered": {
        "type": "object",
        "properties": {"error": _texts(("what", "kind"), ["what", "kind"]), "request_id": _UUID},
        "required": ["error", "request_id"],
        "additionalProperties": False,
    },
}
_SUMMARY: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "description": {"type": "string"},
        "task": {"enum": ["binary", "multiclass", "regression"]},
        "version": {"type": ["integer", "null"]},
        "since": {"type": ["string", "null"], "format": "date-time"},
        "why_not": {"type": "string"},
    },
    "required": ["name", "description", "task", "version", "since"],
}
_FEEDBACK: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "request_id": _UUID,
        "verdict": {"enum": ["right", "wrong", "withdrawn"]},
        "correct_label": {
            "type": ["boolean", "number", "string", "null"],
            "maxLength": 1000,
            "pattern": "^[^\\u0000]*$",
            "minimum": -(2**63),
            "maximum": 2**63 - 1,
            "description": "What would have been right, with the verdict wrong.",
        },
        "comment": {"type": ["string", "null"], "maxLength": 4000, "pattern": "^[^\\u0000]*$"},
    },
    "required": ["request_id", "verdict"],
    "additionalProperties": False,
    "anyOf": [
        {"properties": {"verdict": {"const": "wrong"}}},
        {"properties": {"correct_label": {"type": "null"}}},
    ],
}
_STATE: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "request_id": _UUID,
        "state": {"enum": ["waiting", "answered", "failed"]},
        "model": {"type": "string"},
        "asked_at": {"type": "string", "format": "date-time"},
        "ahead": {"type": "integer", "description": "Requests that come before it."},
        "answer": {"type": "object"},
    },
    "required": ["request_id", "state", "model"],
}
_STATUS = _texts(("status", "why", "fix"), ["status"])


def _open(summary: str, *, why_not: bool) -> dict[str, Any]:
    responses = {"200": {"description": "Yes.", "content": {"application/json": {"schema": _STATUS}}}}
    if why_not:
        responses["503"] = {"description": "No.", "content": {"application/json": {"schema": _STATUS}}}
    return {"tags": ["health"], "summary": summary, "security": [], "responses": responses}


_PATHS: Mapping[str, Any] = {
    "/v1/models": {
        "get": _get("models", "The models that the key may ask.", {
            "type": "object",
            "properties": {"models": {"type": "array", "items": _SUMMARY}},
            "required": ["models"],
        }),
    },
    "/v1/requests/{request_id}": {
        "parameters": [{"name": "request_id", "in": "path", "required": True, "schema": _UUID}],
        "get": _get("requests", "What became of a request.", _STATE, 404, 422, 503),
    },
    "/v1/feedback": {
        "post": {
            "tags": ["requests"],
            "operationId": "feedback",
            "summary": "Say whether an answer was right",
            "requestBody": _body(_FEEDBACK, {"request_id": "019aca5c-0000-7000-8000-000000000000", "verdict": "right"}),
            "responses": _responses(
                {"type": "object", "properties": {"feedback_id": {"type": "integer"}}, "required": ["feedback_id"]},
                404, 408, 409, 413, 422, 503, success=HTTPStatus.CREATED,
            ),
        },
    },
    "/health/live": {"get": _open("Whether the process answers.", why_not=False)},
    "/health/ready": {"get": _open("Whether a version has been loaded.", why_not=True)},
    "/metrics": {
        "get": {
            "tags": ["health"],
            "summary": "What was counted, for Prometheus.",
            "responses": {
                "200": {
                    "description": "In Prometheus' own format.",
                    "content": {"text/plain": {"schema": {"type": "string"}}},
                },
                "401": {"description": _ERRORS[401]},
            },
        },
    },
}  # fmt: skip

"""The pages for programs: predictions, requests for the queue, feedback, what is served, health and metrics.

What is asked for a thousand times a second is read and written here without models of pydantic; `documents.py` says to
programs what is read and written, and tests hold the two together.
"""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ponte.access.keys import Key
from ponte.live.records import schema_of
from ponte.scoring.answering import Unanswered
from ponte.serving.batching import Answered, Serving
from ponte.serving.replies import Receive, Reply, Scope, authorized, decoded, read_body, token_of
from ponte.serving.service import Service, refused

_ENQUEUE = sa.text(
    "SELECT ponte.enqueue(:model, CAST(:key AS jsonb), CAST(:features AS jsonb), CAST(:priority AS integer))"
)
_STATE = sa.text("SELECT state, model, asked_at, ahead, answer FROM ponte.request_state(CAST(:request_id AS uuid))")
_FEEDBACK = sa.text("""SELECT ponte.give_live_feedback(
    CAST(:request_id AS uuid), :verdict, :correct_label, :comment, :given_by)""")

#: Why it is not ready.
_NOT_SEEN = {"why": "the database has not answered yet"}
_NOT_LOADED = {"why": "no version is loaded yet", "fix": "GET /v1/models says why, of each model"}
_NO_MODEL = {
    "why": "no model is served: no model folder that can be read says [serving] api = true",
    "fix": "say it in the model.toml of a model: it is seen within seconds; the log says which folders cannot be read",
}
#: As ponte.give_live_feedback says it.
_TRY_AGAIN = "An answer is written within seconds after it was given: try again then."
#: SQLSTATE invalid_parameter_value.
_INVALID = "22023"
_LONGEST_LABEL, _LONGEST_COMMENT = 1_000, 4_000


class Predict(msgspec.Struct, forbid_unknown_fields=True):
    """The body of :predict."""

    instances: list[Any]
    keys: list[Any] | None = None


class Enqueue(Predict, forbid_unknown_fields=True):
    """The body of :enqueue."""

    #: To JSON 5.0 is an integer too.
    priority: Annotated[int, msgspec.Meta(ge=0, le=9)] | Annotated[float, msgspec.Meta(ge=0, le=9, multiple_of=1)] = 0


class Feedback(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a feedback."""

    request_id: uuid.UUID
    verdict: str
    correct_label: bool | int | float | Annotated[str, msgspec.Meta(max_length=_LONGEST_LABEL)] | None = None
    comment: Annotated[str, msgspec.Meta(max_length=_LONGEST_COMMENT)] | None = None


async def _asked(service: Service, scope: Scope, receive: Receive, kind: type[Predict]) -> tuple[str, Key, Any]:
    """Return the model, the key and the body of a request for predictions, all of them allowed; raises Refused."""
    model = scope["path_params"]["model"]
    key = authorized(service, scope)
    service.require_model(model, key)
    asked = decoded(await read_body(receive, service), kind)
    count, most = len(asked.instances), service.settings.instances
    if count > most:
        raise refused(HTTPStatus.UNPROCESSABLE_ENTITY, "too many instances", got=str(count),
                      expected=f"at most {most}", fix="send them in several requests")  # fmt: skip
    if not count:
        raise refused(HTTPStatus.UNPROCESSABLE_ENTITY, "there is no instance", where="body.instances",
                      expected=f"1 to {most}")  # fmt: skip
    if asked.keys is not None and len(asked.keys) != count:
        raise refused(HTTPStatus.UNPROCESSABLE_ENTITY, "there are not as many keys as instances", where="body.keys",
                      got=str(len(asked.keys)), expected=str(count), fix="give a key of each, null for none; or none "
                      "at all")  # fmt: skip
    service.take(key, count)
    return model, key, asked


# ---------------------------------------------------------------- predictions


async def predict(service: Service, scope: Scope, receive: Receive) -> Reply:
    """Answer instances."""
    model, _, asked = await _asked(service, scope, receive, Predict)
    answered = await service.answer(model, asked.instances, asked.keys, source="api")
    version = answered.serving.version.version
    body = {"predictions": predictions(answered), "model_version": version}
    return Reply(body, headers={"X-Ponte-Version": str(version)})


def predictions(answered: Answered) -> list[dict[str, Any]]:
    """Return what became of each instance: prediction with what belongs to it, or its error; and its request_id."""
    names = (*answered.columns, "request_id")
    found = [dict(zip(names, row, strict=True)) for row in zip(*answered.columns.values(), answered.request_ids,
                                                                strict=True)]  # fmt: skip
    for place, why in answered.unanswered.items():
        found[place] = {"error": _error_of(why), "request_id": answered.request_ids[place]}
    return found


def _error_of(why: Unanswered) -> dict[str, str]:
    return {"what": "the model cannot score this row", "kind": why.kind}


async def enqueue(service: Service, scope: Scope, receive: Receive) -> Reply:
    """Put instances into the queue, all or none."""
    model, _, asked = await _asked(service, scope, receive, Enqueue)
    problems = service.serving(model).reader.parse(asked.instances, asked.keys).problems
    if problems:
        raise refused(HTTPStatus.UNPROCESSABLE_ENTITY, "the request cannot be understood; nothing was put into the "
                      "queue", where=f"model {model}", problems=problems)  # fmt: skip
    keys = asked.keys or [None] * len(asked.instances)
    rows = [
        {"model": model, "key": None if key is None else _text(key), "features": _text(instance),
         "priority": int(asked.priority)}
        for instance, key in zip(asked.instances, keys, strict=True)
    ]  # fmt: skip

    def put() -> list[str]:
        with service.db.begin() as connection:
            return [str(connection.execute(_ENQUEUE, row).scalar_one()) for row in rows]

    try:
        return Reply({"request_ids": await service.ask_database(put)}, HTTPStatus.ACCEPTED)
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != _INVALID or error.orig is None:
            raise
        said = getattr(error.orig, "diag")  # noqa: B009 - of psycopg2's errors, whose types do not say so
        # Everything else was looked at before: there is no open queue.
        raise refused(HTTPStatus.CONFLICT, said.message_primary, fix=said.message_hint or "",
                      headers={"Retry-After": "30"}) from None  # fmt: skip


def _text(value: Any) -> str:
    return str(msgspec.json.encode(value).decode())


async def request_state(service: Service, scope: Scope, _: Receive) -> Reply:
    """Tell what became of a request."""
    key = authorized(service, scope)
    service.take(key, 1)
    given = scope["path_params"]["request_id"]
    try:
        request_id = uuid.UUID(given)
    except ValueError:
        raise refused(HTTPStatus.UNPROCESSABLE_ENTITY, "no request_id", got=given[:60], expected="a UUID") from None

    def look() -> Any:
        with service.db.begin() as connection:
            return connection.execute(_STATE, {"request_id": str(request_id)}).mappings().one_or_none()

    found = await service.ask_database(look)
    if found is None or not key.may_ask(found["model"]):
        fix = "an answer is written within seconds after it was given, and dropped by retention"
        raise refused(HTTPStatus.NOT_FOUND, "no such request", got=str(request_id), fix=fix)
    return Reply({"request_id": str(request_id), **{name: value for name, value in found.items() if value is not None}})


async def feedback(service: Service, scope: Scope, receive: Receive) -> Reply:
    """Keep what somebody says of an answer."""
    key = authorized(service, scope)
    service.take(key, 1)
    said: Feedback = decoded(await read_body(receive, service), Feedback)
    return Reply({"feedback_id": await give_feedback(service, said, key.name, key=key)}, HTTPStatus.CREATED)


async def give_feedback(service: Service, said: Feedback, given_by: str, *, key: Key | None = None) -> int:
    """Keep what somebody says of an answer; return its number. Raises Refused, and what the database refuses.

    key : whose models the answer has to be of; None for a form, where the number of the answer is enough.
    """
    label = said.correct_label
    if label is not None:
        label = label if isinstance(label, str) else _text(label)
    for name, text in (("correct_label", label), ("comment", said.comment)):
        if text is not None and "\0" in text:
            raise refused(HTTPStatus.UNPROCESSABLE_ENTITY, "a text has the character NUL", where=f"body.{name}")
    values = {"request_id": str(said.request_id), "verdict": said.verdict.replace("\0", "?"), "correct_label": label,
              "comment": said.comment, "given_by": given_by}  # fmt: skip

    def give() -> int:
        with service.db.begin() as connection:
            # A key for all models is spared the look. Another one is told of another model's request what it is told of
            # none, in the words of the database: 403 would say that there is such a request, as GET does not either.
            if key is not None and key.models:
                found = connection.execute(_STATE, {"request_id": values["request_id"]}).mappings().one_or_none()
                if found is None or not key.may_ask(found["model"]):
                    what = f"no answer to the request {said.request_id} is kept"
                    raise refused(HTTPStatus.NOT_FOUND, what, fix=_TRY_AGAIN)
            return int(connection.execute(_FEEDBACK, values).scalar_one())

    return await service.ask_database(give)


# ---------------------------------------------------------------- what is served


async def models(service: Service, scope: Scope, _: Receive) -> Reply:
    """Tell the models that the key may ask."""
    key = authorized(service, scope)
    service.take(key, 1)
    found = [_summary(service, model) for model in sorted(service.champions.folders) if key.may_ask(model)]
    return Reply({"models": found})


async def model(service: Service, scope: Scope, _: Receive) -> Reply:
    """Tell what is known of a model."""
    name = _known(service, scope)
    serving, folder = service.serving(name), service.champions.folders[name]
    signature = serving.loaded.signature
    way = getattr(serving.loaded, "way", None)
    known = {
        **_summary(service, name),
        "owner": folder.spec.owner,
        "key": [{"name": c.name, "type": c.family} for c in signature.key],
        "features": [{"name": c.name, "type": c.family} for c in signature.features],
        "classes": list(serving.version.classes),
        "threshold": serving.version.threshold,
        "interval": serving.version.interval,
        "trained_on": serving.version.train_cutoff,
        "computed": {
            "way": way.kind if way else "whole",
            "why": way.why if way else "",
            "in": "the process of the API" if serving.worker.inline else "a process of its own",
            "milliseconds_per_row": round(1e3 * serving.pace.seconds(1), 3),
        },
        "behind": service.champions.why_not(name),
        "card": folder.card,
    }
    return Reply(known)


async def schema(service: Service, scope: Scope, _: Receive) -> Reply:
    """Tell the JSON Schema of one instance."""
    serving: Serving = service.serving(_known(service, scope))
    return Reply(schema_of(serving.loaded.signature))


def _known(service: Service, scope: Scope) -> str:
    """Return the name of the model that is asked about; raises Refused."""
    key, name = authorized(service, scope), str(scope["path_params"]["model"])
    service.take(key, 1)
    service.require_model(name, key)
    return name


def _summary(service: Service, model: str) -> dict[str, Any]:
    folder, serving = service.champions.folders[model], service.champions.get(model)
    summary: dict[str, Any] = {"name": model, "description": folder.spec.description, "task": folder.spec.task}
    if serving is None:
        return {**summary, "version": None, "since": None, "why_not": service.champions.why_not(model)}
    return {**summary, "version": serving.version.version, "since": serving.since}


# ---------------------------------------------------------------- health and metrics


async def live(_: Service, __: Scope, ___: Receive) -> Reply:
    """Tell that the process answers."""
    return Reply({"status": "alive"})


async def ready(service: Service, _: Scope, __: Receive) -> Reply:
    """Tell whether a version has been loaded. It stays ready while the database is away."""
    folders = service.champions.folders
    if any(service.champions.get(model) for model in folders):
        return Reply({"status": "ready"})
    told = _NOT_SEEN if service.champions.seen_at is None else _NOT_LOADED if folders else _NO_MODEL
    return Reply({"status": "not ready", **told}, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "2"})


async def metrics(service: Service, scope: Scope, _: Receive) -> Reply:
    """Tell Prometheus what was counted."""
    service.key_of(token_of(scope, password=True))
    service.refresh_metrics()
    return Reply(generate_latest(service.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

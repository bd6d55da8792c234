"""What a decision on Ponte's pages needs: that the form was ours, that the person may, and the run in their name.

`csrf_token` goes into the form, `start_run` takes it back and checks everything itself.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from airflow.api_fastapi.auth.tokens import get_signing_key
from airflow.api_fastapi.common.dagbag import create_dag_bag
from airflow.api_fastapi.core_api.datamodels.dag_run import TriggerDAGRunPostBody
from airflow.api_fastapi.core_api.routes.public.dag_run import trigger_dag_run
from airflow.configuration import conf as airflow_conf
from airflow.models import DagModel, DagRun
from airflow.models.log import Log
from airflow.utils.session import create_session
from fastapi import HTTPException, Request, status
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ponte.rights.permission import may_act, refusal

#: Seconds for which a form can be sent, from when it was shown.
FORM_LASTS = 4 * 3600
#: Characters of a note that Airflow's table takes.
LONGEST_NOTE = 1000
TOKEN = re.compile(r"(?P<shown>\d{1,12})\.(?P<form>[0-9a-f]{32})\.(?P<seal>[0-9a-f]{64})")
AGAIN = "Open the form again and send it from there."
NOT_OF_A_FORM = "This was not sent from a form that Ponte showed you."


# ---------------------------------------------------------------- was it the form that we showed to this person?


def csrf_token(request: Request, user: Any) -> str:  # noqa: ARG001  (the agreed signature: a page has both at hand)
    """Return a new token for the hidden field `csrf` of a form: bound to the user, and good for `FORM_LASTS` seconds.

    It names the form, too: the same form sent twice starts one run. So a form keeps its token from the preview to the
    end, and each form that is opened gets its own.
    """
    shown, form = int(time.time()), secrets.token_hex(16)
    return f"{shown}.{form}.{_seal(user, shown, form)}"


def check_csrf(request: Request, user: Any, token: str) -> str:
    """Return the name of the form that the token was made for; raises 403 if somebody else may have sent it."""
    _check_origin(request)
    found = TOKEN.fullmatch(token)
    if found is None or not hmac.compare_digest(found["seal"], _seal(user, int(found["shown"]), found["form"])):
        raise HTTPException(status.HTTP_403_FORBIDDEN, f"{NOT_OF_A_FORM} {AGAIN}")
    if time.time() - int(found["shown"]) > FORM_LASTS:
        raise HTTPException(status.HTTP_403_FORBIDDEN, f"This form was opened more than four hours ago. {AGAIN}")
    return found["form"]


def _seal(user: Any, shown: int, form: str) -> str:
    text = json.dumps(["ponte/act", str(user.get_id()), str(user.get_name()), shown, form])
    key = get_signing_key("api", "secret_key")
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def _check_origin(request: Request) -> None:
    """Raise 403 when the browser says that the form stood on another site. A program that says nothing has a token."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    own = {request.headers.get("host"), urlsplit(airflow_conf.get("api", "base_url", fallback="")).netloc}
    if site is not None:
        ours = site == "same-origin"
    else:
        ours = origin is None or urlsplit(origin).netloc in own - {"", None}
    if not ours:
        raise HTTPException(status.HTTP_403_FORBIDDEN, f"{NOT_OF_A_FORM} {AGAIN}")


# ---------------------------------------------------------------- the run


def start_run(
    request: Request, user: Any, dag_id: str, conf: dict[str, Any], *, token: str, note: str | None = None
) -> str:
    """Create a run of the DAG in the user's name, as the REST API of Airflow does, and return its id.

    Everything is checked here: the token of the form, that the user may (`may_act`; the model is `conf["model"]`, or
    what the DAG's name begins with), that the DAG is there and not paused, and the conf against the DAG's params. The
    audit log of Airflow gets its row. The same form sent again with the same values gets the id of the run that there
    is.

    Raises HTTPException, whose detail is a sentence for the person: 403, 404 no such DAG, 409 paused, 400 params.
    """
    form = check_csrf(request, user, token)
    if "\\u0000" in json.dumps([conf, note]):
        raise HTTPException(
            status.HTTP_400_BAD_REQUEST, "A text has a character with the number zero: no table takes it."
        )
    model = conf["model"] if dag_id.startswith("ponte__") else dag_id.rpartition("__")[0]
    if not may_act(user, model, dag_id):
        raise HTTPException(status.HTTP_403_FORBIDDEN, refusal(model, dag_id))
    run_id = _run_id(form, dag_id, conf)
    with create_session() as session:
        if _is_there(session, dag_id, run_id):
            return run_id
        _check_dag(session, dag_id)
        body = TriggerDAGRunPostBody(dag_run_id=run_id, logical_date=None, conf=conf, note=note and note[:LONGEST_NOTE])
        _write_audit_log(session, user, dag_id, body)
        try:
            trigger_dag_run(dag_id, body, _dag_bag(), user, session, request)
            session.commit()
        except IntegrityError:
            # The other click of a double click was a moment faster.
            session.rollback()
            if not _is_there(session, dag_id, run_id):
                raise
    return run_id


def _run_id(form: str, dag_id: str, conf: dict[str, Any]) -> str:
    """Return the same id for the same values of the same form, and another one for anything else."""
    text = json.dumps([form, dag_id, conf], sort_keys=True)
    return f"page__{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _is_there(session: Session, dag_id: str, run_id: str) -> bool:
    return session.scalar(select(DagRun.id).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)) is not None


def _check_dag(session: Session, dag_id: str) -> None:
    """Raise 409 for a DAG that is paused: Airflow would take the run, and nothing would ever happen."""
    paused = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == dag_id, ~DagModel.is_stale))
    if paused:
        raise HTTPException(
            status.HTTP_409_CONFLICT,
            f"{dag_id} is paused, so nothing would happen. Unpause it in Airflow, then send the form again.",
        )


def _write_audit_log(session: Session, user: Any, dag_id: str, body: TriggerDAGRunPostBody) -> None:
    """Append what `action_logging` of Airflow's route appends; it stays also when the run is then refused."""
    session.add(
        Log(
            event="trigger_dag_run",
            owner=user.get_name(),
            owner_display_name=user.get_name(),
            extra=json.dumps({**body.model_dump(mode="json", exclude_unset=True), "method": "POST"}),
            dag_id=dag_id,
            run_id=body.dag_run_id,
        )
    )
    session.commit()


@cache
def _dag_bag() -> Any:
    return create_dag_bag()

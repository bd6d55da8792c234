"""Where one begins: `GET /ponte/`, every model in one table, and `GET /ponte/docs/`, the documentation."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import get_user
from airflow.models.dag import DagModel, DagTag
from airflow.utils.session import create_session
from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from sqlalchemy import select

from ponte.model.spec import ModelSpec
from ponte.model.toml import parse_spec
from ponte.model.windows import window_of_tick
from ponte.pages.manual import read_document
from ponte.pages.rendering import render
from ponte.rights.permission import models_of
from ponte.runtime import models_root
from ponte.viewing.choosing import Choice
from ponte.viewing.needs import WORDS, needs
from ponte.viewing.overview import WINDOWS, Planned, read_overview
from ponte.web.access import HEADERS, Place, get_place, get_runtime

router = APIRouter()


@router.get("/", response_class=HTMLResponse)
def show_overview(
    user: Annotated[Any, Depends(get_user)],
    place: Annotated[Place, Depends(get_place)],
    sort: str | None = None,
    tag: str | None = None,
    owner: str | None = None,
) -> HTMLResponse:
    """Answer with every model that the user may see."""
    now = dt.datetime.now(dt.UTC)
    lines = read_overview(get_runtime("ponte").db, planned(models_of(user), now=now), now=now)
    choice = Choice(sort=sort, tag=tag, owner=owner)
    shown = choice.of(lines)
    waiting = needs(shown)
    page = render(
        "overview.html.j2",
        place=place,
        now=now,
        all=len(lines),
        lines=shown,
        decides=models_of(user, "PUT"),
        needs=waiting,
        waits={line.model: [need for need in waiting if need.model == line.model] for line in shown},
        words=WORDS,
        weeks=WINDOWS,
        choice=choice,
        tags=sorted({tag for line in lines for tag in line.planned.tags}),
        owners=sorted({line.planned.owner for line in lines if line.planned.owner}),
    )
    return HTMLResponse(page, headers=HEADERS)


@router.get("/docs/{path:path}", response_class=HTMLResponse)
def show_document(path: str, place: Annotated[Place, Depends(get_place)]) -> Response:
    """Answer with a page of the documentation, as it is in this installation, to everybody who is logged in."""
    found = read_document(path)
    if found is None:
        raise HTTPException(404, "There is no such page in Ponte's documentation.")
    if isinstance(found, str):
        return PlainTextResponse(found, headers=HEADERS)
    return HTMLResponse(render("manual.html.j2", place=place, document=found), headers=HEADERS)


def planned(models: frozenset[str], *, now: dt.datetime) -> Mapping[str, Planned]:
    """Return what Airflow knows of the models, by two queries: tags, owner, when they run."""
    ids = [f"{model}__{dag}" for model in models for dag in ("train", "score")]
    dags = select(
        DagModel.dag_id,
        DagModel.owners,
        DagModel.is_paused,
        DagModel.next_dagrun_data_interval_start,
        DagModel.next_dagrun_create_after,
    ).where(DagModel.dag_id.in_(ids))
    tags = select(DagTag.dag_id, DagTag.name).where(DagTag.dag_id.in_(ids)).order_by(DagTag.name)
    with create_session() as session:
        known = {row.dag_id: row for row in session.execute(dags)}
        tagged: dict[str, list[str]] = {}
        for row in session.execute(tags):
            tagged.setdefault(row.dag_id, []).append(row.name)
    return {model: _planned(model, known, tagged, now=now) for model in models}


def _planned(model: str, dags: Mapping[str, Any], tags: Mapping[str, list[str]], *, now: dt.datetime) -> Planned:
    training, scoring = dags.get(f"{model}__train"), dags.get(f"{model}__score")
    # The interval of the next run begins when the last one was due.
    due = scoring.next_dagrun_data_interval_start if scoring else None
    spec = spec_of(models_root() / model / "model.toml") if due else None
    since = due + dt.timedelta(hours=spec.monitoring.late_hours) if spec and due else None
    return Planned(
        tags=tuple(tag for tag in tags.get(f"{model}__train", ()) if tag not in ("ponte", model)),
        owner=training.owners or "" if training else "",
        paused=bool(scoring and scoring.is_paused),
        next_run=scoring.next_dagrun_create_after if scoring else None,
        due_window=window_of_tick(spec.window, due).start if spec and due and due <= now else None,
        due_since=since,
    )


def spec_of(file: Path) -> ModelSpec | None:
    """Return what a `model.toml` says, read again when it has changed; None when it is not here, or broken."""
    try:
        return _parsed(file, file.stat().st_mtime_ns)
    except Exception:  # noqa: BLE001 - a page of all models does not fall for the folder of one
        return None


@lru_cache(maxsize=1000)
def _parsed(file: Path, _changed: int) -> ModelSpec:
    return parse_spec(file.read_text(encoding="utf-8"), model=file.parent.name)

"""A model: `GET /ponte/model/{model}`, and its summary at its DAGs: `GET /ponte/tab/{dag_id}`."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import markupsafe
from airflow.api_fastapi.core_api.security import get_user
from fastapi import APIRouter, Depends, HTTPException, Request, status
from fastapi.responses import HTMLResponse

from ponte.errors import PonteError
from ponte.live.summary import MOST_WINDOWS as LIVE_WINDOWS
from ponte.model.folders import ModelFolder
from ponte.pages.formats import number, percent
from ponte.pages.manual import read_card
from ponte.pages.rendering import address, render
from ponte.pages.timelines import Line, heat_map, lines
from ponte.runtime import Runtime
from ponte.viewing.models import MOST_ALARMS, MOST_CELLS, ColumnCell, ModelFacts, read_model
from ponte.web.access import HEADERS, Place, get_place, get_runtime, may_decide, may_read

router = APIRouter()

#: Ages of labels that have a line; more would hide each other.
MOST_AGES = 3
#: Newest windows whose cost is told.
PAID = 12
#: What follows the name of the model in the names of its DAGs.
PIPELINES = ("train", "score", "monitor")


@router.get("/model/{model}", response_class=HTMLResponse, dependencies=[Depends(may_read)])
def show_model(
    model: str,
    runtime: Annotated[Runtime, Depends(get_runtime)],
    place: Annotated[Place, Depends(get_place)],
    may_decide: Annotated[bool, Depends(may_decide)],
) -> HTMLResponse:
    """Answer with the page of a model; one without a folder is shown by what the database knows."""
    folder = _folder(runtime)
    found = read_model(runtime.db, model)
    if found is None and folder is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"There is no model {model[:100]!r}.")
    found = found or _empty(model)
    drawn, legend = drawn_quality(found)
    windows = [w.window_start for w in found.windows[-MOST_CELLS:]]
    page = render(
        "model.html.j2",
        place=place,
        found=found,
        spec=folder.spec if folder else None,
        card=read_card(folder.card) if folder else "",
        may_decide=may_decide,
        drawn_quality=drawn,
        legend=legend,
        drawn_drift=drawn_drift(found, windows),
        drift_windows=windows,
        most_alarms=MOST_ALARMS,
        live_windows=LIVE_WINDOWS,
        paid=[w for w in found.windows if None not in (w.seconds, w.cpu_seconds, w.estimated_wh)][-PAID:],
    )
    return HTMLResponse(page, headers=HEADERS)


@router.get("/tab/{dag_id}", response_class=HTMLResponse)
def show_tab(
    dag_id: str,
    request: Request,
    place: Annotated[Place, Depends(get_place)],
    user: Annotated[Any, Depends(get_user)],
) -> HTMLResponse:
    """Answer with the summary that Airflow frames at a DAG. Its links stay below /ponte/: the frame lets none out."""
    model, mark, pipeline = dag_id.rpartition("__")
    origin = f"{request.url.scheme}://{request.url.netloc}"
    if not mark or pipeline not in PIPELINES:
        why = "This DAG belongs to no model: it serves all of them, or is somebody's own."
        page = render(
            "model_tab.html.j2", place=place, dag_id=dag_id, found=None, why=why,
            whole=origin + address(place.base, ""), drawn_quality=markupsafe.Markup(""), legend=[],
        )  # fmt: skip
        return HTMLResponse(page, headers=HEADERS)
    may_read(request, model, user)
    found = read_model(get_runtime(model).db, model)
    drawn, legend = drawn_quality(found) if found else (markupsafe.Markup(""), [])
    page = render(
        "model_tab.html.j2",
        place=place,
        dag_id=dag_id,
        found=found,
        why="Nothing was trained or scored yet.",
        whole=origin + address(place.base, "model", model),
        drawn_quality=drawn,
        legend=legend,
    )
    return HTMLResponse(page, headers=HEADERS)


def drawn_quality(found: ModelFacts) -> tuple[markupsafe.Markup, list[str]]:
    """Return the lines of quality, one per age of labels and one of the estimates, and what each is called."""
    ages = sorted(found.quality)[-MOST_AGES:]
    shown = [
        Line(f"realised, labels of {age} days", [(p.window_start, p.value, p.low, p.high) for p in found.quality[age]])
        for age in ages
    ]
    estimates = [
        (w.window_start, w.estimated_value, w.estimated_low, w.estimated_high)
        for w in found.windows
        if w.metric == found.metric
    ]
    if any(value is not None for _, value, *_ in estimates):
        # Its place in the legend is that of its colour.
        shown += [Line("", []) for _ in range(MOST_AGES - len(shown))]
        shown.append(Line("estimated before labels", estimates))
    label = f"{found.metric or 'quality'} over {len(found.windows)} windows"
    return lines(shown, bound=found.bound, label=label), [line.label for line in shown]


def drawn_drift(found: ModelFacts, windows: list[dt.date]) -> markupsafe.Markup:
    """Return the heat map of the columns that moved the most; empty when nothing was compared."""
    if not found.columns:
        return markupsafe.Markup("")
    rows = {
        name if family == "features" else f"{name} (answer)": {
            cell.window_start: (
                cell.statistic,
                _told(name, cell),
            )
            for cell in cells
        }
        for (family, name), cells in found.columns.items()
    }
    return heat_map(rows, windows, label="Drift by column and window")


def _told(name: str, cell: ColumnCell) -> str:
    beyond = ", beyond the limit" if cell.named else ""
    moved = f"statistic {number(cell.statistic or 0)}, {percent(cell.share_change)} of rows elsewhere"
    return f"{name[:100]}, {cell.window_start}: {moved}{beyond}"


def _folder(runtime: Runtime) -> ModelFolder | None:
    """Return the folder; None when there is none that can be read, which its DAG says with what is wrong."""
    try:
        return runtime.folder
    except PonteError:
        return None


def _empty(model: str) -> ModelFacts:
    return ModelFacts(
        model=model, windows=(), quality={}, columns={}, of_columns=0, versions=(), of_versions=0, changes=(),
        alarms=(), dropped_batches=0, dropped_rows=0,
    )  # fmt: skip

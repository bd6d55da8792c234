"""Versions: `GET /ponte/report/{model}`, and two of them beside each other."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, status
from fastapi.responses import HTMLResponse

from ponte.errors import PonteError
from ponte.model.estimator import ESTIMATOR_FILE, SPEC
from ponte.model.spec import METRICS
from ponte.pages.rendering import render
from ponte.pages.report import plots_of
from ponte.runtime import Runtime
from ponte.versions.loading import REPORT, read_file
from ponte.versions.registry import LARGEST_VERSION, get_version
from ponte.viewing.patches import LARGEST, patches
from ponte.viewing.versions import MOST_VERSIONS, compare, list_versions
from ponte.web.access import HEADERS, Place, get_place, get_runtime, may_decide, may_read

router = APIRouter()

#: Files of the model folder that a version keeps in its own; the SQL is kept with its training rows.
KEPT = (SPEC, ESTIMATOR_FILE, "requirements.txt", "README.md")
Number = Annotated[int, Query(ge=1, le=LARGEST_VERSION)]


@router.get("/report/{model}", response_class=HTMLResponse, dependencies=[Depends(may_read)])
def show_versions(
    model: str,
    runtime: Annotated[Runtime, Depends(get_runtime)],
    place: Annotated[Place, Depends(get_place)],
    before: Number = LARGEST_VERSION,
) -> HTMLResponse:
    """Answer with the versions of a model and what was decided about each."""
    found = [] if "\0" in model else list_versions(runtime.db, model, before)
    if not found:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"model {model[:100]} has no version")
    champion = next((v.version for v in found if v.champion), None)
    page = render("reports.html.j2", place=place, model=model, versions=found, most=MOST_VERSIONS, champion=champion)
    return HTMLResponse(page, headers=HEADERS)


@router.get("/model/{model}/compare", response_class=HTMLResponse, dependencies=[Depends(may_read)])
def show_comparison(
    model: str,
    a: Number,
    b: Number,
    *,
    runtime: Annotated[Runtime, Depends(get_runtime)],
    place: Annotated[Place, Depends(get_place)],
    may_decide: Annotated[bool, Depends(may_decide)],
) -> HTMLResponse:
    """Answer with version `b` beside version `a`."""
    if a == b:
        raise HTTPException(
            status.HTTP_422_UNPROCESSABLE_CONTENT, f"a and b are both version {a}; expected two different versions"
        )
    found = None if "\0" in model else compare(runtime.db, model, a, b, largest=LARGEST)
    if found is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"model {model[:100]} has no version {a}, or no version {b}")
    (files_a, plots_a, broken_a), (files_b, plots_b, broken_b) = (
        _kept(runtime, model, v) for v in (found.first, found.second)
    )
    page = render(
        "compare.html.j2",
        place=place,
        model=model,
        may_decide=may_decide,
        found=found,
        a=found.first,
        b=found.second,
        higher_is_better=METRICS[found.second["task"]],
        libraries=_changed(found.first["libraries"], found.second["libraries"]),
        patches=patches(files_a, files_b),
        plots=[(title, plots_a.get(title), plots_b.get(title)) for title in dict.fromkeys([*plots_a, *plots_b])],
        broken=[text for text in (broken_a, broken_b) if text],
    )
    return HTMLResponse(page, headers=HEADERS)


def _changed(one: dict[str, str], two: dict[str, str]) -> list[tuple[str, str | None, str | None]]:
    """Return the libraries that are not the same: name, of the first, of the second."""
    return [(n, one.get(n), two.get(n)) for n in sorted(one.keys() | two.keys()) if one.get(n) != two.get(n)]


def _kept(runtime: Runtime, model: str, facts: Any) -> tuple[dict[str, str | None], dict[str, Any], str]:
    """Return the texts of a version's folder, its plots by title, and why its files cannot be read, or ""."""
    texts: dict[str, str | None] = {"features.sql": facts["features_sql"], "labels.sql": facts["labels_sql"]}
    try:
        version = get_version(runtime.db, model, facts["version"])
        files = {name: read_file(runtime.store, version, name) for name in (*KEPT, REPORT)}
    except (PonteError, OSError):
        return texts, {}, f"The files of version {facts['version']} cannot be read, or are not what was registered."
    report = files.pop(REPORT)
    texts |= {name: None if content is None else content.decode(errors="replace") for name, content in files.items()}
    return texts, plots_of(report or b"", f"v{facts['version']}"), ""

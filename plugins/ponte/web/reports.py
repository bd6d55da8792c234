"""The reports: `GET /ponte/report/{model}/{version}`.

The page is the verified file of the version, with what was decided about the version since. It holds no scripts, and
the headers forbid them.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from fastapi.responses import HTMLResponse

from ponte.decisions.log import decisions, newest_rules
from ponte.errors import PonteError
from ponte.model.spec import METRICS
from ponte.pages.report import in_place, with_decisions
from ponte.runtime import Runtime
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database
from ponte.versions.loading import REPORT, read_file
from ponte.versions.registry import LARGEST_VERSION, get_version
from ponte.viewing.versions import around
from ponte.web.access import HEADERS, Place, get_place, get_runtime, may_read


class ReportNotFound(Exception):
    """There is no such version, or it has no report."""


def show_report(
    model: str,
    version: int,
    _: Annotated[None, Depends(may_read)],
    runtime: Annotated[Runtime, Depends(get_runtime)],
    place: Annotated[Place, Depends(get_place)],
) -> HTMLResponse:
    """Answer with the report. A plain function, so that it runs in a thread: it waits for database and storage."""
    return HTMLResponse(report_page(runtime.db, runtime.store, model, version, place), headers=HEADERS)


def report_page(db: Database, store: ArtifactStore, model: str, version: int, place: Place) -> bytes:
    """Return the report of a version with what was decided and what is around it; raises ReportNotFound."""
    if version > LARGEST_VERSION:
        raise ReportNotFound(f"model {model} has no version {version}")
    try:
        found = get_version(db, model, version)
    except PonteError as error:
        raise ReportNotFound(f"There is no such version: model {model[:100]} has no version {version}.") from error
    page = read_file(store, found, REPORT)
    if page is None:
        raise ReportNotFound(f"version {version} of model {model} has no report: it was trained before there were any")
    beside = around(db, model, version)
    page = in_place(
        page,
        place=place,
        model=model,
        version=version,
        origin=found.origin,
        around=beside,
        higher_is_better=METRICS[found.task],
    )
    return with_decisions(page, newest_rules(db, model, version), decisions(db, model, version))

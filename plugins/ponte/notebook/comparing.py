"""Two versions side by side: figures, parameters, features, libraries, and the texts they were made from."""

from __future__ import annotations

import difflib
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from tabulate import tabulate

from ponte.errors import ArtifactRefused
from ponte.model.estimator import ESTIMATOR_FILE
from ponte.model.spec import METRICS, OF_INTERVALS
from ponte.notebook.showing import plain
from ponte.notebook.surroundings import Surroundings, find, require_name
from ponte.pages.formats import number
from ponte.pages.plots import metric_name
from ponte.quality.figures import CANDIDATE, from_json
from ponte.snapshots.lifecycle import Snapshot, get_snapshot
from ponte.storage.columns import Column
from ponte.versions import registry
from ponte.versions.loading import METRICS_FILE, load_registered, read_files
from ponte.versions.registry import Version

_VERSIONS = sa.text("""SELECT v.version, v.champion, v.trained_as_of::date AS as_of, v.train_rows, v.holdout_rows,
        '' AS metric, (v.metrics ->> :metric)::float8 AS value,
        (SELECT outcome FROM ponte.gate_verdict g WHERE g.model = v.model AND g.version = v.version
         ORDER BY verdict_id DESC LIMIT 1) AS gate
    FROM ponte.version_overview v WHERE v.model = :model ORDER BY v.version""")

_Rows = Sequence[tuple[str, str, str]]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two versions of a model. Shows itself in a notebook; `tables` and `diffs` are what it shows."""

    model: str
    versions: tuple[int, int]
    #: Title → (what, of the first, of the second); only what differs, but for the figures and the facts.
    tables: Mapping[str, _Rows]
    #: File → unified diff; without the files that are equal.
    diffs: Mapping[str, str]
    #: What a reader has to know.
    notes: Sequence[str]

    def __str__(self) -> str:
        parts = [f"{self.model}: version {self.versions[0]} and version {self.versions[1]}", *self.notes]
        parts += [f"{title}\n{tabulate(rows, **self._headers)}" for title, rows in self.tables.items()]
        parts += [f"{file}\n{diff}" for file, diff in self.diffs.items()]
        return "\n\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [f"<h3>{self.model}: version {self.versions[0]} and version {self.versions[1]}</h3>"]
        parts += [f"<p>{html.escape(note)}</p>" for note in self.notes]
        for title, rows in self.tables.items():
            parts.append(f"<h4>{title}</h4>{tabulate(rows, tablefmt='html', **self._headers)}")
        parts += [f"<h4>{file}</h4><pre>{html.escape(diff)}</pre>" for file, diff in self.diffs.items()]
        return "".join(parts)

    @property
    def _headers(self) -> dict[str, Any]:
        return {"headers": ["", *(f"version {n}" for n in self.versions)], "disable_numparse": True}


def compare(model: str, first: int, second: int) -> Comparison:
    """Return two versions of a model side by side; raises PonteError naming the versions that there are."""
    return compare_in(find(require_name(model)), first, second)


def compare_in(place: Surroundings, first: int, second: int) -> Comparison:
    """Do what `compare` does, in these surroundings."""
    model = place.folder.name
    versions = [registry.get_version(place.db, model, number) for number in (first, second)]
    snapshots = [get_snapshot(place.db, version.snapshot_id) for version in versions]
    notes: list[str] = []
    files = [_files(place, version, notes) for version in versions]
    if _holdout(snapshots[0]) != _holdout(snapshots[1]):
        notes.append("They were measured on different rows: a difference of the figures may be one of the rows.")
    parameters = [_parameters(place, version, notes) for version in versions]
    figures = [_figures(version, content) for version, content in zip(versions, files, strict=True)]
    tables = {
        "Facts": _side_by_side(*(_facts(v, s) for v, s in zip(versions, snapshots, strict=True))),
        "Figures": _side_by_side(*figures),
        "Parameters": _differing(*parameters),
        "Features": _differing(*(_columns(version.signature.features) for version in versions)),
        "Libraries": _differing(*(version.libraries for version in versions)),
    }
    texts = [
        {
            "features.sql": snapshot.features_sql,
            "labels.sql": snapshot.labels_sql,
            ESTIMATOR_FILE: content.get(ESTIMATOR_FILE, b"").decode(),
        }
        for snapshot, content in zip(snapshots, files, strict=True)
    ]
    diffs = {file: _diff(file, texts[0][file], texts[1][file], (first, second)) for file in texts[0]}
    return Comparison(
        model=model,
        versions=(first, second),
        tables={title: rows for title, rows in tables.items() if rows},
        diffs={file: diff for file, diff in diffs.items() if diff},
        notes=notes,
    )


def versions(model: str) -> list[dict[str, Any]]:
    """Return {version, champion, as_of, train_rows, holdout_rows, metric, value, gate} of each version, oldest first.

    metric : that of the model folder's gate now; value : None when the version has no such figure. gate : outcome of
    the newest verdict, None before there is one.
    """
    place = find(require_name(model))
    values = {"model": model, "metric": (metric := place.folder.spec.gate.metric)}
    with place.db.begin() as connection:
        rows = connection.execute(_VERSIONS, values).mappings()
        return [{**row, "metric": metric} for row in rows]


def _files(place: Surroundings, version: Version, notes: list[str]) -> dict[str, bytes]:
    try:
        return read_files(place.store, version)
    except ArtifactRefused as error:
        notes.append(f"The files of version {version.version} cannot be read: {error.what}.")
        return {}


def _parameters(place: Surroundings, version: Version, notes: list[str]) -> dict[str, str]:
    """Return the parameters of the fitted estimator by name: those that are values, not steps."""
    try:
        estimator = load_registered(place.db, place.store, version).estimator
    except ArtifactRefused as error:
        notes.append(f"The parameters of version {version.version} are not known: {error.what}.")
        return {}
    found = {"(estimator)": type(estimator).__name__, **estimator.get_params(deep=True)}
    return {name: repr(value) for name, value in found.items() if not hasattr(value, "get_params") and name != "steps"}


def _facts(version: Version, snapshot: Snapshot) -> dict[str, str]:
    windows = snapshot.windows
    of_interval = {"interval": f"{version.interval:g}, ± {number(version.half_width)}"} if version.half_width else {}
    return {
        "as of": f"{snapshot.as_of:%Y-%m-%d}",
        "fitted on": f"{version.train_rows:,} rows from {windows[0]['window_start']}",
        "measured on": f"{version.holdout_rows:,} rows, {snapshot.holdout_from} to before {windows[-1]['window_end']}",
        "threshold": "the estimator's own" if version.threshold is None else f"{version.threshold:g}",
        **of_interval,
        "code revision": version.code_revision or "not known",
    }


def _figures(version: Version, files: Mapping[str, bytes]) -> dict[str, str]:
    found = from_json(files[METRICS_FILE]) if METRICS_FILE in files else []
    own = {m.name: m.figure for m in found if m.subject == CANDIDATE and not m.slice}
    names = (*METRICS[version.task], *OF_INTERVALS)
    return {metric_name(name): plain(own[name]) for name in names if name in own}


def _holdout(snapshot: Snapshot) -> tuple[object, ...]:
    return snapshot.sha256, snapshot.holdout_from


def _columns(columns: Sequence[Column]) -> dict[str, str]:
    return {c.name: c.family for c in columns}


def _side_by_side(first: Mapping[str, str], second: Mapping[str, str]) -> _Rows:
    names = dict.fromkeys([*first, *second])
    return [(name, first.get(name, "–"), second.get(name, "–")) for name in names]


def _differing(first: Mapping[str, str], second: Mapping[str, str]) -> _Rows:
    return [row for row in _side_by_side(first, second) if row[1] != row[2]]


def _diff(file: str, first: str, second: str, numbers: tuple[int, int]) -> str:
    before, after = (f"{file}, version {number}" for number in numbers)
    return "\n".join(difflib.unified_diff(first.splitlines(), second.splitlines(), before, after, lineterm=""))

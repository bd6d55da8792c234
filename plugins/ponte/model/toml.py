"""`model.toml` → `ModelSpec`: every problem is reported at once.

DAG files import this module, so it reads TOML with the standard library.
"""

from __future__ import annotations

import copy
import datetime as dt
import importlib.util
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from ponte.errors import ModelFolderError, Problem, did_you_mean
from ponte.model.spec import COLUMN_NAME, METRICS, ON_DEMAND, ModelSpec, Schedule
from ponte.storage.prediction_columns import LIVE_COLUMNS, reserved_columns

CRON_FIELDS = 5


def parse_spec(text: str, *, model: str, file: str = "model.toml") -> ModelSpec:
    """Return the validated spec.

    Raises ModelFolderError with every problem found: bad TOML, unknown or missing keys, wrong types, unknown
    expectations, unusable key columns, a gate that does not fit the task.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelFolderError(model, [Problem(file=file, what=f"is not valid TOML: {error}")]) from error
    problems = _expectation_problems(document, file)
    try:
        spec = ModelSpec.model_validate(document)
    except ValidationError as error:
        problems += [_problem(e, file) for e in error.errors()]
        rest = _without(document, error)
        problems += _consistency_problems(rest, file) if rest is not None else []
        raise ModelFolderError(model, [replace(p, line=_line_of(text, p.field)) for p in problems]) from error
    problems += _consistency_problems(spec, file)
    if problems:
        raise ModelFolderError(model, [replace(p, line=_line_of(text, p.field)) for p in problems])
    return spec


def _without(document: dict[str, Any], error: ValidationError) -> ModelSpec | None:
    """Return the spec of a document without its bad parts, so that the others are looked at; None if none is left."""
    rest = copy.deepcopy(document)
    for found in error.errors():
        *path, last = found["loc"] or ("",)
        part: Any = rest
        for name in path:
            part = part.get(name) if isinstance(part, dict) else None
        if isinstance(part, dict):
            part.pop(last, None)
    try:
        return ModelSpec.model_validate(rest)
    except ValidationError:
        return None


def _line_of(text: str, field: str) -> int:
    """Return the line that sets a key, `training.windows`, or opens its table; 0 when none does."""
    table, _, key = field.rpartition(".")
    head, _, number = table.partition(".")
    wanted = (f"[[{head}]]", int(number)) if number.isdigit() else (f"[{table}]" if table else "", 0)
    opened, at, seen = 0, "", -1
    for line, written in enumerate(text.splitlines(), 1):
        stripped = written.split("#")[0].strip()
        if stripped.startswith("["):
            at = stripped.replace(" ", "")
            seen += at == wanted[0]
            opened = line if at == wanted[0] and max(seen, 0) == wanted[1] else opened
            opened = line if at == f"[{field}]" else opened
        elif at == wanted[0] and max(seen, 0) == wanted[1] and stripped.partition("=")[0].strip().strip('"') == key:
            return line
    return opened


def read_spec(path: Path) -> ModelSpec:
    """Return the spec in `path`, the file `model.toml` of a model folder."""
    return parse_spec(path.read_text(encoding="utf-8"), model=path.parent.name)


@cache
def expectation_names() -> frozenset[str]:
    """Return Great Expectations' own names, `expect_…`, without importing it (that takes over ten seconds)."""
    found = importlib.util.find_spec("great_expectations")
    if found is None or found.origin is None:
        return frozenset()
    return frozenset(p.stem for p in (Path(found.origin).parent / "expectations" / "core").glob("expect_*.py"))


def _problem(error: Any, file: str) -> Problem:
    location = [str(part) for part in error["loc"]]
    field = ".".join(location)
    if error["type"] == "extra_forbidden":
        homes = _homes(location[-1])
        fix = f"it belongs to {' or '.join(homes)}" if homes else did_you_mean(location[-1], _keys(location[:-1]))
        return Problem(file=file, field=field, what="unknown key", fix=fix)
    if error["type"] == "missing":
        return Problem(file=file, field=field, what="is missing", fix="add it; see docs/reference/model-folder.md")
    return Problem(file=file, field=field, what=f"{error['msg']}, got {error['input']!r}")


def _homes(key: str) -> list[str]:
    """Return the tables that have a key of this name: in TOML a key belongs to the table that was opened last."""
    homes = [f"[{table}]" for table in ModelSpec.model_fields if key in _keys([table])]
    return ["the top of the file, before the first table", *homes] if key in ModelSpec.model_fields else homes


def _keys(location: list[str]) -> list[str]:
    part: Any = ModelSpec
    for name in location:
        annotation = part.model_fields[name].annotation
        part = next((a for a in get_args(annotation) if isinstance(a, type)), annotation)
    return list(getattr(part, "model_fields", ()))


def _expectation_problems(document: dict[str, Any], file: str) -> list[Problem]:
    checks = document.get("checks", [])
    names = [c.get("expectation") if isinstance(c, dict) else None for c in checks] if isinstance(checks, list) else []
    return [
        Problem(
            file=file,
            field=f"checks.{position}.expectation",
            what=f"unknown expectation {name!r}",
            fix=did_you_mean(name, expectation_names()),
        )
        for position, name in enumerate(names)
        if isinstance(name, str) and name not in expectation_names()
    ]


def _consistency_problems(spec: ModelSpec, file: str) -> list[Problem]:
    def problem(field: str, what: str, fix: str = "") -> Problem:
        return Problem(file=file, field=field, what=what, fix=fix)

    problems = []
    for name in spec.key:
        if not COLUMN_NAME.fullmatch(name):
            problems.append(problem("key", f"{name!r} is no column name", "use a-z, 0-9 and _, at most 63 characters"))
        if name in reserved_columns(spec.task):
            problems.append(problem("key", f"{name!r} is reserved", "rename the column in the SQL, with AS"))
        if spec.serving.api and name in LIVE_COLUMNS:
            what = f"{name!r} is the name of a column that live rows have beside the key"
            problems.append(problem("key", what, "rename the column in the SQL, with AS, or leave out [serving] api"))
    if len(set(spec.key)) < len(spec.key):
        problems.append(problem("key", f"names a column twice: {list(spec.key)}"))
    known = METRICS[spec.task]
    if spec.gate.metric not in known:
        what = f"unknown metric {spec.gate.metric!r} for task {spec.task!r}"
        problems.append(problem("gate.metric", what, did_you_mean(spec.gate.metric, known)))
    else:
        bound, other = ("minimum", "maximum") if known[spec.gate.metric] else ("maximum", "minimum")
        if getattr(spec.gate, bound) is None or getattr(spec.gate, other) is not None:
            better = "higher" if known[spec.gate.metric] else "lower"
            problems.append(
                problem("gate", f"{spec.gate.metric} is better when {better}", f"set {bound}, leave out {other}")
            )
    return (
        problems
        + _binary_problems(spec, file)
        + _training_problems(spec, file)
        + _serving_problems(spec, file)
        + _schedule_problems(spec.schedule, file)
    )


def _binary_problems(spec: ModelSpec, file: str) -> list[Problem]:
    named = {"threshold": "threshold", "positive": "positive class"}
    return [
        Problem(file=file, field=f"training.{key}", what=f"task {spec.task!r} has no {word}", fix="leave it out")
        for key, word in named.items()
        if spec.task != "binary" and getattr(spec.training, key) is not None
    ]


def _training_problems(spec: ModelSpec, file: str) -> list[Problem]:
    training, evaluation, gate, problems = spec.training, spec.evaluation, spec.gate, []

    def problem(field: str, what: str, fix: str = "") -> None:
        problems.append(Problem(file=file, field=field, what=what, fix=fix))

    fitted = training.calibration != "none" or isinstance(training.threshold, str)
    if (fitted or training.interval is not None) and not training.calibration_windows:
        fix = "set calibration_windows, at least 1: the parts that fit and that measure must not overlap"
        what = "calibrate or to set the threshold on" if fitted else "set the width of the interval on"
        problem("training.calibration_windows", f"no rows to {what}", fix)
    if training.calibration_windows and not fitted and training.interval is None:
        fix = "set calibration, threshold or interval, or leave it out"
        problem("training.calibration_windows", "nothing uses them", fix)
    if spec.task != "regression" and training.interval is not None:
        problem("training.interval", f"task {spec.task!r} has no interval", "leave it out")
    if spec.task == "regression" and training.calibration != "none":
        problem("training.calibration", "a regression has no probabilities", "leave it out")
    if spec.task != "regression" and evaluation.quantile is not None:
        problem("evaluation.quantile", f"task {spec.task!r} predicts no quantile", "leave it out")
    if gate.metric == "pinball" and evaluation.quantile is None:
        problem("evaluation.quantile", "the metric pinball needs it", "for example quantile = 0.9")
    if spec.task == "regression" and gate.calibration_maximum is not None:
        problem("gate.calibration_maximum", "a regression has no probabilities", "leave it out")
    if gate.slice_bound is not None and not evaluation.slices:
        problem("evaluation.slices", "slice_bound needs slices to judge", 'for example slices = ["region"]')
    return problems


def _serving_problems(spec: ModelSpec, file: str) -> list[Problem]:
    serving, problems = spec.serving, []
    if serving.form != "off" and not serving.api:
        what = f"form = {serving.form!r} has nobody to ask"
        problems.append(Problem(file=file, field="serving.form", what=what, fix="set api = true, or leave it out"))
    if serving.decision is not None and spec.task != "regression":
        what = f"task {spec.task!r} predicts no number to hold it against"
        problems.append(Problem(file=file, field="serving.decision", what=what, fix="leave it out"))
    return problems


def _schedule_problems(schedule: Schedule, file: str) -> list[Problem]:
    problems = []
    if schedule.end and schedule.end <= schedule.start:
        what = f"{schedule.end} is not after start {schedule.start}"
        problems.append(Problem(file=file, field="schedule.end", what=what))
    for field, cron in (("schedule.score", schedule.score), ("schedule.train", schedule.train)):
        if cron != ON_DEMAND and not _is_cron(cron):
            what = f"{cron!r} is no cron expression"
            fix = f'for example "0 6 * * 1", or "{ON_DEMAND}"'
            problems.append(Problem(file=file, field=field, what=what, fix=fix))
    return problems


def _is_cron(text: str) -> bool:
    """Tell whether Airflow takes the expression and finds a time for it, which not every croniter expression has."""
    from croniter import croniter

    if len(text.split()) != CRON_FIELDS:
        return False
    try:
        croniter(text, dt.datetime(2026, 1, 1, tzinfo=dt.UTC)).get_next()
    except (ValueError, KeyError):  # CroniterError is a ValueError
        return False
    return True

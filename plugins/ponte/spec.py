"""`model.toml` ⇄ `ModelSpec`: every problem is reported at once.

DAG files import this module, so it reads TOML with the standard library and needs nothing heavier than pydantic
(which Airflow has loaded already).
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ponte.errors import ModelFolderError, Problem, did_you_mean

#: Longer names would push `prediction_<model>` and its partitions over PostgreSQL's 63 bytes, which are cut silently.
MODEL_NAME = re.compile(r"^[a-z][a-z0-9_]{0,39}$")
COLUMN_NAME = re.compile(r"^[a-z_][a-z0-9_]{0,62}$")

Task = Literal["binary", "regression"]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

#: Schedule of a DAG that runs only when somebody triggers it.
ON_DEMAND = "on demand"
CRON_FIELDS = 5

#: Metrics per task; True where higher is better.
METRICS: dict[Task, dict[str, bool]] = {
    "binary": {"roc_auc": True, "average_precision": True, "brier": False, "log_loss": False},
    "regression": {"mae": False, "rmse": False, "r2": True},
}

#: Columns that Ponte itself adds to training sets and prediction tables.
RESERVED_COLUMNS = frozenset(
    {"batch_id", "window_start", "label", "labelled_at", "prediction", "score", "scores", "scored_at", "model_version"}
)


class Part(BaseModel):
    """A table of `model.toml`: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(Part):
    """When the two DAGs run: cron expressions in UTC, or ON_DEMAND."""

    score: str = "0 6 * * 1"
    train: str = "0 5 1 * *"
    #: First and last day of scheduled runs and backfills; no `end` means for ever.
    start: dt.date = dt.date(2020, 1, 6)
    end: dt.date | None = None


class WindowRule(Part):
    """Which days one batch covers."""

    days: Annotated[int, Field(ge=1, le=366)] = 7
    starts_on: Weekday = "monday"
    #: "coming": the window that holds the run's day, its first day as a rule; "past": the last one that has ended.
    covers: Literal["coming", "past"] = "coming"


class Training(Part):
    """Which past windows a version learns from."""

    windows: Annotated[int, Field(ge=2)] = 52
    holdout_windows: Annotated[int, Field(ge=1)] = 4
    #: Fewer holdout rows than this refuse the training.
    minimum_holdout_rows: Annotated[int, Field(ge=2)] = 200
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _holdout_leaves_training_windows(self) -> Training:
        if self.holdout_windows >= self.windows:
            raise ValueError(f"holdout_windows = {self.holdout_windows} leaves no window of {self.windows} to train on")
        return self


class Scoring(Part):
    """How a batch is scored."""

    #: Rows per shard; a larger batch becomes several mapped tasks.
    shard_rows: Annotated[int, Field(ge=1)] = 1_000_000
    #: Rows per step of reading, predicting and writing.
    chunk_rows: Annotated[int, Field(ge=1)] = 65_536
    #: What an empty window means: a fault, or a batch of no rows.
    empty: Literal["reject", "allow"] = "reject"


class Evaluation(Part):
    """What the candidate is compared with, beside the champion and the constant."""

    #: Column whose mean label per value is the second baseline.
    baseline_by: str | None = None


class Gate(Part):
    """The least a challenger must reach on the holdout windows."""

    metric: str
    minimum: Annotated[float, Field(allow_inf_nan=False)] | None = None
    maximum: Annotated[float, Field(allow_inf_nan=False)] | None = None


class Check(BaseModel):
    """One Great Expectations expectation; every key but these two is passed on to it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    expectation: str
    on_failure: Literal["stop", "warn"] = "stop"

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the expectation itself."""
        return dict(self.__pydantic_extra__ or {})


class ModelSpec(Part):
    """The whole of `model.toml`."""

    description: str
    owner: str
    task: Task
    key: Annotated[tuple[str, ...], Field(min_length=1)]
    #: Airflow refuses a longer one, and with it the whole DAG file.
    tags: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()
    schedule: Schedule = Schedule()
    window: WindowRule = WindowRule()
    training: Training = Training()
    scoring: Scoring = Scoring()
    evaluation: Evaluation = Evaluation()
    gate: Gate
    checks: tuple[Check, ...] = ()


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
        raise ModelFolderError(model, [*problems, *(_problem(e, file) for e in error.errors())]) from error
    problems += _consistency_problems(spec, file)
    if problems:
        raise ModelFolderError(model, problems)
    return spec


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
        return Problem(file=file, field=field, what="unknown key", fix=did_you_mean(location[-1], _keys(location[:-1])))
    if error["type"] == "missing":
        return Problem(file=file, field=field, what="is missing", fix="add it; see docs/reference/model-folder.md")
    return Problem(file=file, field=field, what=f"{error['msg']}, got {error['input']!r}")


def _keys(location: list[str]) -> list[str]:
    part: Any = ModelSpec
    for name in location:
        annotation = part.model_fields[name].annotation
        part = next((a for a in get_args(annotation) if isinstance(a, type)), annotation)
    return list(part.model_fields)


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
        if name in RESERVED_COLUMNS:
            problems.append(problem("key", f"{name!r} is reserved", "rename the column in the SQL, with AS"))
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
    return problems + _schedule_problems(spec.schedule, file)


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

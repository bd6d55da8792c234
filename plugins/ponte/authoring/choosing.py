"""What a new model folder says, chosen from what a table holds: task, features, windows, checks. Pure functions."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ponte.authoring.source import Source, SourceColumn
from ponte.errors import PonteError
from ponte.model.spec import Task
from ponte.storage.database import quote
from ponte.storage.prediction_columns import RESERVED_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

#: A number or a text of so many values, at most, is a class and no quantity.
NUMBER_CLASSES, TEXT_CLASSES = 10, 50
#: A text of more values is no category that trees take as it is.
TREE_CATEGORIES = 100
#: Texts of more characters on average, of mostly different values, are read by their words.
WORDS = 25.0
#: With fewer rows a linear model is tried first.
FEW_ROWS = 2_000
#: The fewest labelled rows that a holdout should have.
HOLDOUT_ROWS = 200
#: Values of a text that a check lists, at most.
LISTED = 12
#: Of fewer windows a model is hardly measured.
FEW_WINDOWS = 6
#: Beyond this a float knows no fractions.
_ROUND = 1e15
_TWO = 2
_MONDAY = dt.date(1970, 1, 5)
_WEEK, _MONTH = 7, 28


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A column of features.sql."""

    name: str
    #: What it is in SQL.
    sql: str
    role: str  # "number", "category" or "words"
    column: SourceColumn


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is predicted."""

    task: Task
    #: What it is in SQL.
    sql: str
    #: Its values, ascending, of a classifier.
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """Which windows there are, and what they are for."""

    days: int
    windows: int
    holdout: int
    minimum_holdout_rows: int
    start: dt.date
    #: Of a table that has ended; None of one that goes on.
    end: dt.date | None
    #: Rows of the smallest whole window with any.
    least_rows: int
    #: First day of the latest window that is over.
    latest: dt.date

    def first_training(self, delay: int) -> dt.date:
        """Return the day as of which to train first: the first of the latest window, which it then can score.

        delay : days after a window until its labels are known. With too few windows before it: when all are known.
        """
        before = (self.latest - self.start).days // self.days - math.ceil(delay / self.days)
        return self.latest + dt.timedelta(days=0 if before > self.holdout else self.days + delay)


@dataclass(kw_only=True)
class Said:
    """What `new` tells besides the files."""

    #: What it has seen that is not as it should be.
    problems: list[str] = field(default_factory=list)
    #: What a person has to decide.
    questions: list[str] = field(default_factory=list)
    #: Columns that are no features, and why.
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def no_features(self) -> list[str]:
        """The columns that are no features, those of one reason on one line."""
        reasons = dict.fromkeys(self.left_out.values())
        return [f"{', '.join(c for c, reason in self.left_out.items() if reason == why)}: {why}" for why in reasons]


def outcome_of(label: SourceColumn, values: Sequence[Any], task: Task | None) -> Outcome:
    """Return what is predicted: the task as asked, else as the label's type and values suggest.

    values : its different values, as far as they were seen. Raises PonteError when it has one value only, or when the
    task cannot have it.
    """
    if label.family is None or label.family in ("date", "timestamp"):
        raise PonteError(
            "a label is a boolean, a text or a number", got=f"{label.name} is {label.kind}", fix="cast it in a view"
        )
    if label.distinct < _TWO:
        got = f"{label.distinct} different value in {label.name}"
        raise PonteError("there is nothing to predict", where="--label", got=got, fix="are the outcomes loaded?")
    number = label.family in ("integer", "number")
    found: Task = task or _task_of(label, number=number)
    if found == "regression" and not number:
        got = f"{label.name} is {label.kind}"
        raise PonteError("a regression predicts a number", where="--task", got=got, fix="leave out --task")
    if found == "binary" and label.distinct > _TWO:
        got = f"{label.distinct:,} different values in {label.name}"
        fix = "leave out --task, or say in a view which of them is the outcome"
        raise PonteError("a binary label has two values", where="--task", got=got, fix=fix)
    if found == "regression":
        return Outcome(task=found, sql=f"CAST({quote(label.name)} AS float8)")
    whole = all(float(v).is_integer() for v in values) if number else False
    sql = quote(label.name)
    if label.family == "number" or label.as_text:
        sql = f"CAST({quote(label.name)} AS {'integer' if whole else 'text'})"
    if found == "multiclass" and label.family == "boolean":
        raise PonteError("a boolean has two values", where="--task", got="multiclass", fix="--task binary")
    shown = sorted(int(v) if whole else v if not number else str(v) for v in values)
    return Outcome(task=found, sql=sql, values=tuple(shown))


def _task_of(label: SourceColumn, *, number: bool) -> Task:
    if label.distinct == _TWO:
        return "binary"
    if label.distinct <= (NUMBER_CLASSES if label.family == "integer" else 0 if number else TEXT_CLASSES):
        return "multiclass"
    if number:
        return "regression"
    got = f"{label.distinct:,} different texts in {label.name}"
    fix = f"at most {TEXT_CLASSES} are classes; group them in a view, or choose another column"
    raise PonteError("the label is no class and no number", where="--label", got=got, fix=fix)


def column_names(key: Sequence[SourceColumn], rest: Sequence[SourceColumn] = ()) -> dict[str, str]:
    """Return a plain name for each column: a-z, 0-9 and _, none of those that Ponte adds, none twice."""
    names: dict[str, str] = {}
    for column in (*key, *rest):
        plain = re.sub(r"[^a-z0-9_]+", "_", column.name.lower()).strip("_")[:60] or "column"
        if column in rest and column.family in ("date", "timestamp"):
            plain = f"days_since_{plain}"[:60]
        plain = f"c_{plain}" if plain[0].isdigit() else plain
        plain = f"{plain}_" if plain in RESERVED_COLUMNS else plain
        number = 2
        unique = plain
        while unique in names.values():
            unique, number = f"{plain}_{number}", number + 1
        names[column.name] = unique
    return names


def features_of(
    source: Source,
    rest: Sequence[SourceColumn],
    *,
    time: SourceColumn,
    later: Mapping[str, float],
    giveaways: Mapping[str, str],
    names: Mapping[str, str],
    said: Said,
) -> list[Feature]:
    """Return the features: each column of the rest, beside key, label and moments, that can be one.

    later : date columns → the share of rows in which they lie after `time`. giveaways : columns that nearly equal the
    label → how nearly. names : what each is called. What is left out, and why, goes to `said`.
    """
    found = []
    for column in rest:
        why = giveaways.get(column.name) or _why_not(source, column, later.get(column.name, 0.0), time)
        if why:
            said.left_out[column.name] = why
        else:
            found.append(_feature(column, names[column.name], time))
    if not found:
        got = "; ".join(f"{name}: {why}" for name, why in said.left_out.items()) or "no other column"
        raise PonteError("no column can be a feature", where=f"{source.schema}.{source.table}", got=got)
    return found


def _why_not(source: Source, column: SourceColumn, later: float, time: SourceColumn) -> str:
    if column.family is None:
        return f"its type {column.kind} is none that Ponte carries; cast it in features.sql"
    if column.distinct < _TWO and not (column.distinct and column.nulls):
        return "it has one value only"
    if later > 0:
        return f"it lies after {time.name} in {later:.0%} of the rows: known after the fact"
    nearly_all = column.distinct >= 0.9 * (source.rows - column.nulls)
    if column.family == "text" and nearly_all and column.length < WORDS:
        return "nearly every row has another value: a name, not a property"
    identity = (
        column.family == "integer"
        and column.distinct == source.rows
        and re.search(r"(^|_)(id|no|nr|key)$", column.name.lower())
    )
    return "it numbers the rows" if identity else ""


def _feature(column: SourceColumn, name: str, time: SourceColumn) -> Feature:
    if column.family in ("date", "timestamp"):
        gap = f"CAST({quote(time.name)} AS timestamptz) - CAST({quote(column.name)} AS timestamptz)"
        days = f"extract(epoch FROM {gap})::float8 / 86400"
        return Feature(name=name, sql=days, role="number", column=column)
    if column.family != "text":
        return Feature(name=name, sql=column.sql, role="number", column=column)
    if column.length >= WORDS and column.distinct > TREE_CATEGORIES:
        return Feature(name=name, sql=f"coalesce({column.sql}, '')", role="words", column=column)
    return Feature(name=name, sql=column.sql, role="category", column=column)


def calendar_of(days: Mapping[dt.date, int], *, today: dt.date, said: Said) -> Calendar:
    """Return windows that fit the days of the rows.

    days : rows with a label by day, ascending. Raises PonteError when fewer than two windows hold any.
    """
    if not days:
        raise PonteError("no row has both a day and a label", fix="look at --time and --label")
    first, last = min(days), max(days)
    dates = sorted(days)
    gaps = sorted((b - a).days for a, b in pairwise(dates))
    length = _length((last - first).days + 1, gaps[len(gaps) // 2] if gaps else 1)
    counts: dict[int, int] = {}
    for day, rows in days.items():
        counts[(day - _MONDAY).days // length] = counts.get((day - _MONDAY).days // length, 0) + rows
    there = sorted(counts)
    if len(there) < _TWO:
        got = f"all rows lie between {first} and {last}"
        fix = "date the rows by when each was known; a model is measured on later windows than it learned from"
        raise PonteError("too few windows", where="--time", got=got, expected="at least two", fix=fix)
    span = there[-1] - there[0] + 1
    holdout = max(1, min(4, round(span / 5)))
    while holdout < span - 1 and _rows(counts, there[-1], holdout) < HOLDOUT_ROWS:
        holdout += 1
    measured = _rows(counts, there[-1], holdout)
    if span < FEW_WINDOWS:
        said.problems.append(
            f"too few windows: {span} of {length} days; figures of {holdout} say little about the next ones"
        )
    if measured < HOLDOUT_ROWS:
        said.problems.append(f"the holdout has {measured} rows only, so its intervals will be wide")
    if len(there) < span:
        said.problems.append(
            f"{span - len(there)} of {span} windows hold no row: scoring one is refused ([scoring] empty)"
        )
    end = _MONDAY + dt.timedelta(days=(there[-1] + 1) * length - 1)
    if last > today:
        said.problems.append(f"rows are dated after today, until {last}")
    over = end < today - dt.timedelta(days=max(4 * length, 30))
    if over:
        said.problems.append(f"the rows end on {last}, so [schedule] end is {end}: remove it when new ones come")
    whole = [counts[n] for n in there[1:-1]] or [counts[n] for n in there]
    latest = min(there[-1], (today - _MONDAY).days // length - 1)
    return Calendar(
        days=length,
        windows=min(52, span),
        holdout=holdout,
        minimum_holdout_rows=min(HOLDOUT_ROWS, max(2, measured // 2)),
        start=_MONDAY + dt.timedelta(days=there[0] * length),
        end=end if over else None,
        least_rows=min(whole),
        latest=_MONDAY + dt.timedelta(days=latest * length),
    )


def _length(span: int, gap: int) -> int:
    if gap > _WEEK:
        return _MONTH
    return _WEEK if span >= 6 * _WEEK else 1


def _rows(counts: Mapping[int, int], last: int, windows: int) -> int:
    return sum(counts.get(last - n, 0) for n in range(windows))


def checks_of(
    keys: Sequence[str], features: Sequence[Feature], values: Mapping[str, Sequence[str]], least_rows: int
) -> list[dict[str, Any]]:
    """Return [[checks]] that the rows of today pass, wide enough for those of tomorrow.

    values : columns of text → their values, none of those that have many.
    """
    unique: dict[str, Any] = {"expectation": "expect_column_values_to_be_unique", "column": keys[0]}
    if len(keys) > 1:
        unique = {"expectation": "expect_compound_columns_to_be_unique", "column_list": list(keys)}
    rows = {"expectation": "expect_table_row_count_to_be_between", "min_value": max(1, least_rows // 2)}
    found = [{**rows, "on_failure": "stop"}, {**unique, "on_failure": "stop"}]
    for feature in features:
        column, check = feature.column, None
        if feature.role == "number" and column.family in ("integer", "number"):
            check = _between(feature)
        elif feature.role == "category" and values.get(feature.column.name):
            check = {"expectation": "expect_column_values_to_be_in_set", "column": feature.name,
                     "value_set": list(values[column.name])}  # fmt: skip
        if check is not None:
            found.append({**check, "on_failure": "warn"})
    return found


def _between(feature: Feature) -> dict[str, Any] | None:
    low, high = feature.column.least, feature.column.greatest
    if low is None or not (math.isfinite(low) and math.isfinite(high)) or max(abs(low), abs(high)) > _ROUND:
        return None
    spread = float(high) - float(low)
    bounds = [float(low) - spread, float(high) + spread]
    if low >= 0:
        bounds[0] = 0.0
    rounded = [math.floor(bounds[0]), math.ceil(bounds[1])] if spread > 1 else bounds
    return {"expectation": "expect_column_values_to_be_between", "column": feature.name,
            "min_value": rounded[0], "max_value": rounded[1]}  # fmt: skip


def estimator_of(task: Task, features: Sequence[Feature], rows: int) -> tuple[str, dict[str, Any]]:
    """Return the template of an estimator that suits task and columns, and what it is filled with."""
    of_role = {role: [f.name for f in features if f.role == role] for role in ("number", "category", "words")}
    if of_role["words"] or rows < FEW_ROWS:
        parts = {"numbers": of_role["number"], "categories": of_role["category"], "words": of_role["words"]}
        linear = "Ridge" if task == "regression" else "LogisticRegression"
        about = "A linear model, the simplest that suits the columns."
        return "linear.py.j2", {**parts, "linear": linear, "estimator": about}
    many = [f.name for f in features if f.role == "category" and f.column.distinct > TREE_CATEGORIES]
    trees = f"HistGradientBoosting{'Regressor' if task == 'regression' else 'Classifier'}"
    return "trees.py.j2", {"encoded": many, "trees": trees, "estimator": "Gradient boosted trees, as they come."}


def gate_of(outcome: Outcome, labels: pd.Series[Any]) -> tuple[str, str]:
    """Return the metric and the line with its bound."""
    if outcome.task != "regression":
        return "roc_auc", "minimum = 0.6  # 0.5 is a coin"
    known = labels.astype(float).replace([math.inf, -math.inf], math.nan).dropna()
    error = float((known - known.median()).abs().mean())
    return "mae", f"maximum = {error:.4g}  # that of always saying the median"

"""Would the folder survive a training? A few rows of two windows are fitted, predicted, pickled, loaded and predicted.

What is fitted here is thrown away; the database is only read.
"""

from __future__ import annotations

import datetime as dt
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ponte.authoring.faults import FEWER, MOST_CATEGORIES, problem_of, steps_of
from ponte.authoring.rows import Reading, days_to_wait
from ponte.errors import ModelFolderError, PonteError, Problem, TrainingRefused
from ponte.model.estimator import ESTIMATOR_FILE, dump, load_suitable
from ponte.model.folders import ModelFolder
from ponte.model.inspection import FolderColumns
from ponte.model.windows import midnight
from ponte.storage.database import Database, is_transient
from ponte.training.fitting import classes_with_positive, fit
from ponte.training.splits import require_same_in_pieces
from ponte.versions.loading import come_back
from ponte.versions.predicting import Fitted, differing, predict
from ponte.versions.signature import TRAINED_NOW, Signature, categories_of, frame_of

if TYPE_CHECKING:
    import pyarrow as pa

    from ponte.snapshots.parts import Parts

#: Values of a text column that no training sees.
_NEVER_SEEN = "ponte: a value never seen"
_TWO = 2


@dataclass(kw_only=True)
class Tried:
    """What came of a trial."""

    problems: list[Problem] = field(default_factory=list)
    #: What is no fault, and worth knowing.
    notes: list[str] = field(default_factory=list)


def try_out(db: Database, folder: ModelFolder, columns: FolderColumns, *, now: dt.datetime) -> Tried:
    """Return what a training of the folder would stumble over.

    Reads at most 1,000 rows of each of the two latest windows with labels. now : the present; windows end before it.
    """
    tried = Tried()
    reading = Reading(db=db, folder=folder, columns=columns, now=midnight(now.date()))
    try:
        tables = _rows(reading, tried)
    except sa.exc.DBAPIError as error:
        if is_transient(error):
            raise
        tried.problems.append(_failing_query(error))
        return tried
    if tables is not None and not _label_problems(folder, tables, tried):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            _fit_and_predict(reading, tables, tried)
        tried.notes += sorted({f"{w.category.__name__}: {str(w.message).splitlines()[0][:200]}" for w in said})[:3]
    return tried


# ---------------------------------------------------------------- rows


def _rows(reading: Reading, tried: Tried) -> tuple[pa.Table, pa.Table] | None:
    """Return rows of the two latest windows with labels, the earlier one first; None when there are none to try."""
    folder = reading.folder
    latest = reading.latest
    if latest is None:
        what = f"returns no label in any window until {reading.limit:%Y-%m-%d}"
        fix = "look at its WHERE; is the source loaded, and its outcome known?"
        tried.problems.append(Problem(file="labels.sql", what=what, fix=fix))
        return None
    _enough_windows(reading, latest, tried)
    before = reading.previous
    if before is None:
        return None
    _labels_are_numbers(reading, (before, latest), tried)
    tables = reading.sample(before), reading.sample(latest)
    if not tables[0].num_rows or not tables[1].num_rows:
        bare = before if not tables[0].num_rows else latest
        what = f"window {reading.window(bare)} has labels, and none of them has the key of a row of features.sql"
        fix = "let both return the same entities under the same key"
        tried.problems.append(Problem(file="labels.sql", field=", ".join(folder.spec.key), what=what, fix=fix))
        return None
    _labels_in_time(reading, latest, tried)
    days = " and ".join(str(reading.window(n).start) for n in (before, latest))
    tried.notes.append(f"tried on {tables[0].num_rows:,} and {tables[1].num_rows:,} rows of the windows of {days}")
    return tables


def _enough_windows(reading: Reading, latest: int, tried: Tried) -> None:
    training = reading.folder.spec.training
    there = latest - reading.earliest + 1
    measured = training.holdout_windows + training.calibration_windows
    span = f"{reading.window(reading.earliest).start} to {reading.window(latest).start}"
    if there <= measured:
        what = (
            f"labels lie in {there} window{'s' if there != 1 else ''} ({span}), and holdout_windows and "
            f"calibration_windows take {measured}: none is left to fit on"
        )
        fix = f"fewer holdout_windows, or shorter windows ([window] days = {reading.folder.spec.window.days})"
        tried.problems.append(Problem(file="model.toml", field="training.holdout_windows", what=what, fix=fix))
    elif there < training.windows:
        tried.notes.append(f"[training] windows = {training.windows}, and labels lie in {there} ({span})")
    first = max(latest - training.holdout_windows + 1, reading.earliest)
    found = reading.labels(first, latest)
    if found < training.minimum_holdout_rows:
        what = f"the latest {training.holdout_windows} windows hold {found} labels, fewer than the holdout has to have"
        fix = "more holdout_windows, longer windows, or a smaller minimum_holdout_rows if wide intervals will do"
        tried.problems.append(Problem(file="model.toml", field="training.minimum_holdout_rows", what=what, fix=fix))


def _labels_are_numbers(reading: Reading, numbers: tuple[int, int], tried: Tried) -> None:
    spec = reading.folder.spec
    if spec.task != "regression":
        return
    found, labels = (sum(counts) for counts in zip(*map(reading.set_aside, numbers), strict=True))
    what = f"{found:,} of {labels:,} labels in two windows are NaN or infinite; a training sets such rows aside"
    if found > spec.quarantine.budget * labels:
        what += f", at most {spec.quarantine.budget:.1%} of all ([quarantine] budget)"
        tried.problems.append(Problem(file="labels.sql", field="label", what=what, fix="leave them out, or NULL"))
    elif found:
        tried.notes.append(what)


def _labels_in_time(reading: Reading, latest: int, tried: Tried) -> None:
    spec = reading.folder.spec
    delay = dt.timedelta(days=spec.training.label_delay_days)
    last = -1 - math.ceil(delay.days / spec.window.days)  # the latest that is mature at the limit
    if not reading.known(last, reading.now)[0]:
        last = min(last, latest)  # the source ends there
    as_of = midnight(reading.window(last).end) + delay
    found = days_to_wait(reading, last, min(as_of, reading.now))
    if found is None:
        return
    share, usual, days = found
    what = (
        f"is {spec.training.label_delay_days}, and labels come later: of the window of {reading.window(last).start}, "
        f"the latest of the holdout, {share:.0%} of the rows have one when it is mature, {usual:.0%} in the end"
    )
    fix = f"label_delay_days = {days}"
    tried.problems.append(Problem(file="model.toml", field="training.label_delay_days", what=what, fix=fix))


def _failing_query(error: sa.exc.DBAPIError) -> Problem:
    said = str(getattr(getattr(error.orig, "diag", None), "message_primary", "") or error.orig).split("\n")[0]
    fix = "run both queries in `./ponte psql` with values for their parameters; NULLIF and CASE guard a division"
    return Problem(file="features.sql, labels.sql", what=f"PostgreSQL fails on the rows: {said}", fix=fix)


# ---------------------------------------------------------------- labels


def _label_problems(folder: ModelFolder, tables: tuple[pa.Table, pa.Table], tried: Tried) -> bool:
    """Tell whether the labels are not those of the task; say which class the score is about."""
    task, training = folder.spec.task, folder.spec.training
    if task == "regression":
        return False
    labels: list[Any] = [value for table in tables for value in table.column("label").to_pylist()]
    values: list[Any] = sorted(set(labels))
    wanted = len(values) == _TWO if task == "binary" else len(values) > _TWO
    if not wanted:
        what = (
            f"returns {len(values)} different label{'s' if len(values) != 1 else ''} in two windows, task is {task!r}"
        )
        fix = 'a binary model has two, a multiclass model more; a number is task = "regression"'
        tried.problems.append(Problem(file="labels.sql", field="label", what=what, fix=fix))
        return True
    if task == "binary":
        try:
            positive = classes_with_positive(folder.spec, labels)[-1]
        except TrainingRefused:
            what = f"no label is {training.positive!r}"
            fix = f"one of {', '.join(map(repr, values))}, as TOML writes it"
            tried.problems.append(Problem(file="model.toml", field="training.positive", what=what, fix=fix))
            return True
        which = "the greater" if training.positive is None else "as [training] positive says"
        tried.notes.append(
            f"the score is the probability of label {positive!r}, {which} of {values[0]!r} and {values[1]!r}"
        )
    return False


# ---------------------------------------------------------------- the estimator


def _fit_and_predict(reading: Reading, tables: tuple[pa.Table, pa.Table], tried: Tried) -> None:
    folder, columns = reading.folder, reading.columns
    tables = _with_all_classes(folder, tables)
    signature = Signature(
        key=columns.key,
        features=columns.features,
        label=columns.label,
        types=TRAINED_NOW,
        nullable_integers=folder.spec.training.nullable_integers,
        categories=categories_of(tables[0], columns.features),
    )
    try:
        estimator = load_suitable(folder.text(ESTIMATOR_FILE), model=folder.name, spec=folder.spec)
    except ModelFolderError:
        return  # told by the inspection
    _too_many_categories(reading, estimator, tried)

    def step(doing: str, rows: pa.Table, work: Callable[[], Any]) -> Any:
        """Return what a step of the estimator returns, None when it raises."""
        try:
            return work()
        except MemoryError:
            raise
        except TrainingRefused as error:
            tried.problems.append(_as_problem(error))
        except Exception as error:  # noqa: BLE001 - the author's estimator may raise anything
            tried.problems.append(
                problem_of(
                    error,
                    doing,
                    model=folder.name,
                    estimator=estimator,
                    frame=frame_of(rows, signature),
                    columns=columns.features,
                )
            )
        return None

    parts = _parts(tables, signature)
    fitted = step("fit", tables[0], lambda: fit(folder.spec, estimator, parts))
    if fitted is None or any(problem.file == ESTIMATOR_FILE for problem in tried.problems):
        return
    later = tables[1]
    said = step("predict", later, lambda: predict(fitted.estimator, later, signature, fitted.output))
    if said is None:
        return
    back = step("pickle", later, lambda: come_back(dump(fitted.estimator)))
    again = None if back is None else step("predict", later, lambda: predict(back, later, signature, fitted.output))
    if again is not None and differing(said, again, fitted.output, exactly=True).any():
        what = "predicts something else when it was stored and loaded"
        fix = "keep nothing outside the estimator's own attributes, and draw no random number in predict()"
        tried.problems.append(Problem(file=ESTIMATOR_FILE, field="build_estimator", what=what, fix=fix))
    step("predict", later, lambda: require_same_in_pieces(fitted, later, signature, where=folder.name))
    _rows_to_come(fitted, later, signature, tried)


def _with_all_classes(folder: ModelFolder, tables: tuple[pa.Table, pa.Table]) -> tuple[pa.Table, pa.Table]:
    """Return the rows to fit on and those to predict: a rare class may be in the later window only."""
    import pyarrow as pa

    earlier, later = (set(table.column("label").to_pylist()) for table in tables)
    if folder.spec.task == "regression" or later <= earlier:
        return tables
    return pa.concat_tables(tables), tables[1]


def _parts(tables: tuple[pa.Table, pa.Table], signature: Signature) -> Parts:
    from ponte.snapshots.parts import Part, Parts

    earlier, later = (
        Part(rows=t, features=frame_of(t, signature), labels=t.column("label").to_pandas().to_numpy()) for t in tables
    )
    return Parts(fitting=earlier, calibration=later, holdout=later, purged_rows=0, categories=signature.categories)


def _as_problem(error: PonteError) -> Problem:
    lines = dict(line.strip().split(": ", 1) for line in str(error).split("\n")[1:])
    what = f"{error.what}: {lines['got']}" if "got" in lines else error.what
    return Problem(file=ESTIMATOR_FILE, field="build_estimator", what=what, fix=lines.get("next", ""))


def _too_many_categories(reading: Reading, estimator: Any, tried: Tried) -> None:
    """Look at whole windows: HistGradientBoosting refuses too many values, which a few rows may not show."""
    last = estimator
    while getattr(last, "steps", None):
        last = last.steps[-1][1]
    alone = last is estimator and getattr(last, "categorical_features", None) == "from_dtype"
    names = [c.name for c in reading.columns.features if c.family == "text"]
    if not alone or not names or reading.latest is None or reading.previous is None:
        return
    for name, count in reading.distinct(reading.previous, reading.latest, names).items():
        if count > MOST_CATEGORIES:
            what = f"column {name} has {count:,} different values in two windows, and takes at most {MOST_CATEGORIES}"
            kind = type(next(steps_of(estimator))).__name__
            tried.problems.append(Problem(file=ESTIMATOR_FILE, field=kind, what=what, fix=FEWER))
        elif count > MOST_CATEGORIES // 2:
            tried.notes.append(
                f"column {name} has {count} different values in two windows; {MOST_CATEGORIES} is the most"
            )


def _rows_to_come(fitted: Fitted, rows: pa.Table, signature: Signature, tried: Tried) -> None:
    """Note which values that are no fault now would set a row aside later, and which texts no prediction depends on."""
    first, unseen, null, unused = rows.slice(0, 1), [], [], []
    usual = predict(fitted.estimator, rows, signature, fitted.output)
    for column in signature.features:
        place = rows.column_names.index(column.name)
        kind = rows.schema.field(place).type
        if column.family == "text":
            values = rows.column(place).to_pylist()
            turned = predict(fitted.estimator, _with(rows, place, values[::-1], kind), signature, fitted.output)
            if len(set(values)) > 1 and not differing(usual, turned, fitted.output, exactly=True).any():
                unused.append(column.name)
            if _fails(fitted, _with(first, place, [_NEVER_SEEN], kind), signature):
                unseen.append(column.name)
        if _fails(fitted, _with(first, place, [None], kind), signature):
            null.append(column.name)
    if unused:
        tried.notes.append(
            f"no prediction depends on {', '.join(unused)}; if a selector chooses columns by dtype, it takes "
            'dtype_include="category", which a text is, and not "object"'
        )
    if unseen:
        tried.notes.append(
            f"a row with a value that training has not seen cannot be predicted, and is set aside: {', '.join(unseen)} "
            '(handle_unknown="ignore")'
        )
    if null:
        tried.notes.append(
            f"a row with NULL cannot be predicted, and is set aside: {', '.join(null)} "
            "(SimpleImputer, or coalesce in features.sql)"
        )


def _fails(fitted: Fitted, row: pa.Table, signature: Signature) -> bool:
    try:
        predict(fitted.estimator, row, signature, fitted.output)
    except Exception:  # noqa: BLE001 - that it does is the answer
        return True
    return False


def _with(row: pa.Table, place: int, values: list[Any], kind: Any) -> pa.Table:
    import pyarrow as pa

    return row.set_column(place, row.column_names[place], pa.array(values, kind))

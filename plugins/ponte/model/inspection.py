"""Hold a model folder against the database and scikit-learn: every breach of the contract, in one message.

`./ponte check` does so for all folders; every run does it first.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

import sqlalchemy as sa

from ponte.errors import ModelFolderError, Problem, did_you_mean
from ponte.model import windows
from ponte.model.estimator import ESTIMATOR_FILE, helper_problem, imported_names, load_suitable
from ponte.model.expectations import build_expectations, named_columns
from ponte.model.folders import ModelFolder
from ponte.model.queries import READERS, AuthorQuery, QueryRefused, columns_of, refusal
from ponte.model.spec import COLUMN_NAME
from ponte.packages.folder_requirements import of_checkout, package_problems
from ponte.storage.columns import FAMILIES, KEY_FAMILIES, Column, Family
from ponte.storage.database import Database, is_transient
from ponte.storage.prediction_columns import ADDED, reserved_columns
from ponte.storage.row_width import KEY_COLUMNS, width_problem

_TABLES = sa.text("""SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%'
      AND n.nspname NOT IN ('information_schema', 'ponte', 'ponte_data') ORDER BY 1""")
# What the scorer may not read, when it is the trainer who asks; nothing when it is somebody else.
_CLOSED_TO_SCORER = sa.text("""SELECT n.nspname || '.' || c.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE current_user = 'ponte_trainer' AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%'
      AND n.nspname NOT IN ('information_schema', 'ponte', 'ponte_data')
      AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
      AND NOT (has_schema_privilege('ponte_scorer', n.oid, 'USAGE')
               AND has_table_privilege('ponte_scorer', c.oid, 'SELECT'))
    ORDER BY 1""")
#: PostgreSQL takes up to 1 600 columns; the key, and what Ponte adds, need a few. Only narrow ones fit in such numbers.
MAX_COLUMNS = 1_500
_OF_WINDOW = re.compile(r":(window_start|window_end|as_of)\b")
_LABEL_FAMILIES: dict[str, frozenset[Family]] = {
    "binary": frozenset({"integer", "boolean", "text"}),
    "multiclass": frozenset({"integer", "text"}),
    "regression": frozenset({"integer", "number"}),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureColumns:
    """What features.sql returns."""

    key: tuple[Column, ...]
    features: tuple[Column, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderColumns(FeatureColumns):
    """What the two queries of a model folder return."""

    label: Family
    #: Whether labels.sql also returns `labelled_at`.
    has_labelled_at: bool


def inspect_features(db: Database, folder: ModelFolder, text: str) -> FeatureColumns:
    """Return the columns of `text`, the features.sql of the folder or of one of its versions.

    All that scoring needs of a folder: it sees neither labels.sql nor estimator.py. A feature of a version from before
    `low` and `high` were reserved may have such a name: no feature is written beside the predictions. Raises
    ModelFolderError with all problems. Does not run the query and writes nothing.
    """
    problems: list[Problem] = []
    columns = _columns(db, folder, "features.sql", text, problems)
    if columns is not None:
        problems += _feature_problems(folder, columns, reserved_columns(folder.spec.task) - ADDED["regression"].keys())
    if problems or columns is None:
        raise ModelFolderError(folder.name, problems)
    return _feature_columns(folder, columns)


def inspect_folder(db: Database, folder: ModelFolder) -> FolderColumns:
    """Return the columns of both queries, after building the estimator and the expectations once.

    Raises ModelFolderError with all problems. Does not run the queries and writes nothing.
    """
    columns, problems = inspected(db, folder)
    if problems or columns is None:
        raise ModelFolderError(folder.name, problems)
    return columns


def inspected(db: Database, folder: ModelFolder) -> tuple[FolderColumns | None, list[Problem]]:
    """Return the columns of both queries, None when one of them has a fault, and every problem of the folder."""
    problems: list[Problem] = []
    features = _columns(db, folder, "features.sql", folder.text("features.sql"), problems)
    labels = _columns(db, folder, "labels.sql", folder.text("labels.sql"), problems)
    if features is not None:
        problems += _feature_problems(folder, features, reserved_columns(folder.spec.task))
    if labels is not None:
        problems += _label_problems(folder, labels, features or [])
    of_columns = None
    if not problems and features is not None and labels is not None:
        columns = _feature_columns(folder, features)
        label = next(family for name, _, family in labels if name == "label")
        assert label is not None
        has_labelled_at = any(name == "labelled_at" for name, _, _ in labels)
        of_columns = FolderColumns(
            key=columns.key, features=columns.features, label=label, has_labelled_at=has_labelled_at
        )
        problems += [*_without_window(folder), *_scorer_may_not_read(db, folder)]
    for part in (_check_packages, _build_estimator, build_expectations):
        try:
            part(folder)
        except ModelFolderError as error:
            problems += error.problems
    return of_columns, problems


def _feature_columns(folder: ModelFolder, columns: list[tuple[str, str, Family | None]]) -> FeatureColumns:
    families = {name: family for name, _, family in columns if family is not None}
    return FeatureColumns(
        key=tuple(Column(name=name, family=families[name]) for name in folder.spec.key),
        features=tuple(Column(name=n, family=f) for n, f in families.items() if n not in folder.spec.key),
    )


def _columns(
    db: Database, folder: ModelFolder, file: str, text: str, problems: list[Problem]
) -> list[tuple[str, str, Family | None]] | None:
    # Any window will do: the query is parsed and planned, not run.
    window = windows.window_of_tick(folder.spec.window, windows.midnight(dt.date(2000, 1, 3)))
    columns, found = _described(db, AuthorQuery(file, text), window)
    problems += found
    return columns


def refused(db: Database, query: AuthorQuery) -> list[Problem]:
    """Return why PostgreSQL would not run a query, whatever its model is; nothing when it would."""
    day = dt.date(2000, 1, 3)
    window = windows.Window(start=day, end=day + dt.timedelta(days=1), as_of=windows.midnight(day))
    return _described(db, query, window)[1]


def _described(
    db: Database, query: AuthorQuery, window: windows.Window
) -> tuple[list[tuple[str, str, Family | None]] | None, list[Problem]]:
    found = query.problems()
    if found:
        return None, found
    try:
        return columns_of(db, query, window.parameters()), []
    except (QueryRefused, sa.exc.DBAPIError) as error:
        if is_transient(error):
            raise  # the database is away; that says nothing about the folder
        return None, [refusal(query, error, tables_of(db))]


def tables_of(db: Database) -> list[str]:
    """Return the names of all tables and views but Ponte's own, `schema.table`, whether they may be read or not."""
    with db.read_only() as connection:
        return list(connection.execute(_TABLES).scalars())


def _feature_problems(
    folder: ModelFolder, columns: list[tuple[str, str, Family | None]], reserved: frozenset[str]
) -> list[Problem]:
    names = [name for name, _, _ in columns]
    found = [
        Problem(
            file="model.toml", field="key", what=f"features.sql returns no column {key!r}", fix=did_you_mean(key, names)
        )
        for key in folder.spec.key
        if key not in names
    ]
    for position, check in enumerate(folder.spec.checks):
        found += [
            Problem(
                file="model.toml",
                field=f"checks.{position}.{argument}",
                what=f"features.sql returns no column {column!r}",
                fix=did_you_mean(column, names),
            )
            for argument, column in named_columns(check)
            if column not in names
        ]
    found += [
        Problem(file="model.toml", field=field, what=f"no column {column!r}", fix=did_you_mean(column, known))
        for field, column, known in _named_in_spec(folder, names)
        if column not in known
    ]
    if len(names) > MAX_COLUMNS:
        found.append(
            Problem(file="features.sql", what=f"returns {len(names)} columns, at most {MAX_COLUMNS} are possible")
        )
    found += filter(None, [width_problem("features.sql", [(name, kind) for name, kind, _ in columns])])
    if len(folder.spec.key) > KEY_COLUMNS:
        what = f"has {len(folder.spec.key)} columns, at most {KEY_COLUMNS} are possible"
        found.append(Problem(file="model.toml", field="key", what=what))
    if not set(names) - set(folder.spec.key):
        found.append(Problem(file="features.sql", what="returns no feature beside the key"))
    twice = sorted({name for name in names if names.count(name) > 1})
    found += [
        Problem(file="features.sql", field=n, what="is returned twice", fix="name it once, with AS") for n in twice
    ]
    for name, kind, family in columns:
        if name == folder.spec.guard.freshness_column and family not in ("date", "timestamp"):
            what = f"column {name!r} has type {kind}"
            fix = "name a date or a timestamp"
            found.append(Problem(file="model.toml", field="guard.freshness_column", what=what, fix=fix))
        if name in reserved:
            found.append(Problem(file="features.sql", field=name, what="is a reserved name", fix="rename it with AS"))
        if not COLUMN_NAME.fullmatch(name):
            fix = "use a-z, 0-9 and _, with AS"
            found.append(Problem(file="features.sql", field=name, what="is no plain column name", fix=fix))
        allowed = KEY_FAMILIES if name in folder.spec.key else frozenset(FAMILIES.values())
        if family not in allowed:
            what = f"has type {kind}" + (", which a key cannot have" if family else "")
            found.append(Problem(file="features.sql", field=name, what=what, fix=_cast_hint(allowed)))
    return found


def _named_in_spec(folder: ModelFolder, names: list[str]) -> list[tuple[str, str, list[str]]]:
    """Return (field of model.toml, the column it names, the columns it may name)."""
    evaluation = folder.spec.evaluation
    features = [name for name in names if name not in folder.spec.key]
    found = [("evaluation.slices", column, names) for column in evaluation.slices]
    found += [("gate.leakage_allowed", column, features) for column in folder.spec.gate.leakage_allowed]
    found += [("guard.column_overrides", column, features) for column in folder.spec.guard.column_overrides]
    if folder.spec.guard.freshness_column is not None:
        found.append(("guard.freshness_column", folder.spec.guard.freshness_column, names))
    if evaluation.baseline_by is not None:
        found.append(("evaluation.baseline_by", evaluation.baseline_by, names))
    if evaluation.resample_by is not None:
        found.append(("evaluation.resample_by", evaluation.resample_by, [*names, "window_start"]))
    return found


def _label_problems(
    folder: ModelFolder,
    columns: list[tuple[str, str, Family | None]],
    features: list[tuple[str, str, Family | None]],
) -> list[Problem]:
    kinds = {name: (kind, family) for name, kind, family in columns}
    feature_families = {name: family for name, _, family in features}
    found = []
    for key in folder.spec.key:
        if key not in kinds:
            fix = did_you_mean(key, kinds)
            found.append(Problem(file="labels.sql", field=key, what="the key column is not returned", fix=fix))
        elif key in feature_families and kinds[key][1] != feature_families[key]:
            what = f"is {kinds[key][1]} here and {feature_families[key]} in features.sql"
            found.append(Problem(file="labels.sql", field=key, what=what, fix="cast one of them"))
    allowed = _LABEL_FAMILIES[folder.spec.task]
    if "label" not in kinds:
        fix = f"name the outcome with AS label; it returns: {', '.join(kinds)}"
        found.append(Problem(file="labels.sql", field="label", what="is not returned", fix=fix))
    elif kinds["label"][1] not in allowed:
        what = f"has type {kinds['label'][0]}, which task {folder.spec.task!r} cannot have"
        found.append(Problem(file="labels.sql", field="label", what=what, fix=_cast_hint(allowed)))
    if "labelled_at" in kinds and kinds["labelled_at"][0] != "timestamptz":
        what = f"has type {kinds['labelled_at'][0]}"
        found.append(Problem(file="labels.sql", field="labelled_at", what=what, fix="cast it to timestamptz"))
    return found


def _cast_hint(families: frozenset[Family]) -> str:
    return f"cast it to one of: {', '.join(sorted(kind for kind, family in FAMILIES.items() if family in families))}"


def _check_packages(folder: ModelFolder) -> None:
    try:
        imports = list(imported_names(folder.text(ESTIMATOR_FILE)))
    except SyntaxError:
        imports = []  # what builds the estimator says so
    problems = package_problems(folder.path, imports, of_checkout())
    if problems:
        raise ModelFolderError(folder.name, problems)


def _build_estimator(folder: ModelFolder) -> None:
    try:
        load_suitable(folder.text(ESTIMATOR_FILE), model=folder.name, spec=folder.spec)
    except ModelFolderError as error:
        problem = helper_problem(error.__cause__, {path.stem for path in folder.path.iterdir()})
        if problem is None:
            raise
        raise ModelFolderError(folder.name, [problem]) from error


def _without_window(folder: ModelFolder) -> list[Problem]:
    if any(_OF_WINDOW.search(folder.text(file)) for file in ("features.sql", "labels.sql")):
        return []
    what = "has no window: neither it nor labels.sql names :window_start, so every window would be the same rows"
    fix = "WHERE day >= CAST(:window_start AS date) AND day < CAST(:window_end AS date)"
    return [Problem(file="features.sql", what=what, fix=fix)]


def _scorer_may_not_read(db: Database, folder: ModelFolder) -> list[Problem]:
    """Return the tables of features.sql that the trainer may read, who is connected, and the scorer may not."""
    text = folder.text("features.sql")
    with db.read_only() as connection:
        refused = [name for name in connection.execute(_CLOSED_TO_SCORER).scalars() if _names(text, name)]
    fix = f"GRANT USAGE ON SCHEMA …, SELECT ON … TO {READERS}, of which trainer and scorer are members"
    return [
        Problem(
            file="features.sql", field=name, what="ponte_scorer may not read it, so no batch could be scored", fix=fix
        )
        for name in refused
    ]


def _names(text: str, table: str) -> bool:
    """Tell whether an SQL text names a table, `schema.table`, with quotes or without."""
    schema, _, name = table.partition(".")
    return re.search(rf'(?<![\w"])"?{re.escape(schema)}"?\s*\.\s*"?{re.escape(name)}"?(?!\w)', text) is not None

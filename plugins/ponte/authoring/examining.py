"""Everything that can be said of a model folder before it is trained, in one round."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from ponte.authoring.trial import try_out
from ponte.errors import ModelFolderError, Problem
from ponte.model.estimator import ESTIMATOR_FILE, load_estimator
from ponte.model.folders import BrokenFolder, ModelFolder
from ponte.model.inspection import FolderColumns, inspected, refused
from ponte.model.queries import READERS, AuthorQuery
from ponte.storage.database import Database

# What the scorer may not read, when it is the trainer who asks; nothing when it is somebody else.
_CLOSED_TO_SCORER = sa.text("""SELECT n.nspname || '.' || c.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE current_user = 'ponte_trainer' AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%'
      AND n.nspname NOT IN ('information_schema', 'ponte', 'ponte_data')
      AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
      AND NOT (has_schema_privilege('ponte_scorer', n.oid, 'USAGE')
               AND has_table_privilege('ponte_scorer', c.oid, 'SELECT'))
    ORDER BY 1""")


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What was found in a model folder."""

    model: str
    problems: tuple[Problem, ...]
    #: What is no fault, and worth knowing.
    notes: tuple[str, ...] = ()
    #: None when one of the queries has a fault.
    columns: FolderColumns | None = None

    @property
    def message(self) -> str:
        """All problems, numbered; or that there is none; and the notes."""
        if self.problems:
            said = str(ModelFolderError(self.model, self.problems))
        else:
            assert self.columns is not None
            said = f"{self.model}: ok, {len(self.columns.features)} features, label {self.columns.label}"
        return "\n".join([said, *(f"  · {note}" for note in self.notes)])


def examine(db: Database, folder: ModelFolder | BrokenFolder, *, now: dt.datetime) -> Examined:
    """Return every problem of a folder: of its files, of its SQL, of its checks, and of its estimator on a few rows.

    now : the present, of which a training would be. Nothing is written.
    """
    if isinstance(folder, BrokenFolder):
        problems = [*folder.error.problems, *_of_texts(db, folder.name, folder.path)]
        return Examined(model=folder.name, problems=_sorted(problems))
    columns, problems = inspected(db, folder)
    notes: list[str] = []
    if columns is not None:
        tried = try_out(db, folder, columns, now=now)
        problems += [*tried.problems, *_scorer_may_not_read(db, folder)]
        notes += tried.notes
    return Examined(model=folder.name, problems=_sorted(problems), notes=tuple(notes), columns=columns)


def _of_texts(db: Database, model: str, path: Path) -> list[Problem]:
    """Return what is wrong with SQL and estimator, whatever is wrong with `model.toml`."""
    problems: list[Problem] = []
    for file in ("features.sql", "labels.sql"):
        if (text := _text(path / file)) is not None:
            problems += refused(db, AuthorQuery(file, text))
    text = _text(path / ESTIMATOR_FILE)
    if text is not None:
        try:
            # Of any task: what the estimator has to be for it is another question.
            load_estimator(text, model=model, task="regression")
        except ModelFolderError as error:
            problems += error.problems
    return problems


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


def _text(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return text if text.strip() else None


def _sorted(problems: list[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(set(problems)))

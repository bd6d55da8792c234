"""Everything that can be said of a model folder before it is trained, in one round."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from ponte.authoring.trial import try_out
from ponte.errors import ModelFolderError, Problem
from ponte.forms.card import card_problems
from ponte.model.estimator import ESTIMATOR_FILE, load_estimator
from ponte.model.folders import BrokenFolder, ModelFolder
from ponte.model.inspection import FolderColumns, inspected, refused
from ponte.model.queries import AuthorQuery
from ponte.storage.database import Database


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
        problems += card_problems(folder.card, [c.name for c in columns.features])
        tried = try_out(db, folder, columns, now=now)
        problems += tried.problems
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


def _text(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return text if text.strip() else None


def _sorted(problems: list[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(set(problems)))

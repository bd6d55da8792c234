"""Every error that Ponte raises on purpose.

::

    PonteError
    ├── ModelFolderError      a model folder breaks the contract; lists every problem at once
    ├── WindowError           a window that the model does not have
    ├── SignatureMismatch     the columns of a batch are not those of the version
    ├── BatchRejected         checks or guards refused a batch; nothing was published
    ├── WindowsUnfinished     a batch would be compared with one that is not finished yet
    ├── TrainingRefused       the snapshot cannot support a trustworthy model
    ├── ArtifactRefused       stored bytes are not the bytes that were registered
    ├── NoChampion            nothing was promoted yet
    ├── VersionMarkedBad      a person has marked the version bad
    ├── HindsightRefused      the version may have seen what happened after as_of
    ├── AliasMoved            somebody else moved the alias first
    ├── Fenced                a newer run owns the window
    ├── UnpredictableRows     the estimator cannot say anything usable of some rows
    ├── RowsLost              the conservation law of rows does not hold
    ├── Withheld              the class of an error whose own words may hold values of rows
    ├── DatabaseUnavailable   a passing database fault; the only error that is worth a retry
    └── StackError            the local stack, or its embedded PostgreSQL, cannot do what was asked
"""

from __future__ import annotations

import dataclasses
import difflib
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


class PonteError(Exception):
    """What went wrong, where, what was found, what was expected, and what to do next.

    Only `what` is required; the other parts become one indented line each.

    >>> print(PonteError("no such alias", where="model churn", got="'champ'", fix="use 'champion'"))
    no such alias
      where: model churn
      got: 'champ'
      next: use 'champion'
    """

    def __init__(self, what: str, *, where: str = "", got: str = "", expected: str = "", fix: str = "") -> None:
        parts = [("where", where), ("got", got), ("expected", expected), ("next", fix)]
        super().__init__("\n".join([what, *(f"  {label}: {text}" for label, text in parts if text)]))
        self.what = what
        #: What was given of the other parts.
        given = {"where": where, "got": got, "expected": expected, "fix": fix}
        self.parts = {name: text for name, text in given.items() if text}


#: A list of names longer than this hides the one that is meant.
MANY = 20


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Problem:
    """One breach of the model folder contract."""

    file: str
    #: Key, column or parameter in the file, or step of the estimator; empty when the file as a whole is meant.
    field: str = ""
    what: str
    fix: str = ""
    #: Line of the file as its author wrote it, from 1; 0 when none is meant.
    line: int = dataclasses.field(default=0, compare=False)

    def __str__(self) -> str:
        place = f"{self.file}: {self.field}" if self.field else self.file
        what = f"{self.what} (line {self.line})" if self.line else self.what
        return f"{place}: {what}" + (f" → {self.fix}" if self.fix else "")


class ModelFolderError(PonteError):
    """All problems of one model folder, sorted by file, in one message."""

    def __init__(self, model: str, problems: Iterable[Problem]) -> None:
        self.model = model
        self.problems = tuple(sorted(set(problems)))
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        lines = [f"model folder {model!r} has {count}:", *(f"  {n}. {p}" for n, p in enumerate(self.problems, 1))]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type[ModelFolderError], tuple[str, tuple[Problem, ...]]]:
        return type(self), (self.model, self.problems)


class WindowError(PonteError):
    """The asked window is not one of the model's windows."""


class SignatureMismatch(PonteError):
    """The feature columns differ from those the version was trained on; names each difference."""


class BatchRejected(PonteError):
    """A check, a guard or an empty window refused the batch; the previous publication stays."""


class WindowsUnfinished(PonteError):
    """Batches of earlier windows are still being scored; `guard` asks again later."""


class TrainingRefused(PonteError):
    """Too few rows, too few windows or a single class: no trustworthy model can come of it."""


class ArtifactRefused(PonteError):
    """Stored files differ from what was registered; nothing was loaded from them."""


class NoChampion(PonteError):
    """The model has no promoted version yet."""


class VersionMarkedBad(PonteError):
    """A person has marked the version bad; it is used only by who says so."""


class HindsightRefused(PonteError):
    """The version may have learned from what happened after the window's as_of."""


class AliasMoved(PonteError):
    """The alias no longer points where the caller saw it point."""


class Fenced(PonteError):
    """A newer run claimed the same window; this run may no longer change it."""


class UnpredictableRows(PonteError):
    """The estimator returned NaN, infinity or no probabilities for some rows; the others may be fine."""

    #: Shape (n,), boolean: the rows without a usable prediction. Set by who raises it.
    rows: np.ndarray[Any, Any]


class RowsLost(PonteError):
    """Rows frozen differ from rows published plus rows quarantined."""


class Withheld(PonteError):
    """Stands in the place of an error of a library, whose own words may hold values of rows; says its class."""


class DatabaseUnavailable(PonteError):
    """The database could not be reached, cancelled the statement, or is short of a resource."""


#: A log that is read in a browser cuts longer lines, or has them scrolled.
LINE = 120


def in_lines(error: PonteError) -> list[str]:
    """Return the error and what it was raised upon, the next step first, in lines of at most LINE characters.

    >>> in_lines(NoChampion("nothing to score with", where="model churn", fix="train it"))
    ['next: train it', 'NoChampion: nothing to score with', '  where: model churn']
    """
    lines = [f"next: {error.parts['fix']}"] if "fix" in error.parts else []
    lines += _described(error)
    cause = error.__cause__
    while isinstance(cause, Exception):
        first, *others = _described(cause, whole=True)
        lines += [f"because of {first}", *others]
        cause = cause.__cause__
    return [piece for line in lines for piece in _cut(line)]


def _described(error: BaseException, *, whole: bool = False) -> Iterator[str]:
    told = str(error).splitlines() or [""]
    yield f"{type(error).__name__}: {told[0]}"
    fix = error.parts.get("fix", "") if isinstance(error, PonteError) else ""
    last = len(told) - len(fix.splitlines())
    yield from told[1:] if whole else told[1:last]


def _cut(line: str) -> Iterator[str]:
    for part in line.splitlines():
        indent = " " * (len(part) - len(part.lstrip()) + 4)
        yield from textwrap.wrap(
            part, LINE, subsequent_indent=indent[: LINE // 2], drop_whitespace=True, break_on_hyphens=False
        )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'? " when a known name is close, plus the known names: all of a few, the closest of many.

    "" when there is no known name.

    >>> did_you_mean("colum", ["column", "value"])
    "did you mean 'column'? Known: column, value"
    """
    names = sorted(known)
    if not names:
        return ""
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    if len(names) <= MANY:
        return f"{hint}Known: {', '.join(names)}"
    closest = difflib.get_close_matches(name, names, n=MANY // 4, cutoff=0.0)
    return f"{hint}Closest of {len(names)}: {', '.join(closest)}"


class StackError(PonteError):
    """Something about the local stack that its user can fix; the message says what, where and how."""

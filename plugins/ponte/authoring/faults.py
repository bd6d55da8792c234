"""What an estimator raises, in words that name the step, the column and the cure.

A message of scikit-learn may quote a value of a row ("could not convert string to float: 'Smith'"), so what is known by
its words is told in others.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ponte.errors import Problem, did_you_mean
from ponte.model.estimator import ESTIMATOR_FILE, KEEPABLE, helper_problem, line_of, missing_package
from ponte.storage.columns import Column

if TYPE_CHECKING:
    import pandas as pd

    Frame = pd.DataFrame

#: What turns text into numbers.
ENCODE = (
    'encode it: OneHotEncoder(handle_unknown="ignore") for it in a make_column_transformer, or '
    'HistGradientBoosting…(categorical_features="from_dtype"), which takes categories as they are'
)
#: More categories than HistGradientBoosting takes.
MOST_CATEGORIES = 255
FEWER = (
    'group the rare values in features.sql, or encode it: OneHotEncoder(handle_unknown="infrequent_if_exist", '
    "max_categories=100) before the trees"
)
_OWN_COLUMN = 'give it one column by its name and not in a list: make_column_transformer((TfidfVectorizer(), "{name}"))'
_IN_DAYS = (
    "make a number of it in features.sql, for example extract(epoch FROM CAST(:as_of AS timestamptz) - {name})::float8 "
    "/ 86400 AS days_since_{name}, or leave it out"
)
_DATES = r"DateTime64|datetime64|DatetimeArray|Timestamp|could not be promoted|invalid type promotion"


@dataclass(frozen=True, kw_only=True)
class Raised:
    """An error of an estimator, and where in it."""

    error: BaseException
    #: "fit", "predict" or "pickle".
    doing: str
    #: Names of the pipelines' steps, then the class that raised; empty when none is known.
    step: str
    #: Columns that the step was given; those of the frame when it was given no frame.
    columns: tuple[Column, ...]
    #: Of the columns, those with a NULL.
    nullable: tuple[str, ...]
    vectorizers: tuple[str, ...]
    #: Columns that a ColumnTransformer gives a vectorizer in a list.
    vectorized: tuple[str, ...]

    @property
    def text(self) -> str:
        """The message."""
        return str(self.error)

    def of(self, *families: str) -> list[str]:
        """Return the names of the columns of these families."""
        return [c.name for c in self.columns if c.family in families]


def problem_of(error: BaseException, doing: str, *, model: str, estimator: Any, frame: Frame, columns: Any) -> Problem:
    """Return what is wrong with the estimator when it raised.

    doing : "fit", "predict" or "pickle". frame, columns : the features it was given, and their families.
    """
    raised = _where(error, doing, estimator, frame, columns)
    for rule in _RULES:
        said = rule(raised)
        if said is not None:
            break
    else:
        cure = f"./ponte try {model} shows the whole error; frame() of ponte.notebook the rows"
        said = f"{doing}() fails: {type(error).__name__}: {_first_line(error)}", cure
    what, fix = said
    field = raised.step or "build_estimator"
    return Problem(file=ESTIMATOR_FILE, field=field, what=f"{what}{line_of(error, model)}", fix=fix)


def steps_of(estimator: Any) -> Iterator[Any]:
    """Every estimator that one is made of, itself included."""
    yield estimator
    for value in estimator.get_params(deep=True).values():
        if hasattr(value, "get_params") and not isinstance(value, type):
            yield value


def vectorizers_in(estimator: Any) -> tuple[str, ...]:
    """Return the classes of the estimator's steps that read one text per row."""
    return tuple(sorted({type(step).__name__ for step in steps_of(estimator) if hasattr(step, "build_analyzer")}))


def _listed_for_vectorizers(estimator: Any) -> Iterator[str]:
    for step in steps_of(estimator):
        for _, part, columns in getattr(step, "transformers", None) or ():
            if hasattr(part, "get_params") and vectorizers_in(part) and isinstance(columns, list):
                yield from map(str, columns)


# ---------------------------------------------------------------- where


def _where(error: BaseException, doing: str, estimator: Any, frame: Frame, columns: Sequence[Column]) -> Raised:
    names: list[str] = []
    kind, given = "", frame
    rows: Any
    written = {type(step).__name__ for step in steps_of(estimator)}
    for found, _ in traceback.walk_tb(error.__traceback__):
        local = found.f_locals
        owner = local.get("self", local.get("transformer"))
        if not hasattr(owner, "get_params") or isinstance(owner, type):
            continue
        if type(owner).__name__ == "Pipeline" and isinstance(local.get("name"), str):
            names.append(local["name"])
        if type(owner).__name__ in written:
            kind = type(owner).__name__
        rows = local.get("X", local.get("raw_documents"))
        if hasattr(rows, "columns") and hasattr(rows, "dtypes"):
            given = rows
    known = [name for name in dict.fromkeys(names) if name.lower() != kind.lower()]
    seen = tuple(c for c in columns if c.name in set(map(str, given.columns))) or tuple(columns)
    return Raised(
        error=error,
        doing=doing,
        step=" / ".join([*known, kind] if kind else known),
        columns=seen,
        nullable=tuple(c.name for c in seen if frame[c.name].isna().any()),
        vectorizers=vectorizers_in(estimator),
        vectorized=tuple(_listed_for_vectorizers(estimator)),
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:300]


def _listed(names: Sequence[str], word: str = "column") -> str:
    return f"{word}{'s' if len(names) != 1 else ''} {', '.join(names)}"


# ---------------------------------------------------------------- what


def _not_imported(raised: Raised) -> tuple[str, str] | None:
    if not isinstance(raised.error, ImportError):
        return None
    helper = helper_problem(raised.error, ())
    cure = helper.fix if helper is not None else missing_package(raised.error)
    return f"{raised.doing}() fails: {_first_line(raised.error)}", cure


def _not_kept(raised: Raised) -> tuple[str, str] | None:
    if raised.doing != "pickle":
        return None
    return (
        f"the fitted estimator cannot be stored: {type(raised.error).__name__}: {_first_line(raised.error)}",
        KEEPABLE,
    )


def _categories(raised: Raised) -> tuple[str, str] | None:
    found = re.search(r"Categorical feature '(.+)' is expected to have a cardinality", raised.text)
    if found is None:
        return None
    return f"column {found[1]} has more than {MOST_CATEGORIES} different values", FEWER


def _vectorizer(raised: Raised) -> tuple[str, str] | None:
    if not raised.vectorizers or not re.search(
        r"inconsistent numbers of samples|incompatible row dimensions|has no attribute 'lower'|same number of rows",
        raised.text,
    ):
        return None
    texts = list(raised.vectorized) or raised.of("text")
    what = f"{' and '.join(raised.vectorizers)} is given a whole frame and reads the names of its columns, not its rows"
    if texts:
        what += f"; {_listed(texts)} " + ("are text" if len(texts) > 1 else "is text")
    return what, _OWN_COLUMN.format(name=texts[0] if len(texts) == 1 else "<column>")


def _null_document(raised: Raised) -> tuple[str, str] | None:
    if "np.nan is an invalid document" not in raised.text:
        return None
    names = [name for name in raised.nullable if name in raised.of("text")]
    name = names[0] if names else "<column>"
    return (
        f"{_listed(names)} has NULL, and a vectorizer reads text only",
        f"coalesce({name}, '') AS {name} in features.sql",
    )


def _text(raised: Raised) -> tuple[str, str] | None:
    if not re.search(
        r"could not convert string to float|Cannot (cast|use) .*(object|str)|to convert .* to float", raised.text
    ):
        return None
    names = raised.of("text")
    return f"{_listed(names)} is text, and no step before this one makes numbers of it" if len(names) == 1 else (
        f"{_listed(names)} are text, and no step before this one makes numbers of them"
    ), ENCODE


def _timestamp(raised: Raised) -> tuple[str, str] | None:
    names = raised.of("date", "timestamp")
    if not names or not re.search(_DATES, raised.text):
        return None
    what = f"{_listed(names)} {'are' if len(names) > 1 else 'is'} a moment, which an estimator cannot learn from"
    return what, _IN_DAYS.format(name=names[0])


def _missing(raised: Raised) -> tuple[str, str] | None:
    if "contains NaN" not in raised.text:
        return None
    # A text with NULL is an encoder's business; what an encoder makes of it is no NaN.
    names = [name for name in raised.nullable if name not in raised.of("text")] or list(raised.nullable)
    what = "a step before this one makes NaN, which this step does not take"
    if names:
        what = f"{_listed(names)} {'hold' if len(names) > 1 else 'holds'} NULL, which this step does not take"
    return what, "put SimpleImputer() before it, or use HistGradientBoosting…, which takes NULL as it is"


def _unknown_category(raised: Raised) -> tuple[str, str] | None:
    found = re.search(r"Found unknown categories .* in column (\d+)", raised.text)
    if found is None:
        return None
    names = [c.name for c in raised.columns]
    place = int(found[1])
    name = names[place] if place < len(names) else found[1]
    return f"column {name} has a value that the fitting rows do not have", 'handle_unknown="ignore" in the encoder'


def _no_such_column(raised: Raised) -> tuple[str, str] | None:
    known = [c.name for c in raised.columns]
    cause = raised.error.__cause__ or raised.error.__context__ or raised.error
    found = re.search(r"(?:unexpected feature names: |not columns of the dataframe: )[\[{]?'([^']+)'", raised.text)
    if found is None and "not a column of the dataframe" not in raised.text and not isinstance(raised.error, KeyError):
        return None
    name = found[1] if found else str(cause.args[0]).strip("'\"") if cause.args else ""
    if (listed := re.search(r"\['([^']+)'", name)) is not None:  # "['itemz'] not in index"
        name = listed[1]
    return f"the step names the column {name!r}, which features.sql does not return", did_you_mean(name, known)


def _by_name(raised: Raised) -> tuple[str, str] | None:
    if "only supported for dataframes" not in raised.text:
        return None
    fix = "let the ColumnTransformer be the first step: what comes out of a step before it has no names"
    return "columns are chosen by name behind a step that returns an array without names", fix


_RULES: tuple[Callable[[Raised], tuple[str, str] | None], ...] = (
    _not_imported,
    _not_kept,
    _categories,
    _vectorizer,
    _null_document,
    _timestamp,
    _text,
    _missing,
    _unknown_category,
    _no_such_column,
    _by_name,
)

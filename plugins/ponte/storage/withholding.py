"""What may be said of an error where others read it: its class and where it happened, never a value of a row.

Libraries write values into their messages ("unknown categories ['…']"), and PostgreSQL into its own: into the DETAIL of
a key that is there twice, the CONTEXT of a COPY, the text of a value that it cannot read. Logs of tasks, `why` of a
batch and the results of checks are read by people who may not read rows. Only `ponte.quarantine` keeps such words.
"""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from ponte.errors import PonteError, Withheld

log = logging.getLogger(__name__)

#: Classes of SQLSTATE whose first line names tables, constraints and settings, but no values. Class 42 does so while
#: the statement is parsed; a cast of a value to regclass fails in the same class.
_TELL_NAMES = frozenset({"08", "23", "25", "28", "3D", "40", "53", "54", "55", "57", "58"})
_ABOUT_SQL = frozenset({"0A", "42"})
_NO_RIGHT = "42501"


def said_of(error: BaseException) -> str:
    """Return the class of the error; of PostgreSQL's also the SQLSTATE, and the first line unless it may hold values.

    A PonteError says itself.
    """
    if isinstance(error, PonteError):
        return str(error)
    if isinstance(error, sa.exc.DBAPIError) and error.orig is not None:
        error = error.orig
    name = type(error).__name__
    if not type(error).__module__.startswith(("psycopg2", "adbc_driver_manager")):
        return name
    state, message, in_text = _diagnosis(error)
    if not state:
        # Then it is libpq that speaks, of the connection. ADBC puts what Python raised into its words.
        lost = type(error).__module__.startswith("psycopg2") and name in ("OperationalError", "InterfaceError")
        return f"{name}: {str(error).strip()}" if lost else name
    tells_names = state[:2] in _TELL_NAMES or state == _NO_RIGHT or (state[:2] in _ABOUT_SQL and in_text)
    return f"{name} (SQLSTATE {state})" + (f": {message}" if tells_names and message else "")


def _diagnosis(error: BaseException) -> tuple[str, str, bool]:
    """Return SQLSTATE, first line, and whether it points at a place in the statement, as only the parser does."""
    if (diagnosis := getattr(error, "diag", None)) is not None:
        position = diagnosis.statement_position
        return str(getattr(error, "pgcode", None) or ""), diagnosis.message_primary or "", bool(position)
    details: dict[Any, Any] = dict(getattr(error, "details", None) or ())
    message = details.get(b"PG_DIAG_MESSAGE_PRIMARY", details.get("PG_DIAG_MESSAGE_PRIMARY", b""))
    position = {b"PG_DIAG_STATEMENT_POSITION", "PG_DIAG_STATEMENT_POSITION"} & details.keys()
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
    return str(getattr(error, "sqlstate", None) or ""), text, bool(position)


def without_values(error: BaseException) -> BaseException:
    """Return what to raise in the place of the error, outside of any `except`, with the same traceback and causes.

    PonteErrors, and what Airflow raises to steer a task, are themselves; of all others, causes too, only what `said_of`
    says is left.
    """
    return _told(error, set())


def _told(error: BaseException, seen: set[int]) -> BaseException:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    keep = isinstance(error, PonteError) or not isinstance(error, Exception) or _of_airflow(error)
    told = (
        error if keep else Withheld(said_of(error), where=_place(error), fix=_FIX).with_traceback(error.__traceback__)
    )
    told.__cause__ = _told(before, seen) if before is not None and id(before) not in seen else None
    told.__context__ = None
    told.__suppress_context__ = True
    return told


_FIX = (
    "its own words may hold values of rows and are withheld; do the same with the model folder where you may read them"
)


def _of_airflow(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == "airflow"


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}, line {frames[-1].lineno}, in {frames[-1].name}" if frames else ""


@contextmanager
def warnings_without_values() -> Iterator[None]:
    """Log Python's warnings by class and place alone: libraries write values into these, too."""
    before = warnings.showwarning

    def show(*told: Any, **_: Any) -> None:
        _, category, filename, lineno = told[:4]
        log.warning("%s at %s, line %d", category.__name__, filename, lineno)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before

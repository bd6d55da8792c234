"""Which rows PostgreSQL can hold: of how many bytes, and with which keys in an index.

A row lies in one page of 8 kB. What is long in it (text, numeric) moves out and leaves a pointer; numbers, dates and
booleans stay where they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import sqlalchemy as sa

from ponte.errors import ModelFolderError, Problem

#: What a page of 8 kB holds of one row, its header included.
ROW_BYTES = 8160
#: What stays in the row of a value that moved out of it. PostgreSQL moves none of up to 24 bytes: a row of nothing but
#: such texts takes up to a third more than is counted here, and `too_wide_explained` is for that.
POINTER_BYTES = 18
#: A key has to go into an index, of at most 32 columns, the batch's id among them.
KEY_COLUMNS = 31
#: What an index holds of one row: a third of a page.
_INDEX_BYTES = 2704
#: Header and batch id before the key; then, at most, length and alignment of a text, or another value with its.
_INDEX_BEGINS, _INDEX_TEXT, _INDEX_OTHER = 16, 7, 15

#: Type → bytes, at which multiple of bytes it begins.
_FIXED = {
    "bool": (1, 1),
    "int2": (2, 2),
    "int4": (4, 4),
    "float4": (4, 4),
    "date": (4, 4),
    "int8": (8, 8),
    "float8": (8, 8),
    "timestamp": (8, 8),
    "timestamptz": (8, 8),
    "name": (64, 1),
}
_HEADER = 23
#: What a snapshot holds beside the columns of features.sql, in the order of its table.
_BEFORE, _AFTER = (("window_start", "date"),), (("label", "text"), ("labelled_at", "timestamptz"))
#: How many of the widest columns a message names.
_NAMED = 5
_ROW_TOO_BIG = "54000"

FIX = "return fewer columns, or narrower ones (real, integer, smallint, boolean): about 1,000 numbers or 450 texts fit"


def width(kind: str) -> int:
    """Return how many bytes a column of this type may need in a row: "float8", "numeric(8,2)", "varchar(3)".

    >>> width("float8"), width("numeric(8,2)"), width("varchar(3)"), width("text")
    (8, 9, 13, 18)
    """
    return _width_and_alignment(kind)[0]


def _width_and_alignment(kind: str) -> tuple[int, int]:
    if kind in _FIXED:
        return _FIXED[kind]
    name, arguments = of_declaration(kind)
    longest = POINTER_BYTES
    if name == "numeric" and len(arguments) == 2:  # noqa: PLR2004 - precision and scale
        precision, scale = arguments
        # Four digits are two bytes, beginning at the point; header and length are three.
        longest = 3 + 2 * (-(-max(0, precision - scale) // 4) - (-max(0, scale) // 4))
    elif name in ("varchar", "bpchar") and arguments:
        longest = 1 + 4 * arguments[0]  # a character is up to four bytes
    return min(longest, POINTER_BYTES), 1


def of_declaration(kind: str) -> tuple[str, tuple[int, ...]]:
    """Return a type and what it was declared with.

    >>> of_declaration("numeric(8,2)"), of_declaration("text")
    (('numeric', (8, 2)), ('text', ()))
    """
    found = re.fullmatch(r"(\w+)\(([-\d,]+)\)", kind)
    return (found[1], tuple(int(n) for n in found[2].split(","))) if found else (kind, ())


def row_bytes(kinds: Sequence[tuple[str, str]]) -> int:
    """Return how many bytes a row of (name, type) may need in the frozen table of a snapshot: a batch's is narrower."""
    columns = (*_BEFORE, *kinds, *_AFTER)
    size = _aligned(_HEADER + -(-len(columns) // 8), 8)
    for _, kind in columns:
        wide, begins = _width_and_alignment(kind)
        size = _aligned(size, begins) + wide
    return _aligned(size, 8)


def _aligned(size: int, to: int) -> int:
    return -(-size // to) * to


def width_problem(file: str, kinds: Sequence[tuple[str, str]]) -> Problem | None:
    """Return what is wrong with columns whose rows no page can hold, naming the widest; None when all is well."""
    size = row_bytes(kinds)
    if size <= ROW_BYTES:
        return None
    widest = sorted(kinds, key=lambda column: -width(column[1]))[:_NAMED]
    named = f"the widest of {len(kinds):,} columns: " + ", ".join(f"{n} ({kind}, {width(kind)})" for n, kind in widest)
    what = f"a row may need {size:,} bytes, and PostgreSQL holds {ROW_BYTES:,}; {named}"
    return Problem(file=file, what=what, fix=FIX)


@contextmanager
def too_wide_explained(model: str) -> Iterator[None]:
    """Turn PostgreSQL's "row is too big" into a ModelFolderError that says what helps."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != _ROW_TOO_BIG:
            raise
        said = str(error.orig).strip().partition("\n")[0]
        what = f"PostgreSQL cannot hold a row that it returns: {said}"
        raise ModelFolderError(model, [Problem(file="features.sql", what=what, fix=FIX)]) from error


def key_room(families: Mapping[str, str]) -> int:
    """Return how many bytes the texts of a key may have together to fit into the index of the predictions.

    families : column of the key → type family.

    >>> key_room({"url": "text"}), key_room({"url": "text", "visit_id": "integer"})
    (2681, 2666)
    """
    texts = sum(family == "text" for family in families.values())
    return _INDEX_BYTES - _INDEX_BEGINS - _INDEX_TEXT * texts - _INDEX_OTHER * (len(families) - texts)

"""What is written in a file, read as the type that a version was trained on, as PostgreSQL would read it.

A value means the same whatever else stands in its chunk. What cannot be read is told apart from what is NULL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ponte.errors import SignatureMismatch
from ponte.storage.columns import Column, Family

if TYPE_CHECKING:
    import pyarrow as pa

    # pyarrow's functions take and return arrays of types that are known when the file is.
    Array = Any

# All that Arrow takes for a number, and a little more: what does not match is not even tried.
_NUMBER = r"^[+-]?(?i:nan|inf|infinity|[0-9]*\.?[0-9]*(e[+-]?[0-9]+)?)$"
# 3.0 is how pandas writes the integer 3 of a column that has a NULL.
_INTEGER = r"^([+-]?[0-9]+(\.0*)?|0[xX][0-9a-fA-F]+)$"
_NO_DIGIT_OF_INTEGER = r"^\+|\.0*$"
# 0 is then what is left of a number that is smaller than any double precision.
_NOT_ZERO = r"^[^eE]*[1-9]"
_TRUE = ("t", "true", "y", "yes", "on", "1")
_FALSE = ("f", "false", "n", "no", "off", "0")
_MIDNIGHT = r"[ T]00:00(:00(\.0+)?)?(Z|[+-]00(:?00)?)?$"
_DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_ZONE = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
_BEYOND_MICROSECONDS = r"(\.[0-9]{6})0+"


def read_values(given: pa.ChunkedArray[Any], column: Column, *, where: str) -> tuple[Array, Array]:
    """Return the values as the Arrow type of the column's family, and a mask of those that cannot be read as that.

    given : text, as bytes or as a string; or, from Parquet, any type. What cannot be read is NULL in the values. Empty
    text is NULL of every family but text. A timestamp without a zone is UTC. Raises SignatureMismatch when no value of
    the type can be one of the family.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    values = given.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = pc.cast(values, values.type.value_type)
    target = arrow_type(column.family)
    if _IS[column.family](values.type):
        unsafe = column.family == "number"  # an integer beyond 2**53 is rounded, as by PostgreSQL's cast
        found = _by_halves(lambda part: pc.cast(part, target, safe=not unsafe), values, target)
        return found, pc.and_(pc.is_valid(values), pc.is_null(found))
    if not _can_be_text(values.type, column.family):
        got = f"column {column.name!r} holds {values.type}"
        raise SignatureMismatch("a column is not what it was in training", where=where, got=got, expected=column.family)
    text = _by_halves(lambda part: pc.cast(part, pa.string()), values, pa.string())
    broken = pc.and_(pc.is_valid(values), pc.is_null(text))  # no UTF-8
    if column.family == "text":
        return text, broken
    text = pc.utf8_trim_whitespace(pc.if_else(pc.equal(text, pa.scalar("")), pa.scalar(None, pa.string()), text))
    found = _READERS[column.family](text)
    return found, pc.or_(broken, pc.and_(pc.is_valid(text), pc.is_null(found)))


def arrow_type(family: Family) -> pa.DataType:
    """Return the type by which values of the family travel, as ADBC reads them from the database."""
    import pyarrow as pa

    types: dict[Family, pa.DataType] = {
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "text": pa.string(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
    return types[family]


def _is(*names: str) -> Callable[[pa.DataType], bool]:
    def tell(kind: pa.DataType) -> bool:
        import pyarrow as pa

        return pa.types.is_null(kind) or any(getattr(pa.types, f"is_{name}")(kind) for name in names)

    return tell


#: Family → tells whether Arrow itself casts the type to that of the family, value for value.
_IS: dict[Family, Callable[[Any], bool]] = {
    "integer": _is("integer"),
    "number": _is("integer", "floating", "decimal"),
    "boolean": _is("boolean"),
    "text": _is("string", "large_string"),
    "date": _is("date"),
    "timestamp": _is("timestamp"),
}


def _can_be_text(kind: pa.DataType, family: Family) -> bool:
    """Tell whether the type's text says what it is. 5.0 is no category 5, and what 5 seconds are nobody knows."""
    import pyarrow as pa

    known = _is("string", "large_string", "binary", "large_binary", "integer", "boolean")(kind)
    if family == "integer":
        return known or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return known or (family in ("date", "timestamp") and (pa.types.is_date(kind) or pa.types.is_timestamp(kind)))


def _by_halves(read: Callable[[Array], Array], values: Array, target: pa.DataType) -> Array:
    """Return what `read` makes of the values, NULL for each that it fails on: one in n costs 2 * log2(n) calls."""
    import pyarrow as pa

    try:
        return read(values)
    except pa.ArrowInvalid:
        if len(values) == 1:
            return pa.array([None], target)
        half = len(values) // 2
        return pa.concat_arrays([_by_halves(read, part, target) for part in (values[:half], values[half:])])


def _cast_of(text: Array, target: pa.DataType, grammar: str, cleaned: Callable[[Array], Array]) -> Array:
    """Return the text as Arrow casts it; if it cannot cast all, what fits the grammar, cleaned, one by one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return pc.cast(text, target)
    except pa.ArrowInvalid:
        fitting = pc.if_else(pc.match_substring_regex(text, grammar), text, pa.scalar(None, pa.string()))
        return _by_halves(lambda part: pc.cast(part, target), cleaned(fitting), target)


def _numbers(text: Array) -> Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = _cast_of(text, pa.float64(), _NUMBER, lambda fitting: fitting)
    nothing = pa.scalar(None, pa.string())
    infinite = pc.if_else(pc.is_inf(found), text, nothing)
    zero = pc.if_else(pc.equal(found, pa.scalar(0.0)), text, nothing)
    beyond = pc.or_kleene(
        pc.and_(pc.is_valid(infinite), pc.invert(pc.match_substring(infinite, "inf", ignore_case=True))),
        pc.match_substring_regex(zero, _NOT_ZERO),
    )
    return pc.if_else(pc.fill_null(beyond, pa.scalar(False)), pa.scalar(None, pa.float64()), found)


def _integers(text: Array) -> Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    def cleaned(fitting: Array) -> Array:
        return pc.replace_substring_regex(fitting, _NO_DIGIT_OF_INTEGER, "")

    return _cast_of(text, pa.int64(), _INTEGER, cleaned)


def _booleans(text: Array) -> Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    lower = pc.utf8_lower(text)
    true, false = (pc.is_in(lower, pa.array(words)) for words in (_TRUE, _FALSE))
    return pc.if_else(pc.or_(true, false), true, pa.scalar(None, pa.bool_()))


def _dates(text: Array) -> Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    days = pc.replace_substring_regex(text, _MIDNIGHT, "")
    return _cast_of(days, pa.date32(), _DAY, lambda fitting: fitting)


def _timestamps(text: Array) -> Array:
    import pyarrow.compute as pc

    whole = pc.if_else(pc.match_substring_regex(text, _DAY), pc.binary_join_element_wise(text, "00:00", " "), text)
    whole = pc.replace_substring_regex(whole, _BEYOND_MICROSECONDS, r"\1")
    zoned = pc.match_substring_regex(whole, f"[0-9]:[0-9.:]+{_ZONE}")
    whole = pc.if_else(zoned, whole, pc.binary_join_element_wise(whole, "Z", ""))
    return _cast_of(whole, arrow_type("timestamp"), r"^[0-9]{4}-", lambda fitting: fitting)


_READERS: dict[Family, Callable[[Any], Any]] = {
    "integer": _integers,
    "number": _numbers,
    "boolean": _booleans,
    "date": _dates,
    "timestamp": _timestamps,
}

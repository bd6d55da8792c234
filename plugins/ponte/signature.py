"""The columns a version was trained on, and the one way from Arrow to what its estimator is given."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from ponte.errors import SignatureMismatch

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Family = Literal["integer", "number", "boolean", "text", "date", "timestamp"]

#: PostgreSQL type → family. Types of one family are read as one type, so int4 → int8 is no change to an estimator.
FAMILIES: dict[str, Family] = {
    "int2": "integer", "int4": "integer", "int8": "integer",
    "float4": "number", "float8": "number", "numeric": "number",
    "bool": "boolean",
    "text": "text", "varchar": "text", "bpchar": "text", "name": "text",
    "date": "date", "timestamptz": "timestamp", "timestamp": "timestamp",
}  # fmt: skip

#: Family → the type it is read and stored as. ADBC would return numeric as text.
SQL_TYPES: dict[Family, str] = {
    "integer": "bigint",
    "number": "double precision",
    "boolean": "boolean",
    "text": "text",
    "date": "date",
    "timestamp": "timestamp with time zone",
}
KEY_FAMILIES: frozenset[Family] = frozenset({"integer", "text", "date", "timestamp"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column and its type family."""

    name: str
    family: Family

    def as_json(self) -> dict[str, str]:
        return {"name": self.name, "family": self.family}


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """What a version reads: the key, the features in the order the estimator knows, and the family of the label."""

    key: tuple[Column, ...]
    features: tuple[Column, ...]
    label: Family

    def as_json(self) -> dict[str, Any]:
        """Return JSON-ready data. Law: `Signature.from_json(s.as_json()) == s`."""
        return {
            "key": [c.as_json() for c in self.key],
            "features": [c.as_json() for c in self.features],
            "label": self.label,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Signature:
        """Return the signature that `as_json` wrote."""
        return cls(
            key=tuple(Column(**c) for c in data["key"]),
            features=tuple(Column(**c) for c in data["features"]),
            label=data["label"],
        )


def differences(expected: Sequence[Column], got: Sequence[Column]) -> list[str]:
    """Return one sentence per column that is missing, unexpected or of another family; order does not matter."""
    wanted, found = {c.name: c.family for c in expected}, {c.name: c.family for c in got}
    extra = sorted(found.keys() - wanted.keys())
    sentences = []
    for name in sorted(wanted.keys() - found.keys()):
        close = difflib.get_close_matches(name, extra, n=1)
        sentences.append(f"column {name!r} ({wanted[name]}) is gone" + (f"; renamed to {close[0]!r}?" if close else ""))
    sentences += [f"column {name!r} ({found[name]}) is new" for name in extra]
    sentences += [
        f"column {name!r} was {wanted[name]} and is {found[name]} now"
        for name in sorted(wanted.keys() & found.keys())
        if wanted[name] != found[name]
    ]
    return sentences


def require_same(expected: Sequence[Column], got: Sequence[Column], *, model: str, version: int) -> None:
    """Raise SignatureMismatch, naming each difference, unless `got` offers exactly the expected columns."""
    found = differences(expected, got)
    if found:
        raise SignatureMismatch(
            "the columns of features.sql are not those the version was trained on",
            where=f"model {model}, version {version}, features.sql",
            got="; ".join(found),
            expected=", ".join(f"{c.name} ({c.family})" for c in expected),
            fix=f"restore the columns, or train {model} again on the new ones",
        )


def describe(cursor_description: Sequence[Any], connection: sa.Connection) -> list[tuple[str, str, Family | None]]:
    """Return (name, PostgreSQL type, family or None when Ponte cannot carry the type) per column of a query."""
    oids = [column[1] for column in cursor_description]
    rows = connection.execute(sa.text("SELECT oid, typname FROM pg_type WHERE oid = ANY(:oids)"), {"oids": oids})
    names: dict[int, str] = dict(rows.all())
    return [
        (column[0], names.get(column[1], "?"), FAMILIES.get(names.get(column[1], "?"))) for column in cursor_description
    ]


def select_list(columns: Sequence[Column]) -> str:
    """Return the SELECT list that reads `columns` in this order, each as the one type of its family."""
    from ponte.database import quote

    return ", ".join(f"CAST({quote(c.name)} AS {SQL_TYPES[c.family]}) AS {quote(c.name)}" for c in columns)


def to_frame(table: pa.Table | pa.RecordBatch, columns: Sequence[Column]) -> pd.DataFrame:
    """Return the columns as the DataFrame that estimators are trained on and asked with.

    Shape (n_rows, len(columns)), in the order of `columns`. text → category; integer → int64, or float64 when the
    chunk holds a NULL; number → float64; boolean → bool, or float64 when the chunk holds a NULL; date and timestamp →
    datetime64. NULL becomes NaN (or NaT), in text a missing category.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    series: dict[str, Any] = {}
    for column in columns:
        values = table.column(column.name)
        if column.family == "text":
            values = pc.dictionary_encode(values)
        elif column.family == "boolean" and values.null_count:
            values = pc.cast(values, pa.float64())
        elif column.family == "date":
            values = pc.cast(values, pa.timestamp("s"))
        series[column.name] = values.to_pandas()
    return pd.DataFrame(series, columns=[c.name for c in columns])

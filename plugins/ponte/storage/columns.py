"""Columns and their type families: PostgreSQL ⇄ Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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


def select_list(columns: Sequence[Column]) -> str:
    """Return the SELECT list that reads `columns` in this order, each as the one type of its family."""
    from ponte.storage.database import quote

    return ", ".join(f"CAST({quote(c.name)} AS {SQL_TYPES[c.family]}) AS {quote(c.name)}" for c in columns)

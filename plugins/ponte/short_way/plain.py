"""Rows as JSON gives them: lists of Python values. Of a few rows, Arrow takes longer than all that is computed of them.

An answer to one row needs no table. Who writes or counts what was answered makes one of many, later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class PlainRows:
    """Rows of a schema. They are read as those of a table are, by `num_rows` and `column`."""

    schema: pa.Schema
    #: Name of each column of the schema → a value per row: bool, int, float, str, date or aware datetime, as the type
    #: of the column says; None for NULL.
    columns: Mapping[str, list[Any]]
    num_rows: int

    def column(self, name: str) -> list[Any]:
        """Return the values of a column."""
        return self.columns[name]

    def take(self, places: Sequence[int]) -> PlainRows:
        """Return the rows at some places."""
        chosen = {name: [values[place] for place in places] for name, values in self.columns.items()}
        return PlainRows(self.schema, chosen, len(places))

    def table(self) -> pa.Table:
        """Return them as a table."""
        import pyarrow as pa

        return pa.table(dict(self.columns), schema=self.schema)


def plain_rows(table: pa.Table) -> PlainRows:
    """Return the rows of a table as plain ones."""
    return PlainRows(table.schema, table.to_pydict(), table.num_rows)


def joined(parts: Iterable[PlainRows], names: Sequence[str]) -> pa.Table:
    """Return some columns of all rows, one part after the other, as one table; the parts have one schema."""
    import pyarrow as pa

    parts = list(parts)
    columns = {name: [value for part in parts for value in part.columns[name]] for name in names}
    return pa.table(columns, schema=pa.schema([parts[0].schema.field(name) for name in names]))

"""Values on their way to the last step of a pipeline: from Arrow or plain lists, without a frame, to its matrix.

They are one of three: a list of columns, each a float64 array (NaN for NULL) or a `Text`; a float64 matrix of shape
(n_rows, width), which belongs to nobody else; a `Sparse` one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from ponte.short_way.plain import PlainRows

    Array = np.ndarray[Any, Any]

#: Of how many rows at most a text column is taken row by row: to encode it would take longer.
FEW_ROWS = 256
#: Families whose columns are float64 in a frame, whatever the rows are.
NUMBERS = frozenset({"number", "integer", "boolean"})
#: How a matrix lies in memory: row by row or column by column. A matrix product rounds by it.
Order = Literal["C", "F"]


class NotKnown(Exception):
    """The short way cannot be taken: by this estimator, or with these rows. Its text says why, without any value."""


@dataclass(frozen=True, slots=True)
class Text:
    """A column of text."""

    #: Texts, None for NULL: those of the rows; with codes any that they point to.
    values: Sequence[str | None]
    #: Shape (n_rows,), place of each row's text in `values`.
    codes: Array | None = None

    def __len__(self) -> int:
        return len(self.values if self.codes is None else self.codes)

    def places(self, known: Mapping[str | None, int]) -> Array:
        """Return the place of each row's text, -1 of one that is not known; shape (n_rows,)."""
        import numpy as np

        found = np.array([known.get(value, -1) for value in self.values], np.intp)
        return found if self.codes is None else found[self.codes]


@dataclass(frozen=True, slots=True)
class Sparse:
    """Values of which most are 0: row by row m candidates, in ascending order of their columns."""

    #: Shape (n_rows, m) or (m,): the column of each candidate; -1 where there is none.
    places: Array
    #: Shape (n_rows, m).
    data: Array
    width: int

    def put_into(self, matrix: Array) -> None:
        """Write the values into a matrix of shape (n_rows, width)."""
        import numpy as np

        matrix[...] = 0.0
        rows, slots = np.nonzero(self.places >= 0)
        matrix[rows, self.places[rows, slots]] = self.data[rows, slots]

    def as_csr(self) -> Any:
        """Return the csr matrix of scikit-learn's setting, canonical."""
        import numpy as np
        import sklearn
        from scipy import sparse

        there = self.places >= 0
        ends = np.zeros(len(there) + 1, np.int32)
        np.cumsum(there.sum(axis=1), out=ends[1:])
        make = sparse.csr_array if sklearn.get_config().get("sparse_interface") == "sparray" else sparse.csr_matrix
        shape = (len(there), self.width)
        return make((self.data[there], self.places[there].astype(np.int32), ends), shape=shape)


def columns_of(rows: pa.Table | pa.RecordBatch | PlainRows, columns: Sequence[tuple[str, str]]) -> list[Any]:
    """Return the columns as values of this module, in the order of `columns`, which are (name, family).

    A column of any family but text and NUMBERS is None.
    """
    few = rows.num_rows <= FEW_ROWS
    return list(_columns(rows, columns, few=few))


def _columns(
    rows: pa.Table | pa.RecordBatch | PlainRows, columns: Sequence[tuple[str, str]], *, few: bool
) -> Iterator[Any]:
    for name, family in columns:
        if family in NUMBERS:
            yield _numbers(rows.column(name))
        elif family == "text":
            values = rows.column(name)
            if isinstance(values, list):
                yield Text(values)
            else:
                yield Text(values.to_pylist()) if few else _encoded(values)
        else:
            yield None


def _numbers(values: Any) -> Array:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(values, list):
        return np.array(values, np.float64)  # None is NaN, True 1.0, and an integer the number next to it
    # For a row, Arrow's own conversion takes five times as long as all else that is done with a column.
    if values.type != pa.float64() and not pa.types.is_integer(values.type):
        values = pc.cast(values, pa.float64(), safe=False)
    numbers: Array = values.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return numbers


def _encoded(values: Any) -> Text:
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    encoded = pc.dictionary_encode(values)
    texts = [*encoded.dictionary.to_pylist(), None]
    return Text(texts, pc.fill_null(encoded.indices, len(texts) - 1).to_numpy(zero_copy_only=False))


def as_matrix(values: Any, order: Order) -> Array:
    """Return values of any of the three as a matrix, which is new unless they are one; raises NotKnown for text."""
    import numpy as np

    if isinstance(values, Sparse):
        matrix = np.empty((len(values.places), values.width), order=order)
        values.put_into(matrix)
        return matrix
    if not isinstance(values, list):
        same: Array = values
        return same
    matrix = np.empty((len(values[0]), len(values)), order=order)
    for place, column in enumerate(values):
        matrix[:, place] = column
    return matrix


def side_by_side(parts: Sequence[Any], order: Order) -> Array:
    """Return the parts as one matrix."""
    import numpy as np

    matrices = [part if isinstance(part, Sparse) else as_matrix(part, order) for part in parts]
    widths = [part.width if isinstance(part, Sparse) else part.shape[1] for part in matrices]
    first = matrices[0]
    whole = np.empty((len(first.places if isinstance(first, Sparse) else first), sum(widths)), order=order)
    start = 0
    for part, width in zip(matrices, widths, strict=True):
        room = whole[:, start : start + width]
        if isinstance(part, Sparse):
            part.put_into(room)
        else:
            room[...] = part
        start += width
    return whole


def sparse_side_by_side(parts: Sequence[Any]) -> Sparse:
    """Return the parts as one sparse matrix, which holds no 0 of the dense ones."""
    import numpy as np

    places, data, start = [], [], 0
    for part in parts:
        if isinstance(part, Sparse):
            places.append(np.where(part.places >= 0, part.places + start, -1))
            data.append(part.data)
            start += part.width
        else:
            matrix = as_matrix(part, "C")
            places.append(np.where(matrix != 0, np.arange(start, start + matrix.shape[1]), -1))
            data.append(matrix)
            start += matrix.shape[1]
    return Sparse(np.hstack(places), np.hstack(data), start)

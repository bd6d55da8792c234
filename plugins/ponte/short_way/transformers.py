"""What the transformers of scikit-learn that are known exactly do to values: one function per class.

Each function takes a fitted transformer and the kind of its values, and returns what it does to values and their kind
afterwards, or raises NotKnown. The operations are those of scikit-learn, in its order, so the bits are too; what it
would refuse or warn of raises NotKnown, so that scikit-learn itself is asked. Their laws are tests:
`tests/unit/short_way/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ponte.short_way.values import NUMBERS, NotKnown, Order, Sparse, Text, as_matrix

if TYPE_CHECKING:
    from ponte.short_way.values import Array

#: From values to values. A matrix that it is given may be changed.
Work = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of values before there are any."""

    #: Family of each column.
    families: tuple[str, ...]
    #: Names of the columns; () where they have none.
    names: tuple[str, ...] = ()
    form: Literal["columns", "matrix", "sparse"] = "columns"
    #: How the matrices that are made of them lie in memory.
    order: Order = "C"

    @property
    def numbers(self) -> bool:
        """All of them, and at least one."""
        return bool(self.families) and set(self.families) <= NUMBERS

    def require_numbers(self) -> None:
        """Raise NotKnown unless all columns are numbers."""
        if not self.numbers:
            others = sorted(set(self.families) - NUMBERS)
            raise NotKnown(f"numbers are known there, and not {', '.join(others) or 'no column at all'}")


Made = tuple[Work, Kind]


def require(holds: object, what: str) -> None:
    """Raise NotKnown with `what` unless it holds."""
    if not holds:
        raise NotKnown(what)


def unchanged(step: Any, kind: Kind) -> Made:
    """FunctionTransformer without a function, which is what pass-through is too: values stay as they are."""
    require(step.func is None and not step.validate, "FunctionTransformer with a function or with validate=True")
    return (lambda values: values), kind


def simple_imputer(step: Any, kind: Kind) -> Made:
    """SimpleImputer: a missing value becomes the statistic of its column."""
    import numpy as np

    missing = step.missing_values
    require(isinstance(missing, float) and np.isnan(missing), "SimpleImputer with missing_values of its own")
    require(not step.add_indicator and step.copy, "SimpleImputer with add_indicator=True or copy=False")
    statistics = np.asarray(step.statistics_)
    if set(kind.families) == {"text"} and kind.form == "columns":
        require(all(isinstance(text, str) for text in statistics), "SimpleImputer of a text column without any text")
        return _filled_texts(statistics.tolist()), kind
    kind.require_numbers()
    require(kind.form != "sparse", "SimpleImputer after a sparse step")
    require(statistics.dtype == np.float64, "SimpleImputer that was fitted on other types")
    require(not np.isnan(statistics).any(), "SimpleImputer of a column without any value")

    def fill(values: Any) -> Array:
        matrix = _finite(as_matrix(values, kind.order))
        empty = np.isnan(matrix)
        if empty.any():
            np.copyto(matrix, statistics, where=empty)
        return matrix

    return fill, replace(kind, form="matrix")


def _filled_texts(statistics: Sequence[str]) -> Work:
    def fill(values: Any) -> list[Text]:
        return [
            replace(column, values=[text if value is None else value for value in column.values])
            for column, text in zip(values, statistics, strict=True)
        ]

    return fill


def standard_scaler(step: Any, kind: Kind) -> Made:
    """StandardScaler: less the mean, by the standard deviation."""
    return _scaler(step, kind, less=step.mean_ if step.with_mean else None, by=step.scale_ if step.with_std else None)


def robust_scaler(step: Any, kind: Kind) -> Made:
    """RobustScaler: less the median, by the range between quantiles."""
    less, by = step.center_ if step.with_centering else None, step.scale_ if step.with_scaling else None
    return _scaler(step, kind, less=less, by=by)


def max_abs_scaler(step: Any, kind: Kind) -> Made:
    """MaxAbsScaler: by the greatest absolute value."""
    require(not getattr(step, "clip", False), "MaxAbsScaler with clip=True")
    return _scaler(step, kind, less=None, by=step.scale_)


def _scaler(step: Any, kind: Kind, *, less: Array | None, by: Array | None) -> Made:
    if kind.form != "sparse":

        def scale(matrix: Array) -> None:
            if less is not None:
                matrix -= less
            if by is not None:
                matrix /= by

        return _arithmetic(step, kind, scale)
    require(less is None, f"{type(step).__name__} that centres a sparse matrix")
    # Multiplied by one over the scale, and not divided by it as a dense one is: other bits.
    factors = None if by is None else 1.0 / by

    def scale_sparse(values: Sparse) -> Sparse:
        _finite(values.data)
        return values if factors is None else replace(values, data=values.data * factors[values.places])

    return scale_sparse, kind


def min_max_scaler(step: Any, kind: Kind) -> Made:
    """MinMaxScaler: times the scale, plus the minimum, and into its range if it clips."""
    import numpy as np

    require(kind.form != "sparse", "MinMaxScaler after a sparse step")

    def scale(matrix: Array) -> None:
        matrix *= step.scale_
        matrix += step.min_
        if step.clip:
            np.clip(matrix, *step.feature_range, out=matrix)

    return _arithmetic(step, kind, scale)


def _arithmetic(step: Any, kind: Kind, change: Callable[[Array], None]) -> Made:
    """Return what changes a matrix of numbers in place."""
    kind.require_numbers()
    require(step.copy, f"{type(step).__name__} with copy=False")

    def calculate(values: Any) -> Array:
        matrix = _finite(as_matrix(values, kind.order))
        change(matrix)
        return matrix

    return calculate, replace(kind, form="matrix")


def one_hot_encoder(step: Any, kind: Kind) -> Made:
    """OneHotEncoder: a column of 0 and 1 for each category."""
    import numpy as np

    name = "OneHotEncoder"
    unknown = step.handle_unknown
    require(kind.form != "sparse", f"{name} after a sparse step")
    require(np.dtype(step.dtype) == np.float64, f"{name} of another dtype than float64")
    require(step.min_frequency is None and step.max_categories is None, f"{name} with infrequent categories")
    require(unknown in {"ignore", "error"}, f"{name} with handle_unknown={unknown!r}")
    refused = unknown == "error" or step.drop is not None  # which warns
    find = [_finder(*of, name) for of in zip(step.categories_, kind.families, strict=True)]
    places, width = _places_of_categories(step)

    def encode(values: Any) -> Any:
        found = np.column_stack([table[at(c)] for table, at, c in zip(places, find, _columns(values), strict=True)])
        sparse = Sparse(found, np.ones(found.shape), width)
        return sparse if step.sparse_output else as_matrix(sparse, kind.order)

    form: Literal["sparse", "matrix"] = "sparse" if step.sparse_output else "matrix"
    made = Kind(("number",) * width, form=form, order=kind.order)
    if not refused:
        return encode, made
    return _refusing_unknown(find, encode), made


def _places_of_categories(step: Any) -> tuple[list[Array], int]:
    """Return by column the place of each category among all columns, -1 without one and last for the unknown."""
    import numpy as np

    tables, start = [], 0
    for column, categories in enumerate(step.categories_):
        kept = np.ones(len(categories) + 1, dtype=bool)
        kept[-1] = False
        if step.drop_idx_ is not None and step.drop_idx_[column] is not None:
            kept[step.drop_idx_[column]] = False
        tables.append(np.where(kept, start + np.cumsum(kept) - 1, -1))
        start += int(kept.sum())
    return tables, start


def ordinal_encoder(step: Any, kind: Kind) -> Made:
    """OrdinalEncoder: the place of the category."""
    import numpy as np

    name = "OrdinalEncoder"
    require(kind.form != "sparse", f"{name} after a sparse step")
    require(np.dtype(step.dtype) == np.float64, f"{name} of another dtype than float64")
    require(step.min_frequency is None and step.max_categories is None, f"{name} with infrequent categories")
    find = [_finder(*of, name) for of in zip(step.categories_, kind.families, strict=True)]
    refused = step.handle_unknown == "error"
    unknown = np.nan if refused else float(step.unknown_value)
    codes = [np.append(np.arange(len(categories), dtype=np.float64), unknown) for categories in step.categories_]
    for table, categories in zip(codes, step.categories_, strict=True):
        if _is_missing(categories[-1]):
            table[-2] = step.encoded_missing_value

    def encode(values: Any) -> Array:
        columns = [table[at(c)] for table, at, c in zip(codes, find, _columns(values), strict=True)]
        return as_matrix(columns, kind.order)

    return (_refusing_unknown(find, encode) if refused else encode), replace(
        kind, families=("number",) * len(codes), form="matrix"
    )


Finder = Callable[[Any], Any]


def _finder(categories: Array, family: str, name: str) -> Finder:
    """Return what finds the place of each value of a column among the categories, -1 of one that is none of them."""
    import numpy as np

    known = categories.tolist()
    if family == "text":
        require(all(isinstance(c, str) or _is_missing(c) for c in known), f"{name} of categories that are no text")
        table: dict[str | None, int] = {None if _is_missing(c) else c: place for place, c in enumerate(known)}
        return lambda column: column.places(table)
    require(family in NUMBERS and categories.dtype == np.float64, f"{name} of {family} columns, or of other categories")
    missing = len(known) - 1 if _is_missing(known[-1]) else -1
    numbers = categories if missing < 0 else categories[:-1]

    def find(column: Array) -> Array:
        _finite(column)
        if not len(numbers):
            places = np.full(len(column), -1)
        else:
            places = np.minimum(np.searchsorted(numbers, column), len(numbers) - 1)
            places[numbers[places] != column] = -1
        places[np.isnan(column)] = missing
        return places

    return find


def _refusing_unknown(find: Sequence[Finder], encode: Work) -> Work:
    def check(values: Any) -> Any:
        if any((at(column) < 0).any() for at, column in zip(find, _columns(values), strict=True)):
            raise NotKnown("a category that the encoder refuses, or warns of")
        return encode(values)

    return check


def _columns(values: Any) -> Sequence[Any]:
    return values if isinstance(values, list) else list(values.T)


def _is_missing(value: Any) -> bool:
    return isinstance(value, float) and value != value  # noqa: PLR0124 - only NaN is another than itself


def _finite(numbers: Array) -> Array:
    """Return the numbers; raises NotKnown for infinity, which scikit-learn refuses."""
    import numpy as np

    if np.isinf(numbers).any():
        raise NotKnown("infinity")
    return numbers

"""The columns a version was trained on, and the one way from Arrow to what its estimator is given."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ponte.errors import SignatureMismatch
from ponte.storage.columns import Column, Family

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: Which rule gives a frame its dtypes. 1, of the versions from before there were more: a NULL in a chunk changes the
#: dtypes of that chunk. 2: the family alone decides. 3: likewise, and integers stay integers beside a NULL. 4, of all
#: that are trained now: the family alone, and categories are those of training, in the same order in every chunk.
Types = Literal[1, 2, 3, 4]
TRAINED_NOW: Types = 4
#: A text column of more distinct values, or of longer ones together, is no category whose values are kept.
MOST_CATEGORIES = 10_000
CATEGORY_BYTES = 10_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """What a version reads: the key, the features in the order the estimator knows, and the family of the label."""

    key: tuple[Column, ...]
    features: tuple[Column, ...]
    label: Family
    #: The rule its estimator was fitted under, and is asked under for life.
    types: Types = 2
    #: Under rule 4: integers are Int64, as under rule 3.
    nullable_integers: bool = False
    #: Under rule 4: the distinct texts of the fitting rows by feature, ascending. A column may have none, see
    #: `categories_of`. They are rows' own content, so they lie in the version's folder only: {} in all tables.
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def float_families(self) -> list[tuple[str, str]]:
        """Return name and family of each feature, "other" in place of numbers that a frame may hold as anything else.

        A number that is not "other" is float64, with NaN for NULL, whatever the rows are.
        """
        always = self.types == 2 or (self.types == TRAINED_NOW and not self.nullable_integers)  # noqa: PLR2004
        return [(c.name, c.family if always or c.family in {"number", "text"} else "other") for c in self.features]

    def as_json(self) -> dict[str, Any]:
        """Return JSON-ready data. Law: `Signature.from_json(s.as_json()) == s`."""
        data: dict[str, Any] = {
            "key": [c.as_json() for c in self.key],
            "features": [c.as_json() for c in self.features],
            "label": self.label,
        }
        # Manifests of rule 1 hold a signature without it, and are compared with this.
        if self.types != 1:
            data["types"] = self.types
        if self.nullable_integers:
            data["nullable_integers"] = True
        if self.categories:
            data["categories"] = {name: list(values) for name, values in self.categories.items()}
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Signature:
        """Return the signature that `as_json` wrote."""
        return cls(
            key=tuple(Column(**c) for c in data["key"]),
            features=tuple(Column(**c) for c in data["features"]),
            label=data["label"],
            types=data.get("types", 1),
            nullable_integers=data.get("nullable_integers", False),
            categories={name: tuple(values) for name, values in data.get("categories", {}).items()},
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


def categories_of(rows: pa.Table, columns: Sequence[Column]) -> dict[str, tuple[str, ...]]:
    """Return the distinct texts of each text column, ascending by code point, without NULL.

    A column of more than MOST_CATEGORIES of them, or of more than CATEGORY_BYTES, is left out, and the log names it.
    """
    import pyarrow.compute as pc

    found: dict[str, tuple[Any, ...]] = {}
    for column in columns:
        if column.family != "text":
            continue
        distinct = pc.drop_null(pc.unique(rows.column(column.name)))
        if len(distinct) > MOST_CATEGORIES or distinct.nbytes > CATEGORY_BYTES:
            log.warning(
                "%s has %d distinct values (%d bytes), more than %d (%d bytes): no list of them is kept with the "
                "version, so its categories are those of each chunk",
                column.name,
                len(distinct),
                distinct.nbytes,
                MOST_CATEGORIES,
                CATEGORY_BYTES,
            )
            continue
        found[column.name] = tuple(distinct.take(pc.array_sort_indices(distinct)).to_pylist())
    return found


def frame_of(rows: pa.Table | pa.RecordBatch, signature: Signature) -> pd.DataFrame:
    """Return the features of `rows`, which hold at least these columns, as the frame of the signature's rule.

    Fitting, calibration, measuring and scoring all ask for their frames here.
    """
    return to_frame(
        rows,
        signature.features,
        types=signature.types,
        nullable_integers=signature.nullable_integers,
        categories=signature.categories,
    )


def to_frame(
    table: pa.Table | pa.RecordBatch,
    columns: Sequence[Column],
    *,
    types: Types = 2,
    nullable_integers: bool = False,
    categories: Mapping[str, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """Return the columns as the DataFrame that estimators are trained on and asked with.

    Shape (n_rows, len(columns)), in the order of `columns`. integer, number and boolean → float64, NULL is NaN; text →
    category, NULL is a missing category; date → datetime64[s] and timestamp → datetime64[us, UTC], NULL is NaT. No
    dtype depends on the rows: 3 is 3.0 in every chunk, with a NULL or without. Integers beyond 2**53 are rounded.

    types : the rule of the signature. Under rule 1 integer is int64 and boolean is bool in a chunk without NULL. Under
    rule 3 integer is Int64, exact, and NULL is <NA>; under rule 4 only with nullable_integers. Under rule 4 the
    categories of a text column begin with those of `categories`, in that order, whether the chunk has them or not; what
    else it has follows in the order of appearance. Under the others they are what the chunk has.
    """
    import pandas as pd
    import pyarrow as pa

    # Rule 3 is not for everybody: scikit-learn's ColumnTransformer refuses a missing value of a nullable dtype when it
    # passes the column through, and np.asarray makes objects of a frame that mixes such dtypes with others.
    nullable: dict[Any, Any] = {pa.int64(): pd.Int64Dtype()} if types == 3 or nullable_integers else {}  # noqa: PLR2004
    arrow = _arrow_of_chunk if types == 1 else _arrow
    arrays = [
        table.column(c.name) if nullable and c.family == "integer" else arrow(table.column(c.name), c.family)
        for c in columns
    ]
    if types == 4:  # noqa: PLR2004
        known = categories or {}
        arrays = [_after(known.get(c.name, ()), a) for c, a in zip(columns, arrays, strict=True)]
    whole = pa.Table.from_arrays(arrays, names=[c.name for c in columns])
    frame: pd.DataFrame = whole.to_pandas(types_mapper=nullable.get)
    if types != 1:
        _name_empty_categories(frame, columns)
    return frame


def _name_empty_categories(frame: pd.DataFrame, columns: Sequence[Column]) -> None:
    """Make text categories of a chunk without any text those of text: pandas takes them for objects."""
    import pandas as pd

    no_text: Any = pd.Index([], dtype="str")
    for column in columns:
        if column.family == "text" and not len(frame[column.name].cat.categories):
            frame[column.name] = frame[column.name].cat.rename_categories(no_text)


def _after(known: Sequence[str], encoded: Any) -> Any:
    """Return a dictionary-encoded column with a dictionary that begins with `known`; anything else as it is.

    The work grows with the number of distinct values; of the rows only the codes are looked at.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not known:
        return encoded
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    own = encoded.dictionary
    learned = pa.array(known, own.type)
    place = pc.index_in(own, value_set=learned)
    unseen = pc.is_null(place).to_numpy(zero_copy_only=False)
    codes = np.where(unseen, len(known) - 1 + np.cumsum(unseen), place.fill_null(0).to_numpy())
    dictionary = pa.concat_arrays([learned, own.filter(pa.array(unseen))])
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()).take(encoded.indices), dictionary)


def _arrow(values: Any, family: Family) -> Any:
    """Return Arrow values whose pandas dtype is that of the family, however many are NULL."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if family == "text":
        return pc.dictionary_encode(values)
    if family == "date":
        return pc.cast(values, pa.timestamp("s"))
    if family == "timestamp":
        return pc.cast(values, pa.timestamp("us", tz="UTC"))
    return values if values.type == pa.float64() else pc.cast(values, pa.float64(), safe=False)


def _arrow_of_chunk(values: Any, family: Family) -> Any:
    """Rule 1: pandas makes int64 or bool of numbers and booleans without NULL, and float64 of the others."""
    if family == "integer" or (family == "boolean" and not values.null_count):
        return values
    return _arrow(values, family)

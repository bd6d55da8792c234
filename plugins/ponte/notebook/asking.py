"""A registered version in a notebook: verified as scoring verifies it, asked with a DataFrame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ponte.errors import SignatureMismatch
from ponte.notebook.surroundings import Surroundings, find, require_name, version_of
from ponte.storage.columns import Column
from ponte.versions.loading import LoadedVersion, load_registered
from ponte.versions.predicting import Predictions
from ponte.versions.registry import Version

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class AskableVersion:
    """A verified version that predicts the rows of a DataFrame, as it does when it scores."""

    loaded: LoadedVersion

    @property
    def version(self) -> Version:
        """Its row of `ponte.version`."""
        return self.loaded.version

    @property
    def estimator(self) -> Any:
        """The fitted estimator, made of classes of scikit-learn and of the `estimator.py` it was trained with."""
        return self.loaded.estimator

    @property
    def features(self) -> list[str]:
        """Names of the columns that it reads."""
        return [c.name for c in self.version.signature.features]

    def predict(self, rows: pd.DataFrame) -> np.ndarray[Any, Any]:
        """Return the predicted labels, shape (n_rows,), at the threshold of the version.

        rows : holds at least the columns `features`, in any order; None, NaN and NaT are NULL. Raises SignatureMismatch
        for a column that is missing or cannot be read as what it was in training.
        """
        return self._predictions(rows).prediction

    def score(self, rows: pd.DataFrame) -> np.ndarray[Any, Any] | None:
        """Return the probability of the positive class, shape (n_rows,); of each class, shape (n_rows, n_classes).

        None of a regression, and of an estimator that gives no probabilities. rows : as in `predict`.
        """
        return self._predictions(rows).score

    def interval(self, rows: pd.DataFrame) -> np.ndarray[Any, Any] | None:
        """Return both ends of the interval of each prediction, low and high, shape (n_rows, 2).

        None of a version without `[training] interval`. rows : as in `predict`.
        """
        import numpy as np

        said = self._predictions(rows)
        return None if said.low is None or said.high is None else np.column_stack([said.low, said.high])

    def _predictions(self, rows: pd.DataFrame) -> Predictions:
        return self.loaded.predictions(to_arrow(rows, self.version.signature.features, where=self.version.place))

    def __repr__(self) -> str:
        version = self.version
        return f"<version {version.version} of {version.model}: {version.task}, {len(self.features)} features>"


def load_version(model: str, version: int | None = None) -> AskableVersion:
    """Return a version, by default the champion, ready to predict on a DataFrame.

    It goes the way of scoring: only verified bytes are unpickled, the `estimator.py` it was trained with is loaded
    first, and it predicts its golden rows again. Raises ArtifactRefused with the reason, NoChampion, or PonteError
    naming the versions that there are.
    """
    return load(find(require_name(model)), version)


def load(place: Surroundings, version: int | None) -> AskableVersion:
    """Do what `load_version` does, in these surroundings."""
    model = place.folder.name
    return AskableVersion(load_registered(place.db, place.store, version_of(place.db, model, version)))


def to_arrow(rows: pd.DataFrame, columns: tuple[Column, ...], *, where: str) -> pa.Table:
    """Return the columns as they come from the database. Law: `to_frame(to_arrow(f, c), c)` is `f`, of `to_frame`.

    Raises SignatureMismatch that names every column that is missing, or whose values are of another family.
    """
    import pyarrow as pa

    known = [str(name) for name in rows.columns]
    missing = [c.name for c in columns if c.name not in known]
    if missing:
        names = ", ".join(c.name for c in columns)
        raise SignatureMismatch("columns are missing", where=where, got=", ".join(missing), expected=names)
    arrays, problems = [], []
    for column in columns:
        try:
            arrays.append(_array(rows[column.name], column))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            problems.append(f"column {column.name!r} ({column.family}) holds {rows[column.name].dtype}: {error}")
    if problems:
        fix = "give the columns as frame() returns them"
        raise SignatureMismatch(
            "columns are not what they were in training", where=where, got="; ".join(problems), fix=fix
        )
    return pa.Table.from_arrays(arrays, names=[c.name for c in columns])


def _array(values: pd.Series[Any], column: Column) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    types: dict[str, Any] = {
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "text": pa.string(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
    if values.dtype.name == "category":
        values = values.astype(object)
    found = pa.array(values, from_pandas=True)
    if pa.types.is_null(found.type):
        return pa.nulls(len(found), types[column.family])
    if column.family == "boolean" and pa.types.is_floating(found.type):
        return pc.cast(found, pa.bool_())
    return pc.cast(found, types[column.family])

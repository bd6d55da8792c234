"""From rows to answers, row by row: the one way of the API and of the queue, over the scorer that batches use too.

A row's answer says which row it belongs to by its place. Live rows may lack a key, and two may have the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ponte.short_way.plain import PlainRows
from ponte.versions.predicting import Predictions, as_labels

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from ponte.model.spec import Task
    from ponte.scoring.scorer import Scorer
    from ponte.versions.signature import Signature

#: Tells the rows of one call apart. No column of a model is called that.
_PLACE = "\0place"
#: Family of a label and kind of numpy: values that are what the family says, whatever they are.
_SURE = {("integer", "i"), ("boolean", "b"), ("number", "f")}


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Why the estimator gave no answer for a row."""

    #: The class of what it raised, or what is wrong with what it returned. Holds no value of a row.
    kind: str
    #: What it said. May hold values of the row, so it goes to the quarantine and nowhere else.
    why: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of n rows, in the order of the rows."""

    #: n values each, None where there is no answer, by the name of the column in the tables of predictions:
    #: `prediction`, and what the version gives of `score` (float), `scores` (list of floats), `low` and `high`.
    columns: Mapping[str, list[Any]]
    #: By the place of the row, from 0.
    unanswered: Mapping[int, Unanswered]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.columns["prediction"])


def answer(scorer: Scorer, rows: pa.Table | PlainRows) -> Answers:
    """Return what the version says of rows, which hold at least its feature columns, in any order.

    A row that the estimator cannot score costs the others nothing but time. Raises what `predicting.predict` raises
    about anything but rows.
    """
    import pyarrow as pa

    if isinstance(rows, PlainRows):
        with suppress(Exception):  # what is wrong, and with which row, is found below
            return Answers(_columns(scorer, scorer.predictions(rows)), {})
        rows = rows.table()
    count = rows.num_rows
    found = scorer.isolated(rows.append_column(_PLACE, pa.array(range(count), pa.int64())), allowed=count)
    parts = [(part, _columns(scorer, predictions)) for part, predictions in found.scored]
    if len(parts) == 1 and not found.unscored:
        return Answers(parts[0][1], {})
    columns: dict[str, list[Any]] = {"prediction": [None] * count}
    for part, values in parts:
        places: list[Any] = part.column(_PLACE).to_pylist()
        for name, column in values.items():
            whole = columns.setdefault(name, [None] * count)
            for place, value in zip(places, column, strict=True):
                whole[place] = value
    unanswered: dict[Any, Unanswered] = {
        place: Unanswered(kind, why) for part, kind, why in found.unscored for place in part.column(_PLACE).to_pylist()
    }
    return Answers(columns, unanswered)


def labels_of(values: np.ndarray[Any, Any], signature: Signature, task: Task) -> list[Any]:
    """Return predictions as Python values of the type of the label; raises what `predicting.as_labels` raises."""
    family = "number" if task == "regression" else signature.label
    sure = (family, values.dtype.kind) in _SURE  # Arrow takes longer for a row than all else here
    return values.tolist() if sure else as_labels(values, signature, task).to_pylist()


def _columns(scorer: Scorer, predictions: Predictions) -> dict[str, list[Any]]:
    version = scorer.version
    columns = {"prediction": labels_of(predictions.prediction, version.signature, version.task)}
    if predictions.score is not None:
        columns["score" if predictions.score.ndim == 1 else "scores"] = predictions.score.tolist()
    ends = {"low": predictions.low, "high": predictions.high}
    return columns | {name: values.tolist() for name, values in ends.items() if values is not None}

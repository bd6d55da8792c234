"""The reference of a version: its training windows, counted."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from ponte.counting.bins import Bins, Tallies, column_of, microseconds
from ponte.counting.choosing import bins_of_classes, choose_bins
from ponte.counting.reference import Part, Window
from ponte.snapshots.lifecycle import Snapshot
from ponte.training.candidate import Candidate
from ponte.versions.predicting import Output, Predictions, as_labels, predict, score_column
from ponte.versions.signature import Signature

if TYPE_CHECKING:
    import pyarrow as pa


def count_windows(snapshot: Snapshot, rows: pa.Table, made: Candidate) -> list[Window]:
    """Return the counts of each window that has rows: features of all, answers of calibration and holdout.

    rows : those of the snapshot, the purged ones too: what is purged has no label in time, but features like any other.
    """
    bins = _bins_of_features(snapshot, rows)
    counted = [
        Window(_part_of(snapshot, start), start, _tallies("features", bins, of_window, snapshot.window_as_of(start)))
        for start, of_window in _by_window(rows)
    ]
    answers = _answers(made)
    if answers is None:
        return counted
    bins = _bins_of_answers(made.signature, made.fitted.output, answers)
    return counted + [
        Window(_part_of(snapshot, start), start, _tallies("answers", bins, of_window, snapshot.window_as_of(start)))
        for start, of_window in _by_window(answers)
    ]


def _tallies(family: Any, bins: tuple[Bins, ...], rows: pa.Table, as_of: dt.datetime) -> Tallies:
    tallies = Tallies(family, bins, as_of)
    tallies.add(rows)
    return tallies


def _by_window(rows: pa.Table) -> list[tuple[dt.date, pa.Table]]:
    import pyarrow.compute as pc

    starts = rows.column("window_start")
    known: list[Any] = sorted(pc.unique(starts).to_pylist())
    return [(start, rows.filter(pc.equal(starts, start))) for start in known]


def _part_of(snapshot: Snapshot, window_start: dt.date) -> Part:
    if window_start >= snapshot.holdout_from:
        return "holdout"
    if snapshot.calibration_from is not None and window_start >= snapshot.calibration_from:
        return "calibration"
    return "fitting"


def _bins_of_features(snapshot: Snapshot, rows: pa.Table) -> tuple[Bins, ...]:
    import numpy as np
    import pyarrow.compute as pc

    starts: Any = pc.dictionary_encode(rows.column("window_start").combine_chunks())
    moments = [microseconds(snapshot.window_as_of(start)) for start in starts.dictionary.to_pylist()]
    as_of = np.array(moments, dtype=np.int64)[np.asarray(starts.indices)]
    return tuple(choose_bins(c.name, c.family, rows.column(c.name), as_of=as_of) for c in snapshot.signature.features)


def _answers(made: Candidate) -> pa.Table | None:
    """Return window_start, prediction and scores of the rows that were not fitted on; None without such rows."""
    import pyarrow as pa

    parts, fitted, signature = made.parts, made.fitted, made.signature
    found = [(parts.holdout, made.predictions)]
    if len(parts.calibration.labels):
        said = predict(fitted.estimator, parts.calibration.rows, signature, fitted.output)
        found.insert(0, (parts.calibration, said))
    tables = [_table(part.rows, said, signature, fitted.output) for part, said in found if len(part.labels)]
    return pa.concat_tables(tables) if tables else None


def _table(rows: pa.Table, said: Predictions, signature: Signature, output: Output) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, Any] = {
        "window_start": rows.column("window_start"),
        "prediction": as_labels(said.prediction, signature, output.task),
    }
    scores = score_column(said)
    if scores is not None:
        columns[scores[0]] = scores[1]
    return pa.table(columns)


def _bins_of_answers(signature: Signature, output: Output, answers: pa.Table) -> tuple[Bins, ...]:
    if output.task == "regression":
        return (choose_bins("prediction", "number", answers.column("prediction")),)
    names = {"score": ["score"], "scores": [f"scores[{n}]" for n in range(1, len(output.classes) + 1)]}
    scores = [name for column, of_column in names.items() if column in answers.schema.names for name in of_column]
    return (
        bins_of_classes("prediction", signature.label, output.classes),
        *(choose_bins(name, "number", column_of(answers, name)) for name in scores),
    )

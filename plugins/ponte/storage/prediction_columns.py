"""The columns of a model's predictions: of the table that holds them, and of the view `predictions.<model>`.

Both are made from here. So what Ponte adds to the key is known before anything is made, and refused as the name of a
column of the model.
"""

from __future__ import annotations

from collections.abc import Sequence

from ponte.storage.columns import SQL_TYPES, Column, Family

#: What the columns beside the key mean, as comments in the database.
COMMENTS = {
    "batch_id": "Batch that this prediction belongs to; leads to version, snapshot and code in ponte.batch.",
    "window_start": "First day of the window, UTC.",
    "prediction": "Predicted label.",
    "score": "Probability of the positive class (the greater of the two labels), 0 to 1. "
    "NULL: the estimator gives no probability.",
    "scores": "Probability of each class, in the order of ponte.version.classes; they sum to 1. "
    "NULL: the estimator gives no probability.",
    "low": "Lower end of the interval of the prediction: between low and high lies the outcome of the share of rows in "
    "ponte.version.interval. NULL: the version gives none.",
    "high": "Upper end of that interval. NULL: the version gives none.",
    "scored_at": "When it was computed.",
    "model_version": "Version of the model that computed it.",
    "hindsight": "True when that version may have learned from what happened after as_of.",
}

#: Task of the model → the columns that hold scores, with their types.
_SCORES: dict[str, dict[str, str]] = {
    "binary": {"score": "double precision"},
    "multiclass": {"scores": "double precision[]"},
    "regression": {},
}
#: Likewise the columns that tables and views of before revision 0021 do not have: they get them at their end, which is
#: all that PostgreSQL allows of a view, so all have them there. NULL, and no constraint: adding them scans nothing.
ADDED: dict[str, dict[str, str]] = {
    "binary": {},
    "multiclass": {},
    "regression": {"low": "double precision", "high": "double precision"},
}


def table_columns(key: Sequence[Column], task: str, label: Family) -> dict[str, str]:
    """Return column → type and constraints, of the table that holds the predictions."""
    # Constraints have names of their own, because a partition must bring its parent's by name. They refuse NaN, which
    # PostgreSQL sorts above every number. All stand with the prediction: a score may be NULL, so it is its type alone.
    constraints: dict[str, str] = {
        "binary": "score_is_probability CHECK (score BETWEEN 0 AND 1)",
        "multiclass": "scores_are_probabilities CHECK (0 <= ALL (scores) AND 1 >= ALL (scores))",
        "regression": "prediction_is_finite CHECK (prediction > '-Infinity' AND prediction < 'Infinity')",
    }
    predicted = SQL_TYPES["number" if task == "regression" else label]
    return {
        "batch_id": "bigint NOT NULL",
        "window_start": "date NOT NULL",
        **{c.name: f"{SQL_TYPES[c.family]} NOT NULL" for c in key},
        "prediction": f"{predicted} NOT NULL CONSTRAINT {constraints[task]}",
        **_SCORES[task],
        "scored_at": "timestamp with time zone NOT NULL",
        **ADDED[task],
    }


def view_columns(key: Sequence[Column], task: str) -> dict[str, tuple[str, str]]:
    """Return column → what it shows, of the view: ("p", a column of the table) or ("b", a column of ponte.batch)."""
    kept = ("window_start", *(c.name for c in key), "prediction", *_SCORES[task], "scored_at")
    return {
        **{name: ("p", name) for name in kept},
        "model_version": ("b", "version"),
        "batch_id": ("p", "batch_id"),
        # At the end: the views of before this column get it there, which is all that PostgreSQL allows.
        "hindsight": ("b", "hindsight"),
        **{name: ("p", name) for name in ADDED[task]},
    }


#: All names that Ponte adds. A snapshot has the label and its time beside.
RESERVED_COLUMNS: frozenset[str] = frozenset({"label", "labelled_at"}).union(
    *(columns for task in _SCORES for columns in (table_columns((), task, "text"), view_columns((), task)))
)
#: Names that no column of the key may have, of a model that answers one by one: its live rows have them beside the key.
LIVE_COLUMNS = frozenset({"request_id", "asked_at", "source", "features"})


def reserved_columns(task: str) -> frozenset[str]:
    """Return the names that no column of features.sql may have: those of a regression's interval only in one."""
    return RESERVED_COLUMNS - (ADDED["regression"].keys() - ADDED[task].keys())

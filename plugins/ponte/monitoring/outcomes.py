"""Predictions of a batch beside the labels that were known at a moment: as arrays, and as a view for people."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.batches.lifecycle import Batch
from ponte.model.spec import ModelSpec
from ponte.storage.columns import SQL_TYPES, Column
from ponte.storage.database import DATA_SCHEMA, Database, quote
from ponte.storage.prediction_columns import ADDED, COMMENTS, view_columns
from ponte.versions import registry
from ponte.versions.predicting import Output, Predictions
from ponte.versions.registry import Version

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

_COLUMN_NAMES = sa.text("""SELECT attname FROM pg_attribute
    WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped""")

_ABOUT = {
    "outcome": "The newest label of the source; NULL when there is none, or it was taken back.",
    "outcome_known_at": "When the label became known, as labels.sql says; else when it was first seen.",
    "outcome_seen_at": "When this label was seen.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcomes:
    """Predictions and labels of n rows, in the order of their key. All arrays of shape (n,) but the scores."""

    #: Classes are numbers from 0, in the order of the version's; in a regression, values.
    predictions: Predictions
    #: Likewise; -1 is a class that the version does not know. Says nothing where there is no label.
    labels: Array
    #: 0: no label.
    label_ids: Array
    #: How many of the moments that were asked for had passed when the label became known.
    passed: Array
    #: True where the label is a correction that a person gave.
    feedback: Array
    #: Column of [evaluation] slices → (number of the value of each row, the values).
    slices: Mapping[str, tuple[Array, Sequence[str]]]
    #: Number of what is resampled as a whole; None: row by row.
    units: Array | None
    #: As many classes as the version knows, numbered; () in a regression.
    output: Output


def read_outcomes(
    db: Database, spec: ModelSpec, batch: Batch, version: Version, *, as_of: dt.datetime, moments: Sequence[dt.datetime]
) -> Outcomes:
    """Return the predictions of a batch with the labels that were seen until `as_of`.

    moments : ascending; a label tells which of them came before it. `[evaluation] resample_by` counts when it is a
    column of the key or one of the slices; nothing else of the features is there any more, so all rows are one unit.
    """
    key = [column.name for column in version.signature.key]
    kept = _kept(db, batch)
    counted = "true" if spec.monitoring.corrections == "count" else "false"
    beside = f" LEFT JOIN {quote(DATA_SCHEMA, batch.slice_table or '')} AS s USING ({_list(key)})" if kept else ""
    source = (
        f"{quote(*batches.prediction_name(batch))} AS p{beside} "
        f"LEFT JOIN ponte.labels_at({batch.batch_id:d}, {moment_literal(as_of)}, {counted}) AS l "
        f"ON l.key = jsonb_build_object({key_pairs(version.signature.key, 'p')}) "
        f"ORDER BY {', '.join(f'p.{quote(name)}' for name in key)}"
    )
    return fetch_outcomes(
        db, spec, version, source, kept={c.name: c for c in batch.columns or () if c.name in kept}, moments=moments
    )


def fetch_outcomes(
    db: Database,
    spec: ModelSpec,
    version: Version,
    source: str,
    *,
    kept: Mapping[str, Column],
    moments: Sequence[dt.datetime],
    unit: str | None = None,
) -> Outcomes:
    """Return the predictions of a version with their labels.

    source : what stands behind FROM: predictions `p`, the columns `kept` of their features `s`, and labels `l`, with
    label, label_id, known_at and origin. unit : SQL of what is resampled as a whole, unless `[evaluation] resample_by`
    says it; None: row by row.
    """
    key = {column.name: column for column in version.signature.key}
    slices = [name for name in spec.evaluation.slices if name in kept or name in key]
    by = spec.evaluation.resample_by
    wanted = dict.fromkeys([*slices, *([by] if by in kept or by in key else [])])
    names = {name: f"group_{place}" for place, name in enumerate(wanted) if name is not None}
    label, scores = SQL_TYPES["number" if version.task == "regression" else version.signature.label], _score(version)
    ends = [] if version.interval is None else list(ADDED[version.task])
    passed = " + ".join(f"(l.known_at >= {moment_literal(m)})::int" for m in moments)
    columns = [
        "p.prediction",
        *(f"p.{name}" for name in ([scores] if scores else ends)),
        f"CAST(l.label AS {label}) AS label",
        "coalesce(l.label_id, 0) AS label_id",
        f"coalesce({passed}, 0) AS passed",
        "coalesce(l.origin = 'feedback', false) AS feedback",
        *(_group(kept.get(name) or key[name], name in kept, as_name) for name, as_name in names.items()),
        *([f"{unit} AS unit"] if unit and by is None else []),
    ]
    with db.adbc() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(columns)} FROM {source}")
        table = cursor.fetch_arrow_table()
    groups = {name: _numbered(table.column(as_name)) for name, as_name in names.items()}
    units = _numbered(table.column("unit"))[0] if unit and by is None else _units(by, groups, table)
    return _outcomes(table, version.output, scores, {name: groups[name] for name in slices}, units)


def key_pairs(key: Sequence[Column], relation: str) -> str:
    """Return the arguments of jsonb_build_object that make a key as `ponte.label_seen` has it."""
    return ", ".join(f"'{c.name}', {relation}.{quote(c.name)}" for c in key)


def _kept(db: Database, batch: Batch) -> set[str]:
    if batch.slice_table is None:
        return set()
    with db.begin() as connection:
        return set(connection.execute(_COLUMN_NAMES, {"name": quote(DATA_SCHEMA, batch.slice_table)}).scalars())


def _score(version: Version) -> str | None:
    return {"binary": "score", "multiclass": "scores"}.get(version.task)


def _group(column: Column, kept: bool, as_name: str) -> str:
    return f"CAST({'s' if kept else 'p'}.{quote(column.name)} AS {SQL_TYPES[column.family]}) AS {as_name}"


def moment_literal(moment: dt.datetime) -> str:
    """Return a moment as SQL."""
    return f"TIMESTAMPTZ '{moment.isoformat()}'"


def _list(names: Sequence[str]) -> str:
    return ", ".join(quote(name) for name in names)


def _numbered(values: pa.ChunkedArray[Any]) -> tuple[Array, list[str]]:
    import pyarrow as pa

    # As `value_names` of quality.groups calls them, without an object for every row.
    found: Any = values.cast(pa.string()).combine_chunks()
    found = found.fill_null("NULL").dictionary_encode()
    return found.indices.to_numpy(zero_copy_only=False), found.dictionary.to_pylist()


def _units(by: str | None, groups: Mapping[str, tuple[Array, Sequence[str]]], table: pa.Table) -> Array | None:
    import numpy as np

    if by is None:
        return None
    return groups[by][0] if by in groups else np.zeros(table.num_rows, dtype=int)


def _outcomes(
    table: pa.Table,
    output: Output,
    scores: str | None,
    slices: Mapping[str, tuple[Array, Sequence[str]]],
    units: Array | None,
) -> Outcomes:
    classes: tuple[Any, ...] = ()
    prediction, label = table.column("prediction"), table.column("label")
    if output.task != "regression":
        classes = output.classes or _two(prediction, label)
        prediction, label = _places(prediction, classes), _places(label, classes)
    score = None
    if scores is not None and not table.column(scores).null_count:
        values = table.column(scores).combine_chunks()
        score = values.to_numpy(zero_copy_only=False) if scores == "score" else _matrix(values, len(classes))
    ends = (table.column(name).to_numpy() for name in ADDED[output.task] if output.interval is not None)
    return Outcomes(
        predictions=Predictions(prediction.to_numpy(), score, *ends),
        labels=label.to_numpy(),
        label_ids=table.column("label_id").to_numpy(),
        passed=table.column("passed").to_numpy(),
        feedback=table.column("feedback").to_numpy(),
        slices=slices,
        units=units,
        output=Output(task=output.task, classes=tuple(range(len(classes))), threshold=output.threshold),
    )


def _matrix(values: Any, classes: int) -> Array:
    found: Array = values.flatten().to_numpy().reshape(-1, classes)
    return found


def _places(values: Any, classes: Sequence[Any]) -> Any:
    """Return the place of each value among the classes; -1 for one that is none of them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    places: Any = pc.index_in(values, value_set=pa.array(classes, type=values.type))
    return places.fill_null(-1)


def _two(*columns: pa.ChunkedArray[Any]) -> tuple[Any, ...]:
    """Return the labels of a version that was registered before classes were kept: the positive one is the greater."""
    found: list[Any] = sorted({value for column in columns for value in column.unique().to_pylist()} - {None})
    if {*found} <= {0, 1}:
        return (False, True) if any(isinstance(value, bool) for value in found) else (0, 1)
    return tuple(found)


# ---------------------------------------------------------------- for people


def ensure_outcomes_view(db: Database, model: str) -> None:
    """Make the view `predictions.<model>_outcomes` unless it is there, once people see predictions of the model.

    One of before a revision that has added columns to the predictions gets them, at its end, when they have them.
    It belongs to whoever calls this, so it is granted to nobody: labels are content of a source.
    """
    version = registry.get_version(db, model, registry.newest(db, model))  # a model keeps key and label for life
    name, shown = f"{model}_outcomes", quote("predictions", model)
    with db.begin() as connection:
        view, label = quote("predictions", name), SQL_TYPES[version.signature.label]
        there, known = (set(connection.execute(_COLUMN_NAMES, {"name": one}).scalars()) for one in (view, shown))
        added = [column for column in ADDED[version.task] if column in known]
        if not known or (there and not {*added} - there):
            return
        columns = [c for c in view_columns(version.signature.key, version.task) if c not in ADDED[version.task]]
        connection.exec_driver_sql(
            f"CREATE OR REPLACE VIEW {view} WITH (security_barrier) AS "
            f"SELECT {', '.join(f'p.{quote(column)}' for column in columns)}, CAST(l.label AS {label}) AS outcome, "
            f"l.known_at AS outcome_known_at, l.seen_at AS outcome_seen_at{''.join(f', p.{quote(c)}' for c in added)} "
            f"FROM {shown} AS p LEFT JOIN ("
            "SELECT DISTINCT ON (batch_id, key) batch_id, key, label, known_at, seen_at FROM ponte.label_seen "
            f"WHERE model = '{model}' AND origin = 'source' ORDER BY batch_id, key, label_id DESC) AS l "
            f"ON l.batch_id = p.batch_id AND l.key = jsonb_build_object({key_pairs(version.signature.key, 'p')})"
        )
        about = f"Predictions of {model} beside what came true; an operator grants it to whom it is meant for."
        connection.exec_driver_sql(f"COMMENT ON VIEW {view} IS '{about}'")
        for column in (*columns, *_ABOUT, *added):
            text = _ABOUT.get(column) or COMMENTS.get(column, "Key of the entity; see the model card.")
            connection.exec_driver_sql(f"COMMENT ON COLUMN {view}.{quote(column)} IS '{text}'")

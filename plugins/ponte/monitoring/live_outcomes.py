"""Live answers beside what came true: the label of the key in the window that holds asked_at, else what a person said.

Labels are read as for batches, one per key however often it was asked, with the labels.sql of the version that
answered; an answer without a key has none. Where the source has no label for an answer, and `[monitoring] corrections`
counts them, the newest word that stands about the request does: the label that the person named; of a classifier, a
"right" is the prediction, and a "wrong" without a label of two classes the other one.

Each answer counts, also the second one about the same key: both were given to somebody. They rise and fall together,
so what is drawn for an interval is the key with all its answers.
"""

from __future__ import annotations

import datetime as dt
import logging

import sqlalchemy as sa

from ponte.errors import PonteError
from ponte.model.folders import ModelFolder
from ponte.model.windows import Window, midnight
from ponte.monitoring.labels import Ledger, Predicted, Reading, label_days, read_labels_of
from ponte.monitoring.live_windows import FINISHED, fold
from ponte.monitoring.outcomes import fetch_outcomes, key_pairs, moment_literal
from ponte.monitoring.realised import Measured, write_figures
from ponte.storage.database import DATA_SCHEMA, Database, quote
from ponte.versions import registry
from ponte.versions.registry import Version

log = logging.getLogger(__name__)

LEDGER = Ledger(
    id="live_window_id",
    read="ponte.live_label_read",
    seen="ponte.live_label_seen",
    of_source="",
    noun="live window",
)

# Retention drops the oldest month first: of a window that began before the end of one that is gone, rows lack.
_WHOLE = """NOT EXISTS (SELECT FROM ponte.live_retired r
    WHERE r.model = w.model AND w.window_start < (r.month + interval '1 month')::date)"""
_IS_WHOLE = sa.text(f"SELECT EXISTS (SELECT FROM ponte.live_window w WHERE live_window_id = :id AND {_WHOLE})")
_IS_TABLE = sa.text("SELECT relkind = 'p' FROM pg_class WHERE oid = CAST(:name AS regclass)")

_UNREAD = sa.text(f"""SELECT w.live_window_id FROM ponte.live_window w
    WHERE w.model = :model AND w.window_end::timestamp AT TIME ZONE 'UTC' <= :finished AND {_WHOLE}
    AND NOT EXISTS (
        SELECT FROM ponte.live_label_read r WHERE r.live_window_id = w.live_window_id AND r.state = 'read'
        AND (r.as_of >= :now OR r.as_of >= (w.window_end + CAST(:days AS integer))::timestamp AT TIME ZONE 'UTC')
    )
    ORDER BY w.live_window_id""")
_OTHERS = sa.text("""SELECT w.live_window_id FROM ponte.live_window w JOIN ponte.live_window own
        ON own.live_window_id = :id AND w.model = own.model AND w.window_start = own.window_start
    WHERE w.live_window_id <> own.live_window_id
    AND EXISTS (SELECT FROM ponte.live_label_read r WHERE r.live_window_id = w.live_window_id AND r.state = 'read')""")
_WINDOW = sa.text("""SELECT model, version, window_start, window_end FROM ponte.live_window
    WHERE live_window_id = :id""")

# As of batches; what a person said counts from its own moment on, until labels are looked for no more.
_SAID = """(SELECT max(f.at) FROM ponte.live_feedback f
    WHERE f.model = w.model AND f.model_version = w.version
    AND f.asked_at >= w.window_start::timestamp AT TIME ZONE 'UTC'
    AND f.asked_at < w.window_end::timestamp AT TIME ZONE 'UTC'
    AND f.at < (w.window_end + CAST(:label_days AS integer))::timestamp AT TIME ZONE 'UTC' AND :counts)"""
_DUE = f"""SELECT w.live_window_id, known.moment, known.labels_from FROM ponte.live_window w
    CROSS JOIN LATERAL {_SAID} AS said (at)
    JOIN LATERAL (
        SELECT greatest(r.as_of, said.at) AS moment, r.labels_from FROM ponte.live_label_read r
        WHERE r.live_window_id = w.live_window_id AND r.state = 'read' ORDER BY r.as_of DESC LIMIT 1
    ) known ON true
    LEFT JOIN LATERAL (
        SELECT max(as_of) AS moment FROM ponte.live_realised f WHERE f.live_window_id = w.live_window_id
    ) done ON true
    WHERE {{which}} AND {_WHOLE} AND (
        EXISTS (SELECT FROM unnest(CAST(:days AS integer[])) AS m (days) WHERE NOT EXISTS (
            SELECT FROM ponte.live_realised f WHERE f.live_window_id = w.live_window_id AND f.maturity_days = m.days
            AND (f.final OR known.moment < (w.window_end + m.days)::timestamp AT TIME ZONE 'UTC')))
        OR EXISTS (SELECT FROM ponte.live_label_read r WHERE r.live_window_id = w.live_window_id
                   AND r.as_of > done.moment AND r.new_labels + r.changed_labels + r.withdrawn_labels > 0)
        OR said.at > done.moment
    )
    ORDER BY w.live_window_id"""
_DUE_OF_MODEL = sa.text(_DUE.format(which="w.model = :model"))
_DUE_OF_WINDOW = sa.text(_DUE.format(which="w.live_window_id = :id"))

_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtext('ponte.live_realised'), hashtext(:model))")

# The newest word of each person that was not taken back, and of these the newest. Numbers of feedback and of labels
# are counted apart; one of feedback is made so great that none of the other reaches it.
_SOURCE = """{rows} AS p LEFT JOIN (
    SELECT DISTINCT ON (key) key, label, label_id, known_at, state FROM ponte.live_label_seen
    WHERE live_window_id = {id} AND seen_at <= {as_of} ORDER BY key, label_id DESC
) AS k ON k.state = 'seen' AND k.key = jsonb_build_object({pairs}) LEFT JOIN (
    SELECT DISTINCT ON (request_id) request_id, feedback_id, at,
           CASE verdict WHEN 'right' THEN {right} ELSE coalesce(correct_label, {other}) END AS label
    FROM (
        SELECT DISTINCT ON (request_id, given_by) * FROM (
            SELECT request_id, given_by, feedback_id, at, verdict, prediction, correct_label FROM ponte.live_feedback f
            WHERE model = '{model}' AND model_version = {version} AND {asked} AND at <= {as_of} AND at < {until}
            AND {counts}
        ) AS given ORDER BY request_id, given_by, feedback_id DESC
    ) AS said
    WHERE verdict <> 'withdrawn' ORDER BY request_id, feedback_id DESC
) AS f ON f.request_id = p.request_id CROSS JOIN LATERAL (
    SELECT coalesce(k.label, f.label) AS label,
           CASE WHEN k.label IS NOT NULL THEN k.label_id WHEN f.label IS NOT NULL THEN f.feedback_id + (1::bigint << 62)
           END AS label_id,
           CASE WHEN k.label IS NOT NULL THEN k.known_at ELSE f.at END AS known_at,
           CASE WHEN k.label IS NULL AND f.label IS NOT NULL THEN 'feedback' END AS origin
) AS l
WHERE p.model_version = {version} AND {asked} ORDER BY p.asked_at, p.request_id"""
_OTHER_CLASS = """(SELECT min(c) FROM ponte.version v, jsonb_array_elements_text(v.classes) AS c
    WHERE v.model = '{model}' AND v.version = {version} AND c <> prediction)"""


def read_live_labels(db: Database, folder: ModelFolder, *, now: dt.datetime) -> list[Reading]:
    """Fold, and read the labels of every finished live window of the model that has its rows; return what was read.

    As `labels.read_labels` does for batches: a repetition, a twin and a run that was killed leave what one run leaves.
    """
    fold(db, folder.name)
    values = {
        "model": folder.name,
        "now": now,
        "finished": now - FINISHED,
        "days": label_days(folder.spec.monitoring),
    }
    with db.begin() as connection:
        due = connection.execute(_UNREAD, values).scalars().all()
    found = [read_labels_of(db, folder, _predicted(db, live_window_id), now=now) for live_window_id in due]
    return [reading for reading in found if reading is not None]


def measure_live(db: Database, folder: ModelFolder) -> dict[str, int]:
    """Measure every live window of the model whose labels have changed; return how many, and how many figures."""
    with db.begin() as connection:
        due = [row.live_window_id for row in connection.execute(_DUE_OF_MODEL, _values(folder, model=folder.name))]
    counts = [measure_live_window(db, folder, live_window_id) for live_window_id in due]
    return {"live_windows": sum(count > 0 for count in counts), "figures": sum(counts)}


def measure_live_window(db: Database, folder: ModelFolder, live_window_id: int) -> int:
    """Measure one live window and write the figures that are new; return how many. Twins take turns."""
    maturities = sorted(set(folder.spec.monitoring.maturities))
    predicted = _predicted(db, live_window_id)
    with db.begin() as connection:
        connection.execute(_LOCK, {"model": folder.name})
        if not predicted.are_there(connection):
            return 0
        due = connection.execute(_DUE_OF_WINDOW, _values(folder, id=live_window_id)).one_or_none()
        if due is None:
            return 0
        version, window = predicted.version, predicted.window
        moments = [midnight(window.end) + dt.timedelta(days=days) for days in maturities]
        outcomes = fetch_outcomes(
            db,
            folder.spec,
            version,
            _source(folder, predicted, due.moment),
            kept={},
            moments=moments,
            unit=_unit(version),
        )
        measured = Measured(
            table="ponte.live_realised",
            id="live_window_id",
            about={
                "live_window_id": live_window_id,
                "model": version.model,
                "window_start": window.start,
                "version": version.version,
                "labels_from": due.labels_from,
                "as_of": due.moment,
            },
            maturities=list(zip(maturities, moments, strict=True)),
        )
        return write_figures(connection, folder.spec, outcomes, measured)


def _values(folder: ModelFolder, **of: object) -> dict[str, object]:
    rules = folder.spec.monitoring
    return {
        **of,
        "days": sorted(set(rules.maturities)),
        "label_days": label_days(rules),
        "counts": rules.corrections == "count",
    }


def _predicted(db: Database, live_window_id: int) -> Predicted:
    with db.begin() as connection:
        row = connection.execute(_WINDOW, {"id": live_window_id}).one()
    version = registry.get_version(db, row.model, row.version)
    name = _table(row.model)
    window = Window(start=row.window_start, end=row.window_end, as_of=midnight(row.window_end))

    def are_there(connection: sa.Connection) -> bool:
        # As retention does: whoever holds the parent keeps its months.
        connection.exec_driver_sql(f"LOCK TABLE ONLY {name} IN ACCESS SHARE MODE")
        if not connection.execute(_IS_TABLE, {"name": name}).scalar_one():
            raise PonteError("the live rows are no table", where=f"model {row.model}", got=name)
        return bool(connection.execute(_IS_WHOLE, {"id": live_window_id}).scalar_one())

    names = ", ".join(quote(c.name) for c in version.signature.key)
    given = " AND ".join(f"{quote(c.name)} IS NOT NULL" for c in version.signature.key)
    return Predicted(
        ledger=LEDGER,
        id=live_window_id,
        version=version,
        window=window,
        keys=f"(SELECT DISTINCT {names} FROM {name} "
        f"WHERE model_version = {row.version:d} AND {_asked(window)} AND {given})",
        others=_OTHERS,
        are_there=are_there,
    )


def _table(model: str) -> str:
    return quote(DATA_SCHEMA, f"live_{model}")


def _asked(window: Window) -> str:
    return f"asked_at >= {moment_literal(midnight(window.start))} AND asked_at < {moment_literal(midnight(window.end))}"


def _source(folder: ModelFolder, predicted: Predicted, as_of: dt.datetime) -> str:
    version, rules = predicted.version, folder.spec.monitoring
    names = {"model": version.model, "version": version.version}
    return _SOURCE.format(
        **names,
        rows=_table(version.model),
        id=predicted.id,
        as_of=moment_literal(as_of),
        until=moment_literal(midnight(predicted.window.end) + dt.timedelta(days=label_days(rules))),
        asked=_asked(predicted.window),
        pairs=key_pairs(version.signature.key, "p"),
        right="NULL" if version.task == "regression" else "prediction",
        other=_OTHER_CLASS.format(**names) if version.task == "binary" else "NULL",
        counts="true" if rules.corrections == "count" else "false",
    )


def _unit(version: Version) -> str:
    """Return the SQL of the key, in whose place a row without one stands for itself."""
    given = " AND ".join(f"p.{quote(c.name)} IS NOT NULL" for c in version.signature.key)
    key = f"CAST(jsonb_build_object({key_pairs(version.signature.key, 'p')}) AS text)"
    return f"CASE WHEN {given} THEN {key} ELSE CAST(p.request_id AS text) END"

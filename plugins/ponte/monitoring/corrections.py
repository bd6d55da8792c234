"""Corrections given with `ponte.give_feedback`, kept beside the labels of the source, with an origin of their own.

Of one row of a window the newest correction counts, unless its author took it back, or somebody said later of a
prediction that it was right although it is another one, or wrong although it is this one.
"""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from ponte.model.folders import ModelFolder
from ponte.monitoring.labels import label_days
from ponte.storage.database import Database

_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtext('ponte.label_seen'), hashtext(:model))")

_READ_ALREADY = sa.text("""SELECT EXISTS (
    SELECT FROM ponte.label_seen WHERE model = :model AND origin = 'feedback' AND seen_at > :now)""")

# A person's newest word on a row, about whichever batch of the window, is what the person says.
_COPY = sa.text("""WITH batches AS (
    SELECT b.batch_id, b.window_start, (b.window_end + CAST(:days AS integer))::timestamp AT TIME ZONE 'UTC' AS until
    FROM ponte.batch b
    WHERE b.model = :model AND b.prediction_table IS NOT NULL
    AND EXISTS (SELECT FROM ponte.publication_event e WHERE e.batch_id = b.batch_id)
    AND EXISTS (SELECT FROM ponte.feedback_given g WHERE g.model = b.model AND g.window_start = b.window_start)
), said AS (
    SELECT DISTINCT ON (window_start, key, given_by)
           window_start, key, feedback_id, verdict, prediction, correct_label, at
    FROM ponte.feedback_given WHERE model = :model AND key IS NOT NULL AND at <= :now
    ORDER BY window_start, key, given_by, feedback_id DESC
), standing AS (
    SELECT * FROM said WHERE verdict <> 'withdrawn'
), correction AS (
    SELECT DISTINCT ON (window_start, key) * FROM standing WHERE correct_label IS NOT NULL
    ORDER BY window_start, key, feedback_id DESC
), counted AS (
    SELECT b.batch_id, c.key, c.correct_label AS label, c.at
    FROM correction c JOIN batches b USING (window_start)
    WHERE c.at < b.until AND NOT EXISTS (
        SELECT FROM standing s
        WHERE s.window_start = c.window_start AND s.key = c.key AND s.feedback_id > c.feedback_id
        AND (s.verdict = 'right') = (s.prediction <> c.correct_label))
), known AS (
    SELECT DISTINCT ON (batch_id, key) batch_id, key, label, state FROM ponte.label_seen
    WHERE origin = 'feedback' AND batch_id IN (SELECT batch_id FROM batches) ORDER BY batch_id, key, label_id DESC
)
INSERT INTO ponte.label_seen (model, window_start, batch_id, key, label, known_at, seen_at, state, origin)
SELECT :model, b.window_start, b.batch_id, n.key, n.label, n.at, :now, n.state, 'feedback'
FROM (
    SELECT batch_id, key, c.label, c.at, CASE WHEN c.label IS NULL THEN 'withdrawn' ELSE 'seen' END AS state
    FROM counted c FULL JOIN known k USING (batch_id, key)
    WHERE CASE WHEN k.state = 'seen' THEN c.label IS DISTINCT FROM k.label ELSE c.label IS NOT NULL END
) n JOIN batches b USING (batch_id)""")


def copy_corrections(db: Database, folder: ModelFolder, *, now: dt.datetime) -> int:
    """Add the corrections given until `now` to the labels of the model's batches; return how many rows were added.

    A correction that changed is a newer row, one that counts no more a row `withdrawn`, as of labels of the source. It
    became known when it was given. Nothing is added when the model ignores corrections, nor a correction given when the
    labels of its window are read no more. A repetition, or a twin with an earlier `now`, adds nothing.
    """
    if folder.spec.monitoring.corrections != "count":
        return 0
    values = {"model": folder.name, "now": now, "days": label_days(folder.spec.monitoring)}
    with db.begin() as connection:
        connection.execute(_LOCK, {"model": folder.name})
        if connection.execute(_READ_ALREADY, values).scalar_one():
            return 0
        return connection.execute(_COPY, values).rowcount

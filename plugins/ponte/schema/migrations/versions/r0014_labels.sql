-- Ponte, revision 0014: labels as they are seen, and the columns by whose values quality is measured.

ALTER TABLE ponte.batch ADD COLUMN slice_table text;
COMMENT ON COLUMN ponte.batch.slice_table IS 'Table in ponte_data with the key and the columns of [evaluation] slices of each row, for monitoring alone; NULL without such columns, before revision 0014, and once it was dropped with the predictions.';

CREATE TABLE ponte.label_read (
    read_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id         bigint NOT NULL REFERENCES ponte.batch,
    model            text NOT NULL,
    window_start     date NOT NULL,
    as_of            timestamptz NOT NULL,
    state            text NOT NULL CHECK (state IN ('read', 'failed')),
    labels_from      text CHECK (labels_from IN ('version', 'folder')),
    why              text,
    key_count        bigint,
    labelled_rows    bigint,
    unknown_keys     bigint,
    null_labels      bigint,
    future_labels    bigint,
    early_labels     bigint,
    contradictory    bigint,
    new_labels       bigint,
    changed_labels   bigint,
    withdrawn_labels bigint,
    at               timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((state = 'read') = (labels_from IS NOT NULL)),
    CHECK ((state = 'read') = (num_nonnulls(key_count, labelled_rows, unknown_keys, null_labels, future_labels,
        early_labels, contradictory, new_labels, changed_labels, withdrawn_labels) = 10)),
    CHECK (state = 'read' OR why IS NOT NULL)
);
CREATE UNIQUE INDEX label_read_once ON ponte.label_read (batch_id, as_of) WHERE state = 'read';
CREATE INDEX label_read_of_batch ON ponte.label_read (batch_id);
COMMENT ON TABLE ponte.label_read IS 'Every reading of the labels of a batch, and what labels.sql returned, counted. Append-only.';
COMMENT ON COLUMN ponte.label_read.read_id IS 'Number of the reading.';
COMMENT ON COLUMN ponte.label_read.batch_id IS 'The batch.';
COMMENT ON COLUMN ponte.label_read.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.label_read.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.label_read.as_of IS 'Moment of the reading, given to labels.sql as :as_of; labels that became known later are not looked at.';
COMMENT ON COLUMN ponte.label_read.state IS 'read; or failed: nothing was learned, and the next run tries again.';
COMMENT ON COLUMN ponte.label_read.labels_from IS 'version: the labels.sql that the version was trained with; folder: that one failed, so the labels.sql of the model folder. NULL when it failed.';
COMMENT ON COLUMN ponte.label_read.why IS 'Why the labels.sql of the version was not used, or why the reading failed; else NULL.';
COMMENT ON COLUMN ponte.label_read.key_count IS 'Distinct keys that labels.sql returned.';
COMMENT ON COLUMN ponte.label_read.labelled_rows IS 'Predictions of the batch that have a label now.';
COMMENT ON COLUMN ponte.label_read.unknown_keys IS 'Keys with a label that the batch has no prediction for. They are not kept.';
COMMENT ON COLUMN ponte.label_read.null_labels IS 'Keys whose label is NULL, or no number; as if they were not there.';
COMMENT ON COLUMN ponte.label_read.future_labels IS 'Keys whose label became known after as_of only; as if they were not there.';
COMMENT ON COLUMN ponte.label_read.early_labels IS 'Of labelled_rows: those whose label became known before the window began.';
COMMENT ON COLUMN ponte.label_read.contradictory IS 'Keys that labels.sql returned with more than one label; as if they were not there.';
COMMENT ON COLUMN ponte.label_read.new_labels IS 'Rows added to ponte.label_seen for keys without a label until then.';
COMMENT ON COLUMN ponte.label_read.changed_labels IS 'Rows added to ponte.label_seen because the label, or its moment, is another one.';
COMMENT ON COLUMN ponte.label_read.withdrawn_labels IS 'Rows added to ponte.label_seen because a label is not there any more.';
COMMENT ON COLUMN ponte.label_read.at IS 'When it was written.';

CREATE TABLE ponte.label_seen (
    label_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model        text NOT NULL,
    window_start date NOT NULL,
    batch_id     bigint NOT NULL REFERENCES ponte.batch,
    key          jsonb NOT NULL,
    label        text,
    labelled_at  timestamptz,
    known_at     timestamptz,
    seen_at      timestamptz NOT NULL,
    state        text NOT NULL CHECK (state IN ('seen', 'withdrawn')),
    origin       text NOT NULL DEFAULT 'source' CHECK (origin IN ('source', 'feedback')),
    CHECK ((state = 'seen') = (label IS NOT NULL)),
    CHECK ((state = 'seen') = (known_at IS NOT NULL))
);
CREATE INDEX label_seen_of_batch ON ponte.label_seen (batch_id);
CREATE INDEX label_seen_by_people ON ponte.label_seen (batch_id, seen_at) WHERE origin = 'feedback';
COMMENT ON TABLE ponte.label_seen IS 'Labels of predictions, each when it was first seen: a corrected label is a newer row, one taken back a row withdrawn. Append-only.';
COMMENT ON COLUMN ponte.label_seen.label_id IS 'Number of the row; of one key and origin the greatest counts.';
COMMENT ON COLUMN ponte.label_seen.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.label_seen.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.label_seen.batch_id IS 'The batch whose prediction it is the label of.';
COMMENT ON COLUMN ponte.label_seen.key IS 'Key of the entity.';
COMMENT ON COLUMN ponte.label_seen.label IS 'The label, as text; NULL when it was taken back.';
COMMENT ON COLUMN ponte.label_seen.labelled_at IS 'When it became known, as labels.sql says; NULL when it does not say.';
COMMENT ON COLUMN ponte.label_seen.known_at IS 'The moment that maturity is counted by: labelled_at, else when this label of this window was first seen, for whichever batch. NULL when it was taken back.';
COMMENT ON COLUMN ponte.label_seen.seen_at IS 'The as_of of the reading that found it.';
COMMENT ON COLUMN ponte.label_seen.state IS 'seen; or withdrawn: from seen_at on the key has no label.';
COMMENT ON COLUMN ponte.label_seen.origin IS 'source: labels.sql; feedback: a correction that a person gave.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.label_read
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.label_seen
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

-- With the rights of whoever asks, and no settings of its own: so the planner takes it into the query.
CREATE FUNCTION ponte.labels_at(batch_id bigint, ts timestamptz, corrections boolean)
RETURNS TABLE (key jsonb, label text, labelled_at timestamptz, known_at timestamptz, seen_at timestamptz, origin text,
    label_id bigint)
LANGUAGE sql STABLE AS $$
    SELECT DISTINCT ON (s.key) s.key, s.label, s.labelled_at, s.known_at, s.seen_at, s.origin, s.label_id
    FROM (
        SELECT DISTINCT ON (l.key, l.origin) l.*
        FROM ponte.label_seen l
        WHERE l.batch_id = labels_at.batch_id AND l.seen_at <= ts AND (corrections OR l.origin = 'source')
        ORDER BY l.key, l.origin, l.label_id DESC
    ) s
    WHERE s.state = 'seen'
    ORDER BY s.key, s.label_id DESC
$$;
COMMENT ON FUNCTION ponte.labels_at(bigint, timestamptz, boolean) IS 'The labels of a batch as they were known at a moment, one per key; with corrections that people gave, or of the source alone.';

COMMENT ON COLUMN ponte.receipt.step IS 'freeze, check, snapshot, train, evaluate, plan, score, guard, publish, read_labels or measure.';

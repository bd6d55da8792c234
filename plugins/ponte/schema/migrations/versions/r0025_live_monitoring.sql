-- Ponte, revision 0025: live rows counted by window, held against what their version knows, and measured when labels
-- come. All in tables of their own: no live row is ever part of a batch.

-- ---------------------------------------------------------------- counts

-- One row per flush and window, in the transaction of the rows: whoever repeats a flush meets its key, and that of its
-- rows. No foreign key: it would lock the row of the version twice a second.
CREATE TABLE ponte.live_count (
    flush_id     uuid NOT NULL,
    model        text NOT NULL,
    version      integer NOT NULL,
    window_start date NOT NULL,
    window_end   date NOT NULL CHECK (window_end > window_start),
    row_count    bigint NOT NULL CHECK (row_count > 0),
    seconds      double precision NOT NULL CHECK (seconds >= 0),
    cpu_seconds  double precision NOT NULL CHECK (cpu_seconds >= 0),
    peak_bytes   bigint NOT NULL,
    features     bigint[] NOT NULL CHECK (0 <= ALL (features)),
    answers      bigint[] NOT NULL CHECK (0 <= ALL (answers)),
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (flush_id, model, version, window_start)
);
CREATE INDEX live_count_of_model ON ponte.live_count (model);
COMMENT ON TABLE ponte.live_count IS 'Counts of live rows as they were flushed, with the rows; the daily monitor folds them into ponte.live_window and deletes them.';
COMMENT ON COLUMN ponte.live_count.flush_id IS 'The flush.';
COMMENT ON COLUMN ponte.live_count.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.live_count.version IS 'Version that answered.';
COMMENT ON COLUMN ponte.live_count.window_start IS 'First day of the window that holds asked_at, UTC.';
COMMENT ON COLUMN ponte.live_count.window_end IS 'Day after the last day of the window, UTC.';
COMMENT ON COLUMN ponte.live_count.row_count IS 'Rows.';
COMMENT ON COLUMN ponte.live_count.seconds IS 'Wall time of the process since its flush before, in seconds: the share of these rows.';
COMMENT ON COLUMN ponte.live_count.cpu_seconds IS 'CPU time of the process since its flush before, in seconds: the share of these rows.';
COMMENT ON COLUMN ponte.live_count.peak_bytes IS 'Largest resident memory of the process so far in bytes.';
COMMENT ON COLUMN ponte.live_count.features IS 'Rows per bin of each feature in the order of ponte.reference_column, one after the other; empty when the version has none.';
COMMENT ON COLUMN ponte.live_count.answers IS 'Likewise of prediction and scores.';
COMMENT ON COLUMN ponte.live_count.at IS 'When it was written.';

CREATE TABLE ponte.live_window (
    live_window_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model          text NOT NULL,
    version        integer NOT NULL,
    window_start   date NOT NULL,
    window_end     date NOT NULL CHECK (window_end > window_start),
    row_count      bigint NOT NULL CHECK (row_count > 0),
    flushes        bigint NOT NULL CHECK (flushes > 0),
    seconds        double precision NOT NULL,
    cpu_seconds    double precision NOT NULL,
    peak_bytes     bigint NOT NULL,
    UNIQUE (model, version, window_start),
    FOREIGN KEY (model, version) REFERENCES ponte.version
);
COMMENT ON TABLE ponte.live_window IS 'The live rows that a version answered in a window, as far as their counts were folded; it grows until all have come.';
COMMENT ON COLUMN ponte.live_window.live_window_id IS 'Number of the live window.';
COMMENT ON COLUMN ponte.live_window.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.live_window.version IS 'Version that answered.';
COMMENT ON COLUMN ponte.live_window.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.live_window.window_end IS 'Day after the last day of the window, UTC.';
COMMENT ON COLUMN ponte.live_window.row_count IS 'Rows.';
COMMENT ON COLUMN ponte.live_window.flushes IS 'Flushes that brought them.';
COMMENT ON COLUMN ponte.live_window.seconds IS 'Wall time of the processes in seconds, the share of these rows.';
COMMENT ON COLUMN ponte.live_window.cpu_seconds IS 'CPU time of the processes in seconds, the share of these rows.';
COMMENT ON COLUMN ponte.live_window.peak_bytes IS 'Largest resident memory of any of the processes in bytes.';

CREATE TABLE ponte.live_window_count (
    live_window_id bigint NOT NULL REFERENCES ponte.live_window,
    family         text NOT NULL CHECK (family IN ('features', 'answers')),
    column_name    text NOT NULL,
    counts         bigint[] NOT NULL CHECK (0 <= ALL (counts)),
    PRIMARY KEY (live_window_id, family, column_name)
);
COMMENT ON TABLE ponte.live_window_count IS 'Counts of the columns of a live window, in the bins of ponte.reference_column; each adds up to its rows.';
COMMENT ON COLUMN ponte.live_window_count.live_window_id IS 'The live window.';
COMMENT ON COLUMN ponte.live_window_count.family IS 'features, or answers: prediction and scores.';
COMMENT ON COLUMN ponte.live_window_count.column_name IS 'The column.';
COMMENT ON COLUMN ponte.live_window_count.counts IS 'Rows per bin; the last one is NULL and NaN.';

-- ---------------------------------------------------------------- drift

CREATE TABLE ponte.live_drift_verdict (LIKE ponte.drift_verdict INCLUDING ALL);
ALTER TABLE ponte.live_drift_verdict RENAME COLUMN batch_id TO live_window_id;
ALTER TABLE ponte.live_drift_verdict RENAME COLUMN published_windows TO live_windows;
ALTER TABLE ponte.live_drift_verdict DROP COLUMN since,
    ADD FOREIGN KEY (live_window_id) REFERENCES ponte.live_window;
COMMENT ON TABLE ponte.live_drift_verdict IS 'Whether a family of columns of a finished live window is like the windows its version knows. Append-only.';
COMMENT ON COLUMN ponte.live_drift_verdict.live_window_id IS 'The live window.';
COMMENT ON COLUMN ponte.live_drift_verdict.row_count IS 'Rows that were counted when it was judged.';
COMMENT ON COLUMN ponte.live_drift_verdict.live_windows IS 'Of the windows it was compared with: live windows before it; the others are those of training.';

CREATE TABLE ponte.live_drift_verdict_column (LIKE ponte.drift_verdict_column INCLUDING ALL);
ALTER TABLE ponte.live_drift_verdict_column RENAME COLUMN batch_id TO live_window_id;
ALTER TABLE ponte.live_drift_verdict_column
    ADD FOREIGN KEY (live_window_id, family) REFERENCES ponte.live_drift_verdict;
COMMENT ON TABLE ponte.live_drift_verdict_column IS 'How far each column of a judged live window is from the windows its version knows. Append-only.';
COMMENT ON COLUMN ponte.live_drift_verdict_column.live_window_id IS 'The live window.';

-- ---------------------------------------------------------------- labels and quality

CREATE TABLE ponte.live_label_read (LIKE ponte.label_read INCLUDING ALL);
ALTER TABLE ponte.live_label_read RENAME COLUMN batch_id TO live_window_id;
ALTER TABLE ponte.live_label_read ADD FOREIGN KEY (live_window_id) REFERENCES ponte.live_window;
COMMENT ON TABLE ponte.live_label_read IS 'Each reading of the labels of a live window. Append-only.';
COMMENT ON COLUMN ponte.live_label_read.live_window_id IS 'The live window.';
COMMENT ON COLUMN ponte.live_label_read.unknown_keys IS 'Keys with a label that nobody asked for in the window. They are not kept.';
COMMENT ON COLUMN ponte.live_label_read.new_labels IS 'Rows added to ponte.live_label_seen for keys without a label until then.';
COMMENT ON COLUMN ponte.live_label_read.changed_labels IS 'Rows added to ponte.live_label_seen because the label, or its moment, is another one.';
COMMENT ON COLUMN ponte.live_label_read.withdrawn_labels IS 'Rows added to ponte.live_label_seen because a label is not there any more.';
COMMENT ON COLUMN ponte.live_label_read.labelled_rows IS 'Keys that were asked for and have a label.';

CREATE TABLE ponte.live_label_seen (LIKE ponte.label_seen INCLUDING ALL);
ALTER TABLE ponte.live_label_seen RENAME COLUMN batch_id TO live_window_id;
ALTER TABLE ponte.live_label_seen DROP COLUMN origin, ADD FOREIGN KEY (live_window_id) REFERENCES ponte.live_window;
COMMENT ON TABLE ponte.live_label_seen IS 'Labels of keys that were asked for live, as they were seen, one per key however often it was asked. Content of a source. Append-only.';
COMMENT ON COLUMN ponte.live_label_seen.live_window_id IS 'The live window.';
COMMENT ON COLUMN ponte.live_label_seen.label_id IS 'Number of the row; of one key the greatest counts.';
COMMENT ON COLUMN ponte.live_label_seen.known_at IS 'The moment that maturity is counted by: labelled_at, else when this label of this window was first seen, for whichever version. NULL when it was taken back.';

CREATE TABLE ponte.live_realised (LIKE ponte.realised INCLUDING ALL);
ALTER TABLE ponte.live_realised RENAME COLUMN batch_id TO live_window_id;
ALTER TABLE ponte.live_realised ADD FOREIGN KEY (live_window_id) REFERENCES ponte.live_window;
COMMENT ON TABLE ponte.live_realised IS 'What live answers turned out to be worth, by the age of labels. Append-only.';
COMMENT ON COLUMN ponte.live_realised.live_window_id IS 'The live window.';
COMMENT ON COLUMN ponte.live_realised.version IS 'Version that answered.';
COMMENT ON COLUMN ponte.live_realised.slice_column IS 'Column of [evaluation] slices that is part of the key; empty for all rows.';
COMMENT ON COLUMN ponte.live_realised.slice_value IS 'Value of that column, "NULL" for none; empty for all rows.';
COMMENT ON COLUMN ponte.live_realised.labelled_rows IS 'Answers whose label counts for this maturity, also several about one key.';
COMMENT ON COLUMN ponte.live_realised.feedback_rows IS 'Of labelled_rows: those whose label is what a person said of the answer.';
COMMENT ON COLUMN ponte.live_realised.other_rows IS 'Answers left out because their label is a class that the version does not know.';
COMMENT ON COLUMN ponte.live_realised.row_count IS 'Answers of the window, also those without a key, or of the slice.';
COMMENT ON COLUMN ponte.live_realised.coverage IS 'labelled_rows of row_count, 0 to 1.';
COMMENT ON COLUMN ponte.live_realised.label_digest IS 'Digest of the numbers of the labels, and of what people said, that counted, of the whole window: the same digest, the same labels.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.live_drift_verdict
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.live_drift_verdict_column
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.live_label_read
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.live_label_seen
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.live_realised
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

-- Ponte, revision 0015: how good predictions turned out to be, by the age of labels.

CREATE TABLE ponte.realised (
    batch_id      bigint NOT NULL REFERENCES ponte.batch,
    model         text NOT NULL,
    window_start  date NOT NULL,
    version       integer NOT NULL,
    maturity_days integer NOT NULL CHECK (maturity_days >= 0),
    metric        text NOT NULL,
    slice_column  text NOT NULL DEFAULT '',
    slice_value   text NOT NULL DEFAULT '',
    value         double precision,
    low           double precision,
    high          double precision,
    labelled_rows bigint NOT NULL CHECK (labelled_rows >= 0),
    feedback_rows bigint NOT NULL CHECK (feedback_rows BETWEEN 0 AND labelled_rows),
    other_rows    bigint NOT NULL DEFAULT 0 CHECK (other_rows >= 0),
    row_count     bigint NOT NULL CHECK (row_count >= labelled_rows + other_rows),
    coverage      double precision GENERATED ALWAYS AS (labelled_rows::float8 / nullif(row_count, 0)) STORED,
    final         boolean NOT NULL,
    labels_from   text NOT NULL CHECK (labels_from IN ('version', 'folder')),
    label_digest  bigint NOT NULL,
    as_of         timestamptz NOT NULL,
    computed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (batch_id, maturity_days, as_of, slice_column, slice_value, metric),
    FOREIGN KEY (model, version) REFERENCES ponte.version,
    CHECK (num_nonnulls(low, high) IN (0, 2)),
    CHECK (value IS NOT NULL OR low IS NULL)
);
CREATE INDEX realised_of_model ON ponte.realised (model, metric, maturity_days, window_start);
COMMENT ON TABLE ponte.realised IS 'What predictions turned out to be worth, measured whenever their labels had changed; figures are never overwritten. Append-only.';
COMMENT ON COLUMN ponte.realised.batch_id IS 'The batch.';
COMMENT ON COLUMN ponte.realised.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.realised.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.realised.version IS 'Version that scored it.';
COMMENT ON COLUMN ponte.realised.maturity_days IS 'Only labels known before window_end plus so many days count. Figures are comparable at equal maturity alone.';
COMMENT ON COLUMN ponte.realised.metric IS 'Name of the figure, as in ponte.metric.';
COMMENT ON COLUMN ponte.realised.slice_column IS 'Column of [evaluation] slices; empty for the whole batch.';
COMMENT ON COLUMN ponte.realised.slice_value IS 'Value of that column, "NULL" for none; empty for the whole batch.';
COMMENT ON COLUMN ponte.realised.value IS 'The figure; NULL where it is undefined, as a ROC AUC of rows of one class, or any figure of no rows.';
COMMENT ON COLUMN ponte.realised.low IS 'Lower end of its interval, of confidence [evaluation] confidence; NULL when there is none, as for fewer than 10 rows.';
COMMENT ON COLUMN ponte.realised.high IS 'Upper end of its interval; NULL when there is none.';
COMMENT ON COLUMN ponte.realised.labelled_rows IS 'Predictions whose label counts for this maturity.';
COMMENT ON COLUMN ponte.realised.feedback_rows IS 'Of labelled_rows: those whose label is a correction that a person gave.';
COMMENT ON COLUMN ponte.realised.other_rows IS 'Predictions left out because their label is a class that the version does not know.';
COMMENT ON COLUMN ponte.realised.row_count IS 'Predictions of the batch, or of the slice.';
COMMENT ON COLUMN ponte.realised.coverage IS 'labelled_rows of row_count, 0 to 1; NULL of an empty batch.';
COMMENT ON COLUMN ponte.realised.final IS 'True when as_of lies at or after window_end plus maturity_days: only corrections can change it.';
COMMENT ON COLUMN ponte.realised.labels_from IS 'Whose labels.sql was read last: version, or folder because that of the version failed.';
COMMENT ON COLUMN ponte.realised.label_digest IS 'Digest of the label_id that counted, of the whole batch: the same digest, the same labels.';
COMMENT ON COLUMN ponte.realised.as_of IS 'Moment of the reading of labels that this rests on: nothing seen later is in it.';
COMMENT ON COLUMN ponte.realised.computed_at IS 'When it was computed.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.realised
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

-- With the rights of whoever asks.
CREATE FUNCTION ponte.quality_at(model text, ts timestamptz) RETURNS SETOF ponte.realised
LANGUAGE sql STABLE AS $$
    SELECT r.* FROM ponte.realised r JOIN (
        SELECT batch_id, maturity_days, max(as_of) AS as_of FROM ponte.realised
        WHERE realised.model = quality_at.model AND as_of <= ts GROUP BY batch_id, maturity_days
    ) newest USING (batch_id, maturity_days, as_of)
    ORDER BY r.window_start, r.batch_id, r.maturity_days, r.slice_column, r.slice_value, r.metric
$$;
COMMENT ON FUNCTION ponte.quality_at(text, timestamptz) IS 'The figures of a model as they were known at that moment: of each batch and maturity the newest measurement until then.';

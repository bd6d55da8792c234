CREATE OR REPLACE VIEW ponte.quality WITH (security_barrier) AS
    SELECT r.model, r.window_start, b.window_end, r.batch_id, r.version, p.batch_id IS NOT NULL AS published,
           r.maturity_days, r.metric, r.slice_column,
           -- A value of a column is content of rows: NULL for whoever may not read it where it lies.
           CASE WHEN r.slice_column = '' OR has_column_privilege(current_user, 'ponte.realised', 'slice_value', 'SELECT')
                THEN r.slice_value END AS slice_value, r.value, r.low, r.high, r.labelled_rows,
           r.feedback_rows, r.other_rows, r.row_count, r.coverage, r.final,
           CASE WHEN r.final THEN n.finals - 1 ELSE 0 END AS corrections, r.labels_from, r.as_of, r.computed_at
    FROM (
        SELECT batch_id, maturity_days, max(as_of) AS as_of, count(DISTINCT label_digest) FILTER (WHERE final) AS finals
        FROM ponte.realised GROUP BY batch_id, maturity_days
    ) n
    JOIN ponte.realised r USING (batch_id, maturity_days, as_of)
    JOIN ponte.batch b USING (batch_id)
    LEFT JOIN ponte.published p USING (batch_id);

COMMENT ON VIEW ponte.quality IS 'What predictions turned out to be worth: of each batch and maturity the newest figures.';
COMMENT ON COLUMN ponte.quality.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.quality.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.quality.window_end IS 'Day after the last day of the window, UTC.';
COMMENT ON COLUMN ponte.quality.batch_id IS 'The batch.';
COMMENT ON COLUMN ponte.quality.version IS 'Version that scored it.';
COMMENT ON COLUMN ponte.quality.published IS 'True when people see this batch now; false when another one has replaced it, or retention dropped it.';
COMMENT ON COLUMN ponte.quality.maturity_days IS 'Only labels known before window_end plus so many days count. Compare at equal maturity alone.';
COMMENT ON COLUMN ponte.quality.metric IS 'Name of the figure.';
COMMENT ON COLUMN ponte.quality.slice_column IS 'Column of [evaluation] slices; empty for the whole batch.';
COMMENT ON COLUMN ponte.quality.slice_value IS 'Value of that column; empty for the whole batch; NULL for roles that may not know it.';
COMMENT ON COLUMN ponte.quality.value IS 'The figure; NULL where it is undefined.';
COMMENT ON COLUMN ponte.quality.low IS 'Lower end of its interval; NULL when there is none.';
COMMENT ON COLUMN ponte.quality.high IS 'Upper end of its interval; NULL when there is none.';
COMMENT ON COLUMN ponte.quality.labelled_rows IS 'Predictions whose label counts.';
COMMENT ON COLUMN ponte.quality.feedback_rows IS 'Of these: those whose label is a correction that a person gave.';
COMMENT ON COLUMN ponte.quality.other_rows IS 'Predictions left out because their label is a class that the version does not know.';
COMMENT ON COLUMN ponte.quality.row_count IS 'Predictions of the batch, or of the slice.';
COMMENT ON COLUMN ponte.quality.coverage IS 'labelled_rows of row_count, 0 to 1; NULL of an empty batch.';
COMMENT ON COLUMN ponte.quality.final IS 'True when the labels were read at or after window_end plus maturity_days; before, the figure grows with the labels.';
COMMENT ON COLUMN ponte.quality.corrections IS 'How often a final figure was measured again because labels were corrected, came late or were taken back.';
COMMENT ON COLUMN ponte.quality.labels_from IS 'version: its own labels.sql; folder: that one failed.';
COMMENT ON COLUMN ponte.quality.as_of IS 'Moment of the reading of labels that it rests on.';
COMMENT ON COLUMN ponte.quality.computed_at IS 'When it was computed.';

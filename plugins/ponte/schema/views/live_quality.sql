CREATE OR REPLACE VIEW ponte.live_quality WITH (security_barrier) AS
    SELECT r.model, r.window_start, w.window_end, r.version, r.maturity_days, r.metric, r.slice_column, r.slice_value,
           r.value, r.low, r.high, r.labelled_rows, r.feedback_rows, r.other_rows, r.row_count, r.coverage, r.final,
           CASE WHEN r.final THEN n.finals - 1 ELSE 0 END AS corrections, r.labels_from, r.as_of, r.computed_at
    FROM (
        SELECT live_window_id, maturity_days, max(as_of) AS as_of,
               count(DISTINCT label_digest) FILTER (WHERE final) AS finals
        FROM ponte.live_realised GROUP BY live_window_id, maturity_days
    ) n
    JOIN ponte.live_realised r USING (live_window_id, maturity_days, as_of)
    JOIN ponte.live_window w USING (live_window_id);

COMMENT ON VIEW ponte.live_quality IS 'What live answers turned out to be worth: of each window, version and maturity the newest figures. No batch is in it.';
COMMENT ON COLUMN ponte.live_quality.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.live_quality.window_start IS 'First day of the window that holds asked_at, UTC.';
COMMENT ON COLUMN ponte.live_quality.window_end IS 'Day after the last day of the window, UTC.';
COMMENT ON COLUMN ponte.live_quality.version IS 'Version that answered.';
COMMENT ON COLUMN ponte.live_quality.maturity_days IS 'Only labels known before window_end plus so many days count. Compare at equal maturity alone.';
COMMENT ON COLUMN ponte.live_quality.metric IS 'Name of the figure.';
COMMENT ON COLUMN ponte.live_quality.slice_column IS 'Column of [evaluation] slices that is part of the key; empty for all rows.';
COMMENT ON COLUMN ponte.live_quality.slice_value IS 'Value of that column; empty for all rows.';
COMMENT ON COLUMN ponte.live_quality.value IS 'The figure, in which each answer counts; NULL where it is undefined.';
COMMENT ON COLUMN ponte.live_quality.low IS 'Lower end of its interval, for which answers about one key are drawn together; NULL when there is none.';
COMMENT ON COLUMN ponte.live_quality.high IS 'Upper end of its interval; NULL when there is none.';
COMMENT ON COLUMN ponte.live_quality.labelled_rows IS 'Answers whose label counts.';
COMMENT ON COLUMN ponte.live_quality.feedback_rows IS 'Of these: those whose label is what a person said of the answer.';
COMMENT ON COLUMN ponte.live_quality.other_rows IS 'Answers left out because their label is a class that the version does not know.';
COMMENT ON COLUMN ponte.live_quality.row_count IS 'Answers of the window, also those without a key, or of the slice.';
COMMENT ON COLUMN ponte.live_quality.coverage IS 'labelled_rows of row_count, 0 to 1.';
COMMENT ON COLUMN ponte.live_quality.final IS 'True when the labels were read at or after window_end plus maturity_days; before, the figure grows with the labels.';
COMMENT ON COLUMN ponte.live_quality.corrections IS 'How often a final figure was measured again because labels were corrected, came late or were taken back.';
COMMENT ON COLUMN ponte.live_quality.labels_from IS 'version: its own labels.sql; folder: that one failed.';
COMMENT ON COLUMN ponte.live_quality.as_of IS 'Moment of the reading of labels that it rests on.';
COMMENT ON COLUMN ponte.live_quality.computed_at IS 'When it was computed.';

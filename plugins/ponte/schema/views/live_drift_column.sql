CREATE OR REPLACE VIEW ponte.live_drift_column WITH (security_barrier) AS
    SELECT w.model, w.window_start, w.version, c.family, c.column_name, c.named, c.statistic, v."limit",
           c.share_change, c.null_change, c.detectable
    FROM ponte.live_drift_verdict_column c JOIN ponte.live_drift_verdict v USING (live_window_id, family)
    JOIN ponte.live_window w USING (live_window_id);

COMMENT ON VIEW ponte.live_drift_column IS 'How far each column of the live rows of a window is from the windows that the version knows; names and figures, no values.';
COMMENT ON COLUMN ponte.live_drift_column.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.live_drift_column.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.live_drift_column.version IS 'Version that answered.';
COMMENT ON COLUMN ponte.live_drift_column.family IS 'features or answers.';
COMMENT ON COLUMN ponte.live_drift_column.column_name IS 'The column.';
COMMENT ON COLUMN ponte.live_drift_column.named IS 'True when it is beyond the limit.';
COMMENT ON COLUMN ponte.live_drift_column.statistic IS 'How far it is from the windows, as in ponte.drift_column.';
COMMENT ON COLUMN ponte.live_drift_column."limit" IS 'Limit of the family.';
COMMENT ON COLUMN ponte.live_drift_column.share_change IS 'Share of its rows that would have to lie in another bin for it to be like all windows together.';
COMMENT ON COLUMN ponte.live_drift_column.null_change IS 'Its share of NULL less that of all windows together.';
COMMENT ON COLUMN ponte.live_drift_column.detectable IS 'Smallest shift it could have seen, as a share of rows.';

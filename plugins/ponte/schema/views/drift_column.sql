CREATE OR REPLACE VIEW ponte.drift_column WITH (security_barrier) AS
    SELECT b.model, b.window_start, c.batch_id, b.version, c.family, c.column_name, c.named, c.statistic, v."limit",
           c.share_change, c.null_change, c.detectable
    FROM ponte.drift_verdict_column c JOIN ponte.drift_verdict v USING (batch_id, family) JOIN ponte.batch b USING (batch_id);

COMMENT ON VIEW ponte.drift_column IS 'How far each column of a judged batch is from the windows that its version knows; names and figures, no values.';
COMMENT ON COLUMN ponte.drift_column.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.drift_column.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.drift_column.batch_id IS 'The batch; also one that people do not see any more.';
COMMENT ON COLUMN ponte.drift_column.version IS 'Version that scored it.';
COMMENT ON COLUMN ponte.drift_column.family IS 'features or answers.';
COMMENT ON COLUMN ponte.drift_column.column_name IS 'The column.';
COMMENT ON COLUMN ponte.drift_column.named IS 'True when it is beyond the limit.';
COMMENT ON COLUMN ponte.drift_column.statistic IS 'How far it is from the windows. 1 is as far as one of so many columns would be in 2.5 % of the weeks, if each moved by itself, as much as before.';
COMMENT ON COLUMN ponte.drift_column."limit" IS 'Limit of the family.';
COMMENT ON COLUMN ponte.drift_column.share_change IS 'Share of its rows that would have to lie in another bin for it to be like all windows together.';
COMMENT ON COLUMN ponte.drift_column.null_change IS 'Its share of NULL less that of all windows together.';
COMMENT ON COLUMN ponte.drift_column.detectable IS 'Smallest shift it could have seen, as a share of rows.';

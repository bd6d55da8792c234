CREATE OR REPLACE VIEW ponte.estimated_quality WITH (security_barrier) AS
    SELECT b.model, b.window_start, e.batch_id, b.version, p.batch_id IS NOT NULL AS published, e.metric,
           e.value AS estimated_value, e.low AS estimated_low, e.high AS estimated_high, e.row_count AS estimated_rows,
           e.method, e.calibrated_on, e.calibrated_rows, e.created_at
    FROM ponte.estimate e JOIN ponte.batch b USING (batch_id) LEFT JOIN ponte.published p USING (batch_id);

COMMENT ON VIEW ponte.estimated_quality IS 'What the quality of each batch probably is, estimated without its labels. Never to be mixed with realised quality.';
COMMENT ON COLUMN ponte.estimated_quality.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.estimated_quality.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.estimated_quality.batch_id IS 'The batch.';
COMMENT ON COLUMN ponte.estimated_quality.version IS 'Version that scored it.';
COMMENT ON COLUMN ponte.estimated_quality.published IS 'Whether people see this batch.';
COMMENT ON COLUMN ponte.estimated_quality.metric IS 'Metric, as in ponte.metric.';
COMMENT ON COLUMN ponte.estimated_quality.estimated_value IS 'The estimate, in the unit of the metric.';
COMMENT ON COLUMN ponte.estimated_quality.estimated_low IS 'Lower end of its 95 % interval.';
COMMENT ON COLUMN ponte.estimated_quality.estimated_high IS 'Upper end of its 95 % interval.';
COMMENT ON COLUMN ponte.estimated_quality.estimated_rows IS 'Predictions that it is the estimate of.';
COMMENT ON COLUMN ponte.estimated_quality.method IS 'isotonic or error_model, see ponte.estimate.';
COMMENT ON COLUMN ponte.estimated_quality.calibrated_on IS 'Part of the training windows that it was calibrated on.';
COMMENT ON COLUMN ponte.estimated_quality.calibrated_rows IS 'Rows of that part.';
COMMENT ON COLUMN ponte.estimated_quality.created_at IS 'When it was made.';

CREATE OR REPLACE VIEW ponte.duel WITH (security_barrier) AS
    SELECT d.model, d.window_start, d.batch_id, d.duel_id, d.event_id, b.version AS champion_version,
           d.version AS challenger_version, d.status, d.why, d.own_rows, d.row_count, d.unscored_rows, d.compared_rows,
           1 - d.differing_rows::float8 / nullif(d.compared_rows, 0) AS agreement,
           d.differing_rows::float8 / nullif(d.compared_rows, 0) AS differing_share, d.score_difference,
           f.maturity_days, f.metric, f.champion_value, f.challenger_value, f.difference, f.low, f.high,
           f.labelled_rows, f.as_of
    FROM ponte.duel_batch d
    JOIN ponte.batch b USING (batch_id)
    LEFT JOIN (
        SELECT DISTINCT ON (duel_id, maturity_days, metric) * FROM ponte.duel_figure
        ORDER BY duel_id, maturity_days, metric, duel_figure.as_of DESC
    ) f USING (duel_id);

COMMENT ON VIEW ponte.duel IS 'Champion and challenger on the same rows, window by window: how far they agree, and when labels have come, a row per maturity and metric.';
COMMENT ON COLUMN ponte.duel.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.duel.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.duel.batch_id IS 'The batch of the champion.';
COMMENT ON COLUMN ponte.duel.duel_id IS 'Number of the comparison of this window.';
COMMENT ON COLUMN ponte.duel.event_id IS 'The alias event that had made the version challenger: all windows of one event are one duel.';
COMMENT ON COLUMN ponte.duel.champion_version IS 'Version that scored the batch.';
COMMENT ON COLUMN ponte.duel.challenger_version IS 'The version that it is held against.';
COMMENT ON COLUMN ponte.duel.status IS 'open, scored or failed.';
COMMENT ON COLUMN ponte.duel.why IS 'Why it failed; else NULL.';
COMMENT ON COLUMN ponte.duel.own_rows IS 'Whether the challenger read rows of its own features.sql instead of the champion''s.';
COMMENT ON COLUMN ponte.duel.row_count IS 'Rows that the challenger was asked about.';
COMMENT ON COLUMN ponte.duel.unscored_rows IS 'Of these: rows that it could not predict.';
COMMENT ON COLUMN ponte.duel.compared_rows IS 'Rows that both have predicted.';
COMMENT ON COLUMN ponte.duel.agreement IS 'Share of compared_rows with the same prediction, 0 to 1; NULL without any.';
COMMENT ON COLUMN ponte.duel.differing_share IS 'Share of compared_rows with another prediction, 0 to 1; NULL without any.';
COMMENT ON COLUMN ponte.duel.score_difference IS 'Mean absolute difference of the scores of both, see ponte.duel_batch.';
COMMENT ON COLUMN ponte.duel.maturity_days IS 'Only labels known before window_end plus so many days count; NULL, like all that follows, before labels have come.';
COMMENT ON COLUMN ponte.duel.metric IS 'Name of the figure.';
COMMENT ON COLUMN ponte.duel.champion_value IS 'That of the champion.';
COMMENT ON COLUMN ponte.duel.challenger_value IS 'That of the challenger.';
COMMENT ON COLUMN ponte.duel.difference IS 'Challenger minus champion.';
COMMENT ON COLUMN ponte.duel.low IS 'Lower end of its interval, from paired resamples; NULL for too few rows.';
COMMENT ON COLUMN ponte.duel.high IS 'Upper end of its interval; NULL for too few rows.';
COMMENT ON COLUMN ponte.duel.labelled_rows IS 'Rows with a label that both have predicted.';
COMMENT ON COLUMN ponte.duel.as_of IS 'Moment of the reading of labels that it rests on.';

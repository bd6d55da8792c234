CREATE OR REPLACE VIEW ponte.live_drift WITH (security_barrier) AS
    SELECT w.model, w.window_start, w.window_end, w.version, v.family,
           CASE WHEN v.state = 'notice' AND lag(v.beyond) OVER live THEN 'drift' ELSE v.state END AS state,
           CASE WHEN v.state = 'provisional' AND v.beyond AND lag(v.beyond) OVER live THEN 'drift'
                WHEN v.state = 'provisional' THEN CASE WHEN v.beyond THEN 'notice' ELSE 'quiet' END END AS would_be,
           v.strong, v.why,
           (SELECT array_agg(c.column_name ORDER BY c.statistic DESC, c.column_name)
            FROM ponte.live_drift_verdict_column c
            WHERE c.live_window_id = v.live_window_id AND c.family = v.family AND c.named) AS columns,
           v.statistic, v."limit", v.p, v.detectable, v.row_count, w.row_count - v.row_count AS late_rows,
           v.column_count, v.windows, v.live_windows, v.effective_windows, v.judged_at
    FROM ponte.live_window w JOIN ponte.live_drift_verdict v USING (live_window_id)
    WINDOW live AS (PARTITION BY w.model, w.version, v.family ORDER BY w.window_start);

COMMENT ON VIEW ponte.live_drift IS 'Whether the live rows of a finished window are like the windows that the version which answered knows: one row per version and family. No batch is in it.';
COMMENT ON COLUMN ponte.live_drift.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.live_drift.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.live_drift.window_end IS 'Day after the last day of the window, UTC.';
COMMENT ON COLUMN ponte.live_drift.version IS 'Version that answered.';
COMMENT ON COLUMN ponte.live_drift.family IS 'features, or answers: scores and the prediction.';
COMMENT ON COLUMN ponte.live_drift.state IS 'quiet; notice: beyond the limit; drift: so was the live window of the version before it; provisional; not_judged.';
COMMENT ON COLUMN ponte.live_drift.would_be IS 'What a provisional one would be: quiet, notice or drift; else NULL.';
COMMENT ON COLUMN ponte.live_drift.strong IS 'True when beyond the limit of 0.1 % false alarms; NULL when not judged.';
COMMENT ON COLUMN ponte.live_drift.why IS 'Why it is not judged; else NULL.';
COMMENT ON COLUMN ponte.live_drift.columns IS 'Columns beyond the limit, the farthest first; NULL for none.';
COMMENT ON COLUMN ponte.live_drift.statistic IS 'Greatest statistic of its columns; NULL when not judged.';
COMMENT ON COLUMN ponte.live_drift."limit" IS 'What the statistic passes in 2.5 % of quiet windows; NULL when not judged.';
COMMENT ON COLUMN ponte.live_drift.p IS 'Share of quiet windows with such a statistic or a greater one; NULL when not judged.';
COMMENT ON COLUMN ponte.live_drift.detectable IS 'Smallest shift it could have seen, as a share of rows; NULL when not judged.';
COMMENT ON COLUMN ponte.live_drift.row_count IS 'Rows that were judged.';
COMMENT ON COLUMN ponte.live_drift.late_rows IS 'Rows that were written after the window was judged.';
COMMENT ON COLUMN ponte.live_drift.column_count IS 'Columns that were compared.';
COMMENT ON COLUMN ponte.live_drift.windows IS 'Windows it was compared with.';
COMMENT ON COLUMN ponte.live_drift.live_windows IS 'Of these live windows; the others are those of training.';
COMMENT ON COLUMN ponte.live_drift.effective_windows IS 'As many independent windows tell as much; NULL when not judged.';
COMMENT ON COLUMN ponte.live_drift.judged_at IS 'When it was judged.';

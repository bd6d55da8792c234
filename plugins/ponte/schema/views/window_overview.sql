CREATE OR REPLACE VIEW ponte.window_overview WITH (security_barrier) AS
    WITH shown AS (
        -- Of each window the batch that people see; of one that they do not see, the newest.
        SELECT DISTINCT ON (b.model, b.window_start)
               b.model, b.window_start, b.window_end, b.batch_id, b.version, b.status, b.why, b.hindsight, b.row_count,
               p.batch_id IS NOT NULL AS published, p.at AS published_at,
               count(*) OVER (PARTITION BY b.model, b.window_start) AS batches
        FROM ponte.batch b LEFT JOIN ponte.published p USING (batch_id)
        ORDER BY b.model, b.window_start, p.batch_id IS NULL, b.batch_id DESC
    ), judged AS (
        SELECT DISTINCT ON (model, version) model, version, split_part(rule, ' ', 1) AS metric, expected AS bound
        FROM ponte.gate_rule WHERE rule LIKE '% meets the bound' ORDER BY model, version, verdict_id DESC
    ), drift AS (
        SELECT model, window_start, batch_id,
               max(state) FILTER (WHERE family = 'features') AS features,
               max(state) FILTER (WHERE family = 'answers') AS answers,
               array_agg(DISTINCT c ORDER BY c) FILTER (WHERE c IS NOT NULL) AS columns
        FROM ponte.drift LEFT JOIN LATERAL unnest(columns) AS c ON true
        GROUP BY model, window_start, batch_id
    ), spent AS (
        -- In one order, so that the same receipts give the same sums to the last bit.
        SELECT model, window_start, sum(seconds ORDER BY step) AS seconds, sum(cpu_seconds ORDER BY step) AS cpu_seconds,
               sum(estimated_wh ORDER BY step) AS estimated_wh
        -- Processes that answer one by one are no run, and their wall time is that of all the week.
        FROM ponte.cost WHERE window_start IS NOT NULL AND step <> 'live' GROUP BY model, window_start
    ), lasting AS MATERIALIZED (  -- once, and not for each window
        SELECT model, window_start, last_window FROM ponte.alarm WHERE state <> 'closed'
    )
    SELECT s.model, s.window_start, s.window_end,
           CASE WHEN s.published THEN 'published'
                WHEN r.batch_id IS NOT NULL THEN 'dropped'
                WHEN s.status IN ('rejected', 'failed') THEN s.status
                WHEN s.status = 'staged' THEN 'hidden'
                ELSE 'running' END AS state,
           s.batch_id, s.batches, s.version, s.hindsight, s.why, s.published_at, e.actor AS published_by,
           e.reason AS published_why, e.rollback_id,
           s.row_count AS rows_frozen, h.rows_scored, q.rows_quarantined, g.guards_tripped,
           d.features AS drift_features, d.answers AS drift_answers, d.columns AS drift_columns,
           j.metric, j.bound, v.maturity_days, v.value, v.low, v.high, v.coverage, v.final,
           t.value AS estimated_value, t.low AS estimated_low, t.high AS estimated_high,
           a.alarms, f.rights AS feedback_right, f.wrongs AS feedback_wrong,
           c.seconds, c.cpu_seconds, c.estimated_wh
    FROM shown s
    LEFT JOIN ponte.retention_event r ON r.batch_id = s.batch_id
    LEFT JOIN LATERAL (
        SELECT actor, reason, rollback_id FROM ponte.publication_event
        WHERE model = s.model AND window_start = s.window_start AND batch_id = s.batch_id AND s.published
        ORDER BY event_id DESC LIMIT 1
    ) e ON true
    CROSS JOIN LATERAL (SELECT sum(row_count) AS rows_scored FROM ponte.shard WHERE batch_id = s.batch_id) h
    CROSS JOIN LATERAL (SELECT count(*) AS rows_quarantined FROM ponte.quarantine WHERE batch_id = s.batch_id) q
    CROSS JOIN LATERAL (
        SELECT array_agg(guard ORDER BY guard) AS guards_tripped FROM ponte.guard_result
        WHERE batch_id = s.batch_id AND outcome = 'tripped'
    ) g
    LEFT JOIN judged j ON j.model = s.model AND j.version = s.version
    LEFT JOIN drift d ON d.model = s.model AND d.window_start = s.window_start AND d.batch_id = s.batch_id
    LEFT JOIN LATERAL (
        SELECT maturity_days, value, low, high, coverage, final FROM ponte.quality
        WHERE batch_id = s.batch_id AND metric = j.metric AND slice_column = '' AND value IS NOT NULL
        ORDER BY final DESC, maturity_days DESC LIMIT 1
    ) v ON true
    LEFT JOIN ponte.estimate t ON t.batch_id = s.batch_id AND t.metric = j.metric
    CROSS JOIN LATERAL (
        SELECT count(*) AS alarms FROM lasting l
        WHERE l.model = s.model AND s.window_start BETWEEN l.window_start AND l.last_window
    ) a
    CROSS JOIN LATERAL (
        -- As in ponte.feedback: of each person the last word about each thing.
        SELECT count(*) FILTER (WHERE verdict = 'right') AS rights, count(*) FILTER (WHERE verdict = 'wrong') AS wrongs
        FROM (
            SELECT DISTINCT ON (key, given_by) verdict FROM ponte.feedback_given
            WHERE model = s.model AND window_start = s.window_start ORDER BY key, given_by, feedback_id DESC
        ) last
    ) f
    LEFT JOIN spent c ON c.model = s.model AND c.window_start = s.window_start;

COMMENT ON VIEW ponte.window_overview IS 'What there is to know of each window of each model: one row per window, of the batch that people see, or else the newest.';
COMMENT ON COLUMN ponte.window_overview.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.window_overview.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.window_overview.window_end IS 'Day after the last day of the window, UTC.';
COMMENT ON COLUMN ponte.window_overview.state IS 'published; rejected; failed; running; hidden: scored, and nobody is sent to it; dropped by retention.';
COMMENT ON COLUMN ponte.window_overview.batch_id IS 'The batch that people see, or else the newest of the window.';
COMMENT ON COLUMN ponte.window_overview.batches IS 'How many batches the window ever had.';
COMMENT ON COLUMN ponte.window_overview.version IS 'Version that scored it.';
COMMENT ON COLUMN ponte.window_overview.hindsight IS 'True when that version may have learned from what happened after as_of.';
COMMENT ON COLUMN ponte.window_overview.why IS 'Why it was rejected or failed; else NULL.';
COMMENT ON COLUMN ponte.window_overview.published_at IS 'Since when people see it; NULL: they do not.';
COMMENT ON COLUMN ponte.window_overview.published_by IS 'The run or person that showed it; NULL: nobody sees it.';
COMMENT ON COLUMN ponte.window_overview.published_why IS 'Why it was shown; NULL: nobody sees it.';
COMMENT ON COLUMN ponte.window_overview.rollback_id IS 'Rollback by which it was shown; NULL for none.';
COMMENT ON COLUMN ponte.window_overview.rows_frozen IS 'Rows of the window; NULL while they are frozen.';
COMMENT ON COLUMN ponte.window_overview.rows_scored IS 'Of these, with a prediction; NULL before the first.';
COMMENT ON COLUMN ponte.window_overview.rows_quarantined IS 'Of these, set aside.';
COMMENT ON COLUMN ponte.window_overview.guards_tripped IS 'Guards that it did not pass; NULL for none.';
COMMENT ON COLUMN ponte.window_overview.drift_features IS 'State of the features in ponte.drift; NULL: not looked at.';
COMMENT ON COLUMN ponte.window_overview.drift_answers IS 'State of scores and predictions in ponte.drift; NULL: not looked at.';
COMMENT ON COLUMN ponte.window_overview.drift_columns IS 'Columns that drift names; NULL for none.';
COMMENT ON COLUMN ponte.window_overview.metric IS 'Metric by which the gate judged the version; NULL when it was not judged.';
COMMENT ON COLUMN ponte.window_overview.bound IS 'What the gate asked of that metric, as ≥ 0.6.';
COMMENT ON COLUMN ponte.window_overview.maturity_days IS 'Age of the labels behind value: the greatest whose figure is final, else the greatest so far.';
COMMENT ON COLUMN ponte.window_overview.value IS 'Realised quality in the metric; NULL before labels have come.';
COMMENT ON COLUMN ponte.window_overview.low IS 'Lower end of its interval; NULL when there is none.';
COMMENT ON COLUMN ponte.window_overview.high IS 'Upper end of its interval; NULL when there is none.';
COMMENT ON COLUMN ponte.window_overview.coverage IS 'Share of the predictions whose label counts, 0 to 1; NULL before labels have come.';
COMMENT ON COLUMN ponte.window_overview.final IS 'True when value grows no more with labels that are only late; NULL before labels have come.';
COMMENT ON COLUMN ponte.window_overview.estimated_value IS 'The same metric, estimated from the predictions alone; NULL: not estimated.';
COMMENT ON COLUMN ponte.window_overview.estimated_low IS 'Lower end of the interval of the estimate; NULL: not estimated.';
COMMENT ON COLUMN ponte.window_overview.estimated_high IS 'Upper end of the interval of the estimate; NULL: not estimated.';
COMMENT ON COLUMN ponte.window_overview.alarms IS 'Alarms that the window is part of and that are not closed.';
COMMENT ON COLUMN ponte.window_overview.feedback_right IS 'How often people said of a prediction, or of the whole, that it was right.';
COMMENT ON COLUMN ponte.window_overview.feedback_wrong IS 'How often they said that it was wrong.';
COMMENT ON COLUMN ponte.window_overview.seconds IS 'What all its runs took in seconds, without answers one by one; of tasks side by side the sum.';
COMMENT ON COLUMN ponte.window_overview.cpu_seconds IS 'CPU time of all its runs in seconds, without answers one by one.';
COMMENT ON COLUMN ponte.window_overview.estimated_wh IS 'Energy of all its runs in watt-hours, without answers one by one: an estimate, see ponte.cost.';

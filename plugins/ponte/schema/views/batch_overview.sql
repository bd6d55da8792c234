CREATE OR REPLACE VIEW ponte.batch_overview WITH (security_barrier) AS
    SELECT b.batch_id, b.model, b.window_start, b.window_end, b.version, b.status, b.why,
           p.batch_id IS NOT NULL AS published, b.row_count AS rows_frozen,
           (SELECT sum(s.row_count) FROM ponte.shard s WHERE s.batch_id = b.batch_id) AS rows_scored,
           (SELECT count(*) FROM ponte.quarantine q WHERE q.batch_id = b.batch_id) AS rows_quarantined,
           r.seconds, r.cpu_seconds, r.peak_bytes, b.as_of, b.run_id, b.created_at, p.at AS published_at,
           b.hindsight, b.version_reason,
           (SELECT array_agg(g.guard ORDER BY g.guard) FROM ponte.guard_result g
            WHERE g.batch_id = b.batch_id AND g.outcome = 'tripped') AS guards_tripped,
           o.reason AS published_anyway, b.rejected_by
    FROM ponte.batch b
    LEFT JOIN ponte.published p USING (batch_id)
    LEFT JOIN ponte.guard_override o USING (batch_id)
    LEFT JOIN LATERAL (
        SELECT sum(seconds) AS seconds, sum(cpu_seconds) AS cpu_seconds, max(peak_bytes) AS peak_bytes
        FROM ponte.receipt WHERE batch_id = b.batch_id
    ) r ON true;

COMMENT ON VIEW ponte.batch_overview IS 'Every batch: state, rows, cost, and whether people see it.';
COMMENT ON COLUMN ponte.batch_overview.batch_id IS 'Number of the batch.';
COMMENT ON COLUMN ponte.batch_overview.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.batch_overview.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.batch_overview.window_end IS 'Day after the last day of the window, UTC.';
COMMENT ON COLUMN ponte.batch_overview.version IS 'Version that scores it.';
COMMENT ON COLUMN ponte.batch_overview.status IS 'freezing → frozen → checked → scored → staged; or rejected or failed.';
COMMENT ON COLUMN ponte.batch_overview.why IS 'Reason of rejected or failed; stays when a person published it all the same; else NULL.';
COMMENT ON COLUMN ponte.batch_overview.published IS 'True when people see it.';
COMMENT ON COLUMN ponte.batch_overview.rows_frozen IS 'Rows in the frozen table; NULL before it is frozen.';
COMMENT ON COLUMN ponte.batch_overview.rows_scored IS 'Rows of committed shards; NULL before the first.';
COMMENT ON COLUMN ponte.batch_overview.rows_quarantined IS 'Rows kept back.';
COMMENT ON COLUMN ponte.batch_overview.seconds IS 'Wall time of all its steps in seconds; NULL before the first has ended.';
COMMENT ON COLUMN ponte.batch_overview.cpu_seconds IS 'CPU time of all its steps in seconds.';
COMMENT ON COLUMN ponte.batch_overview.peak_bytes IS 'Largest resident memory of any of its steps in bytes.';
COMMENT ON COLUMN ponte.batch_overview.as_of IS 'Moment of the prediction.';
COMMENT ON COLUMN ponte.batch_overview.run_id IS 'Airflow run.';
COMMENT ON COLUMN ponte.batch_overview.created_at IS 'When the run claimed the window.';
COMMENT ON COLUMN ponte.batch_overview.published_at IS 'When it became what people see; NULL when they do not.';
COMMENT ON COLUMN ponte.batch_overview.hindsight IS 'True when the version may have learned from what happened after as_of.';
COMMENT ON COLUMN ponte.batch_overview.version_reason IS 'Why this version was chosen.';
COMMENT ON COLUMN ponte.batch_overview.guards_tripped IS 'Guards that tripped; NULL when none did.';
COMMENT ON COLUMN ponte.batch_overview.published_anyway IS 'Why a person published it although a guard had tripped; NULL otherwise.';
COMMENT ON COLUMN ponte.batch_overview.rejected_by IS 'What rejected it: guard, check, budget or empty; stays when a person published it all the same; else NULL.';

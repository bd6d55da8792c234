CREATE OR REPLACE VIEW ponte.cost WITH (security_barrier) AS
    SELECT s.model, s.window_start, s.snapshot_id, s.step, s.receipts, s.row_count, s.seconds, s.cpu_seconds,
           s.peak_bytes, s.byte_count, p.predictions, s.estimated_wh, s.estimated_g_co2e,
           1000 * s.cpu_seconds / nullif(p.predictions, 0) AS cpu_seconds_per_1000,
           1000 * s.estimated_wh / nullif(p.predictions, 0) AS estimated_wh_per_1000,
           1000 * s.estimated_g_co2e / nullif(p.predictions, 0) AS estimated_g_co2e_per_1000
    FROM (
        SELECT r.model, r.window_start, r.snapshot_id, r.step, CAST(sum(r.receipts) AS bigint) AS receipts,
               sum(r.row_count) AS row_count,
               sum(r.seconds) AS seconds, sum(r.cpu_seconds) AS cpu_seconds, max(r.peak_bytes) AS peak_bytes,
               sum(r.byte_count) AS byte_count, sum(w.wh) AS estimated_wh,
               -- Of a part of the receipts it would be no sum.
               CASE WHEN count(e.grid_g_per_kwh) = count(*) THEN sum(w.wh * e.grid_g_per_kwh / 1000) END
                   AS estimated_g_co2e
        FROM (
            SELECT r.model, b.window_start, r.snapshot_id, r.step, 1 AS receipts, r.row_count, r.seconds, r.cpu_seconds,
                   r.peak_bytes, r.byte_count, r.at
            FROM ponte.receipt r LEFT JOIN ponte.batch b USING (batch_id)
            UNION ALL
            SELECT l.model, l.window_start, NULL, 'live', l.flushes, l.row_count, l.seconds, l.cpu_seconds,
                   l.peak_bytes, NULL, l.window_start::timestamp AT TIME ZONE 'UTC'
            FROM ponte.live_window l
        ) r
        LEFT JOIN LATERAL (
            SELECT * FROM ponte.energy_setting WHERE valid_from <= r.at ORDER BY valid_from DESC, setting_id DESC LIMIT 1
        ) e ON true
        -- Without a row: the defaults of its columns.
        CROSS JOIN LATERAL (
            SELECT (r.cpu_seconds * coalesce(e.watts_per_core, 10)
                    + r.peak_bytes / 1e9 * r.seconds * coalesce(e.watts_per_gb, 0.38)) * coalesce(e.pue, 1.2) / 3600 AS wh
        ) w
        GROUP BY r.model, r.window_start, r.snapshot_id, r.step
    ) s
    LEFT JOIN (
        SELECT b.model, b.window_start, sum(h.row_count) AS batch_rows
        FROM ponte.shard h JOIN ponte.batch b USING (batch_id) GROUP BY b.model, b.window_start
    ) t ON t.model = s.model AND t.window_start = s.window_start
    CROSS JOIN LATERAL (SELECT CASE s.step WHEN 'live' THEN s.row_count ELSE t.batch_rows END AS predictions) p;

COMMENT ON VIEW ponte.cost IS 'What each step of each window cost, over all its runs, and live answers as a step of their own, and an estimate of the energy. CPU and memory are those of the tasks, without what PostgreSQL did for them.';
COMMENT ON COLUMN ponte.cost.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.cost.window_start IS 'First day of the window, UTC; NULL in training.';
COMMENT ON COLUMN ponte.cost.snapshot_id IS 'Snapshot that a training worked on; NULL for a window.';
COMMENT ON COLUMN ponte.cost.step IS 'Step, as in ponte.receipt; live: answers one by one, all that their processes used.';
COMMENT ON COLUMN ponte.cost.receipts IS 'Receipts behind it: one per run of the step, and of score one per task; of live one per flush.';
COMMENT ON COLUMN ponte.cost.row_count IS 'Rows handled; NULL when the step does not say.';
COMMENT ON COLUMN ponte.cost.seconds IS 'Wall time in seconds; of tasks that ran side by side the sum.';
COMMENT ON COLUMN ponte.cost.cpu_seconds IS 'CPU time of the tasks in seconds.';
COMMENT ON COLUMN ponte.cost.peak_bytes IS 'Largest resident memory of any task in bytes.';
COMMENT ON COLUMN ponte.cost.byte_count IS 'Bytes written; NULL when the step does not say.';
COMMENT ON COLUMN ponte.cost.predictions IS 'Predictions of all batches of the window, of live the live rows; NULL in training, and before the first.';
COMMENT ON COLUMN ponte.cost.estimated_wh IS 'Energy in watt-hours: an estimate from CPU time and memory by the coefficients of ponte.energy_setting.';
COMMENT ON COLUMN ponte.cost.estimated_g_co2e IS 'Grams of CO2 equivalent: estimated_wh by the grid of ponte.energy_setting; NULL when nobody has said what that is.';
COMMENT ON COLUMN ponte.cost.cpu_seconds_per_1000 IS 'CPU time per 1,000 predictions in seconds.';
COMMENT ON COLUMN ponte.cost.estimated_wh_per_1000 IS 'Estimated watt-hours per 1,000 predictions.';
COMMENT ON COLUMN ponte.cost.estimated_g_co2e_per_1000 IS 'Estimated grams of CO2 equivalent per 1,000 predictions; NULL without a grid.';

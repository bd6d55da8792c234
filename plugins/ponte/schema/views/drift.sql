CREATE OR REPLACE VIEW ponte.drift WITH (security_barrier) AS
    WITH seen AS (  -- what people see of a window, or saw last
        SELECT DISTINCT ON (e.model, e.window_start) e.model, e.window_start, e.batch_id
        FROM ponte.publication_event e
        ORDER BY e.model, e.window_start, e.event_id DESC
    ), judged AS (
        SELECT s.model, s.window_start, b.window_end, b.version, v.*, v.state = 'provisional' AS provisional
        FROM seen s JOIN ponte.batch b USING (batch_id) JOIN ponte.drift_verdict v USING (batch_id)
    ), changed AS (
        SELECT *, lag(version) OVER w IS DISTINCT FROM version OR lag(since) OVER w IS DISTINCT FROM since
                  OR lag(provisional) OVER w IS DISTINCT FROM provisional AS anew
        FROM judged WINDOW w AS (PARTITION BY model, family ORDER BY window_start)
    ), runs AS (  -- windows in a row that are judged alike: a new version, or a new normal, begins anew
        SELECT *, count(*) FILTER (WHERE anew) OVER (PARTITION BY model, family ORDER BY window_start) AS run FROM changed
    ), turns AS (
        SELECT *, lag(window_start) OVER w AS before,
               beyond AND lag(beyond) OVER w AS opens,
               NOT beyond AND NOT lag(beyond) OVER w AND NOT lag(beyond, 2) OVER w AS closes
        FROM runs WINDOW w AS (PARTITION BY model, family, run ORDER BY window_start)
    ), spans AS (
        SELECT *, coalesce(max(window_start) FILTER (WHERE opens) OVER w
                           > coalesce(max(window_start) FILTER (WHERE closes) OVER w, '-infinity'), false) AS inside
        FROM turns WINDOW w AS (PARTITION BY model, family, run ORDER BY window_start)
    ), begun AS (
        SELECT *, CASE WHEN inside AND NOT lag(inside) OVER w THEN before END AS begins
        FROM spans WINDOW w AS (PARTITION BY model, family, run ORDER BY window_start)
    ), episodes AS (
        SELECT *, CASE WHEN inside THEN max(begins) OVER (PARTITION BY model, family, run ORDER BY window_start) END AS start
        FROM begun
    ), said AS (
        SELECT *, CASE WHEN beyond AND inside THEN 'drift' WHEN beyond THEN 'notice' WHEN NOT beyond THEN 'quiet' END AS alone
        FROM episodes
    )
    SELECT model, window_start, window_end, batch_id, version, family,
           CASE WHEN state IN ('provisional', 'not_judged') THEN state ELSE alone END AS state,
           CASE WHEN provisional THEN alone END AS would_be,
           strong, why, start AS episode_start,
           CASE WHEN inside THEN 1 + count(*) FILTER (WHERE beyond) OVER (
               PARTITION BY model, family, run, start ORDER BY window_start) END AS episode_windows,
           (SELECT array_agg(c.column_name ORDER BY c.statistic DESC, c.column_name) FROM ponte.drift_verdict_column c
            WHERE c.batch_id = said.batch_id AND c.family = said.family AND c.named) AS columns,
           statistic, "limit", p, detectable, row_count, column_count, windows, published_windows, effective_windows,
           since, judged_at
    FROM said;

COMMENT ON VIEW ponte.drift IS 'Whether the window that people see, or saw last, is like those its version knows, in the order of windows: one row per family.';
COMMENT ON COLUMN ponte.drift.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.drift.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.drift.window_end IS 'Day after the last day of the window, UTC.';
COMMENT ON COLUMN ponte.drift.batch_id IS 'The batch that people see of it, or saw last.';
COMMENT ON COLUMN ponte.drift.version IS 'Version that scored it.';
COMMENT ON COLUMN ponte.drift.family IS 'features, or answers: scores and the prediction.';
COMMENT ON COLUMN ponte.drift.state IS 'quiet; notice: beyond the limit; drift: the second window beyond it in a row, and those that follow in the episode; provisional; not_judged.';
COMMENT ON COLUMN ponte.drift.would_be IS 'What a provisional one would be: quiet, notice or drift; else NULL.';
COMMENT ON COLUMN ponte.drift.strong IS 'True when beyond the limit of 0.1 % false alarms; NULL when not judged.';
COMMENT ON COLUMN ponte.drift.why IS 'Why it is not judged; else NULL.';
COMMENT ON COLUMN ponte.drift.episode_start IS 'First window of the open episode that this window is in; NULL outside. An episode closes with its third quiet window in a row, a new version or a new normal.';
COMMENT ON COLUMN ponte.drift.episode_windows IS 'Windows of the episode beyond the limit up to this one; NULL outside.';
COMMENT ON COLUMN ponte.drift.columns IS 'Columns beyond the limit, the farthest first; NULL for none.';
COMMENT ON COLUMN ponte.drift.statistic IS 'Greatest statistic of its columns; NULL when not judged.';
COMMENT ON COLUMN ponte.drift."limit" IS 'What the statistic passes in 2.5 % of quiet batches; NULL when not judged.';
COMMENT ON COLUMN ponte.drift.p IS 'Share of quiet batches with such a statistic or a greater one; NULL when not judged.';
COMMENT ON COLUMN ponte.drift.detectable IS 'Smallest shift it could have seen, as a share of rows; NULL when not judged.';
COMMENT ON COLUMN ponte.drift.row_count IS 'Rows that were counted.';
COMMENT ON COLUMN ponte.drift.column_count IS 'Columns that were compared.';
COMMENT ON COLUMN ponte.drift.windows IS 'Windows it was compared with.';
COMMENT ON COLUMN ponte.drift.published_windows IS 'Of these published windows; the others are those of training.';
COMMENT ON COLUMN ponte.drift.effective_windows IS 'As many independent windows tell as much; NULL when not judged.';
COMMENT ON COLUMN ponte.drift.since IS 'First day of the new normal that it is compared with; NULL for none.';
COMMENT ON COLUMN ponte.drift.judged_at IS 'When it was judged.';

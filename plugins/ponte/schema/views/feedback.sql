CREATE OR REPLACE VIEW ponte.feedback WITH (security_barrier) AS
    SELECT g.feedback_id, g.model, g.window_start, g.batch_id, b.version,
           CASE WHEN g.key IS NULL THEN 'batch' ELSE 'row' END AS about, g.verdict,
           g.correct_label IS NOT NULL AS corrected, g.given_by, g.at,
           g.verdict <> 'withdrawn' AND g.feedback_id = max(g.feedback_id) OVER (
               PARTITION BY g.model, g.window_start, g.key, g.given_by) AS counts,
           CASE WHEN g.given_by = session_user THEN g.key END AS key,
           CASE WHEN g.given_by = session_user THEN g.correct_label END AS correct_label,
           CASE WHEN g.given_by = session_user THEN g.comment END AS comment,
           NULL::uuid AS request_id
    FROM ponte.feedback_given g JOIN ponte.batch b USING (batch_id)
    UNION ALL
    SELECT l.feedback_id, l.model, NULL, NULL, l.model_version, 'request', l.verdict, l.correct_label IS NOT NULL, l.given_by, l.at,
           l.verdict <> 'withdrawn' AND l.feedback_id = max(l.feedback_id) OVER (PARTITION BY l.request_id, l.given_by),
           NULL, NULL, NULL, l.request_id
    FROM ponte.live_feedback l;

COMMENT ON VIEW ponte.feedback IS 'What people said of predictions. What it says of a row, and in whose words, is shown to the person who said it.';
COMMENT ON COLUMN ponte.feedback.feedback_id IS 'Number of the feedback.';
COMMENT ON COLUMN ponte.feedback.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.feedback.window_start IS 'First day of the window, UTC; NULL for a request.';
COMMENT ON COLUMN ponte.feedback.batch_id IS 'The batch that people saw for the window at that moment; NULL for a request.';
COMMENT ON COLUMN ponte.feedback.version IS 'Version that scored it.';
COMMENT ON COLUMN ponte.feedback.about IS 'row of a batch; batch: the whole of it; or request: a row that was asked for by itself.';
COMMENT ON COLUMN ponte.feedback.verdict IS 'right, wrong, or withdrawn: what the person said of the same row, batch or request before counts no more.';
COMMENT ON COLUMN ponte.feedback.corrected IS 'Whether the person said what would have been right.';
COMMENT ON COLUMN ponte.feedback.given_by IS 'Login of the person; of a request the name of the API key, or form.';
COMMENT ON COLUMN ponte.feedback.at IS 'When it was said.';
COMMENT ON COLUMN ponte.feedback.counts IS 'True for the newest of a person on a row, batch or request, unless it takes back.';
COMMENT ON COLUMN ponte.feedback.key IS 'Key of the row, in your own feedback; else NULL.';
COMMENT ON COLUMN ponte.feedback.correct_label IS 'What would have been right, in your own feedback; else NULL.';
COMMENT ON COLUMN ponte.feedback.comment IS 'In your own words; NULL in the feedback of others.';
COMMENT ON COLUMN ponte.feedback.request_id IS 'The request, of a live row; else NULL.';

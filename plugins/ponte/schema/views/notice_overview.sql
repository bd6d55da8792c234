CREATE OR REPLACE VIEW ponte.notice_overview WITH (security_barrier) AS
    SELECT n.notice_id, n.event, n.model, n.window_start, n.batch_id, n.version, n.subject,
           n.facts->>'what' AS what, n.facts->>'next' AS next, n.created_at,
           (SELECT jsonb_object_agg(s.channel, s.at) FROM ponte.notice_sent s WHERE s.notice_id = n.notice_id) AS sent
    FROM ponte.notice n;

COMMENT ON VIEW ponte.notice_overview IS 'Every notice: what people were told, or would be if a channel were configured.';
COMMENT ON COLUMN ponte.notice_overview.notice_id IS 'Number of the notice.';
COMMENT ON COLUMN ponte.notice_overview.event IS 'batch_rejected, guard_tripped, version_refused, question_waiting, alarm_opened, alarm_closed or window_late.';
COMMENT ON COLUMN ponte.notice_overview.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.notice_overview.window_start IS 'First day of the window; NULL when it is about none.';
COMMENT ON COLUMN ponte.notice_overview.batch_id IS 'The batch; NULL when it is about none.';
COMMENT ON COLUMN ponte.notice_overview.version IS 'The version; NULL when it is about none.';
COMMENT ON COLUMN ponte.notice_overview.subject IS 'What it is about: batch 12, verdict 3, alarm 2, or model and window.';
COMMENT ON COLUMN ponte.notice_overview.what IS 'What has happened.';
COMMENT ON COLUMN ponte.notice_overview.next IS 'What can be done next.';
COMMENT ON COLUMN ponte.notice_overview.created_at IS 'When it was written.';
COMMENT ON COLUMN ponte.notice_overview.sent IS 'When each channel took it, by channel; NULL before the first.';

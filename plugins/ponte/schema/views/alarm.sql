CREATE OR REPLACE VIEW ponte.alarm WITH (security_barrier) AS
    SELECT o.alarm_id, o.model, o.kind,
           CASE WHEN c.event_id IS NOT NULL THEN 'closed' WHEN a.event_id IS NOT NULL THEN 'acknowledged' ELSE 'open' END AS state,
           w.provisional, o.window_start, w.last_window, w.windows, o.version, o.metric, o.maturity_days, o.reason, w.evidence,
           o.at AS opened_at, a.at AS acknowledged_at, a.actor AS acknowledged_by, a.reason AS acknowledged_why,
           t.at AS retrain_at, c.at AS closed_at, c.actor AS closed_by, c.reason AS closed_why
    FROM ponte.alarm_event o
    CROSS JOIN LATERAL (
        SELECT bool_and(e.provisional) AS provisional, max(e.window_start) AS last_window,
               count(DISTINCT e.window_start) AS windows,
               (array_agg(e.evidence ORDER BY e.event_id DESC))[1] AS evidence
        FROM ponte.alarm_event e WHERE e.alarm_id = o.alarm_id AND e.event IN ('opened', 'extended')
    ) w
    LEFT JOIN LATERAL (
        SELECT event_id, at, actor, reason FROM ponte.alarm_event e
        WHERE e.alarm_id = o.alarm_id AND e.event = 'acknowledged' ORDER BY e.event_id DESC LIMIT 1
    ) a ON true
    LEFT JOIN ponte.alarm_event t ON t.alarm_id = o.alarm_id AND t.event = 'retrain'
    LEFT JOIN ponte.alarm_event c ON c.alarm_id = o.alarm_id AND c.event = 'closed'
    WHERE o.event = 'opened';

COMMENT ON VIEW ponte.alarm IS 'Every alarm, one row per episode, with its state.';
COMMENT ON COLUMN ponte.alarm.alarm_id IS 'Number of the alarm.';
COMMENT ON COLUMN ponte.alarm.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.alarm.kind IS 'quality: realised figures have become worse; drift: the rows have changed for at least two windows.';
COMMENT ON COLUMN ponte.alarm.state IS 'open; acknowledged: a person knows, and it stops nothing any more; closed.';
COMMENT ON COLUMN ponte.alarm.provisional IS 'True while fewer windows than needed stand behind it: it is told, and nothing follows from it.';
COMMENT ON COLUMN ponte.alarm.window_start IS 'Window that opened it.';
COMMENT ON COLUMN ponte.alarm.last_window IS 'Latest window that extended it.';
COMMENT ON COLUMN ponte.alarm.windows IS 'How many windows opened or extended it.';
COMMENT ON COLUMN ponte.alarm.version IS 'Version that scored the window that opened it.';
COMMENT ON COLUMN ponte.alarm.metric IS 'The metric that has become worse; NULL of drift.';
COMMENT ON COLUMN ponte.alarm.maturity_days IS 'Age of the labels, in days, at which it was seen first; NULL of drift.';
COMMENT ON COLUMN ponte.alarm.reason IS 'What opened it.';
COMMENT ON COLUMN ponte.alarm.evidence IS 'Figures behind the latest window of it.';
COMMENT ON COLUMN ponte.alarm.opened_at IS 'When it was opened.';
COMMENT ON COLUMN ponte.alarm.acknowledged_at IS 'When a person last acknowledged it; NULL: nobody has.';
COMMENT ON COLUMN ponte.alarm.acknowledged_by IS 'Who; NULL: nobody has.';
COMMENT ON COLUMN ponte.alarm.acknowledged_why IS 'Why; NULL: nobody has.';
COMMENT ON COLUMN ponte.alarm.retrain_at IS 'When a training was asked for because of it; NULL: never.';
COMMENT ON COLUMN ponte.alarm.closed_at IS 'When it was closed; NULL while it lasts.';
COMMENT ON COLUMN ponte.alarm.closed_by IS 'The run or person that closed it; NULL while it lasts.';
COMMENT ON COLUMN ponte.alarm.closed_why IS 'Why it was closed; NULL while it lasts.';

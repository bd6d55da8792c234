-- Ponte, revision 0018: what people are told, and what was sent to whom.

CREATE TABLE ponte.notice (
    notice_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event        text NOT NULL CHECK (event IN ('batch_rejected', 'guard_tripped', 'version_refused', 'question_waiting',
                                                'alarm_opened', 'alarm_closed', 'window_late')),
    subject      text NOT NULL,
    model        text NOT NULL,
    window_start date,
    batch_id     bigint REFERENCES ponte.batch,
    version      integer,
    facts        jsonb NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (event, subject),
    FOREIGN KEY (model, version) REFERENCES ponte.version
);
COMMENT ON TABLE ponte.notice IS 'What people are told, written in the transaction that it reports, once. Append-only.';
COMMENT ON COLUMN ponte.notice.notice_id IS 'Number of the notice; every message about it carries the number.';
COMMENT ON COLUMN ponte.notice.event IS 'batch_rejected, guard_tripped, version_refused, question_waiting, alarm_opened, alarm_closed or window_late.';
COMMENT ON COLUMN ponte.notice.subject IS 'What it is about: batch 12, verdict 3, alarm 2, or model and window.';
COMMENT ON COLUMN ponte.notice.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.notice.window_start IS 'First day of the window; NULL when it is about none.';
COMMENT ON COLUMN ponte.notice.batch_id IS 'The batch; NULL when it is about none.';
COMMENT ON COLUMN ponte.notice.version IS 'The version; NULL when it is about none.';
COMMENT ON COLUMN ponte.notice.facts IS 'What the message says beside that: {what, next, since}, no value of any row.';
COMMENT ON COLUMN ponte.notice.created_at IS 'When it was written.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.notice
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

CREATE TABLE ponte.notice_sent (
    notice_id bigint NOT NULL REFERENCES ponte.notice,
    channel   text NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (notice_id, channel)
);
COMMENT ON TABLE ponte.notice_sent IS 'Which notice was sent by which channel, written after the channel took it. Append-only.';
COMMENT ON COLUMN ponte.notice_sent.notice_id IS 'The notice.';
COMMENT ON COLUMN ponte.notice_sent.channel IS 'smtp, slack or http.';
COMMENT ON COLUMN ponte.notice_sent.at IS 'When it was taken.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.notice_sent
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

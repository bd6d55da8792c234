-- Ponte, revision 0017: alarms about quality and drift, and what became of them.

CREATE TABLE ponte.alarm_event (
    event_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alarm_id      bigint NOT NULL CHECK (alarm_id > 0),
    model         text NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('quality', 'drift')),
    event         text NOT NULL CHECK (event IN ('opened', 'extended', 'acknowledged', 'retrain', 'closed')),
    batch_id      bigint REFERENCES ponte.batch,
    window_start  date,
    version       integer,
    metric        text,
    maturity_days integer CHECK (maturity_days >= 0),
    provisional   boolean NOT NULL DEFAULT false,
    evidence      jsonb NOT NULL DEFAULT '{}',
    actor         text NOT NULL,
    reason        text NOT NULL,
    run_id        text,
    run_key       text,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (model, version) REFERENCES ponte.version,
    CHECK (event NOT IN ('opened', 'extended') OR num_nulls(batch_id, window_start, version) = 0)
);
CREATE UNIQUE INDEX alarm_event_once ON ponte.alarm_event (alarm_id, event)
    WHERE event IN ('opened', 'retrain', 'closed');
CREATE UNIQUE INDEX alarm_event_per_window ON ponte.alarm_event (alarm_id, window_start, maturity_days) NULLS NOT DISTINCT
    WHERE event IN ('opened', 'extended');
CREATE UNIQUE INDEX alarm_event_per_run ON ponte.alarm_event (alarm_id, run_key) WHERE event = 'acknowledged';
CREATE INDEX alarm_event_of_model ON ponte.alarm_event (model, kind);
COMMENT ON TABLE ponte.alarm_event IS 'What became of each alarm. Append-only; ponte.alarm has one row per alarm.';
COMMENT ON COLUMN ponte.alarm_event.event_id IS 'Number of the event.';
COMMENT ON COLUMN ponte.alarm_event.alarm_id IS 'Number of the alarm: one per episode.';
COMMENT ON COLUMN ponte.alarm_event.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.alarm_event.kind IS 'quality: realised figures have become worse; drift: the rows have changed for at least two windows.';
COMMENT ON COLUMN ponte.alarm_event.event IS 'opened; extended by a further window; acknowledged by a person; retrain: a training was asked for because of it; closed.';
COMMENT ON COLUMN ponte.alarm_event.batch_id IS 'Batch that people see for the window; NULL of what a person said.';
COMMENT ON COLUMN ponte.alarm_event.window_start IS 'Window that opened or extended it, or after which it was closed; NULL of what a person said.';
COMMENT ON COLUMN ponte.alarm_event.version IS 'Version that scored the batch; of closed by a new champion that one; NULL of what a person said.';
COMMENT ON COLUMN ponte.alarm_event.metric IS 'The metric of the gate, which has become worse; NULL of drift and of what a person said.';
COMMENT ON COLUMN ponte.alarm_event.maturity_days IS 'Age of the labels in days; NULL of drift and of what a person said.';
COMMENT ON COLUMN ponte.alarm_event.provisional IS 'True when fewer windows than needed stand behind it: it is told, and nothing follows from it.';
COMMENT ON COLUMN ponte.alarm_event.evidence IS 'Figures behind it.';
COMMENT ON COLUMN ponte.alarm_event.actor IS 'Who: an Airflow run or a person.';
COMMENT ON COLUMN ponte.alarm_event.reason IS 'Why.';
COMMENT ON COLUMN ponte.alarm_event.run_id IS 'Airflow run that wrote it.';
COMMENT ON COLUMN ponte.alarm_event.run_key IS 'What a retry of the run finds this event by.';
COMMENT ON COLUMN ponte.alarm_event.at IS 'When.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.alarm_event
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

-- Ponte, revision 0013: verdicts about drift, and what people declare normal.

CREATE TABLE ponte.normal_event (
    event_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model        text NOT NULL,
    window_start date NOT NULL,
    batch_id     bigint NOT NULL UNIQUE REFERENCES ponte.batch,
    actor        text NOT NULL,
    reason       text NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE ponte.normal_event IS 'Windows that a person called the new normal: that window and later ones are compared only with windows from it on. Append-only.';
COMMENT ON COLUMN ponte.normal_event.event_id IS 'Number of the decision.';
COMMENT ON COLUMN ponte.normal_event.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.normal_event.window_start IS 'First day of the first window of the new normal, UTC.';
COMMENT ON COLUMN ponte.normal_event.batch_id IS 'The batch of that window that was published with this decision.';
COMMENT ON COLUMN ponte.normal_event.actor IS 'Who.';
COMMENT ON COLUMN ponte.normal_event.reason IS 'Why.';
COMMENT ON COLUMN ponte.normal_event.at IS 'When.';

CREATE TABLE ponte.drift_verdict (
    batch_id          bigint NOT NULL REFERENCES ponte.batch,
    family            text NOT NULL CHECK (family IN ('features', 'answers')),
    state             text NOT NULL CHECK (state IN ('quiet', 'notice', 'provisional', 'not_judged')),
    why               text,
    beyond            boolean,
    strong            boolean,
    row_count         bigint NOT NULL CHECK (row_count >= 0),
    column_count      integer NOT NULL CHECK (column_count >= 0),
    windows           integer NOT NULL CHECK (windows >= 0),
    published_windows integer NOT NULL CHECK (published_windows BETWEEN 0 AND windows),
    since             date,
    effective_windows double precision,
    statistic         double precision,
    "limit"           double precision,
    p                 double precision CHECK (p BETWEEN 0 AND 1),
    detectable        double precision CHECK (detectable BETWEEN 0 AND 1),
    judged_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (batch_id, family),
    CHECK ((state = 'not_judged') = (why IS NOT NULL)),
    CHECK (num_nonnulls(beyond, strong, effective_windows, statistic, "limit", p, detectable)
           = CASE state WHEN 'not_judged' THEN 0 ELSE 7 END),
    CHECK (state NOT IN ('quiet', 'notice') OR beyond = (state = 'notice')),
    CHECK (beyond OR NOT strong)
);
COMMENT ON TABLE ponte.drift_verdict IS 'How a published batch differs from the windows that its version knows, taken by itself; what follows of its neighbours, see ponte.drift. Append-only.';
COMMENT ON COLUMN ponte.drift_verdict.batch_id IS 'The batch.';
COMMENT ON COLUMN ponte.drift_verdict.family IS 'features, or answers: scores and the prediction. Each has half of the 5 % of false alarms.';
COMMENT ON COLUMN ponte.drift_verdict.state IS 'quiet; notice: beyond the limit; provisional: 6 to 19 windows to compare with; not_judged, with why.';
COMMENT ON COLUMN ponte.drift_verdict.why IS 'Why it is not judged; else NULL.';
COMMENT ON COLUMN ponte.drift_verdict.beyond IS 'True when the statistic is above the limit; NULL when not judged.';
COMMENT ON COLUMN ponte.drift_verdict.strong IS 'True when it is also above the limit of 0.1 % false alarms; NULL when not judged.';
COMMENT ON COLUMN ponte.drift_verdict.row_count IS 'Rows of the batch that were counted.';
COMMENT ON COLUMN ponte.drift_verdict.column_count IS 'Columns that were compared.';
COMMENT ON COLUMN ponte.drift_verdict.windows IS 'Windows it was compared with.';
COMMENT ON COLUMN ponte.drift_verdict.published_windows IS 'Of these published windows; the others are those of training.';
COMMENT ON COLUMN ponte.drift_verdict.since IS 'First day of the newest window that a person called the new normal; NULL for none.';
COMMENT ON COLUMN ponte.drift_verdict.effective_windows IS 'As many independent windows tell as much: neighbours resemble each other. NULL when not judged.';
COMMENT ON COLUMN ponte.drift_verdict.statistic IS 'Greatest of the statistics of the columns; NULL when not judged.';
COMMENT ON COLUMN ponte.drift_verdict."limit" IS 'What the statistic passes in 2.5 % of quiet batches; NULL when not judged.';
COMMENT ON COLUMN ponte.drift_verdict.p IS 'Share of quiet batches with such a statistic or a greater one; below 0.025 exactly when beyond the limit. NULL when not judged.';
COMMENT ON COLUMN ponte.drift_verdict.detectable IS 'Smallest shift that reaches the limit in about half of the weeks: this share of the rows moves from one tenth of a column to another, in the column that is steadiest. NULL when not judged.';
COMMENT ON COLUMN ponte.drift_verdict.judged_at IS 'When.';

CREATE TABLE ponte.drift_verdict_column (
    batch_id     bigint NOT NULL,
    family       text NOT NULL,
    column_name  text NOT NULL,
    statistic    double precision NOT NULL,
    share_change double precision NOT NULL CHECK (share_change BETWEEN 0 AND 1),
    null_change  double precision NOT NULL CHECK (null_change BETWEEN -1 AND 1),
    detectable   double precision NOT NULL CHECK (detectable BETWEEN 0 AND 1),
    named        boolean NOT NULL,
    PRIMARY KEY (batch_id, family, column_name),
    FOREIGN KEY (batch_id, family) REFERENCES ponte.drift_verdict
);
COMMENT ON TABLE ponte.drift_verdict_column IS 'The columns of a verdict; none of one that is not judged. Append-only.';
COMMENT ON COLUMN ponte.drift_verdict_column.batch_id IS 'The batch.';
COMMENT ON COLUMN ponte.drift_verdict_column.family IS 'features or answers.';
COMMENT ON COLUMN ponte.drift_verdict_column.column_name IS 'The column.';
COMMENT ON COLUMN ponte.drift_verdict_column.statistic IS 'How far it is from the windows. 1 is as far as one of so many columns would be in 2.5 % of the weeks, if each moved by itself, as much as before.';
COMMENT ON COLUMN ponte.drift_verdict_column.share_change IS 'Share of its rows that would have to lie in another bin for it to be like all windows together.';
COMMENT ON COLUMN ponte.drift_verdict_column.null_change IS 'Its share of NULL less that of all windows together.';
COMMENT ON COLUMN ponte.drift_verdict_column.detectable IS 'As in ponte.drift_verdict, of this column.';
COMMENT ON COLUMN ponte.drift_verdict_column.named IS 'True when its statistic is above the limit of the family.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.normal_event
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.drift_verdict
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.drift_verdict_column
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

-- ---------------------------------------------------------------- guards of columns

ALTER TABLE ponte.guard_result
    DROP CONSTRAINT guard_result_outcome_check,
    ADD CONSTRAINT guard_result_outcome_check CHECK (outcome IN ('passed', 'tripped', 'warned', 'skipped'));
COMMENT ON COLUMN ponte.guard_result.guard IS 'row_count, unscored, set_aside, columns, constant_score, mean_score, class_share, freshness or alarm.';
COMMENT ON COLUMN ponte.guard_result.outcome IS 'passed; tripped; warned: it would have tripped, and the model says that this is no reason to stop; skipped: nothing to compare with.';

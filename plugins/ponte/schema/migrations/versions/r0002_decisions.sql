-- Ponte, revision 0002: what a decision about a version rests on, who made it, and the way back.

-- ---------------------------------------------------------------- training

ALTER TABLE ponte.snapshot ADD COLUMN calibration_from date;
COMMENT ON COLUMN ponte.snapshot.calibration_from IS 'First window_start of the calibration part, which ends at holdout_from; NULL without one.';

ALTER TABLE ponte.version
    DROP CONSTRAINT version_task_check,
    ADD CONSTRAINT version_task_check CHECK (task IN ('binary', 'multiclass', 'regression')),
    ADD COLUMN classes jsonb,
    ADD COLUMN threshold double precision CHECK (threshold BETWEEN 0 AND 1),
    ADD COLUMN calibration_rows bigint NOT NULL DEFAULT 0,
    ADD COLUMN purged_rows bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN ponte.version.task IS 'binary, multiclass or regression.';
COMMENT ON COLUMN ponte.version.classes IS 'The labels in the order of the scores, the positive one last in a binary task; NULL for a regression and for versions of before this column.';
COMMENT ON COLUMN ponte.version.threshold IS 'Score from which the positive class is predicted; NULL: the estimator decides by itself.';
COMMENT ON COLUMN ponte.version.calibration_rows IS 'Rows that calibrated the probabilities and set the threshold.';
COMMENT ON COLUMN ponte.version.purged_rows IS 'Rows of the earlier parts left out because their outcome was not known before the next part began.';
COMMENT ON COLUMN ponte.version.train_cutoff IS 'No label or feature of after this moment was seen, neither in fitting nor in measuring.';

ALTER TABLE ponte.metric
    DROP CONSTRAINT metric_pkey,
    ADD COLUMN slice text NOT NULL DEFAULT '',
    ADD COLUMN low double precision,
    ADD COLUMN high double precision,
    ADD PRIMARY KEY (model, version, snapshot_id, subject, slice, name);
COMMENT ON COLUMN ponte.metric.subject IS 'candidate; champion:<version>; baseline:constant; baseline:<column>; difference:<subject> (candidate minus subject, paired); feature:<column> (what it reaches alone); importance:<column> (what the candidate loses when it is shuffled).';
COMMENT ON COLUMN ponte.metric.slice IS 'Part of the holdout, <column>=<value>; empty for the whole.';
COMMENT ON COLUMN ponte.metric.name IS 'roc_auc, log_loss, mae …; true_positives and its like count rows at the threshold; rows_per_second is the speed of predicting; for a champion also readable: 1 when it could predict these rows, else 0.';
COMMENT ON COLUMN ponte.metric.low IS 'Lower end of the bootstrap confidence interval; NULL where none was computed.';
COMMENT ON COLUMN ponte.metric.high IS 'Upper end of the interval.';
COMMENT ON COLUMN ponte.metric.row_count IS 'Rows it was measured on.';

-- ---------------------------------------------------------------- decisions

COMMENT ON COLUMN ponte.gate_verdict.rules IS 'List of {rule, got, expected, passed, evidence}.';

CREATE VIEW ponte.gate_rule AS
    SELECT g.verdict_id, g.model, g.version, r.position::integer - 1 AS position, r.rule->>'rule' AS rule,
           r.rule->>'got' AS got, r.rule->>'expected' AS expected, (r.rule->>'passed')::boolean AS passed,
           r.rule->'evidence' AS evidence, g.at
    FROM ponte.gate_verdict g CROSS JOIN LATERAL jsonb_array_elements(g.rules) WITH ORDINALITY AS r (rule, position);
COMMENT ON VIEW ponte.gate_rule IS 'Every verdict of the gate, one row per rule.';
COMMENT ON COLUMN ponte.gate_rule.verdict_id IS 'Number of the verdict.';
COMMENT ON COLUMN ponte.gate_rule.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.gate_rule.version IS 'The version judged.';
COMMENT ON COLUMN ponte.gate_rule.position IS 'Place in the verdict, from 0.';
COMMENT ON COLUMN ponte.gate_rule.rule IS 'What was asked.';
COMMENT ON COLUMN ponte.gate_rule.got IS 'What was found.';
COMMENT ON COLUMN ponte.gate_rule.expected IS 'What was expected.';
COMMENT ON COLUMN ponte.gate_rule.passed IS 'Whether it passed.';
COMMENT ON COLUMN ponte.gate_rule.evidence IS 'Figures behind it; NULL in verdicts of before this column.';
COMMENT ON COLUMN ponte.gate_rule.at IS 'When the verdict was given.';

CREATE TABLE ponte.approval (
    approval_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    verdict_id  bigint NOT NULL REFERENCES ponte.gate_verdict,
    run_id      text NOT NULL,
    decision    text NOT NULL CHECK (decision IN ('approved', 'rejected', 'timed out')),
    actor       text NOT NULL,
    reason      text NOT NULL,
    answered_at timestamptz NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (verdict_id, run_id, answered_at)
);
COMMENT ON TABLE ponte.approval IS 'What a person, or nobody in time, said to a version that passed the gate. Append-only.';
COMMENT ON COLUMN ponte.approval.approval_id IS 'Number of the decision.';
COMMENT ON COLUMN ponte.approval.verdict_id IS 'The verdict that was shown.';
COMMENT ON COLUMN ponte.approval.run_id IS 'Airflow run that asked.';
COMMENT ON COLUMN ponte.approval.decision IS 'approved, rejected, or timed out: silence is no consent.';
COMMENT ON COLUMN ponte.approval.actor IS 'Who answered; the run when nobody did.';
COMMENT ON COLUMN ponte.approval.reason IS 'Why, in the words of who answered.';
COMMENT ON COLUMN ponte.approval.answered_at IS 'When it was said; with verdict and run it names the answer.';
COMMENT ON COLUMN ponte.approval.at IS 'When it was recorded.';

CREATE TABLE ponte.version_mark (
    mark_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model   text NOT NULL,
    version integer NOT NULL,
    mark    text NOT NULL CHECK (mark IN ('bad', 'not bad', 'other libraries allowed', 'other libraries refused')),
    run_id  text NOT NULL,
    actor   text NOT NULL,
    reason  text NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (model, version, mark, run_id),
    FOREIGN KEY (model, version) REFERENCES ponte.version
);
COMMENT ON TABLE ponte.version_mark IS 'What people have said about versions. Append-only; the newest mark of a kind counts.';
COMMENT ON COLUMN ponte.version_mark.mark_id IS 'Number of the mark.';
COMMENT ON COLUMN ponte.version_mark.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.version_mark.version IS 'The version.';
COMMENT ON COLUMN ponte.version_mark.mark IS 'bad: never chosen by default; not bad takes it back. other libraries allowed: may be loaded with other library versions if the golden rows are predicted identically; other libraries refused takes it back.';
COMMENT ON COLUMN ponte.version_mark.run_id IS 'Airflow run that set it.';
COMMENT ON COLUMN ponte.version_mark.actor IS 'Who.';
COMMENT ON COLUMN ponte.version_mark.reason IS 'Why.';
COMMENT ON COLUMN ponte.version_mark.at IS 'When.';

CREATE FUNCTION ponte.is_bad(model text, version integer) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce((
        SELECT m.mark = 'bad' FROM ponte.version_mark m
        WHERE m.model = is_bad.model AND m.version = is_bad.version AND m.mark IN ('bad', 'not bad')
        ORDER BY m.mark_id DESC LIMIT 1
    ), false)
$$;
COMMENT ON FUNCTION ponte.is_bad(text, integer) IS 'True when the version is marked bad.';

CREATE TABLE ponte.rollback (
    rollback_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model          text NOT NULL,
    run_id         text NOT NULL,
    from_version   integer NOT NULL,
    to_version     integer NOT NULL,
    alias_event_id bigint REFERENCES ponte.alias_event,
    windows        jsonb NOT NULL,
    actor          text NOT NULL,
    reason         text NOT NULL,
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (model, run_id),
    FOREIGN KEY (model, from_version) REFERENCES ponte.version,
    FOREIGN KEY (model, to_version) REFERENCES ponte.version
);
COMMENT ON TABLE ponte.rollback IS 'Every rollback: the alias and all chosen windows moved in one transaction. Append-only.';
COMMENT ON COLUMN ponte.rollback.rollback_id IS 'Number of the rollback.';
COMMENT ON COLUMN ponte.rollback.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.rollback.run_id IS 'Airflow run; a retry of the run finds this row again.';
COMMENT ON COLUMN ponte.rollback.from_version IS 'Champion before.';
COMMENT ON COLUMN ponte.rollback.to_version IS 'Champion after.';
COMMENT ON COLUMN ponte.rollback.alias_event_id IS 'The move of the champion alias; NULL when it pointed there already.';
COMMENT ON COLUMN ponte.rollback.windows IS 'List of {window_start, batch_id, previous_batch_id, rescored}.';
COMMENT ON COLUMN ponte.rollback.actor IS 'Who.';
COMMENT ON COLUMN ponte.rollback.reason IS 'Why.';
COMMENT ON COLUMN ponte.rollback.at IS 'When.';

ALTER TABLE ponte.publication_event ADD COLUMN rollback_id bigint REFERENCES ponte.rollback;
COMMENT ON COLUMN ponte.publication_event.rollback_id IS 'The rollback that changed it; NULL when a run published what it had scored.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.approval
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.version_mark
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.rollback
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

-- ---------------------------------------------------------------- scoring

ALTER TABLE ponte.batch
    ADD COLUMN hindsight boolean NOT NULL DEFAULT false,
    ADD COLUMN version_reason text;
-- Until now the champion of the moment scored every window, also those it may have learned from.
UPDATE ponte.batch b SET hindsight = true FROM ponte.version v
WHERE v.model = b.model AND v.version = b.version AND v.train_cutoff > b.as_of;
COMMENT ON COLUMN ponte.batch.hindsight IS 'True when the version may have learned from what happened after as_of: not what would have been predicted then.';
COMMENT ON COLUMN ponte.batch.version_reason IS 'Why this version was chosen; NULL for batches of before this column.';

-- ---------------------------------------------------------------- views for people

CREATE OR REPLACE VIEW ponte.batch_overview AS
    SELECT b.batch_id, b.model, b.window_start, b.window_end, b.version, b.status, b.why,
           p.batch_id IS NOT NULL AS published, b.row_count AS rows_frozen,
           (SELECT sum(s.row_count) FROM ponte.shard s WHERE s.batch_id = b.batch_id) AS rows_scored,
           (SELECT count(*) FROM ponte.quarantine q WHERE q.batch_id = b.batch_id) AS rows_quarantined,
           r.seconds, r.cpu_seconds, r.peak_bytes, b.as_of, b.run_id, b.created_at, p.at AS published_at,
           b.hindsight, b.version_reason
    FROM ponte.batch b
    LEFT JOIN ponte.published p USING (batch_id)
    LEFT JOIN LATERAL (
        SELECT sum(seconds) AS seconds, sum(cpu_seconds) AS cpu_seconds, max(peak_bytes) AS peak_bytes
        FROM ponte.receipt WHERE batch_id = b.batch_id
    ) r ON true;
COMMENT ON COLUMN ponte.batch_overview.hindsight IS 'True when the version may have learned from what happened after as_of.';
COMMENT ON COLUMN ponte.batch_overview.version_reason IS 'Why this version was chosen.';

CREATE OR REPLACE VIEW ponte.version_overview AS
    SELECT v.model, v.version, c.version IS NOT NULL AS champion, v.task,
           (SELECT jsonb_object_agg(m.name, m.value) FROM ponte.metric m
            WHERE m.model = v.model AND m.version = v.version AND m.snapshot_id = v.snapshot_id
              AND m.subject = 'candidate' AND m.slice = '') AS metrics,
           g.passed AS gate_passed, v.train_rows, v.holdout_rows, v.train_cutoff, v.snapshot_id, s.as_of AS trained_as_of,
           v.code_revision, v.byte_count, v.created_at,
           ponte.is_bad(v.model, v.version) AS bad, a.decision AS approval, v.calibration_rows, v.threshold,
           r.seconds AS train_seconds, r.peak_bytes AS train_peak_bytes
    FROM ponte.version v
    JOIN ponte.snapshot s USING (snapshot_id)
    LEFT JOIN ponte.champion c ON c.model = v.model AND c.version = v.version
    LEFT JOIN LATERAL (
        SELECT verdict_id, passed FROM ponte.gate_verdict g
        WHERE g.model = v.model AND g.version = v.version ORDER BY verdict_id DESC LIMIT 1
    ) g ON true
    LEFT JOIN LATERAL (
        SELECT decision FROM ponte.approval a JOIN ponte.gate_verdict j USING (verdict_id)
        WHERE j.model = v.model AND j.version = v.version ORDER BY approval_id DESC LIMIT 1
    ) a ON true
    LEFT JOIN LATERAL (
        SELECT seconds, peak_bytes FROM ponte.receipt r
        WHERE r.model = v.model AND r.version = v.version AND r.step = 'train' ORDER BY receipt_id LIMIT 1
    ) r ON true;
COMMENT ON COLUMN ponte.version_overview.task IS 'binary, multiclass or regression.';
COMMENT ON COLUMN ponte.version_overview.train_cutoff IS 'No label or feature of after this moment was seen.';
COMMENT ON COLUMN ponte.version_overview.bad IS 'True when it is marked bad.';
COMMENT ON COLUMN ponte.version_overview.approval IS 'Newest decision of a person: approved, rejected or timed out; NULL when nobody was asked.';
COMMENT ON COLUMN ponte.version_overview.calibration_rows IS 'Rows that calibrated the probabilities and set the threshold.';
COMMENT ON COLUMN ponte.version_overview.threshold IS 'Score from which the positive class is predicted; NULL: the estimator decides.';
COMMENT ON COLUMN ponte.version_overview.train_seconds IS 'Wall time of the training step in seconds.';
COMMENT ON COLUMN ponte.version_overview.train_peak_bytes IS 'Peak resident memory of the training step in bytes.';

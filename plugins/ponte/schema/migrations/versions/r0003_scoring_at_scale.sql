-- Ponte, revision 0003: rows set aside, what a batch must look like before people see it, and how long it is kept.

-- ---------------------------------------------------------------- predictions

-- A classifier without probabilities has labels and no score. The parent's change reaches its partitions.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT c.oid::regclass AS relation, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'ponte'::regnamespace AND c.relkind = 'p' AND c.relname LIKE 'prediction\_%'
          AND a.attname IN ('score', 'scores') AND a.attnotnull
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', found.relation, found.attname);
    END LOOP;
END $$;

-- ---------------------------------------------------------------- quarantine

ALTER TABLE ponte.check_result
    DROP CONSTRAINT check_result_on_failure_check,
    ADD CONSTRAINT check_result_on_failure_check CHECK (on_failure IN ('stop', 'quarantine', 'warn'));
COMMENT ON COLUMN ponte.check_result.on_failure IS 'stop, quarantine or warn.';

ALTER TABLE ponte.quarantine
    ALTER COLUMN batch_id DROP NOT NULL,
    ADD COLUMN snapshot_id bigint REFERENCES ponte.snapshot,
    ADD COLUMN shard integer,
    ADD COLUMN closed_by bigint REFERENCES ponte.batch,
    ADD COLUMN resolution text CHECK (resolution IN ('scored', 'quarantined again', 'gone', 'retired')),
    ADD CHECK (num_nonnulls(batch_id, snapshot_id) = 1),
    ADD CHECK (num_nonnulls(closed_at, resolution) IN (0, 2)),
    ADD CHECK ((closed_by IS NULL) = (resolution IS NULL OR resolution = 'retired'));
CREATE INDEX quarantine_snapshot ON ponte.quarantine (snapshot_id);
COMMENT ON TABLE ponte.quarantine IS 'Rows set aside instead of being scored or trained on. What is open concerns the batch that people see, or one that they have not seen yet.';
COMMENT ON COLUMN ponte.quarantine.batch_id IS 'The batch it was frozen with; NULL for a row of a training set.';
COMMENT ON COLUMN ponte.quarantine.snapshot_id IS 'The training set it was frozen with; NULL for a row of a batch.';
COMMENT ON COLUMN ponte.quarantine.shard IS 'The shard whose estimator could not score it; NULL when a check set it aside.';
COMMENT ON COLUMN ponte.quarantine.reasons IS 'List of {check, expectation, arguments}, or {error}: what the estimator raised.';
COMMENT ON COLUMN ponte.quarantine.content IS 'The whole row as it was frozen.';
COMMENT ON COLUMN ponte.quarantine.closed_at IS 'When another batch of the window was published instead, or its own was retired; NULL while open.';
COMMENT ON COLUMN ponte.quarantine.closed_by IS 'The batch that was published instead; NULL when it was retired.';
COMMENT ON COLUMN ponte.quarantine.resolution IS 'What became of the key in that batch: scored, quarantined again, or gone from the source; or retired: the retention of the model dropped its own batch.';

-- ---------------------------------------------------------------- guards

CREATE TABLE ponte.batch_profile (
    batch_id        bigint PRIMARY KEY REFERENCES ponte.batch,
    row_count       bigint NOT NULL,
    scored_count    bigint NOT NULL,
    unscored_count  bigint NOT NULL,
    score_mean      double precision[] NOT NULL,
    score_sd        double precision[] NOT NULL,
    distinct_scores boolean NOT NULL,
    class_shares    jsonb NOT NULL,
    newest_feature  timestamptz,
    at              timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ponte.batch_profile IS 'What a scored batch looks like: what the guards compare with the batches before.';
COMMENT ON COLUMN ponte.batch_profile.batch_id IS 'The batch.';
COMMENT ON COLUMN ponte.batch_profile.row_count IS 'Rows frozen.';
COMMENT ON COLUMN ponte.batch_profile.scored_count IS 'Rows with a prediction.';
COMMENT ON COLUMN ponte.batch_profile.unscored_count IS 'Rows for which the estimator raised, or returned NaN.';
COMMENT ON COLUMN ponte.batch_profile.score_mean IS 'Mean score; of a multiclass model one per class, of a regression the mean prediction. Empty without scores.';
COMMENT ON COLUMN ponte.batch_profile.score_sd IS 'Standard deviation of the same.';
COMMENT ON COLUMN ponte.batch_profile.distinct_scores IS 'False when every row has the same score.';
COMMENT ON COLUMN ponte.batch_profile.class_shares IS 'Share of each predicted class, {class: share}; empty for a regression.';
COMMENT ON COLUMN ponte.batch_profile.newest_feature IS 'Newest value of guard.freshness_column; NULL when none is declared.';
COMMENT ON COLUMN ponte.batch_profile.at IS 'When it was computed.';

CREATE TABLE ponte.guard_result (
    batch_id bigint NOT NULL REFERENCES ponte.batch,
    guard    text NOT NULL,
    outcome  text NOT NULL CHECK (outcome IN ('passed', 'tripped', 'skipped')),
    got      text NOT NULL,
    expected text NOT NULL,
    evidence jsonb NOT NULL,
    at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (batch_id, guard)
);
COMMENT ON TABLE ponte.guard_result IS 'What each guard found before a batch could be published.';
COMMENT ON COLUMN ponte.guard_result.batch_id IS 'The batch.';
COMMENT ON COLUMN ponte.guard_result.guard IS 'row_count, unscored, constant_score, mean_score, class_share or freshness.';
COMMENT ON COLUMN ponte.guard_result.outcome IS 'passed, tripped, or skipped: nothing to compare with.';
COMMENT ON COLUMN ponte.guard_result.got IS 'What was found.';
COMMENT ON COLUMN ponte.guard_result.expected IS 'What was expected.';
COMMENT ON COLUMN ponte.guard_result.evidence IS 'Figures behind it, with the batches that were compared with.';
COMMENT ON COLUMN ponte.guard_result.at IS 'When.';

CREATE TABLE ponte.guard_override (
    override_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id    bigint NOT NULL REFERENCES ponte.batch,
    run_id      text NOT NULL,
    actor       text NOT NULL,
    reason      text NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (batch_id)
);
COMMENT ON TABLE ponte.guard_override IS 'Batches that a person published although a guard had tripped. Append-only.';
COMMENT ON COLUMN ponte.guard_override.override_id IS 'Number of the decision.';
COMMENT ON COLUMN ponte.guard_override.batch_id IS 'The batch.';
COMMENT ON COLUMN ponte.guard_override.run_id IS 'Airflow run.';
COMMENT ON COLUMN ponte.guard_override.actor IS 'Who.';
COMMENT ON COLUMN ponte.guard_override.reason IS 'Why.';
COMMENT ON COLUMN ponte.guard_override.at IS 'When.';

-- ---------------------------------------------------------------- retention

CREATE TABLE ponte.retention_event (
    event_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model        text NOT NULL,
    window_start date NOT NULL,
    batch_id     bigint NOT NULL UNIQUE REFERENCES ponte.batch,
    relation     text NOT NULL,
    row_count    bigint NOT NULL,
    byte_count   bigint NOT NULL,
    published    boolean NOT NULL,
    why          text NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE ponte.retention_event IS 'Every batch whose predictions were dropped by the retention of its model. Append-only.';
COMMENT ON COLUMN ponte.retention_event.event_id IS 'Number of the event.';
COMMENT ON COLUMN ponte.retention_event.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.retention_event.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.retention_event.batch_id IS 'The batch; its row in ponte.batch stays.';
COMMENT ON COLUMN ponte.retention_event.relation IS 'The partition that was dropped, in schema ponte_data.';
COMMENT ON COLUMN ponte.retention_event.row_count IS 'Predictions it held, as counted when they were published.';
COMMENT ON COLUMN ponte.retention_event.byte_count IS 'Its size on disk with indexes, in bytes.';
COMMENT ON COLUMN ponte.retention_event.published IS 'True when people saw it until then: its whole window was past its time.';
COMMENT ON COLUMN ponte.retention_event.why IS 'The rule of model.toml.';
COMMENT ON COLUMN ponte.retention_event.at IS 'When it was decided; the partition is dropped right after.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.guard_override
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.retention_event
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

-- ---------------------------------------------------------------- views for people

CREATE OR REPLACE VIEW ponte.batch_overview AS
    SELECT b.batch_id, b.model, b.window_start, b.window_end, b.version, b.status, b.why,
           p.batch_id IS NOT NULL AS published, b.row_count AS rows_frozen,
           (SELECT sum(s.row_count) FROM ponte.shard s WHERE s.batch_id = b.batch_id) AS rows_scored,
           (SELECT count(*) FROM ponte.quarantine q WHERE q.batch_id = b.batch_id) AS rows_quarantined,
           r.seconds, r.cpu_seconds, r.peak_bytes, b.as_of, b.run_id, b.created_at, p.at AS published_at,
           b.hindsight, b.version_reason,
           (SELECT array_agg(g.guard ORDER BY g.guard) FROM ponte.guard_result g
            WHERE g.batch_id = b.batch_id AND g.outcome = 'tripped') AS guards_tripped,
           o.reason AS published_anyway
    FROM ponte.batch b
    LEFT JOIN ponte.published p USING (batch_id)
    LEFT JOIN ponte.guard_override o USING (batch_id)
    LEFT JOIN LATERAL (
        SELECT sum(seconds) AS seconds, sum(cpu_seconds) AS cpu_seconds, max(peak_bytes) AS peak_bytes
        FROM ponte.receipt WHERE batch_id = b.batch_id
    ) r ON true;
COMMENT ON COLUMN ponte.batch_overview.guards_tripped IS 'Guards that tripped; NULL when none did.';
COMMENT ON COLUMN ponte.batch_overview.published_anyway IS 'Why a person published it although a guard had tripped; NULL otherwise.';

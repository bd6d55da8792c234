CREATE OR REPLACE VIEW ponte.lineage WITH (security_barrier) AS
    SELECT
           -- the batch: when it was predicted, and why by this version
           b.model, b.window_start, b.batch_id, b.as_of, b.run_id AS scored_in_run, b.version, b.version_reason,
           -- the version: which files, which code, which libraries
           v.path AS artifact, v.manifest_sha256, v.spec_digest, v.code_revision, v.libraries,
           -- the snapshot that the version learned from: which rows, and the queries that made them
           s.snapshot_id, s.path AS snapshot, s.sha256 AS snapshot_sha256, s.as_of AS trained_as_of, s.row_count AS training_rows,
           s.features_sql, s.labels_sql,
           -- the checks of the batch and of the snapshot
           c.checks, c.not_passed, c.training_checks, c.training_not_passed,
           -- the gate, rule by rule, and what a person said to it
           g.verdict_id, g.passed AS gate_passed, g.rules, a.decision AS approval, a.actor AS approved_by, a.reason AS approval_reason,
           -- how the version became champion, before the window was claimed
           e.event_id AS alias_event_id, e.at AS champion_since, e.actor AS promoted_by, e.reason AS promotion_reason,
           -- how people came to see the batch
           u.event_id AS publication_event_id, u.at AS published_at, u.actor AS published_by,
           u.rollback_id, r.reason AS rollback_reason
    FROM ponte.batch b
    JOIN ponte.version v ON v.model = b.model AND v.version = b.version
    JOIN ponte.snapshot s ON s.snapshot_id = v.snapshot_id
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE c.batch_id = b.batch_id) AS checks,
               count(*) FILTER (WHERE c.batch_id = b.batch_id AND c.outcome <> 'passed') AS not_passed,
               count(*) FILTER (WHERE c.snapshot_id = s.snapshot_id) AS training_checks,
               count(*) FILTER (WHERE c.snapshot_id = s.snapshot_id AND c.outcome <> 'passed') AS training_not_passed
        FROM ponte.check_result c WHERE c.batch_id = b.batch_id OR c.snapshot_id = s.snapshot_id
    ) c
    LEFT JOIN LATERAL (
        SELECT e.* FROM ponte.alias_event e
        WHERE e.model = b.model AND e.alias = 'champion' AND e.version = b.version AND e.at <= b.created_at
        ORDER BY e.event_id DESC LIMIT 1
    ) e ON TRUE
    LEFT JOIN LATERAL (
        -- the verdict it was promoted on; for one that was promoted by hand, the newest
        SELECT g.verdict_id, bool_and(g.passed) AS passed,
               string_agg(CASE WHEN g.passed THEN 'passed' ELSE 'FAILED' END || ': ' || g.rule || ': ' || g.got, e'\n' ORDER BY g.position) AS rules
        FROM ponte.gate_rule g WHERE g.model = b.model AND g.version = b.version
        GROUP BY g.verdict_id
        ORDER BY (g.verdict_id = (e.evidence->>'verdict_id')::bigint) DESC NULLS LAST, g.verdict_id DESC LIMIT 1
    ) g ON TRUE
    LEFT JOIN LATERAL (
        SELECT a.* FROM ponte.approval a WHERE a.verdict_id = g.verdict_id ORDER BY a.approval_id DESC LIMIT 1
    ) a ON TRUE
    LEFT JOIN LATERAL (
        SELECT u.* FROM ponte.publication_event u WHERE u.batch_id = b.batch_id ORDER BY u.event_id DESC LIMIT 1
    ) u ON TRUE
    LEFT JOIN ponte.rollback r ON r.rollback_id = u.rollback_id;

COMMENT ON VIEW ponte.lineage IS 'What each batch rests on, and how people came to see it: one row per batch. Joined to predictions by batch_id.';
COMMENT ON COLUMN ponte.lineage.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.lineage.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.lineage.batch_id IS 'The batch.';
COMMENT ON COLUMN ponte.lineage.as_of IS 'Moment of the prediction.';
COMMENT ON COLUMN ponte.lineage.scored_in_run IS 'Airflow run that scored it, by its id.';
COMMENT ON COLUMN ponte.lineage.version IS 'Version that scored it.';
COMMENT ON COLUMN ponte.lineage.version_reason IS 'Why this version was chosen.';
COMMENT ON COLUMN ponte.lineage.artifact IS 'Folder of the version, below the store.';
COMMENT ON COLUMN ponte.lineage.manifest_sha256 IS 'SHA-256 of its manifest, which holds those of its files.';
COMMENT ON COLUMN ponte.lineage.spec_digest IS 'Digest of the model.toml that it was trained by.';
COMMENT ON COLUMN ponte.lineage.code_revision IS 'Commit that trained it; -dirty after it when files differed.';
COMMENT ON COLUMN ponte.lineage.libraries IS 'Library → exact version, of those that trained it.';
COMMENT ON COLUMN ponte.lineage.snapshot_id IS 'Snapshot that it learned from.';
COMMENT ON COLUMN ponte.lineage.snapshot IS 'Parquet file of its rows, below the store.';
COMMENT ON COLUMN ponte.lineage.snapshot_sha256 IS 'SHA-256 of that file.';
COMMENT ON COLUMN ponte.lineage.trained_as_of IS 'Moment as of which it was trained.';
COMMENT ON COLUMN ponte.lineage.training_rows IS 'Rows of the snapshot, all parts.';
COMMENT ON COLUMN ponte.lineage.features_sql IS 'Query that made the features, of the snapshot and of the batch.';
COMMENT ON COLUMN ponte.lineage.labels_sql IS 'Query that made the labels.';
COMMENT ON COLUMN ponte.lineage.checks IS 'Checks of the batch.';
COMMENT ON COLUMN ponte.lineage.not_passed IS 'Of these, not passed; the batch went on, so they warn or set rows aside.';
COMMENT ON COLUMN ponte.lineage.training_checks IS 'Checks of the snapshot.';
COMMENT ON COLUMN ponte.lineage.training_not_passed IS 'Of these, not passed.';
COMMENT ON COLUMN ponte.lineage.verdict_id IS 'Verdict of the gate that it was promoted on; of one promoted by hand the newest; NULL for none.';
COMMENT ON COLUMN ponte.lineage.gate_passed IS 'Whether it passed; NULL without a verdict.';
COMMENT ON COLUMN ponte.lineage.rules IS 'The rules with what they got, a line each; NULL without a verdict.';
COMMENT ON COLUMN ponte.lineage.approval IS 'What a person said to the verdict; NULL: nobody was asked, or answered.';
COMMENT ON COLUMN ponte.lineage.approved_by IS 'Who; else NULL.';
COMMENT ON COLUMN ponte.lineage.approval_reason IS 'Why; else NULL.';
COMMENT ON COLUMN ponte.lineage.alias_event_id IS 'Move that made it champion before the window was claimed; NULL for none.';
COMMENT ON COLUMN ponte.lineage.champion_since IS 'When; else NULL.';
COMMENT ON COLUMN ponte.lineage.promoted_by IS 'The run or person; else NULL.';
COMMENT ON COLUMN ponte.lineage.promotion_reason IS 'Why; else NULL.';
COMMENT ON COLUMN ponte.lineage.publication_event_id IS 'Event by which people last came to see the batch; NULL: never.';
COMMENT ON COLUMN ponte.lineage.published_at IS 'When; else NULL.';
COMMENT ON COLUMN ponte.lineage.published_by IS 'The run or person; else NULL.';
COMMENT ON COLUMN ponte.lineage.rollback_id IS 'Rollback that it was part of; NULL for none.';
COMMENT ON COLUMN ponte.lineage.rollback_reason IS 'Why that was; else NULL.';

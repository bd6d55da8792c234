CREATE OR REPLACE VIEW ponte.version_overview WITH (security_barrier) AS
    SELECT v.model, v.version, c.version IS NOT NULL AS champion, v.task,
           (SELECT jsonb_object_agg(m.name, m.value) FROM ponte.metric m
            WHERE m.model = v.model AND m.version = v.version AND m.snapshot_id = v.snapshot_id
              AND m.subject = 'candidate' AND m.slice = '') AS metrics,
           g.passed AS gate_passed, v.train_rows, v.holdout_rows, v.train_cutoff, v.snapshot_id,
           s.as_of AS trained_as_of, v.code_revision, v.byte_count, v.created_at,
           ponte.is_bad(v.model, v.version) AS bad, a.decision AS approval, v.calibration_rows, v.threshold,
           r.seconds AS train_seconds, r.peak_bytes AS train_peak_bytes,
           g.outcome AS gate_outcome, v.origin
    FROM ponte.version v
    JOIN ponte.snapshot s USING (snapshot_id)
    LEFT JOIN ponte.champion c ON c.model = v.model AND c.version = v.version
    LEFT JOIN LATERAL (
        SELECT verdict_id, passed, outcome FROM ponte.gate_verdict g
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

COMMENT ON VIEW ponte.version_overview IS 'Every version: figures on its holdout, verdict, lineage, and whether it is champion.';
COMMENT ON COLUMN ponte.version_overview.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.version_overview.version IS '1, 2, 3 … per model.';
COMMENT ON COLUMN ponte.version_overview.champion IS 'True when it scores now.';
COMMENT ON COLUMN ponte.version_overview.task IS 'binary, multiclass or regression.';
COMMENT ON COLUMN ponte.version_overview.metrics IS 'Figures on its own holdout, by name; NULL before its evaluation.';
COMMENT ON COLUMN ponte.version_overview.gate_passed IS 'Newest verdict of the gate; NULL before the first.';
COMMENT ON COLUMN ponte.version_overview.train_rows IS 'Rows fitted on.';
COMMENT ON COLUMN ponte.version_overview.holdout_rows IS 'Rows kept for evaluation.';
COMMENT ON COLUMN ponte.version_overview.train_cutoff IS 'No label or feature of after this moment was seen.';
COMMENT ON COLUMN ponte.version_overview.snapshot_id IS 'Snapshot it was fitted on.';
COMMENT ON COLUMN ponte.version_overview.trained_as_of IS 'Moment of the training run.';
COMMENT ON COLUMN ponte.version_overview.code_revision IS 'Revision of the code that trained it; NULL when unknown.';
COMMENT ON COLUMN ponte.version_overview.byte_count IS 'Size of the artifact folder in bytes.';
COMMENT ON COLUMN ponte.version_overview.created_at IS 'When it was registered.';
COMMENT ON COLUMN ponte.version_overview.bad IS 'True when it is marked bad.';
COMMENT ON COLUMN ponte.version_overview.approval IS 'Newest decision of a person: approved, rejected or timed out; NULL when nobody was asked.';
COMMENT ON COLUMN ponte.version_overview.calibration_rows IS 'Rows that calibrated the probabilities and set the threshold.';
COMMENT ON COLUMN ponte.version_overview.threshold IS 'Score from which the positive class is predicted; NULL: the estimator decides.';
COMMENT ON COLUMN ponte.version_overview.train_seconds IS 'Wall time of the training step in seconds.';
COMMENT ON COLUMN ponte.version_overview.train_peak_bytes IS 'Peak resident memory of the training step in bytes.';
COMMENT ON COLUMN ponte.version_overview.gate_outcome IS 'Newest verdict of the gate: passed, refused or undecided; NULL before the first.';
COMMENT ON COLUMN ponte.version_overview.origin IS 'trained, or imported: fitted elsewhere.';

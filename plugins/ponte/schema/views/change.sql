CREATE OR REPLACE VIEW ponte.change WITH (security_barrier) AS
    SELECT e.model, e.at, e.window_start, b.version,
           CASE WHEN e.previous_batch_id IS NULL
                THEN format('%s is shown: %s rows of version %s', e.window_start, to_char(e.row_count, 'FM999G999G999G999'), b.version)
                WHEN e.rollback_id IS NOT NULL
                THEN format('%s: version %s replaced by version %s, by a rollback', e.window_start, o.version, b.version)
                ELSE format('%s: batch %s of version %s replaced by batch %s of version %s, %s rows',
                            e.window_start, o.batch_id, o.version, b.batch_id, b.version, to_char(e.row_count, 'FM999G999G999G999'))
           END AS what, e.actor, e.reason
    FROM ponte.publication_event e JOIN ponte.batch b USING (batch_id) LEFT JOIN ponte.batch o ON o.batch_id = e.previous_batch_id
    UNION ALL
    SELECT model, at, NULL, version,
           CASE WHEN version IS NULL THEN format('no version is %s any more', alias)
                ELSE format('version %s is %s%s', version, alias, ', before it version ' || previous_version) END,
           actor, reason
    FROM ponte.alias_event
    UNION ALL
    SELECT model, at, NULL, version, format('version %s %s by the gate', version, CASE outcome WHEN 'refused' THEN 'REFUSED'
           WHEN 'undecided' THEN 'left undecided' ELSE outcome END), run_id,
           coalesce((SELECT string_agg(r->>'rule' || ': ' || (r->>'got'), '; ') FROM jsonb_array_elements(rules) AS r
                     WHERE coalesce(r->>'outcome', 'passed') NOT IN ('passed', 'warning')
                        OR NOT coalesce((r->>'passed')::boolean, true)), 'all rules passed')
    FROM ponte.gate_verdict
    UNION ALL
    SELECT g.model, a.at, NULL, g.version, format('version %s: %s', g.version, a.decision), a.actor, a.reason
    FROM ponte.approval a JOIN ponte.gate_verdict g USING (verdict_id)
    UNION ALL
    SELECT model, at, NULL, version, format('version %s is marked: %s', version, mark), actor, reason FROM ponte.version_mark
    UNION ALL
    SELECT model, at, NULL, to_version, format('rolled back from version %s to version %s', from_version, to_version), actor, reason
    FROM ponte.rollback
    UNION ALL
    SELECT b.model, o.at, b.window_start, b.version, format('%s: batch %s may be shown although a guard has tripped', b.window_start, b.batch_id),
           o.actor, o.reason
    FROM ponte.guard_override o JOIN ponte.batch b USING (batch_id)
    UNION ALL
    SELECT e.model, e.at, e.window_start, b.version,
           format('%s: %s rows of batch %s dropped by retention', e.window_start, to_char(e.row_count, 'FM999G999G999G999'), e.batch_id), '', e.why
    FROM ponte.retention_event e JOIN ponte.batch b USING (batch_id)
    UNION ALL
    SELECT n.model, n.at, n.window_start, b.version, format('%s is the new normal', n.window_start), n.actor, n.reason
    FROM ponte.normal_event n JOIN ponte.batch b USING (batch_id)
    UNION ALL
    SELECT model, at, window_start, version, format('alarm %s about %s %s', alarm_id, kind, event), actor, reason
    FROM ponte.alarm_event WHERE event <> 'extended';

COMMENT ON VIEW ponte.change IS 'Everything that has changed what people see, or may see, of each model, in words, with who and why. Order by at.';
COMMENT ON COLUMN ponte.change.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.change.at IS 'When.';
COMMENT ON COLUMN ponte.change.window_start IS 'First day of the window that it is about; NULL when it is about the model.';
COMMENT ON COLUMN ponte.change.version IS 'Version that it is about, or that scored the window.';
COMMENT ON COLUMN ponte.change.what IS 'What, in words.';
COMMENT ON COLUMN ponte.change.actor IS 'The run or person; empty for the rules of retention.';
COMMENT ON COLUMN ponte.change.reason IS 'Why, in their words.';

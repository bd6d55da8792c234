-- What stand.py runs, with values in place of :names.

-- ---------------------------------------------------------------- the plan

CREATE FUNCTION pg_temp.noise(a bigint, b bigint, salt integer) RETURNS float8 LANGUAGE sql IMMUTABLE
    RETURN (hashint8(a * 1000003 + b * 1009 + salt) & 1048575) / 1048576.0;

CREATE TEMPORARY TABLE m AS
    SELECT n, coalesce((:names)[n],
               (ARRAY['churn', 'demand', 'fraud', 'returns', 'delay', 'credit', 'leads', 'stock', 'energy', 'staff'])[n % 10 + 1]
               || '_' || (ARRAY['at', 'be', 'ch', 'de', 'es', 'fr', 'it', 'nl', 'pl', 'uk'])[n / 10 % 10 + 1]
               || CASE WHEN n >= 100 THEN '_' || n / 100 ELSE '' END) AS model,
           coalesce((:kinds)[n % 20 + 1], '') AS kind, 0.62 + pg_temp.noise(n, 0, 1) * 0.25 AS level,
           (1000 * (1 + pg_temp.noise(n, 0, 2) * 20))::bigint AS rows
    FROM generate_series(1, :models) AS n;
-- The newest window begins on the Monday on or before the given day.
CREATE TEMPORARY TABLE w AS
    SELECT n, (date_trunc('week', CAST(:today AS date)) - make_interval(days => 7 * (:windows - n)))::date AS start
    FROM generate_series(1, :windows) AS n;
-- A version every quarter, trained three days before the first window that it scores. Every fifth was refused.
CREATE TEMPORARY TABLE v AS
    SELECT m.n AS mn, m.model, m.kind, m.level, q + 1 AS version, (m.n - 1) * 1000 + q + 1 AS id,
           w.start - interval '3 days' AS at, w.start, w.n AS wn,
           m.kind = 'new' OR (q > 0 AND q % 5 = 4) OR (m.kind = 'refused' AND last) AS refused,
           m.kind IN ('question', 'challenger') AND last AND q > 0 AS waits,
           m.level + (pg_temp.noise(m.n, q, 3) - 0.5) * 0.04 AS value
    FROM m CROSS JOIN (
        SELECT q, q = max(q) OVER () AS last FROM generate_series(0, (:windows - 1) / :quarter) AS q
    ) q JOIN w ON w.n = q * :quarter + 1
    WHERE m.kind <> 'new' OR q = 0;
-- Each window's batch; every tenth window was scored twice, and what was rolled back, too.
CREATE TEMPORARY TABLE b AS
    SELECT b.*, first_value(version) OVER (PARTITION BY mn, wn ORDER BY try) AS first_version,
           CASE WHEN NOT newest THEN 'staged' WHEN kind IN ('guard', 'check') THEN 'rejected'
                WHEN kind = 'running' THEN 'frozen' WHEN kind = 'failed' THEN 'failed' ELSE 'staged' END AS status
    FROM (
        SELECT m.n AS mn, m.model, m.kind, m.level, w.n AS wn, w.start, t AS try,
               w.n = :windows AS newest, (m.n - 1) * 10000 + w.n * 10 + t AS id,
               w.start + make_interval(hours => 6, mins => t) AS at, tries,
               coalesce((SELECT max(v.version) FROM v WHERE v.mn = m.n AND NOT v.refused AND NOT v.waits
                         AND v.wn <= w.n AND (t = 1 OR kind <> 'rollback' OR v.wn < w.n - :quarter)), 1) AS version,
               (m.rows * (1 + (pg_temp.noise(m.n, w.n, 4) - 0.5) * 0.1))::bigint AS rows,
               (3 * pg_temp.noise(m.n, w.n, 5))::bigint AS aside
        FROM m CROSS JOIN w CROSS JOIN LATERAL (
            SELECT CASE WHEN w.n < :windows AND (w.n % 10 = 3 OR m.kind = 'rollback' AND w.n BETWEEN :windows - 5 AND :windows - 4)
                        THEN 2 ELSE 1 END AS tries
        ) n CROSS JOIN LATERAL generate_series(1, tries) AS t
        WHERE m.kind <> 'new' AND NOT (m.kind = 'late' AND w.n > :windows - 2)
    ) b;
CREATE INDEX ON b (id);
ANALYZE m; ANALYZE w; ANALYZE v; ANALYZE b;

-- ---------------------------------------------------------------- versions and decisions

INSERT INTO ponte.snapshot (snapshot_id, model, run_id, run_key, as_of, status, windows, holdout_from, columns, row_count,
    features_sql, labels_sql, spec_digest, path, sha256, byte_count, created_at)
OVERRIDING SYSTEM VALUE
SELECT id, model, 'scheduled__' || at::date, 'train ' || id, at, 'written', '[]', at::date - 28, '[]', 52000,
       'SELECT 1', 'SELECT 1', md5(id::text), 'snapshots/' || id, encode(sha256(id::text::bytea), 'hex'), 1000000, at
FROM v;
INSERT INTO ponte.version (model, version, snapshot_id, train_key, task, path, manifest_sha256, signature, spec_digest,
    code_revision, libraries, train_cutoff, train_rows, holdout_rows, byte_count, run_id, created_at, classes)
SELECT model, version, id, id::text, 'binary', 'versions/' || id, encode(sha256(id::text::bytea), 'hex'),
       jsonb_build_object('key', '[{"name": "id", "family": "integer"}]'::jsonb, 'label', 'integer', 'types', 3, 'features',
           (SELECT jsonb_agg(jsonb_build_object('name', 'f' || f, 'family', 'number')) FROM generate_series(1, :features) AS f)),
       md5(id::text), 'abcdef0', '{"scikit-learn": "1.9.1"}', at - interval '1 day', 48000, 4000, 500000,
       'scheduled__' || at::date, at, '[0, 1]'
FROM v;
INSERT INTO ponte.metric (model, version, snapshot_id, subject, slice, name, value, low, high, row_count, at)
SELECT model, version, id, subject, slice, name, value * factor - less, value * factor - less - 0.01, value * factor - less + 0.01,
       4000, at
FROM v CROSS JOIN (VALUES ('candidate', 0.0), ('baseline:constant', 0.1)) AS s (subject, less)
    CROSS JOIN (VALUES ('roc_auc', 1.0), ('log_loss', 0.8), ('brier', 0.25)) AS n (name, factor)
    CROSS JOIN (VALUES (''), ('region=north'), ('region=south')) AS z (slice);
INSERT INTO ponte.gate_verdict (verdict_id, model, version, snapshot_id, run_id, run_key, passed, outcome, rules, at)
OVERRIDING SYSTEM VALUE
SELECT id, model, version, id, 'scheduled__' || at::date, 'train ' || id, NOT refused, CASE WHEN refused THEN 'refused' ELSE 'passed' END,
       jsonb_build_array(
           jsonb_build_object('rule', 'roc_auc meets the bound', 'got', round(value::numeric, 3)::text, 'expected', '≥ 0.6',
                              'passed', true, 'outcome', 'passed', 'evidence', '{}'::jsonb),
           jsonb_build_object('rule', 'roc_auc is not worse than champion', 'got',
                              CASE WHEN refused THEN 'worse, by 0.004 [0.002, 0.006]' ELSE 'better, by 0.01 [0.005, 0.015]' END,
                              'expected', 'better or indistinguishable (margin 0.001)', 'passed', NOT refused,
                              'outcome', CASE WHEN refused THEN 'refused' ELSE 'passed' END, 'evidence', '{}'::jsonb)), at
FROM v;
INSERT INTO ponte.approval (verdict_id, run_id, run_key, decision, actor, reason, answered_at, at)
SELECT id, 'scheduled__' || at::date, 'train ' || id, 'approved', 'ada', 'looks fine', at + interval '1 hour', at + interval '1 hour'
FROM v WHERE NOT refused AND NOT waits AND mn % 3 = 0;
INSERT INTO ponte.alias_event (event_id, model, alias, version, previous_version, previous_event_id, actor, reason, at)
OVERRIDING SYSTEM VALUE
SELECT id, model, 'champion', version, lag(version) OVER p, lag(id) OVER p, 'scheduled__' || at::date, :long || 'PASSED: all 2 rules let it pass', at
FROM v WHERE NOT refused AND NOT waits WINDOW p AS (PARTITION BY mn ORDER BY version);
INSERT INTO ponte.alias_event (event_id, model, alias, version, actor, reason, at) OVERRIDING SYSTEM VALUE
SELECT id + 500, model, 'challenger', version, 'scheduled__' || at::date, 'after_duel', at FROM v WHERE waits AND kind = 'challenger';
INSERT INTO ponte.version_mark (model, version, mark, run_id, run_key, actor, reason, at)
SELECT model, version, 'bad', 'manual__1', 'mark ' || id, 'grace', 'complaints', at + interval '5 days' FROM v
WHERE kind = 'rollback' AND version = 2;
INSERT INTO ponte.reference_column (model, version, family, position, column_name, kind, edges, "values")
SELECT model, version, 'features', f, 'f' || f, 'number', '{0,1,2,3,4,5,6,7,8}'::float8[], '{}'::text[] FROM v CROSS JOIN generate_series(1, :features) AS f
UNION ALL
SELECT model, version, 'answers', 0, 'prediction', 'number', '{1}', '{}' FROM v
UNION ALL
SELECT model, version, 'answers', 1, 'score', 'number', '{0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9}', '{}' FROM v;
INSERT INTO ponte.reference_count (model, version, family, part, window_start, column_name, counts)
SELECT v.model, v.version, c.family, 'holdout', v.start - 7 * k, c.column_name,
       ARRAY(SELECT (100 * (1 + pg_temp.noise(v.id, k, i)))::bigint FROM generate_series(0, cardinality(c.edges) + 1) AS i)
FROM v JOIN ponte.reference_column c USING (model, version) CROSS JOIN generate_series(1, 4) AS k;

-- ---------------------------------------------------------------- batches

INSERT INTO ponte.batch (batch_id, model, window_start, window_end, as_of, run_id, run_key, epoch, version, version_reason, status,
    why, rejected_by, stopped_in, columns, row_count, page_count, created_at, hindsight)
OVERRIDING SYSTEM VALUE
SELECT id, model, start, start + 7, start, CASE try WHEN 1 THEN 'scheduled__' ELSE 'manual__' END || start, 'score ' || id, try, version,
       'champion', status,
       CASE WHEN status = 'rejected' AND kind = 'guard' THEN :long || 'a guard has tripped: mean_score: 0.41, expected 0.1 to 0.3'
            WHEN status = 'rejected' THEN 'expect_table_row_count_to_be_between: 12 rows'
            WHEN status = 'failed' THEN 'its run ended before it was published' END,
       CASE WHEN status = 'rejected' THEN kind END, CASE WHEN status = 'failed' THEN 'checked' END, '[]', rows, rows / 50, at,
       kind = 'retention' AND wn < :windows / 4
FROM b;
INSERT INTO ponte.claim (model, window_start, epoch, run_id, at)
SELECT model, start, try, 'run', at FROM b WHERE try = tries;
INSERT INTO ponte.shard (batch_id, shard, first_page, end_page, row_count, at)
SELECT id, s, s * 100, s * 100 + 100, (rows - aside) / 2 + s * ((rows - aside) % 2), at FROM b CROSS JOIN generate_series(0, 1) AS s
WHERE status IN ('staged') OR kind = 'guard' AND status = 'rejected';
INSERT INTO ponte.rollback (rollback_id, model, run_id, run_key, from_version, to_version, windows, actor, reason, at)
OVERRIDING SYSTEM VALUE
SELECT mn, model, 'manual__1', 'rollback ' || mn, max(first_version), min(version), '[]', 'grace', :long || 'complaints about two weeks', max(at) + interval '30 days'
FROM b WHERE kind = 'rollback' AND try = 2 AND wn >= :windows - 5 GROUP BY mn, model;
INSERT INTO ponte.publication_event (event_id, model, window_start, batch_id, previous_batch_id, row_count, actor, reason, rollback_id, at)
OVERRIDING SYSTEM VALUE
SELECT b.id, b.model, start, b.id, CASE WHEN try = 2 THEN b.id - 1 END, rows - aside,
       CASE WHEN r.rollback_id IS NULL THEN 'scheduled__' || start ELSE 'grace' END, coalesce(r.reason, 'scored'), r.rollback_id, b.at + interval '5 min'
FROM b LEFT JOIN ponte.rollback r ON r.rollback_id = b.mn AND b.try = 2 AND b.wn >= :windows - 5
WHERE status = 'staged';
INSERT INTO ponte.published (model, window_start, batch_id, epoch, at)
SELECT model, start, id, try, at + interval '5 min' FROM b
WHERE status = 'staged' AND try = tries AND NOT (kind = 'retention' AND wn <= :windows / 2);
INSERT INTO ponte.retention_event (model, window_start, batch_id, relation, row_count, byte_count, published, why, at)
SELECT model, start, id, 'prediction_' || id, rows, rows * 100, true, 'older than 78 weeks', at + interval '546 days'
FROM b WHERE kind = 'retention' AND wn <= :windows / 2;
INSERT INTO ponte.check_result (batch_id, position, expectation, arguments, on_failure, outcome, element_count, unexpected_count, at)
SELECT id, p, 'expect_column_values_to_not_be_null', jsonb_build_object('column', 'f' || p), 'quarantine',
       CASE WHEN p = 1 AND aside > 0 THEN 'failed' ELSE 'passed' END, rows, CASE WHEN p = 1 THEN aside ELSE 0 END, at
FROM b CROSS JOIN generate_series(0, 5) AS p;
INSERT INTO ponte.quarantine (batch_id, key, reasons, content, at)
SELECT id, jsonb_build_object('id', q), '[{"check": 1}]', '{"f1": null}', at FROM b CROSS JOIN LATERAL generate_series(1, aside) AS q;
INSERT INTO ponte.receipt (model, step, batch_id, row_count, seconds, cpu_seconds, peak_bytes, byte_count, at)
SELECT model, step, id, rows, share * rows / 1000, share * rows / 1500, 300000000, rows * 100, at
FROM b CROSS JOIN (VALUES ('freeze_batch', 0.5), ('check', 1.0), ('score', 1.2), ('score', 1.1), ('guard', 0.1), ('publish', 0.2)) AS s (step, share);
INSERT INTO ponte.receipt (model, step, snapshot_id, version, row_count, seconds, cpu_seconds, peak_bytes, byte_count, at)
SELECT model, step, id, version, 52000, 40, 38, 900000000, 500000, at FROM v CROSS JOIN (VALUES ('freeze'), ('train'), ('evaluate')) AS s (step);
INSERT INTO ponte.batch_profile (batch_id, row_count, scored_count, unscored_count, score_mean, score_sd, distinct_scores, class_shares, at)
SELECT id, rows, rows - aside, 0, ARRAY[0.2 + pg_temp.noise(mn, wn, 6) * 0.1], ARRAY[0.15], true, '{"0": 0.8, "1": 0.2}', at
FROM b WHERE status <> 'frozen';
INSERT INTO ponte.guard_result (batch_id, guard, outcome, got, expected, evidence, at)
SELECT id, guard, CASE WHEN status = 'rejected' AND guard = 'mean_score' THEN 'tripped' ELSE 'passed' END, '0.41', '0.1 to 0.3', '{}', at
FROM b CROSS JOIN (VALUES ('row_count'), ('unscored'), ('constant_score'), ('mean_score'), ('class_share'), ('columns')) AS g (guard)
WHERE status = 'staged' OR kind = 'guard' AND status = 'rejected';
INSERT INTO ponte.batch_count (batch_id, shard, family, column_name, counts)
SELECT b.id, 0, c.family, c.column_name,
       ARRAY(SELECT (b.rows / 10 * (0.5 + pg_temp.noise(b.id, i, 7)))::bigint FROM generate_series(0, cardinality(c.edges) + 1) AS i)
FROM b JOIN ponte.reference_column c ON c.model = b.model AND c.version = b.version
WHERE b.status = 'staged' AND (c.family = 'answers' OR b.wn > :windows - 8);

-- ---------------------------------------------------------------- drift, labels, quality, alarms, notices, people

INSERT INTO ponte.drift_verdict (batch_id, family, state, beyond, strong, row_count, column_count, windows, published_windows,
    effective_windows, statistic, "limit", p, detectable, judged_at)
SELECT id, family, CASE WHEN beyond THEN 'notice' ELSE 'quiet' END, beyond, false, rows, columns, 30, 8, 20,
       CASE WHEN beyond THEN 4.2 ELSE 1.5 END, 3.1, CASE WHEN beyond THEN 0.001 ELSE 0.4 END, 0.1, at + interval '10 min'
FROM b CROSS JOIN (VALUES ('features', :features), ('answers', 2)) AS f (family, columns)
    CROSS JOIN LATERAL (SELECT kind IN ('drift', 'drifted') AND wn > :windows - 3 OR pg_temp.noise(id, columns, 8) < 0.02 AS beyond) x
WHERE status = 'staged';
INSERT INTO ponte.drift_verdict_column (batch_id, family, column_name, statistic, share_change, null_change, detectable, named)
SELECT v.batch_id, v.family, CASE v.family WHEN 'features' THEN :before || 'f' || c WHEN 'answers' THEN (ARRAY['prediction', 'score'])[c] END,
       v.statistic / c, 0.3 / c, 0, 0.1, v.beyond AND c <= 2
FROM ponte.drift_verdict v JOIN b ON b.id = v.batch_id
    CROSS JOIN LATERAL generate_series(1, CASE WHEN v.family = 'features' AND :hostile AND b.mn <= 2 AND b.wn > :windows - 4
                                               THEN 500 ELSE v.column_count END) AS c;
INSERT INTO ponte.label_read (batch_id, model, window_start, as_of, state, labels_from, key_count, labelled_rows, unknown_keys, null_labels,
    future_labels, early_labels, contradictory, new_labels, changed_labels, withdrawn_labels, at)
SELECT id, model, start, start + 7 + d, 'read', 'version', rows, rows * share, 0, 0, 0, 0, 0, rows * share, 0, 0, start + 7 + d
FROM b CROSS JOIN (VALUES (7, 0.8), (28, 0.98), (84, 1.0)) AS d (d, share)
WHERE status = 'staged' AND start + 7 + d <= :today;
INSERT INTO ponte.realised (batch_id, model, window_start, version, maturity_days, metric, slice_column, slice_value, value, low, high,
    labelled_rows, feedback_rows, row_count, final, labels_from, label_digest, as_of, computed_at)
SELECT id, model, start, version, d, name, slice_column, slice_value,
       q.value + CASE slice_value WHEN 'north' THEN 0.011 WHEN 'south' THEN -0.013 ELSE 0 END, q.value - 0.02, q.value + 0.02, (rows - aside) * share, 0, rows - aside, true, 'version',
       id * 100 + d, start + 7 + d, start + 7 + d
FROM b CROSS JOIN (VALUES (7, 0.8), (28, 0.98), (84, 1.0)) AS d (d, share)
    CROSS JOIN (VALUES ('roc_auc', 1.0), ('log_loss', 0.8), ('brier', 0.25)) AS n (name, factor)
    CROSS JOIN (VALUES ('', ''), ('region', 'north'), ('region', 'south')) AS z (slice_column, slice_value)
    CROSS JOIN LATERAL (SELECT factor * (level + (pg_temp.noise(mn, wn, 9) - 0.5) * 0.06
                                         - CASE WHEN kind = 'quality' AND wn > :windows - 6 THEN 0.12 ELSE 0 END) AS value) q
WHERE status = 'staged' AND start + 7 + d <= :today;
INSERT INTO ponte.estimate (batch_id, metric, method, value, low, high, calibrated_on, calibrated_rows, row_count, created_at)
SELECT id, 'roc_auc', 'isotonic', level, level - 0.03, level + 0.03, 'holdout', 4000, rows, at FROM b WHERE status = 'staged';
INSERT INTO ponte.alarm_event (alarm_id, model, kind, event, batch_id, window_start, version, metric, maturity_days, evidence, actor, reason, run_id, run_key, at)
SELECT mn, model, CASE kind WHEN 'quality' THEN 'quality' ELSE 'drift' END, CASE WHEN wn = :windows - 2 THEN 'opened' ELSE 'extended' END, id, start,
       version, CASE kind WHEN 'quality' THEN 'roc_auc' END, CASE kind WHEN 'quality' THEN 7 END, '{}', 'scheduled__' || start,
       :long || CASE kind WHEN 'quality' THEN 'roc_auc is 0.55 with labels of 7 days, below the bound of the gate' ELSE 'features have changed since window ' || start END,
       'scheduled__' || start, 'monitor ' || id, at + interval '7 days'
FROM b WHERE kind IN ('quality', 'drift', 'drifted') AND wn BETWEEN :windows - 2 AND :windows - CASE kind WHEN 'quality' THEN 1 ELSE 0 END AND try = tries;
INSERT INTO ponte.alarm_event (alarm_id, model, kind, event, actor, reason, run_id, run_key, at)
SELECT alarm_id, a.model, a.kind, 'acknowledged', 'ada', 'a new tariff', 'manual__1', 'alarm ' || alarm_id, now()
FROM ponte.alarm_event a JOIN m USING (model) WHERE m.kind = 'drifted' AND a.event = 'opened';
-- An alarm a year and model that was closed again.
INSERT INTO ponte.alarm_event (alarm_id, model, kind, event, batch_id, window_start, version, actor, reason, run_key, at)
SELECT 100000 + id, model, 'drift', e, id, start, version, 'scheduled__' || start, 'features have changed', e || id, at + interval '7 days'
FROM b CROSS JOIN (VALUES ('opened'), ('closed')) AS e (e) WHERE wn % 52 = 20 AND try = 1 AND status = 'staged';
INSERT INTO ponte.notice (event, subject, model, window_start, batch_id, facts, created_at)
SELECT CASE kind WHEN 'guard' THEN 'guard_tripped' ELSE 'batch_rejected' END, 'batch ' || id, model, start, id,
       jsonb_build_object('what', :long || 'its batch was rejected', 'next', 'look at ponte.guard_result'), at
FROM b WHERE status = 'rejected';
INSERT INTO ponte.notice (event, subject, model, version, facts, created_at)
SELECT CASE WHEN refused THEN 'version_refused' ELSE 'question_waiting' END, 'verdict ' || id, model, version,
       jsonb_build_object('what', 'the gate says of version ' || version, 'next', 'answer'), at
FROM v WHERE refused OR waits AND kind = 'question';
INSERT INTO ponte.notice (event, subject, model, window_start, facts, created_at)
SELECT 'window_late', m.model || ' ' || w.start, m.model, w.start, '{"what": "not published 6 hours after its run was due", "next": "run it"}', w.start + interval '12 hours'
FROM m CROSS JOIN w WHERE m.kind = 'late' AND w.n > :windows - 2;
INSERT INTO ponte.notice_sent (notice_id, channel, at) SELECT notice_id, 'mail', created_at FROM ponte.notice;
INSERT INTO ponte.feedback_given (model, window_start, batch_id, key, verdict, prediction, comment, given_by, at)
SELECT model, start, id, NULL, CASE WHEN kind = 'feedback' OR g = 1 THEN 'wrong' ELSE 'right' END, NULL, left(:long || 'looks odd', 4000), 'analyst' || g, at + interval '3 days'
FROM b CROSS JOIN generate_series(1, 3) AS g WHERE status = 'staged' AND try = tries AND (kind = 'feedback' OR wn % 8 = 0);
INSERT INTO ponte.live_window (model, version, window_start, window_end, row_count, flushes, seconds, cpu_seconds, peak_bytes)
SELECT model, version, start, start + 7, rows, 100, 60, 30, 300000000 FROM b WHERE kind = 'live' AND try = tries;
INSERT INTO ponte.live_drift_verdict (live_window_id, family, state, beyond, strong, row_count, column_count, windows, live_windows,
    effective_windows, statistic, "limit", p, detectable, judged_at)
SELECT w.live_window_id, v.family, v.state, v.beyond, v.strong, w.row_count, v.column_count, 30, 8, 20, v.statistic, v."limit", v.p, 0.1, v.judged_at
FROM ponte.live_window w JOIN b ON b.model = w.model AND b.start = w.window_start AND try = tries JOIN ponte.drift_verdict v ON v.batch_id = b.id
WHERE w.window_end <= :today;
INSERT INTO ponte.live_realised (live_window_id, model, window_start, version, maturity_days, metric, slice_column, slice_value, value, low, high,
    labelled_rows, feedback_rows, row_count, final, labels_from, label_digest, as_of, computed_at)
SELECT w.live_window_id, r.model, r.window_start, r.version, maturity_days, metric, slice_column, slice_value, value - 0.01, low - 0.02, high,
       labelled_rows, feedback_rows, r.row_count, final, labels_from, label_digest, as_of, computed_at
FROM ponte.live_window w JOIN b ON b.model = w.model AND b.start = w.window_start AND try = tries JOIN ponte.realised r ON r.batch_id = b.id;
INSERT INTO ponte.live_unscored (request_id, model, source, why, kind, model_version, asked_at)
SELECT md5(id || ' ' || g)::uuid, model, CASE WHEN g % 3 = 0 THEN 'queue' ELSE 'api' END, :long || 'no number', 'ValueError', version, start + interval '1 day'
FROM b CROSS JOIN generate_series(1, 12) AS g WHERE kind = 'live' AND try = tries AND wn % 3 = 0;
INSERT INTO ponte.live_dropped (flush_id, model, source, rows, from_at, to_at)
SELECT md5('flush ' || id)::uuid, model, 'api', 1200, start + interval '1 day', start + interval '1 day'
FROM b WHERE kind = 'live' AND try = tries AND wn % 5 = 0;
INSERT INTO ponte.queue (model, open) SELECT model, true FROM m WHERE kind = 'live';
INSERT INTO ponte.request (request_id, model, features, priority, arrived_at, rank)
SELECT md5('request ' || n || ' ' || g)::uuid, model, '{"f1": 1}', g % 2, now() - make_interval(secs => g), g
FROM m CROSS JOIN generate_series(1, 1500) AS g WHERE kind = 'live';
INSERT INTO ponte.stream_progress (worker, model, seconds, answered, failed, why)
SELECT 'one', model, 60, 600, 0, CASE WHEN :hostile THEN :long || 'no' END FROM m WHERE kind = 'live';
INSERT INTO ponte.duel_batch (batch_id, event_id, model, window_start, version, own_rows, status, row_count, unscored_rows, compared_rows, differing_rows, score_difference)
SELECT b.id, v.id + 500, b.model, b.start, v.version, false, 'scored', b.rows, 0, b.rows, b.rows / 20, 0.01
FROM b JOIN v ON v.mn = b.mn AND v.waits WHERE b.kind = 'challenger' AND b.wn >= v.wn AND b.status = 'staged' AND b.try = b.tries;

-- ---------------------------------------------------------------- numbers

-- What was made with numbers of its own goes on after them.
SELECT setval(pg_get_serial_sequence(c.table_schema || '.' || c.table_name, c.column_name), 10000000)
FROM information_schema.columns c WHERE c.table_schema = 'ponte' AND c.is_identity = 'YES'
    AND c.data_type = 'bigint' AND c.table_name IN ('snapshot', 'gate_verdict', 'alias_event', 'batch', 'rollback', 'publication_event');

-- Who may do what in the database `ponte`. Run by its owner after the migrations, each time whole: in the schema `ponte`
-- what is not granted here is not granted. Batches and predictions belong to the scorer, snapshots to the trainer, the
-- rest to the owner.

-- ---------------------------------------------------------------- nothing, to begin with

DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM ponte_trainer, ponte_scorer, ponte_promoter, ponte_monitor, '
                   'ponte_api, ponte_stream, ponte_viewer, ponte_analyst, ponte_enqueuer', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO ponte_trainer, ponte_scorer, ponte_promoter, ponte_monitor, '
                   'ponte_api, ponte_stream, ponte_viewer, ponte_analyst, ponte_enqueuer', current_database());
    -- The rows that a check sets aside are found in a temporary table.
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO ponte_trainer, ponte_scorer', current_database());
END $$;
REVOKE ALL ON SCHEMA ponte, ponte_data, predictions
    FROM PUBLIC, ponte_trainer, ponte_scorer, ponte_promoter, ponte_monitor, ponte_api, ponte_stream,
         ponte_viewer, ponte_analyst, ponte_enqueuer;
REVOKE ALL ON ALL TABLES IN SCHEMA ponte
    FROM PUBLIC, ponte_trainer, ponte_scorer, ponte_promoter, ponte_monitor, ponte_api, ponte_stream,
         ponte_viewer, ponte_analyst, ponte_enqueuer;
REVOKE ALL ON ALL ROUTINES IN SCHEMA ponte
    FROM PUBLIC, ponte_trainer, ponte_scorer, ponte_promoter, ponte_monitor, ponte_api, ponte_stream,
         ponte_viewer, ponte_analyst, ponte_enqueuer;

-- ---------------------------------------------------------------- registry and book-keeping

GRANT USAGE ON SCHEMA ponte TO ponte_trainer, ponte_scorer, ponte_promoter, ponte_monitor, ponte_viewer, ponte_analyst;
-- A table that is not named in this file can be read by nobody but its owner; a test finds one that was forgotten.
GRANT SELECT ON ponte.alias_event, ponte.approval, ponte.batch, ponte.batch_profile, ponte.check_result, ponte.claim,
    ponte.gate_verdict, ponte.guard_override, ponte.guard_result, ponte.imported_file, ponte.metric,
    ponte.publication_event, ponte.published, ponte.receipt, ponte.retention_event, ponte.rollback, ponte.schema_version,
    ponte.shard, ponte.snapshot, ponte.version, ponte.version_mark,
    ponte.batch_overview, ponte.champion, ponte.gate_rule, ponte.version_overview
    TO ponte_trainer, ponte_scorer, ponte_promoter, ponte_monitor, ponte_viewer;
-- The rows that were set aside are rows of a source. The scorer needs them, to find out what became of each.
GRANT SELECT ON ponte.quarantine TO ponte_scorer;
GRANT SELECT (quarantine_id, batch_id, snapshot_id, shard, key, closed_at, closed_by, resolution) ON ponte.quarantine
    TO ponte_trainer, ponte_promoter, ponte_monitor, ponte_viewer;
GRANT SELECT ON ponte.batch_overview, ponte.champion, ponte.gate_rule, ponte.version_overview TO ponte_analyst;

GRANT EXECUTE ON FUNCTION ponte.is_bad(text, integer), ponte.champion_at(text, timestamptz),
    ponte.published_at(text, timestamptz)
    TO ponte_trainer, ponte_scorer, ponte_promoter, ponte_monitor, ponte_viewer, ponte_analyst;

-- Not the SQL: that of a version in use is run as the scorer.
GRANT INSERT, UPDATE (status, why, windows, frozen_table, columns, row_count, feature_rows, no_label_rows, null_label_rows,
    late_label_rows, set_aside_rows, path, sha256, byte_count, champion_table, champion_rows, champion_why, champion_path,
    champion_sha256, champion_byte_count) ON ponte.snapshot TO ponte_trainer;
GRANT INSERT ON ponte.version, ponte.imported_file, ponte.quarantine, ponte.receipt TO ponte_trainer;
GRANT INSERT, DELETE ON ponte.check_result, ponte.metric TO ponte_trainer;

GRANT INSERT, UPDATE ON ponte.claim, ponte.batch TO ponte_scorer;
GRANT INSERT ON ponte.shard, ponte.batch_profile, ponte.guard_result, ponte.publication_event, ponte.retention_event,
    ponte.receipt TO ponte_scorer;
GRANT INSERT, DELETE ON ponte.check_result TO ponte_scorer;
GRANT INSERT, UPDATE (closed_at, closed_by, resolution) ON ponte.quarantine TO ponte_scorer;
GRANT INSERT, UPDATE, DELETE ON ponte.published TO ponte_scorer;

GRANT INSERT ON ponte.gate_verdict, ponte.approval, ponte.alias_event, ponte.version_mark, ponte.rollback,
    ponte.guard_override, ponte.publication_event, ponte.receipt TO ponte_promoter;
GRANT INSERT, UPDATE ON ponte.claim, ponte.published TO ponte_promoter;
GRANT UPDATE (status, why, stopped_in) ON ponte.batch TO ponte_promoter;
GRANT UPDATE (closed_at, closed_by, resolution) ON ponte.quarantine TO ponte_promoter;

-- ---------------------------------------------------------------- monitoring

-- Content (labels, slices, comments, values of references) only to the role of the step that needs it.
GRANT INSERT ON ponte.receipt TO ponte_monitor;

-- Alarms and notices. They hold no content of rows. Who reports writes the notice in its own transaction.
GRANT SELECT ON ponte.alarm_event, ponte.alarm TO ponte_trainer, ponte_scorer, ponte_promoter, ponte_monitor, ponte_viewer;
GRANT SELECT ON ponte.alarm TO ponte_analyst;
GRANT INSERT ON ponte.alarm_event TO ponte_promoter, ponte_monitor;
GRANT SELECT ON ponte.notice, ponte.notice_overview TO ponte_trainer, ponte_scorer, ponte_promoter, ponte_monitor, ponte_viewer;
GRANT INSERT ON ponte.notice TO ponte_trainer, ponte_scorer, ponte_promoter, ponte_monitor;
GRANT SELECT ON ponte.notice_sent TO ponte_promoter, ponte_monitor, ponte_viewer;
GRANT INSERT ON ponte.notice_sent TO ponte_monitor;
GRANT SELECT ON ponte.estimate TO ponte_monitor;

-- Feedback and cost. The view shows keys, labels and words to the person who gave them. Corrections become labels of the
-- monitor's; nobody needs the comments but people whom the owner lets read the table.
GRANT SELECT ON ponte.feedback, ponte.cost, ponte.energy_setting
    TO ponte_trainer, ponte_scorer, ponte_promoter, ponte_monitor, ponte_viewer, ponte_analyst;
GRANT SELECT (feedback_id, model, window_start, batch_id, key, verdict, prediction, correct_label, given_by, at)
    ON ponte.feedback_given TO ponte_monitor;
GRANT EXECUTE ON FUNCTION ponte.give_feedback(text, date, jsonb, text, text, text) TO ponte_analyst;

-- Labels and quality.
GRANT SELECT, INSERT ON ponte.label_read, ponte.label_seen, ponte.realised TO ponte_monitor;
GRANT SELECT ON ponte.label_read, ponte.realised TO ponte_promoter, ponte_viewer;
GRANT EXECUTE ON FUNCTION ponte.labels_at(bigint, timestamptz, boolean) TO ponte_monitor;
GRANT EXECUTE ON FUNCTION ponte.quality_at(text, timestamptz) TO ponte_promoter, ponte_monitor, ponte_viewer;
GRANT SELECT ON ponte.quality TO ponte_promoter, ponte_monitor, ponte_viewer, ponte_analyst;  -- without slice_value

-- Drift: names of columns and figures only, so everybody may read it. Batches are judged when they were published, or
-- later by the monitor. A person's "new normal" is the promoter's to write.
GRANT SELECT ON ponte.drift_verdict, ponte.drift_verdict_column, ponte.normal_event, ponte.drift, ponte.drift_column
    TO ponte_trainer, ponte_scorer, ponte_promoter, ponte_monitor, ponte_viewer;
GRANT SELECT ON ponte.drift, ponte.drift_column TO ponte_analyst;

-- All of it in one look: no content of rows. What a check observed is one.
GRANT SELECT (result_id, batch_id, snapshot_id, position, expectation, arguments, on_failure, outcome, element_count,
    unexpected_count, at) ON ponte.check_result TO ponte_analyst;
GRANT SELECT ON ponte.window_overview, ponte.change, ponte.lineage TO ponte_promoter, ponte_monitor, ponte_viewer, ponte_analyst;
GRANT EXECUTE ON FUNCTION ponte.what_changed(text, timestamptz) TO ponte_promoter, ponte_monitor, ponte_viewer, ponte_analyst;
GRANT INSERT ON ponte.drift_verdict, ponte.drift_verdict_column TO ponte_scorer, ponte_monitor;
GRANT INSERT ON ponte.normal_event TO ponte_promoter;
GRANT SELECT ON ponte.reference_count, ponte.batch_count TO ponte_monitor;

-- Counting: bins and counts come with a version, those of a batch with its shards.
GRANT INSERT ON ponte.reference_column, ponte.reference_count TO ponte_trainer;
GRANT SELECT ON ponte.reference_column, ponte.reference_count, ponte.batch_count TO ponte_scorer;
GRANT INSERT ON ponte.batch_count TO ponte_scorer;
-- "values" are content of rows.
GRANT SELECT (model, version, family, position, column_name, kind, edges) ON ponte.reference_column TO ponte_viewer;
GRANT SELECT (model, version, family, part, window_start, column_name, counts) ON ponte.reference_count TO ponte_viewer;
GRANT SELECT (batch_id, shard, family, column_name, counts) ON ponte.batch_count TO ponte_viewer;

-- Estimates: sums of numbers, no content of rows.
GRANT SELECT, INSERT ON ponte.estimate_sum, ponte.estimate TO ponte_scorer;
GRANT SELECT ON ponte.estimate, ponte.estimated_quality TO ponte_viewer;
GRANT SELECT ON ponte.estimated_quality TO ponte_analyst;

-- Duels: figures and names of tables. What a challenger predicts lies in ponte_data, where only the monitor is let in.
GRANT SELECT ON ponte.duel_batch TO ponte_scorer, ponte_promoter, ponte_monitor, ponte_viewer;
GRANT INSERT, UPDATE ON ponte.duel_batch TO ponte_scorer;
GRANT SELECT ON ponte.duel_figure, ponte.duel_look TO ponte_promoter, ponte_monitor, ponte_viewer;
GRANT INSERT ON ponte.duel_figure, ponte.duel_look TO ponte_monitor;
GRANT SELECT ON ponte.challenger TO ponte_trainer, ponte_scorer, ponte_promoter, ponte_monitor, ponte_viewer, ponte_analyst;
GRANT SELECT ON ponte.duel TO ponte_promoter, ponte_monitor, ponte_viewer;

-- ---------------------------------------------------------------- rows of batches, and what people read

GRANT USAGE, CREATE ON SCHEMA ponte_data TO ponte_trainer, ponte_scorer;
GRANT USAGE ON SCHEMA ponte_data TO ponte_promoter, ponte_monitor;
-- The monitor makes predictions.<model>_outcomes, which is its own: nobody reads it whom an operator does not let.
GRANT USAGE, CREATE ON SCHEMA predictions TO ponte_scorer, ponte_monitor;
GRANT USAGE ON SCHEMA predictions TO ponte_analyst;

-- Tables and views of before there were roles: all were the owner's.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT c.oid::regclass AS name, w.role
        FROM pg_class c CROSS JOIN LATERAL (
            SELECT CASE WHEN c.relnamespace = 'ponte_data'::regnamespace
                             AND c.relname IN (SELECT unnest(ARRAY[frozen_table, champion_table]) FROM ponte.snapshot) THEN 'ponte_trainer'
                        ELSE 'ponte_scorer' END AS role
        ) w
        WHERE c.relnamespace IN ('ponte_data'::regnamespace, 'predictions'::regnamespace)
          AND c.relkind IN ('r', 'p', 'v') AND c.relowner = (SELECT datdba FROM pg_database WHERE datname = current_database())
          -- Those of live rows stay the owner's, who made them for roles that may only write rows.
          AND NOT EXISTS (SELECT FROM ponte.version v WHERE c.relname = v.model || '_live'
                          OR c.relname ~ ('^live_' || v.model || '(__([0-9]{4}_[0-9]{2}|default))?$'))
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %I', found.name, found.role);
    END LOOP;
END $$;

ALTER DEFAULT PRIVILEGES FOR ROLE ponte_scorer IN SCHEMA predictions GRANT SELECT ON TABLES TO ponte_analyst, ponte_monitor;
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT c.oid::regclass AS name, reader AS role
        FROM pg_class c CROSS JOIN unnest(ARRAY['ponte_analyst', 'ponte_monitor']) AS reader
        WHERE c.relnamespace = 'predictions'::regnamespace AND c.relkind = 'v' AND c.relowner = 'ponte_scorer'::regrole
        UNION ALL
        -- As in create_prediction_table: the promoter counts the predictions that it shows, the monitor compares them
        -- with what came true, and neither reads a frozen row.
        SELECT c.oid::regclass, reader
        FROM pg_class c CROSS JOIN unnest(ARRAY['ponte_promoter', 'ponte_monitor']) AS reader
        WHERE c.relnamespace = 'ponte_data'::regnamespace AND c.relkind = 'r' AND c.relowner = 'ponte_scorer'::regrole
          AND c.relname IN (SELECT prediction_table FROM ponte.batch)
    LOOP
        IF NOT has_table_privilege(found.role, found.name, 'SELECT') THEN
            EXECUTE format('GRANT SELECT ON %s TO %I', found.name, found.role);
        END IF;
    END LOOP;
END $$;

-- ---------------------------------------------------------------- answers one by one

-- Which version answers, what a form shows of its reference (values that few rows had are not kept), and the bins by
-- which both count. Neither reads a batch, a label, a source, or what was frozen of one.
GRANT USAGE ON SCHEMA ponte TO ponte_api, ponte_stream, ponte_enqueuer;
GRANT SELECT ON ponte.alias_event, ponte.champion, ponte.reference_column, ponte.schema_version, ponte.version
    TO ponte_api, ponte_stream;
GRANT EXECUTE ON FUNCTION ponte.is_bad(text, integer), ponte.champion_at(text, timestamptz) TO ponte_api, ponte_stream;

-- ---------------------------------------------------------------- 0022: live rows

-- Who answers writes rows and reads none: a process that faces a network can be told to say what it can read.
GRANT USAGE ON SCHEMA ponte_data TO ponte_api, ponte_stream;
GRANT EXECUTE ON FUNCTION ponte.prepare_live(text) TO ponte_api, ponte_stream, ponte_scorer, ponte_monitor;
GRANT EXECUTE ON FUNCTION ponte.retire_live(text, integer) TO ponte_monitor;
GRANT EXECUTE ON FUNCTION ponte.give_live_feedback(uuid, text, text, text, text) TO ponte_api;
GRANT INSERT ON ponte.live_dropped, ponte.live_unscored TO ponte_api, ponte_stream, ponte_scorer;
GRANT SELECT ON ponte.live_dropped, ponte.live_retired TO ponte_promoter, ponte_monitor, ponte_viewer, ponte_analyst;
GRANT SELECT (request_id, model, source, kind, model_version, asked_at, at) ON ponte.live_unscored
    TO ponte_monitor, ponte_viewer, ponte_analyst;
-- Corrections are labels of the monitor's; nobody needs the comments.
GRANT SELECT (feedback_id, request_id, asked_at, model, model_version, verdict, prediction, correct_label, given_by, at)
    ON ponte.live_feedback TO ponte_monitor;
-- As prepare_live grants them, in a database that was restored without its rights.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT c.oid::regclass AS name, c.relkind, c.relname ~ '__default$' AS default_part
        FROM pg_class c JOIN (SELECT DISTINCT model FROM ponte.version) v
            ON c.relnamespace = 'ponte_data'::regnamespace AND c.relname IN ('live_' || v.model, 'live_' || v.model || '__default')
            OR c.relnamespace = 'predictions'::regnamespace AND c.relname = v.model || '_live'
        WHERE c.relowner = (SELECT datdba FROM pg_database WHERE datname = current_database())
    LOOP
        EXECUTE format('GRANT SELECT ON %s TO ponte_monitor', found.name);
        IF found.relkind = 'v' THEN
            EXECUTE format('GRANT SELECT ON %s TO ponte_analyst', found.name);
        ELSIF NOT found.default_part THEN
            EXECUTE format('GRANT INSERT ON %s TO ponte_api, ponte_stream, ponte_scorer', found.name);
        END IF;
    END LOOP;
END $$;

-- ---------------------------------------------------------------- keys of the API (revision 0023)

GRANT SELECT ON ponte.api_key, ponte.api_key_revoked, ponte.version_mark TO ponte_api;

-- ---------------------------------------------------------------- the web form

-- Counts, to say what is usual, and what training has never seen empty; without the digests of single values.
GRANT SELECT (model, version, family, column_name, counts) ON ponte.reference_count TO ponte_api;

-- ---------------------------------------------------------------- 0024: the queue

-- Who fills it reads nothing of it but what became of a request whose id he has. Who works it reads what waits and puts
-- answers where it cannot read them again.
GRANT EXECUTE ON FUNCTION ponte.enqueue(text, jsonb, jsonb, integer), ponte.request_state(uuid) TO ponte_enqueuer;
GRANT INSERT ON ponte.queue_in TO ponte_enqueuer;
-- RETURNING reads the view, which shows nothing.
GRANT SELECT ON ponte.queue_in TO ponte_enqueuer;
-- FOR UPDATE asks for the right to change a column.
GRANT SELECT, DELETE, UPDATE (rank) ON ponte.request TO ponte_stream;
GRANT SELECT, INSERT, DELETE ON ponte.stream_take, ponte.stream_progress TO ponte_stream;
GRANT SELECT, INSERT (model, open), UPDATE (open, changed_at, seen_at) ON ponte.queue TO ponte_stream;
GRANT SELECT ON ponte.version_mark TO ponte_stream;
GRANT SELECT ON ponte.queue_overview TO ponte_trainer, ponte_scorer, ponte_promoter, ponte_monitor, ponte_api, ponte_stream,
    ponte_viewer, ponte_analyst, ponte_enqueuer;
GRANT SELECT ON ponte.queue, ponte.stream_progress TO ponte_promoter, ponte_monitor, ponte_viewer;

-- ---------------------------------------------------------------- 0025: live rows counted, judged and measured

-- Who answers adds counts, and reads none. The monitor folds them, and reads which place in a row of counts is which
-- column's, without its values.
GRANT INSERT ON ponte.live_count TO ponte_api, ponte_stream, ponte_scorer;
-- A worker adds to the row of its minute.
GRANT SELECT, UPDATE ON ponte.live_count TO ponte_stream;
GRANT SELECT, DELETE ON ponte.live_count TO ponte_monitor;
GRANT SELECT (model, version, family, position, column_name) ON ponte.reference_column TO ponte_monitor;
GRANT INSERT, UPDATE ON ponte.live_window, ponte.live_window_count TO ponte_monitor;
GRANT INSERT ON ponte.live_drift_verdict, ponte.live_drift_verdict_column, ponte.live_label_read, ponte.live_label_seen,
    ponte.live_realised TO ponte_monitor;
-- Names of columns and figures; labels are content of a source.
GRANT SELECT ON ponte.live_window, ponte.live_drift, ponte.live_drift_column
    TO ponte_promoter, ponte_monitor, ponte_viewer, ponte_analyst;
GRANT SELECT ON ponte.live_window_count, ponte.live_drift_verdict, ponte.live_drift_verdict_column, ponte.live_label_read,
    ponte.live_realised, ponte.live_quality TO ponte_monitor, ponte_viewer;
GRANT SELECT ON ponte.live_label_seen TO ponte_monitor;
GRANT SELECT (model, window_start, window_end, version, maturity_days, metric, slice_column, value, low, high, labelled_rows,
    feedback_rows, other_rows, row_count, coverage, final, corrections, labels_from, as_of, computed_at)
    ON ponte.live_quality TO ponte_analyst;
-- How many rows were answered since the monitor folded them last.
GRANT SELECT (model, version, window_start, window_end, row_count) ON ponte.live_count TO ponte_viewer;

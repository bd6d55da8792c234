-- Ponte, revision 0006: a run that is made again under the id of a deleted one is another run.

-- Until now the id was the key, with #n after the n-th clearing; rows of then keep both. USING and no UPDATE: nothing may
-- be updated in tables of history.

ALTER TABLE ponte.snapshot ADD COLUMN run_key text;
ALTER TABLE ponte.snapshot
    ALTER COLUMN run_key TYPE text USING run_id,
    ALTER COLUMN run_key SET NOT NULL,
    DROP CONSTRAINT snapshot_model_run_id_key,
    ADD UNIQUE (model, run_key);
COMMENT ON COLUMN ponte.snapshot.run_id IS 'Airflow run that built it, by its id.';
COMMENT ON COLUMN ponte.snapshot.run_key IS 'Run id, start date and clear number: a retry of the run finds this row again; a run that was cleared, or deleted and made again, does not. In rows of before this column the run id.';

ALTER TABLE ponte.gate_verdict ADD COLUMN run_key text;
ALTER TABLE ponte.gate_verdict
    ALTER COLUMN run_key TYPE text USING run_id,
    ALTER COLUMN run_key SET NOT NULL,
    DROP CONSTRAINT gate_verdict_model_version_run_id_key,
    ADD UNIQUE (model, version, run_key);
COMMENT ON COLUMN ponte.gate_verdict.run_id IS 'Airflow run that asked, by its id.';
COMMENT ON COLUMN ponte.gate_verdict.run_key IS 'Run id, start date and clear number: a retry of the run finds this verdict again; a run that was cleared, or deleted and made again, does not. In rows of before this column the run id.';

ALTER TABLE ponte.approval ADD COLUMN run_key text;
ALTER TABLE ponte.approval
    ALTER COLUMN run_key TYPE text USING run_id,
    ALTER COLUMN run_key SET NOT NULL,
    DROP CONSTRAINT approval_verdict_id_run_id_answered_at_key,
    ADD UNIQUE (verdict_id, run_key, answered_at);
COMMENT ON COLUMN ponte.approval.run_id IS 'Airflow run that asked, by its id.';
COMMENT ON COLUMN ponte.approval.run_key IS 'Run id, start date and clear number: a retry of the run finds this answer again; a run that was cleared, or deleted and made again, does not. In rows of before this column the run id.';

ALTER TABLE ponte.version_mark ADD COLUMN run_key text;
ALTER TABLE ponte.version_mark
    ALTER COLUMN run_key TYPE text USING run_id,
    ALTER COLUMN run_key SET NOT NULL,
    DROP CONSTRAINT version_mark_model_version_mark_run_id_key,
    ADD UNIQUE (model, version, mark, run_key);
COMMENT ON COLUMN ponte.version_mark.run_id IS 'Airflow run that set it, by its id.';
COMMENT ON COLUMN ponte.version_mark.run_key IS 'Run id, start date and clear number: a retry of the run finds this mark again; a run that was cleared, or deleted and made again, does not. In rows of before this column the run id.';

ALTER TABLE ponte.rollback ADD COLUMN run_key text;
ALTER TABLE ponte.rollback
    ALTER COLUMN run_key TYPE text USING run_id,
    ALTER COLUMN run_key SET NOT NULL,
    DROP CONSTRAINT rollback_model_run_id_key,
    ADD UNIQUE (model, run_key);
COMMENT ON COLUMN ponte.rollback.run_id IS 'Airflow run, by its id.';
COMMENT ON COLUMN ponte.rollback.run_key IS 'Run id, start date and clear number: a retry of the run finds this row again; a run that was cleared, or deleted and made again, does not. In rows of before this column the run id.';

ALTER TABLE ponte.batch ADD COLUMN run_key text;
ALTER TABLE ponte.batch
    ALTER COLUMN run_key TYPE text USING run_id,
    ALTER COLUMN run_key SET NOT NULL,
    DROP CONSTRAINT batch_model_window_start_run_id_key,
    ADD UNIQUE (model, window_start, run_key);
COMMENT ON COLUMN ponte.batch.run_id IS 'Airflow run, by its id.';
COMMENT ON COLUMN ponte.batch.run_key IS 'Run id, start date and clear number: a retry of the run finds this row again; a run that was cleared, or deleted and made again, does not. In rows of before this column the run id.';

COMMENT ON COLUMN ponte.alias_event.evidence IS 'Ids of the verdict and whatever else supported the move; of a move by hand also the key of its run.';

-- Ponte, revision 0004: what several database roles need. Who may do what is in grants.sql beside roles.py.

-- A scoring run makes the partitioned table of a new model. It shall not have to create anything in the schema of the
-- registry.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT relname FROM pg_class
        WHERE relnamespace = 'ponte'::regnamespace AND relkind = 'p' AND relname LIKE 'prediction\_%'
    LOOP
        EXECUTE format('ALTER TABLE ponte.%I SET SCHEMA ponte_data', found.relname);
    END LOOP;
END $$;

-- A view reads with the rights of its owner, a function that it calls with those of the reader, unless it says so.
ALTER FUNCTION ponte.is_bad(text, integer) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION ponte.champion_at(text, timestamptz) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION ponte.published_at(text, timestamptz) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- What a version was trained on, and the SQL that it is scored with, stand for good once they are written.
CREATE TRIGGER written_is_final BEFORE UPDATE ON ponte.snapshot
    FOR EACH ROW WHEN (OLD.status = 'written') EXECUTE FUNCTION ponte.refuse_change();

-- Evidence about training sets is the trainer's, evidence about batches the scorer's, in the same tables. Who could set
-- a row of another's batch aside could keep it from being published for good.
CREATE FUNCTION ponte.refuse_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'permission denied for this row of ponte.%: % of %', TG_TABLE_NAME, TG_OP, current_user
        USING ERRCODE = 'insufficient_privilege';
END $$;
COMMENT ON FUNCTION ponte.refuse_row() IS 'Trigger of tables that several roles write to: each its own rows.';

CREATE TRIGGER own_rows_only BEFORE INSERT ON ponte.quarantine FOR EACH ROW
    WHEN (NEW.batch_id IS NOT NULL AND current_user = 'ponte_trainer'
          OR NEW.snapshot_id IS NOT NULL AND current_user = 'ponte_scorer')
    EXECUTE FUNCTION ponte.refuse_row();
CREATE TRIGGER own_rows_only BEFORE INSERT ON ponte.check_result FOR EACH ROW
    WHEN (NEW.batch_id IS NOT NULL AND current_user = 'ponte_trainer'
          OR NEW.snapshot_id IS NOT NULL AND current_user = 'ponte_scorer')
    EXECUTE FUNCTION ponte.refuse_row();
CREATE TRIGGER others_rows_stay BEFORE DELETE ON ponte.check_result FOR EACH ROW
    WHEN (OLD.batch_id IS NOT NULL AND current_user = 'ponte_trainer'
          OR OLD.snapshot_id IS NOT NULL AND current_user = 'ponte_scorer')
    EXECUTE FUNCTION ponte.refuse_row();

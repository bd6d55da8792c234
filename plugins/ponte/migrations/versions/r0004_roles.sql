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

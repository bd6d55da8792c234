-- Ponte, revision 0010: what analysts read lets no condition of theirs see other rows, and holds no words of others.

-- The views of `ponte` get their security_barrier from schema/views. These are made where their model is scored first.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT c.oid::regclass AS name
        FROM pg_class c
        WHERE c.relnamespace = to_regnamespace('predictions') AND c.relkind = 'v' AND pg_has_role(c.relowner, 'USAGE')
    LOOP
        EXECUTE format('ALTER VIEW %s SET (security_barrier = true)', found.name);
    END LOOP;
END $$;

-- What an estimator said of a row that it could not score: only the class is kept.
UPDATE ponte.batch
SET why = substring(why FROM '^(.*? leaves): too many rows cannot be scored')
    || coalesce(': ' || substring(why FROM E'\n  got: (\\w+): '), '') || ' (its words were withheld by revision 0010)'
WHERE why LIKE 'more rows cannot be scored than [quarantine] budget%leaves: too many rows cannot be scored%'
    -- As it is written since: so many rows of this class.
    AND why !~ E'^[^\\n]* leaves: too many rows cannot be scored\\n  got: [0-9]+ rows: ';

-- What PostgreSQL said of a check that could not be evaluated: it may hold values, in the result and where that is told.
DO $$
DECLARE
    found record;
    said constant text := 'its words were withheld by revision 0010';
BEGIN
    FOR found IN SELECT batch_id, snapshot_id, detail FROM ponte.check_result WHERE outcome = 'error' AND detail <> ''
    LOOP
        UPDATE ponte.batch SET why = replace(why, found.detail, said) WHERE batch_id = found.batch_id;
        UPDATE ponte.snapshot SET why = replace(why, found.detail, said)
        WHERE snapshot_id = found.snapshot_id AND strpos(why, found.detail) > 0;
    END LOOP;
    UPDATE ponte.check_result SET detail = said WHERE outcome = 'error' AND detail <> '';
END $$;

COMMENT ON COLUMN ponte.check_result.detail IS 'For a check of the key the SQL that finds the rows; for one that could not be evaluated what kept it from that, without values of rows; else NULL.';

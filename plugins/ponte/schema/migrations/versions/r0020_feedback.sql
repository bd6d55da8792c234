-- Ponte, revision 0020: what people say of predictions, and what windows cost.

-- ---------------------------------------------------------------- feedback

-- No foreign key: it would lock the row of the batch until the transaction of the person ends.
CREATE TABLE ponte.feedback_given (
    feedback_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model         text NOT NULL,
    window_start  date NOT NULL,
    batch_id      bigint NOT NULL,
    key           jsonb CHECK (octet_length(key::text) <= 10000),
    verdict       text NOT NULL CHECK (verdict IN ('right', 'wrong', 'withdrawn')),
    prediction    text,
    correct_label text CHECK (length(correct_label) <= 1000),
    comment       text CHECK (length(comment) <= 4000),
    given_by      text NOT NULL DEFAULT session_user,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((key IS NULL) = (prediction IS NULL)),
    CHECK (correct_label IS NULL OR verdict = 'wrong' AND key IS NOT NULL)
);
CREATE INDEX feedback_given_of_window ON ponte.feedback_given (model, window_start);
CREATE INDEX feedback_given_of_person ON ponte.feedback_given (given_by, at);
COMMENT ON TABLE ponte.feedback_given IS 'What people say of predictions, each time as it was said. Keys, labels and comments are content of rows: people read ponte.feedback. Append-only.';
COMMENT ON COLUMN ponte.feedback_given.feedback_id IS 'Number of the feedback.';
COMMENT ON COLUMN ponte.feedback_given.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.feedback_given.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.feedback_given.batch_id IS 'The batch that people saw for the window at that moment.';
COMMENT ON COLUMN ponte.feedback_given.key IS 'Key of the row; NULL when the whole batch is meant.';
COMMENT ON COLUMN ponte.feedback_given.verdict IS 'right, wrong, or withdrawn: what the person said of the same row or batch before counts no more.';
COMMENT ON COLUMN ponte.feedback_given.prediction IS 'The prediction that it is said of, as text; NULL for a whole batch.';
COMMENT ON COLUMN ponte.feedback_given.correct_label IS 'What would have been right, as text of the type of the label; NULL when the person did not say.';
COMMENT ON COLUMN ponte.feedback_given.comment IS 'In the words of the person; NULL for none.';
COMMENT ON COLUMN ponte.feedback_given.given_by IS 'Login of the person.';
COMMENT ON COLUMN ponte.feedback_given.at IS 'When it was said.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.feedback_given
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

-- Works with the rights of the owner, for people who may write nothing else. So nothing that a caller gives is ever part
-- of a statement: names come from the registry and are quoted, values are bound.
CREATE FUNCTION ponte.give_feedback(model text, window_start date, key jsonb, verdict text,
    correct_label text DEFAULT NULL, comment text DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off SET TimeZone = 'UTC' SET DateStyle = 'ISO' SET extra_float_digits = 1
AS $$
DECLARE
    most_a_day CONSTANT integer := 10000;
    types CONSTANT jsonb := '{"integer": "bigint", "number": "double precision", "boolean": "boolean", "text": "text",
                              "date": "date", "timestamp": "timestamp with time zone"}';
    got text;
    expected text;
    hint text;
    known boolean;
    shown record;      -- the batch that people see, and its version
    key_names text[];
    label_type text;
    prediction text;
    found_key jsonb;
    said text;
    given_id bigint;
BEGIN
    -- What is said, without a look at any table.
    IF give_feedback.verdict IS NULL OR give_feedback.verdict NOT IN ('right', 'wrong', 'withdrawn') THEN
        RAISE EXCEPTION 'unknown verdict: got %, expected right, wrong or withdrawn',
            quote_nullable(left(give_feedback.verdict, 60))
            USING ERRCODE = 'invalid_parameter_value', HINT = CASE
                WHEN lower(btrim(give_feedback.verdict)) IN ('right', 'wrong', 'withdrawn')
                THEN format('Did you mean %L?', lower(btrim(give_feedback.verdict)))
                ELSE 'withdrawn takes back what you said of the same row or batch before.' END;
    END IF;
    give_feedback.comment := nullif(btrim(give_feedback.comment), '');
    got := CASE WHEN length(give_feedback.comment) > 4000 THEN format('a comment of %s characters', length(give_feedback.comment))
                WHEN length(give_feedback.correct_label) > 1000 THEN format('a correct_label of %s characters', length(give_feedback.correct_label))
                WHEN octet_length(give_feedback.key::text) > 10000 THEN format('a key of %s bytes', octet_length(give_feedback.key::text)) END;
    IF got IS NOT NULL THEN
        RAISE EXCEPTION 'feedback is too long: got %, expected at most 4000 characters of comment, 1000 of correct_label, 10000 bytes of key', got
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Nothing was kept. Say it in fewer words.';
    END IF;
    IF give_feedback.correct_label IS NOT NULL AND (give_feedback.verdict <> 'wrong' OR give_feedback.key IS NULL) THEN
        RAISE EXCEPTION 'a correct_label goes with the verdict wrong on one row: got the verdict % on %',
            give_feedback.verdict, CASE WHEN give_feedback.key IS NULL THEN 'a whole batch' ELSE 'a row' END
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave correct_label NULL, or give the key of the row.';
    END IF;

    -- Whose batch is it?
    SELECT b.batch_id, b.prediction_table, v.version, v.task, v.signature, v.classes INTO shown
    FROM ponte.published p JOIN ponte.batch b USING (batch_id)
        JOIN ponte.version v ON v.model = b.model AND v.version = b.version
    WHERE p.model = give_feedback.model AND p.window_start = give_feedback.window_start;
    IF NOT FOUND THEN
        SELECT string_agg(m.model, ', ' ORDER BY m.model) INTO expected
        FROM (SELECT DISTINCT p.model FROM ponte.published p ORDER BY 1 LIMIT 20) m;
        IF NOT EXISTS (SELECT FROM ponte.published p WHERE p.model = give_feedback.model) THEN
            SELECT format('Did you mean %L?', m.model) INTO hint FROM (SELECT DISTINCT p.model FROM ponte.published p) m
            WHERE replace(lower(m.model), '-', '_') = replace(lower(btrim(give_feedback.model)), '-', '_')
                OR lower(btrim(give_feedback.model)) IN ('predictions.' || m.model, m.model || '_latest', 'predictions.' || m.model || '_latest');
            RAISE EXCEPTION 'no model % has predictions that people see: expected one of: %',
                quote_nullable(left(give_feedback.model, 80)), coalesce(expected, '(there are none)')
                USING ERRCODE = 'invalid_parameter_value', HINT = coalesce(hint, 'The first argument is the name after "predictions.".');
        END IF;
        SELECT string_agg(w.window_start::text, ', ') INTO expected
        FROM (SELECT p.window_start FROM ponte.published p WHERE p.model = give_feedback.model ORDER BY 1 DESC LIMIT 5) w;
        SELECT format('Did you mean %L, the window that holds that day?', b.window_start::text) INTO hint
        FROM ponte.published p JOIN ponte.batch b USING (batch_id)
        WHERE p.model = give_feedback.model AND give_feedback.window_start >= b.window_start
            AND give_feedback.window_start < b.window_end
        ORDER BY b.window_start DESC LIMIT 1;
        RAISE EXCEPTION 'people see no window % of the model %: expected one of (the newest five): %',
            coalesce(give_feedback.window_start::text, 'NULL'), give_feedback.model, expected
            USING ERRCODE = 'invalid_parameter_value', HINT = coalesce(hint, 'A window is named by its first day.');
    END IF;

    -- Which row is it?
    IF give_feedback.key IS NOT NULL THEN
        SELECT array_agg(c->>'name' ORDER BY n) INTO key_names
        FROM jsonb_array_elements(shown.signature->'key') WITH ORDINALITY AS k (c, n);
        expected := (SELECT string_agg(format('"%s": %s', c->>'name', types->>(c->>'family')), ', ' ORDER BY n)
                     FROM jsonb_array_elements(shown.signature->'key') WITH ORDINALITY AS k (c, n));
        IF jsonb_typeof(give_feedback.key) <> 'object'
            OR (SELECT count(*) FROM jsonb_object_keys(give_feedback.key)) <> cardinality(key_names)
            OR NOT give_feedback.key ?& key_names
            OR EXISTS (SELECT FROM jsonb_each(give_feedback.key) e WHERE jsonb_typeof(e.value) NOT IN ('string', 'number')) THEN
            RAISE EXCEPTION 'the key is not that of the model %: got %, expected {%}', give_feedback.model,
                left(give_feedback.key::text, 200), expected
                USING ERRCODE = 'invalid_parameter_value', HINT = 'Give every column of the key, and no other; NULL instead of a key means the whole batch.';
        END IF;
        BEGIN
            EXECUTE format('LOCK TABLE ONLY ponte_data.%I IN ACCESS SHARE MODE', shown.prediction_table);
            -- Another role's: a view of that name would run with the rights of the owner.
            IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'ponte_data'::regnamespace
                           AND relname = shown.prediction_table AND relkind = 'r') THEN
                RAISE EXCEPTION 'the predictions of batch % are no table', shown.batch_id;
            END IF;
            EXECUTE format('SELECT t.prediction::text, jsonb_build_object(%s) FROM ONLY ponte_data.%I t WHERE t.batch_id = $1 AND %s',
                (SELECT string_agg(format('%L, t.%I', name, name), ', ') FROM unnest(key_names) AS name),
                shown.prediction_table,
                (SELECT string_agg(format('t.%I = CAST($2->>%L AS %s)', c->>'name', c->>'name', types->>(c->>'family')), ' AND ')
                 FROM jsonb_array_elements(shown.signature->'key') AS c))
                INTO prediction, found_key USING shown.batch_id, give_feedback.key;
        EXCEPTION WHEN undefined_table THEN
            RAISE EXCEPTION 'the predictions of the window % are just being replaced', give_feedback.window_start
                USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Try again.';
        WHEN data_exception THEN
            RAISE EXCEPTION 'the key has a value of another type: got %, expected {%}', left(give_feedback.key::text, 200), expected
                USING ERRCODE = 'invalid_parameter_value', HINT = 'Give the values as predictions.' || give_feedback.model || ' shows them.';
        END;
        IF prediction IS NULL THEN
            RAISE EXCEPTION 'the window % of the model % has no prediction with the key %', give_feedback.window_start,
                give_feedback.model, left(give_feedback.key::text, 200)
                USING ERRCODE = 'invalid_parameter_value',
                    HINT = format('Look it up: SELECT * FROM predictions.%I WHERE window_start = %L', give_feedback.model, give_feedback.window_start::text);
        END IF;
    END IF;

    -- What would have been right?
    IF give_feedback.correct_label IS NOT NULL THEN
        label_type := CASE WHEN shown.task = 'regression' THEN types->>'number' ELSE types->>(shown.signature->>'label') END;
        SELECT CASE WHEN shown.task <> 'regression' AND shown.classes IS NOT NULL
                    THEN 'one of: ' || (SELECT string_agg(c, ', ') FROM (SELECT left(c, 60) FROM jsonb_array_elements_text(shown.classes) AS c LIMIT 50) AS few (c))
                    ELSE 'a value of the type ' || label_type END INTO expected;
        BEGIN
            EXECUTE format('SELECT CAST(CAST($1 AS %s) AS text), $2 IS NULL OR EXISTS (
                    SELECT FROM jsonb_array_elements_text($2) AS c WHERE CAST(c AS %1$s) = CAST($1 AS %1$s))', label_type)
                INTO said, known USING give_feedback.correct_label, CASE WHEN shown.task <> 'regression' THEN shown.classes END;
        EXCEPTION WHEN data_exception THEN
            said := NULL;
        END;
        IF said IS NULL OR known IS NOT TRUE OR said IN ('NaN', 'Infinity', '-Infinity') AND label_type = 'double precision' THEN
            SELECT format('Did you mean %L?', c) INTO hint FROM jsonb_array_elements_text(coalesce(shown.classes, '[]')) AS c
            WHERE shown.task <> 'regression' AND lower(c) = lower(btrim(give_feedback.correct_label));
            RAISE EXCEPTION 'correct_label is no label of the model %: got %, expected %', give_feedback.model,
                quote_nullable(left(give_feedback.correct_label, 60)), expected
                USING ERRCODE = 'invalid_parameter_value', HINT = coalesce(hint, 'Leave it NULL if none of these is right, and say so in the comment.');
        END IF;
        IF said = prediction THEN
            RAISE EXCEPTION 'correct_label is what was predicted: got %', quote_nullable(left(said, 60))
                USING ERRCODE = 'invalid_parameter_value', HINT = 'Give the verdict right, or another correct_label.';
        END IF;
    END IF;

    -- One call of a person at a time, so that their number can be counted.
    PERFORM pg_advisory_xact_lock(hashtext('ponte.feedback'), hashtext(session_user::text));
    IF (SELECT count(*) FROM ponte.feedback_given g
        WHERE g.given_by = session_user AND g.at > clock_timestamp() - interval '1 day') >= most_a_day THEN
        RAISE EXCEPTION 'too much feedback: % has given % within a day', session_user, most_a_day
            USING ERRCODE = 'program_limit_exceeded', HINT = 'Go on tomorrow. Labels by the thousand belong into the source that labels.sql reads.';
    END IF;
    IF give_feedback.verdict = 'withdrawn' AND coalesce((
        SELECT g.verdict FROM ponte.feedback_given g
        WHERE g.given_by = session_user AND g.model = give_feedback.model AND g.window_start = give_feedback.window_start
            AND g.key IS NOT DISTINCT FROM found_key
        ORDER BY g.feedback_id DESC LIMIT 1), 'withdrawn') = 'withdrawn' THEN
        RAISE EXCEPTION 'there is nothing to take back: % has said nothing of this % that stands', session_user,
            CASE WHEN give_feedback.key IS NULL THEN 'batch' ELSE 'row' END
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Your own feedback: SELECT * FROM ponte.feedback WHERE given_by = session_user';
    END IF;
    INSERT INTO ponte.feedback_given (model, window_start, batch_id, key, verdict, prediction, correct_label, comment)
    VALUES (give_feedback.model, give_feedback.window_start, shown.batch_id, found_key, give_feedback.verdict, prediction,
            said, give_feedback.comment)
    RETURNING feedback_id INTO given_id;
    RETURN given_id;
END $$;
COMMENT ON FUNCTION ponte.give_feedback(text, date, jsonb, text, text, text) IS 'Keep what a person says of a prediction, or with key NULL of a whole batch: right, wrong, or withdrawn. Returns the number of the feedback.';

-- ---------------------------------------------------------------- cost

CREATE TABLE ponte.energy_setting (
    setting_id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    valid_from     timestamptz NOT NULL DEFAULT '-infinity',
    watts_per_core double precision NOT NULL DEFAULT 10 CHECK (watts_per_core >= 0 AND watts_per_core < 'Infinity'),
    watts_per_gb   double precision NOT NULL DEFAULT 0.38 CHECK (watts_per_gb >= 0 AND watts_per_gb < 'Infinity'),
    pue            double precision NOT NULL DEFAULT 1.2 CHECK (pue >= 1 AND pue < 'Infinity'),
    grid_g_per_kwh double precision CHECK (grid_g_per_kwh >= 0 AND grid_g_per_kwh < 'Infinity'),
    set_by         text NOT NULL DEFAULT session_user,
    at             timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ponte.energy_setting IS 'By what ponte.cost estimates energy. Of a step the row with the latest valid_from before its end counts, of equal ones the newest. Append-only; the owner adds rows.';
COMMENT ON COLUMN ponte.energy_setting.setting_id IS 'Number of the row.';
COMMENT ON COLUMN ponte.energy_setting.valid_from IS 'For steps that ended then or later; by default for all.';
COMMENT ON COLUMN ponte.energy_setting.watts_per_core IS 'Watts of a core that is busy; about 1.02 times the thermal design power of the processor, divided by its cores.';
COMMENT ON COLUMN ponte.energy_setting.watts_per_gb IS 'Watts of a gigabyte (10^9 bytes) of memory.';
COMMENT ON COLUMN ponte.energy_setting.pue IS 'Power usage effectiveness: what the building draws for each watt of its machines.';
COMMENT ON COLUMN ponte.energy_setting.grid_g_per_kwh IS 'Grams of CO2 equivalent per kilowatt-hour of the grid; NULL, as by default, when nobody has said: then there is energy only.';
COMMENT ON COLUMN ponte.energy_setting.set_by IS 'Database role that added the row.';
COMMENT ON COLUMN ponte.energy_setting.at IS 'When it was added.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.energy_setting
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();
INSERT INTO ponte.energy_setting DEFAULT VALUES;

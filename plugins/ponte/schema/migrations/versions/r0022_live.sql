-- Ponte, revision 0022: rows that were asked for one by one, over the API, the form and the queue, or from a file.
--
-- Each model has one table, ponte_data.live_<model>, partitioned by month, and the view predictions.<model>_live. Both
-- are the owner's: they are made by prepare_live, so that who writes rows may do nothing but write rows.

-- ---------------------------------------------------------------- what was answered, but not kept or not scored

CREATE TABLE ponte.live_dropped (
    flush_id uuid NOT NULL,
    model    text NOT NULL,
    source   text NOT NULL CHECK (source IN ('api', 'form', 'queue', 'offline')),
    rows     bigint NOT NULL CHECK (rows > 0),
    from_at  timestamptz NOT NULL,
    to_at    timestamptz NOT NULL CHECK (to_at >= from_at),
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (flush_id, model, source)
);
COMMENT ON TABLE ponte.live_dropped IS 'How many rows were answered and not kept: the journal of a process was full, or the database refused them. Append-only.';
COMMENT ON COLUMN ponte.live_dropped.flush_id IS 'The flush of a journal that wrote it.';
COMMENT ON COLUMN ponte.live_dropped.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.live_dropped.source IS 'api, form, queue or offline.';
COMMENT ON COLUMN ponte.live_dropped.rows IS 'Rows that were answered and are in no table.';
COMMENT ON COLUMN ponte.live_dropped.from_at IS 'When the first of them was asked for.';
COMMENT ON COLUMN ponte.live_dropped.to_at IS 'When the last of them was asked for.';
COMMENT ON COLUMN ponte.live_dropped.at IS 'When it was written.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.live_dropped
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

CREATE TABLE ponte.live_unscored (
    request_id    uuid PRIMARY KEY,
    model         text NOT NULL,
    key           jsonb,
    source        text NOT NULL CHECK (source IN ('api', 'form', 'queue', 'offline')),
    why           text NOT NULL,
    kind          text NOT NULL,
    model_version integer,
    asked_at      timestamptz NOT NULL,
    features      jsonb,
    at            timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX live_unscored_of_model ON ponte.live_unscored (model, asked_at);
COMMENT ON TABLE ponte.live_unscored IS 'Requests that got no prediction: the quarantine of live rows. retire_live removes those past keep_days.';
COMMENT ON COLUMN ponte.live_unscored.request_id IS 'Number of the request.';
COMMENT ON COLUMN ponte.live_unscored.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.live_unscored.key IS 'Key of the row; NULL when the request gave none.';
COMMENT ON COLUMN ponte.live_unscored.source IS 'api, form, queue or offline.';
COMMENT ON COLUMN ponte.live_unscored.why IS 'What the estimator or the check said.';
COMMENT ON COLUMN ponte.live_unscored.kind IS 'Class of the error, without content of the row.';
COMMENT ON COLUMN ponte.live_unscored.model_version IS 'Version that was asked; NULL when none was.';
COMMENT ON COLUMN ponte.live_unscored.asked_at IS 'When it was asked for.';
COMMENT ON COLUMN ponte.live_unscored.features IS 'Features of the row, with [serving] log_features, or when the queue gave it up; else NULL.';
COMMENT ON COLUMN ponte.live_unscored.at IS 'When it was written.';
CREATE TRIGGER never_changed BEFORE UPDATE OR TRUNCATE ON ponte.live_unscored
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

CREATE TABLE ponte.live_retired (
    model      text NOT NULL,
    month      date NOT NULL,
    rows       bigint NOT NULL,
    byte_count bigint NOT NULL,
    keep_days  integer NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, month, at)
);
COMMENT ON TABLE ponte.live_retired IS 'Months of live rows that were dropped after [serving] keep_days. Append-only.';
COMMENT ON COLUMN ponte.live_retired.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.live_retired.month IS 'First day of the month, UTC.';
COMMENT ON COLUMN ponte.live_retired.rows IS 'Rows that were dropped.';
COMMENT ON COLUMN ponte.live_retired.byte_count IS 'Bytes that they took.';
COMMENT ON COLUMN ponte.live_retired.keep_days IS 'keep_days at that moment.';
COMMENT ON COLUMN ponte.live_retired.at IS 'When it was done.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.live_retired
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

-- ---------------------------------------------------------------- the table of a model

-- Not granted to anybody: prepare_live calls it with the time that it is.
CREATE FUNCTION ponte.make_live_months(model text, at timestamptz)
RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET DateStyle = 'ISO' SET lock_timeout = '2s'
AS $$
DECLARE
    parent CONSTANT text := 'live_' || make_live_months.model;
    first CONSTANT timestamptz := date_trunc('month', make_live_months.at);
    month timestamptz;
    part text;
BEGIN
    -- Rows that came before their month was made lie in the default partition, and are moved.
    FOR month IN EXECUTE format('SELECT generate_series($1, $1 + interval ''3 months'', interval ''1 month'')
            UNION SELECT date_trunc(''month'', asked_at) FROM ONLY ponte_data.%I WHERE asked_at < $1 + interval ''4 months''
            ORDER BY 1', parent || '__default') USING first
    LOOP
        part := parent || to_char(month, '"__"YYYY_MM');
        CONTINUE WHEN to_regclass(format('ponte_data.%I', part)) IS NOT NULL;
        BEGIN
            -- Whoever reads the model's rows reads the default partition too: no row comes to it behind our back, and
            -- nobody waits longer than the time-out above.
            EXECUTE format('LOCK TABLE ONLY ponte_data.%I IN ACCESS EXCLUSIVE MODE', parent || '__default');
            EXECUTE format('CREATE TABLE ponte_data.%I (LIKE ponte_data.%I INCLUDING ALL)', part, parent);
            EXECUTE format('WITH moved AS (DELETE FROM ONLY ponte_data.%I WHERE asked_at >= $1 AND asked_at < $2 RETURNING *)
                INSERT INTO ponte_data.%I SELECT * FROM moved', parent || '__default', part)
                USING month, month + interval '1 month';
            EXECUTE format('ALTER TABLE ponte_data.%I ATTACH PARTITION ponte_data.%I FOR VALUES FROM (%L) TO (%L)',
                parent, part, month, month + interval '1 month');
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            RAISE LOG 'ponte: % is in use, so its month % is made by the next call', parent, month;
        END;
    END LOOP;
END $$;
COMMENT ON FUNCTION ponte.make_live_months(text, timestamptz) IS 'Make the partitions of live_<model> for the month of that moment and the three after it, and for those of rows that have none.';

-- Works with the rights of the owner, for roles that may make nothing. Names come from the registry and are quoted;
-- nothing that a caller gives is part of a statement.
CREATE FUNCTION ponte.prepare_live(model text)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET DateStyle = 'ISO' SET lock_timeout = '2s'
AS $$
DECLARE
    types CONSTANT jsonb := '{"integer": "bigint", "number": "double precision", "boolean": "boolean", "text": "text",
                              "date": "date", "timestamp": "timestamp with time zone"}';
    parent CONSTANT text := 'live_' || prepare_live.model;
    shown CONSTANT text := prepare_live.model || '_live';
    champion record;
    names text[];
    kinds text[];
    rules text[];
    words text[];
    made record;
    earlier text;
BEGIN
    SELECT v.version, v.task, v.signature INTO champion FROM ponte.version v
    WHERE v.model = prepare_live.model AND v.version = ponte.champion_at(prepare_live.model, clock_timestamp());
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no model % has a champion', quote_nullable(left(prepare_live.model, 80))
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Only a champion answers live requests: train the model, or promote a version.';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('ponte.live'), hashtext(prepare_live.model));

    SELECT array_agg(c.name ORDER BY place, n), array_agg(c.kind ORDER BY place, n),
           array_agg(c.rule ORDER BY place, n), array_agg(c.about ORDER BY place, n) INTO names, kinds, rules, words
    FROM (
        VALUES (1, 0, 'request_id', 'uuid', 'NOT NULL', 'Number of the request; it leads to the time, being a UUID of version 7.'),
            (2, 0, 'asked_at', 'timestamp with time zone', 'NOT NULL', 'When it was asked for.'),
            (3, 0, 'source', 'text', 'NOT NULL CHECK (source IN (''api'', ''form'', ''queue'', ''offline''))', 'api, form, queue, or offline: a file, with ./ponte predict --keep.'),
            (7, 0, 'scored_at', 'timestamp with time zone', 'NOT NULL', 'When it was computed.'),
            (8, 0, 'model_version', 'integer', 'NOT NULL', 'Version of the model that computed it.'),
            (9, 0, 'features', 'jsonb', '', 'What was asked, with [serving] log_features; else NULL. In no view.')
        UNION ALL
        SELECT 4, n, c->>'name', types->>(c->>'family'), '', 'Key of the entity; NULL when the request gave none.'
        FROM jsonb_array_elements(champion.signature->'key') WITH ORDINALITY AS k (c, n)
        UNION ALL
        SELECT 5, 0, 'prediction', types->>CASE WHEN champion.task = 'regression' THEN 'number' ELSE champion.signature->>'label' END,
            CASE WHEN champion.task = 'regression' THEN 'NOT NULL CHECK (prediction > ''-Infinity'' AND prediction < ''Infinity'')' ELSE 'NOT NULL' END,
            'Predicted label.'
        UNION ALL
        SELECT 6, n, s.name, s.kind, s.rule, s.about
        FROM (VALUES
            (1, 'binary', 'score', 'double precision', 'CHECK (score BETWEEN 0 AND 1)', 'Probability of the positive class, 0 to 1. NULL: the estimator gives no probability.'),
            (1, 'multiclass', 'scores', 'double precision[]', 'CHECK (0 <= ALL (scores) AND 1 >= ALL (scores))', 'Probability of each class, in the order of ponte.version.classes. NULL: the estimator gives no probability.'),
            (1, 'regression', 'low', 'double precision', '', 'Lower end of the interval of the prediction; NULL: the version gives none.'),
            (2, 'regression', 'high', 'double precision', '', 'Upper end of the interval of the prediction; NULL: the version gives none.')
        ) AS s (n, task, name, kind, rule, about) WHERE s.task = champion.task
    ) AS c (place, n, name, kind, rule, about);
    IF (SELECT count(DISTINCT name) FROM unnest(names) AS name) < cardinality(names) THEN
        RAISE EXCEPTION 'the key of the model % has a column that live rows have too: got %, expected others than request_id, asked_at, source, features',
            prepare_live.model, (SELECT string_agg(c->>'name', ', ') FROM jsonb_array_elements(champion.signature->'key') AS c)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Name the column of the key another way in features.sql.';
    END IF;

    -- Other roles may make tables and views here, whose triggers or queries would run as the owner.
    FOR made IN SELECT c.oid::regclass AS name, c.relowner, c.relkind FROM pg_class c
        WHERE (c.relnamespace, c.relname) IN (('ponte_data'::regnamespace, parent), ('ponte_data'::regnamespace, parent || '__default'),
                                              ('predictions'::regnamespace, shown))
    LOOP
        IF made.relowner <> current_user::regrole THEN
            RAISE EXCEPTION '% is somebody else''s: got %, expected %', made.name, made.relowner::regrole, current_user
                USING ERRCODE = 'object_not_in_prerequisite_state',
                    HINT = 'Find out who made it and why. A model whose name ends in _live takes the name of this view: give that one another name.';
        END IF;
    END LOOP;

    IF to_regclass(format('ponte_data.%I', parent)) IS NULL THEN
        EXECUTE format('CREATE TABLE ponte_data.%I (%s, PRIMARY KEY (request_id, asked_at)) PARTITION BY RANGE (asked_at)', parent,
            (SELECT string_agg(format('%I %s %s', name, kind, rule), ', ' ORDER BY n)
             FROM unnest(names, kinds, rules) WITH ORDINALITY AS c (name, kind, rule, n)));
        -- Rows come in the order of time: a few bytes lead to any week.
        EXECUTE format('CREATE INDEX ON ponte_data.%I USING brin (asked_at)', parent);
        EXECUTE format('CREATE TABLE ponte_data.%I PARTITION OF ponte_data.%I DEFAULT', parent || '__default', parent);
        EXECUTE format('COMMENT ON TABLE ponte_data.%I IS %L', parent, 'Live rows of ' || prepare_live.model || '; people read predictions.' || shown || '.');
        EXECUTE format('GRANT SELECT ON ponte_data.%I, ponte_data.%I TO ponte_monitor', parent, parent || '__default');
        EXECUTE format('GRANT INSERT ON ponte_data.%I TO ponte_api, ponte_stream, ponte_scorer', parent);
    ELSE
        SELECT string_agg(format('%s %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum) INTO earlier
        FROM pg_attribute WHERE attrelid = to_regclass(format('ponte_data.%I', parent)) AND attnum > 0 AND NOT attisdropped;
        IF earlier <> (SELECT string_agg(format('%s %s', name, kind), ', ' ORDER BY n)
                       FROM unnest(names, kinds) WITH ORDINALITY AS c (name, kind, n)) THEN
            RAISE EXCEPTION 'the key or the label of the model % is no longer that of its earlier live rows: got %, expected %', prepare_live.model,
                (SELECT string_agg(format('%s %s', name, kind), ', ' ORDER BY n) FROM unnest(names, kinds) WITH ORDINALITY AS c (name, kind, n)), earlier
                USING ERRCODE = 'invalid_parameter_value',
                    HINT = 'A model keeps its key and label type for life: give the changed model a folder of its own.';
        END IF;
    END IF;

    IF to_regclass(format('predictions.%I', shown)) IS NULL THEN
        EXECUTE format('CREATE VIEW predictions.%I WITH (security_barrier) AS SELECT %s FROM ponte_data.%I', shown,
            (SELECT string_agg(quote_ident(name), ', ' ORDER BY n) FROM unnest(names) WITH ORDINALITY AS c (name, n) WHERE name <> 'features'), parent);
        EXECUTE format('COMMENT ON VIEW predictions.%I IS %L', shown, 'Predictions of ' || prepare_live.model || ' that were asked for one by one.');
        EXECUTE format('GRANT SELECT ON predictions.%I TO ponte_analyst, ponte_monitor', shown);
        EXECUTE (SELECT string_agg(format('COMMENT ON COLUMN ponte_data.%I.%I IS %L', parent, name, about), '; ') FROM unnest(names, words) AS c (name, about));
        EXECUTE (SELECT string_agg(format('COMMENT ON COLUMN predictions.%I.%I IS %L', shown, name, about), '; ')
                 FROM unnest(names, words) AS c (name, about) WHERE name <> 'features');
    END IF;
    PERFORM ponte.make_live_months(prepare_live.model, clock_timestamp());
END $$;
COMMENT ON FUNCTION ponte.prepare_live(text) IS 'Make ponte_data.live_<model> and predictions.<model>_live for the champion unless they are there, and the partitions of this month and the next three.';

CREATE FUNCTION ponte.retire_live(model text, keep_days integer)
RETURNS integer LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET DateStyle = 'ISO' SET lock_timeout = '2s'
AS $$
DECLARE
    parent CONSTANT text := 'live_' || retire_live.model;
    before CONSTANT timestamptz := clock_timestamp() - make_interval(days => retire_live.keep_days);
    part record;
    kept bigint;
    size bigint;
    dropped integer := 0;
BEGIN
    IF retire_live.keep_days IS NULL OR retire_live.keep_days < 31 THEN
        RAISE EXCEPTION 'live rows are kept a month at least: got keep_days = %', retire_live.keep_days USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('ponte.live'), hashtext(retire_live.model));
    FOR part IN SELECT c.relname, c.oid, to_date(right(c.relname, 7), 'YYYY_MM') AS month
        FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid JOIN pg_class p ON p.oid = inhparent
        WHERE p.relnamespace = 'ponte_data'::regnamespace AND p.relname = parent AND p.relowner = current_user::regrole
            AND c.relname ~ '__[0-9]{4}_[0-9]{2}$' AND to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month' <= before
        ORDER BY 3
    LOOP
        BEGIN
            EXECUTE format('LOCK TABLE ONLY ponte_data.%I, ONLY ponte_data.%I IN ACCESS EXCLUSIVE MODE', parent, part.relname);
            EXECUTE format('SELECT count(*) FROM ONLY ponte_data.%I', part.relname) INTO kept;
            size := pg_total_relation_size(part.oid);
            EXECUTE format('DROP TABLE ponte_data.%I', part.relname);
            INSERT INTO ponte.live_retired (model, month, rows, byte_count, keep_days)
                VALUES (retire_live.model, part.month, kept, size, retire_live.keep_days);
            dropped := dropped + 1;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            RAISE LOG 'ponte: % is in use, so it is dropped by the next call', part.relname;
        END;
    END LOOP;
    DELETE FROM ponte.live_unscored u WHERE u.model = retire_live.model AND u.asked_at < before;
    RETURN dropped;
END $$;
COMMENT ON FUNCTION ponte.retire_live(text, integer) IS 'Drop the months of live rows of the model that are older than keep_days in whole, and its unscored requests of before. Returns how many months.';

-- ---------------------------------------------------------------- feedback

-- Numbered with ponte.feedback_given: the view ponte.feedback shows both.
CREATE TABLE ponte.live_feedback (
    feedback_id   bigint PRIMARY KEY DEFAULT nextval('ponte.feedback_given_feedback_id_seq'),
    request_id    uuid NOT NULL,
    asked_at      timestamptz NOT NULL,
    model         text NOT NULL,
    model_version integer NOT NULL,
    verdict       text NOT NULL CHECK (verdict IN ('right', 'wrong', 'withdrawn')),
    prediction    text NOT NULL,
    correct_label text CHECK (length(correct_label) <= 1000),
    comment       text CHECK (length(comment) <= 4000),
    given_by      text NOT NULL CHECK (length(given_by) <= 200),
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (correct_label IS NULL OR verdict = 'wrong')
);
CREATE INDEX live_feedback_of_request ON ponte.live_feedback (request_id, given_by);
CREATE INDEX live_feedback_of_model ON ponte.live_feedback (model, asked_at);
COMMENT ON TABLE ponte.live_feedback IS 'What people say of live predictions, each time as it was said. Labels and comments are content of rows: people read ponte.feedback. Append-only.';
COMMENT ON COLUMN ponte.live_feedback.feedback_id IS 'Number of the feedback, among those of ponte.feedback_given.';
COMMENT ON COLUMN ponte.live_feedback.request_id IS 'The request.';
COMMENT ON COLUMN ponte.live_feedback.asked_at IS 'When it was asked for.';
COMMENT ON COLUMN ponte.live_feedback.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.live_feedback.model_version IS 'Version that answered.';
COMMENT ON COLUMN ponte.live_feedback.verdict IS 'right, wrong, or withdrawn: what the same giver said of the request before counts no more.';
COMMENT ON COLUMN ponte.live_feedback.prediction IS 'The prediction that it is said of, as text.';
COMMENT ON COLUMN ponte.live_feedback.correct_label IS 'What would have been right, as text of the type of the label; NULL when it was not said.';
COMMENT ON COLUMN ponte.live_feedback.comment IS 'In the words of the person; NULL for none.';
COMMENT ON COLUMN ponte.live_feedback.given_by IS 'Who said it: the name of an API key, or form.';
COMMENT ON COLUMN ponte.live_feedback.at IS 'When it was said.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.live_feedback
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

-- As give_feedback: nothing that a caller gives is part of a statement.
CREATE FUNCTION ponte.give_live_feedback(request_id uuid, verdict text, correct_label text, comment text, given_by text)
RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off SET TimeZone = 'UTC' SET DateStyle = 'ISO' SET extra_float_digits = 1
AS $$
DECLARE
    most_per_request CONSTANT integer := 20;
    types CONSTANT jsonb := '{"integer": "bigint", "number": "double precision", "boolean": "boolean", "text": "text",
                              "date": "date", "timestamp": "timestamp with time zone"}';
    -- The number of a request holds when it was asked for.
    near CONSTANT timestamptz := coalesce(uuid_extract_timestamp(give_live_feedback.request_id), 'infinity');
    got text;
    live record;
    answer record;
    version record;
    label_type text;
    said text;
    known boolean;
    expected text;
    given_id bigint;
BEGIN
    IF give_live_feedback.verdict IS NULL OR give_live_feedback.verdict NOT IN ('right', 'wrong', 'withdrawn') THEN
        RAISE EXCEPTION 'unknown verdict: got %, expected right, wrong or withdrawn', quote_nullable(left(give_live_feedback.verdict, 60))
            USING ERRCODE = 'invalid_parameter_value', HINT = 'withdrawn takes back what you said of the same request before.';
    END IF;
    give_live_feedback.comment := nullif(btrim(give_live_feedback.comment), '');
    got := CASE WHEN length(give_live_feedback.comment) > 4000 THEN format('a comment of %s characters', length(give_live_feedback.comment))
                WHEN length(give_live_feedback.correct_label) > 1000 THEN format('a correct_label of %s characters', length(give_live_feedback.correct_label)) END;
    IF got IS NOT NULL THEN
        RAISE EXCEPTION 'feedback is too long: got %, expected at most 4000 characters of comment, 1000 of correct_label', got
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Nothing was kept. Say it in fewer words.';
    END IF;
    IF give_live_feedback.correct_label IS NOT NULL AND give_live_feedback.verdict <> 'wrong' THEN
        RAISE EXCEPTION 'a correct_label goes with the verdict wrong: got the verdict %', give_live_feedback.verdict
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave correct_label out.';
    END IF;

    -- There may be no table at all.
    SELECT NULL::timestamptz AS asked_at, NULL::integer AS model_version, NULL::text AS prediction INTO answer;
    FOR live IN SELECT m.model, c.relname FROM (SELECT DISTINCT v.model FROM ponte.version v) m
        JOIN pg_class c ON c.relnamespace = 'ponte_data'::regnamespace AND c.relname = 'live_' || m.model
            AND c.relkind = 'p' AND c.relowner = current_user::regrole
        ORDER BY 1
    LOOP
        EXECUTE format('SELECT t.asked_at, t.model_version, t.prediction::text AS prediction FROM ponte_data.%I t
            WHERE t.request_id = $1 AND ($2 = ''infinity'' OR t.asked_at BETWEEN $2 - interval ''1 hour'' AND $2 + interval ''1 hour'')', live.relname)
            INTO answer USING give_live_feedback.request_id, near;
        EXIT WHEN answer.asked_at IS NOT NULL;
    END LOOP;
    IF answer.asked_at IS NULL THEN
        RAISE EXCEPTION 'no answer to the request % is kept', coalesce(give_live_feedback.request_id::text, 'NULL')
            USING ERRCODE = 'no_data_found', HINT = 'An answer is written within seconds after it was given: try again then.';
    END IF;
    SELECT v.task, v.signature, v.classes INTO version FROM ponte.version v
    WHERE v.model = live.model AND v.version = answer.model_version;

    IF give_live_feedback.correct_label IS NOT NULL THEN
        label_type := types->>CASE WHEN version.task = 'regression' THEN 'number' ELSE version.signature->>'label' END;
        SELECT CASE WHEN version.task <> 'regression' AND version.classes IS NOT NULL
                    THEN 'one of: ' || (SELECT string_agg(c, ', ') FROM (SELECT left(c, 60) FROM jsonb_array_elements_text(version.classes) AS c LIMIT 50) AS few (c))
                    ELSE 'a value of the type ' || label_type END INTO expected;
        BEGIN
            EXECUTE format('SELECT CAST(CAST($1 AS %s) AS text), $2 IS NULL OR EXISTS (
                    SELECT FROM jsonb_array_elements_text($2) AS c WHERE CAST(c AS %1$s) = CAST($1 AS %1$s))', label_type)
                INTO said, known USING give_live_feedback.correct_label, CASE WHEN version.task <> 'regression' THEN version.classes END;
        EXCEPTION WHEN data_exception THEN
            said := NULL;
        END;
        IF said IS NULL OR known IS NOT TRUE OR said IN ('NaN', 'Infinity', '-Infinity') AND label_type = 'double precision' THEN
            RAISE EXCEPTION 'correct_label is no label of the model %: got %, expected %', live.model,
                quote_nullable(left(give_live_feedback.correct_label, 60)), expected
                USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out if none of these is right, and say so in the comment.';
        END IF;
        IF said = answer.prediction THEN
            RAISE EXCEPTION 'correct_label is what was predicted: got %', quote_nullable(left(said, 60))
                USING ERRCODE = 'invalid_parameter_value', HINT = 'Give the verdict right, or another correct_label.';
        END IF;
    END IF;

    -- One call on a request at a time, so that their number can be counted.
    PERFORM pg_advisory_xact_lock(hashtext('ponte.live_feedback'), hashtext(give_live_feedback.request_id::text));
    IF (SELECT count(*) FROM ponte.live_feedback g WHERE g.request_id = give_live_feedback.request_id) >= most_per_request THEN
        RAISE EXCEPTION 'too much feedback: the request % has % already', give_live_feedback.request_id, most_per_request
            USING ERRCODE = 'program_limit_exceeded', HINT = 'What was said stays.';
    END IF;
    IF give_live_feedback.verdict = 'withdrawn' AND coalesce((
        SELECT g.verdict FROM ponte.live_feedback g
        WHERE g.request_id = give_live_feedback.request_id AND g.given_by = left(give_live_feedback.given_by, 200)
        ORDER BY g.feedback_id DESC LIMIT 1), 'withdrawn') = 'withdrawn' THEN
        RAISE EXCEPTION 'there is nothing to take back: nothing that was said of this request stands'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'withdrawn takes back what you said of the same request before.';
    END IF;
    INSERT INTO ponte.live_feedback (request_id, asked_at, model, model_version, verdict, prediction, correct_label, comment, given_by)
    VALUES (give_live_feedback.request_id, answer.asked_at, live.model, answer.model_version, give_live_feedback.verdict,
            answer.prediction, said, give_live_feedback.comment, left(give_live_feedback.given_by, 200))
    RETURNING feedback_id INTO given_id;
    RETURN given_id;
END $$;
COMMENT ON FUNCTION ponte.give_live_feedback(uuid, text, text, text, text) IS 'Keep what a person says of a live prediction: right, wrong, or withdrawn. Returns the number of the feedback.';

-- ---------------------------------------------------------------- notices

ALTER TABLE ponte.notice DROP CONSTRAINT notice_event_check, ADD CONSTRAINT notice_event_check
    CHECK (event IN ('batch_rejected', 'guard_tripped', 'version_refused', 'question_waiting', 'alarm_opened', 'alarm_closed',
                     'window_late', 'live_astray'));
COMMENT ON COLUMN ponte.notice.event IS 'batch_rejected, guard_tripped, version_refused, question_waiting, alarm_opened, alarm_closed, window_late or live_astray.';
COMMENT ON COLUMN ponte.notice.subject IS 'What it is about: batch 12, verdict 3, alarm 2, or model and window or day.';

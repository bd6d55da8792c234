-- Ponte, revision 0024: the priority queue. Requests come in by ponte.enqueue and ponte.queue_in, are taken by rank, and
-- leave in the transaction that brings their answers.

-- ---------------------------------------------------------------- which models it is open for

CREATE TABLE ponte.queue (
    model          text PRIMARY KEY CHECK (model <> ''),
    open           boolean NOT NULL,
    most_waiting   integer NOT NULL DEFAULT 200000 CHECK (most_waiting > 0),
    most_bytes     integer NOT NULL DEFAULT 65536 CHECK (most_bytes BETWEEN 100 AND 10000000),
    ageing_seconds double precision NOT NULL DEFAULT 60 CHECK (ageing_seconds >= 0 AND ageing_seconds <= 1e6),
    changed_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE ponte.queue IS 'The queue of each model. Workers open and close it as the model folders say; the owner sets its limits.';
COMMENT ON COLUMN ponte.queue.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.queue.open IS 'Whether requests are taken in: [serving] api = true in the folder, as a worker has found it. What waits in a closed queue goes on waiting.';
COMMENT ON COLUMN ponte.queue.most_waiting IS 'With so many requests waiting further ones are refused.';
COMMENT ON COLUMN ponte.queue.most_bytes IS 'Larger features are refused, and so are larger keys; bytes of jsonb in memory.';
COMMENT ON COLUMN ponte.queue.ageing_seconds IS 'Seconds of waiting that count as much as one step of priority.';
COMMENT ON COLUMN ponte.queue.changed_at IS 'When it was opened or closed last.';

-- ---------------------------------------------------------------- what waits

CREATE TABLE ponte.request (
    request_id uuid PRIMARY KEY,
    model      text NOT NULL,
    key        jsonb,
    features   jsonb NOT NULL,
    priority   smallint NOT NULL CHECK (priority BETWEEN 0 AND 9),
    arrived_at timestamptz NOT NULL,
    rank       double precision NOT NULL
) WITH (
    -- All rows come and go: what is left of 5,000 is cleaned away at once, and at full speed.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 5000, toast.autovacuum_vacuum_cost_delay = 0
);
-- One number decides who is next. Ageing costs no UPDATE, and nothing starves: what comes later than
-- (9 - priority) * ageing_seconds after a row stands behind it.
CREATE INDEX request_by_rank ON ponte.request (model, rank, request_id);
COMMENT ON TABLE ponte.request IS 'What waits in the queue. A row leaves in the transaction that brings its answer, or its reason for having none.';
COMMENT ON COLUMN ponte.request.request_id IS 'Names the request; a UUID of version 7, whose time is arrived_at.';
COMMENT ON COLUMN ponte.request.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.request.key IS 'Key of the row, an object; NULL when none was given.';
COMMENT ON COLUMN ponte.request.features IS 'Its features, an object.';
COMMENT ON COLUMN ponte.request.priority IS '0 to 9, the greater the sooner.';
COMMENT ON COLUMN ponte.request.arrived_at IS 'When it came, to the millisecond.';
COMMENT ON COLUMN ponte.request.rank IS 'Who has the least is next: seconds since 1970 of arrived_at, less priority times the ageing_seconds of then.';

-- ---------------------------------------------------------------- who works

-- A take that ends takes its row away in the same transaction. So what a row here names, and still waits, is being
-- worked on, or its worker has died.
CREATE TABLE ponte.stream_take (
    take_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    worker      text NOT NULL,
    request_ids uuid[] NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_threshold = -1,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 1000, toast.autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE ponte.stream_take IS 'Requests that a worker has begun with: what kills its worker is found by what is left here.';
COMMENT ON COLUMN ponte.stream_take.take_id IS 'Number of the take.';
COMMENT ON COLUMN ponte.stream_take.worker IS 'Which worker: machine and process.';
COMMENT ON COLUMN ponte.stream_take.request_ids IS 'The requests.';
COMMENT ON COLUMN ponte.stream_take.at IS 'When it began.';

CREATE TABLE ponte.stream_progress (
    worker   text NOT NULL,
    model    text NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    seconds  double precision NOT NULL CHECK (seconds >= 0),
    answered bigint NOT NULL CHECK (answered >= 0),
    failed   bigint NOT NULL CHECK (failed >= 0),
    why      text
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE ponte.stream_progress IS 'What each worker has done lately, per model; rows of ten minutes are kept.';
COMMENT ON COLUMN ponte.stream_progress.worker IS 'Which worker: machine and process.';
COMMENT ON COLUMN ponte.stream_progress.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.stream_progress.at IS 'When it was written.';
COMMENT ON COLUMN ponte.stream_progress.seconds IS 'Seconds that the counts are of: those since the row before.';
COMMENT ON COLUMN ponte.stream_progress.answered IS 'Requests answered.';
COMMENT ON COLUMN ponte.stream_progress.failed IS 'Requests set aside without an answer.';
COMMENT ON COLUMN ponte.stream_progress.why IS 'Why the worker answers no request of this model at the moment; NULL when it does. Holds no value of a row.';

-- ---------------------------------------------------------------- the way in

CREATE FUNCTION ponte.refuse_request(model text, key jsonb, features jsonb, priority integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    queue    ponte.queue;
    expected text;
    hint     text;
BEGIN
    SELECT * INTO queue FROM ponte.queue q WHERE q.model = refuse_request.model;
    IF queue.open IS NOT TRUE THEN
        SELECT string_agg(q.model, ', ' ORDER BY q.model) INTO expected
        FROM (SELECT q.model FROM ponte.queue q WHERE q.open ORDER BY 1 LIMIT 20) q;
        IF queue.model IS NOT NULL THEN
            hint := format('Say api = true under [serving] in the model.toml of %s; ./ponte work opens its queue.', queue.model);
        ELSE
            SELECT format('Did you mean %L?', q.model) INTO hint FROM ponte.queue q
            WHERE q.open AND (replace(lower(q.model), '_', '') = replace(replace(lower(btrim(refuse_request.model)), '-', ''), '_', '')
                OR starts_with(q.model, lower(btrim(refuse_request.model))) OR lower(refuse_request.model) IN ('predictions.' || q.model, q.model || '_live'))
            ORDER BY q.model LIMIT 1;
        END IF;
        RAISE EXCEPTION '%', CASE WHEN queue.model IS NULL THEN 'no queue of this model' ELSE 'the queue of this model is closed' END
            || format(': got %s, expected one of: %s', quote_nullable(left(refuse_request.model, 80)), coalesce(expected, '(none is open)'))
            USING ERRCODE = 'invalid_parameter_value',
                HINT = coalesce(hint, 'A queue is open when the model has [serving] api = true and ./ponte work has started.');
    ELSIF priority IS NULL OR priority NOT BETWEEN 0 AND 9 THEN
        RAISE EXCEPTION 'the priority is out of range: got %, expected 0 to 9', coalesce(priority::text, 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = '9 is the most urgent, 0 can wait.';
    ELSIF features IS NULL OR jsonb_typeof(features) <> 'object' THEN
        RAISE EXCEPTION 'the features are no object: got %, expected an object of columns and values',
            coalesce(jsonb_typeof(features), 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'One request is one row: {"column": value, ...}.';
    ELSIF jsonb_typeof(key) <> 'object' THEN
        RAISE EXCEPTION 'the key is no object: got %, expected an object of columns and values, or NULL', jsonb_typeof(key)
            USING ERRCODE = 'invalid_parameter_value', HINT = '{"column": value} for each column of the key.';
    ELSIF greatest(pg_column_size(features), pg_column_size(key)) > queue.most_bytes THEN
        RAISE EXCEPTION 'the request is too large: got % bytes, expected at most %',
            greatest(pg_column_size(features), pg_column_size(key)), queue.most_bytes
            USING ERRCODE = 'program_limit_exceeded', HINT = 'The limit is most_bytes in ponte.queue, which the owner may change.';
    END IF;
    RAISE EXCEPTION 'the queue of % was changed at this moment', model
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Try again.';
END $$;
COMMENT ON FUNCTION ponte.refuse_request(text, jsonb, jsonb, integer) IS 'Says why a request cannot be put into the queue, as an error. Used by ponte.put_request.';

CREATE FUNCTION ponte.put_request(model text, key jsonb, features jsonb, priority integer) RETURNS uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id uuid := uuidv7();
BEGIN
    -- One statement when all is well, for rows by the hundred thousand.
    INSERT INTO ponte.request (request_id, model, key, features, priority, arrived_at, rank)
    SELECT id, q.model, put_request.key, put_request.features, least(greatest(put_request.priority, 0), 9), uuid_extract_timestamp(id),
           extract(epoch FROM uuid_extract_timestamp(id)) - put_request.priority * q.ageing_seconds
    FROM ponte.queue q
    WHERE q.model = put_request.model AND q.open AND put_request.priority BETWEEN 0 AND 9
        AND jsonb_typeof(put_request.features) = 'object' AND pg_column_size(put_request.features) <= q.most_bytes
        AND (put_request.key IS NULL
             OR jsonb_typeof(put_request.key) = 'object' AND pg_column_size(put_request.key) <= q.most_bytes);
    IF NOT FOUND THEN
        PERFORM ponte.refuse_request(model, key, features, priority);
    END IF;
    RETURN id;
END $$;
COMMENT ON FUNCTION ponte.put_request(text, jsonb, jsonb, integer) IS 'Puts one row into ponte.request, without a look at how many wait. Used by ponte.enqueue and ponte.queue_in.';

CREATE FUNCTION ponte.require_room(model text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Rows of all models together, by the statistics: late by a second, but at no cost. Far below the limit they
    -- are enough; near it rows are counted, up to the limit.
    about bigint := pg_stat_get_live_tuples('ponte.request'::regclass) + pg_stat_get_xact_tuples_inserted('ponte.request'::regclass);
    queue ponte.queue;
BEGIN
    FOR queue IN SELECT * FROM ponte.queue q WHERE q.open AND (require_room.model IS NULL OR q.model = require_room.model) LOOP
        CONTINUE WHEN about < queue.most_waiting / 2 - 10000;
        IF (SELECT count(*) FROM (
                SELECT FROM ponte.request r WHERE r.model = queue.model LIMIT queue.most_waiting + 1::bigint) counted)
            > queue.most_waiting THEN
            RAISE EXCEPTION 'the queue of % is full: % requests wait already', queue.model, queue.most_waiting
                USING ERRCODE = 'program_limit_exceeded',
                    HINT = 'Try again later; ponte.queue_overview says how fast it empties. More workers empty it sooner; '
                           'the limit is most_waiting in ponte.queue, which the owner may change.';
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION ponte.require_room(text) IS 'Refuses, as an error, what the caller has put into a queue that was full; NULL looks at all queues. Used by ponte.enqueue and ponte.queue_in.';

CREATE FUNCTION ponte.enqueue(model text, key jsonb, features jsonb, priority integer DEFAULT 0) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id uuid := ponte.put_request(model, key, features, priority);
BEGIN
    PERFORM ponte.require_room(model), pg_notify('ponte_request', '');
    RETURN id;
END $$;
COMMENT ON FUNCTION ponte.enqueue(text, jsonb, jsonb, integer) IS 'Put a request into the queue of a model. Returns its id, by which its answer is found; the request stands when the transaction of the caller does.';

CREATE FUNCTION ponte.put_queue_in() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.request_id IS NOT NULL THEN
        RAISE EXCEPTION 'the request has an id already: got %, expected NULL', NEW.request_id
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave request_id out; the queue makes the ids.';
    END IF;
    NEW.priority := coalesce(NEW.priority, 0);
    NEW.request_id := ponte.put_request(NEW.model, NEW.key, NEW.features, NEW.priority);
    RETURN NEW;
END $$;
COMMENT ON FUNCTION ponte.put_queue_in() IS 'Trigger of ponte.queue_in: one row.';

CREATE FUNCTION ponte.end_queue_in() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM ponte.require_room(NULL), pg_notify('ponte_request', '');
    RETURN NULL;
END $$;
COMMENT ON FUNCTION ponte.end_queue_in() IS 'Trigger of ponte.queue_in: the end of a statement.';

-- ---------------------------------------------------------------- what became of a request

CREATE FUNCTION ponte.request_state(request_id uuid)
RETURNS TABLE (state text, model text, asked_at timestamptz, ahead bigint, answer jsonb, why text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    live record;
BEGIN
    RETURN QUERY SELECT 'waiting', r.model, r.arrived_at, (
            SELECT count(*) FROM ponte.request o WHERE o.model = r.model AND (o.rank, o.request_id) < (r.rank, r.request_id)),
        NULL::jsonb, NULL::text
    FROM ponte.request r WHERE r.request_id = request_state.request_id;
    IF FOUND THEN
        RETURN;
    END IF;
    -- The tables of the models that answer one by one, in which the time in the id leads to one partition.
    FOR live IN
        SELECT c.relname, substr(c.relname, 6) AS model FROM pg_class c
        WHERE c.relnamespace = 'ponte_data'::regnamespace AND c.relkind = 'p' AND starts_with(c.relname, 'live_')
            AND c.relowner = current_user::regrole  -- a policy on another role's table would run as the owner
            AND EXISTS (SELECT FROM ponte.version v WHERE v.model = substr(c.relname, 6))
    LOOP
        RETURN QUERY EXECUTE format(
            'SELECT ''answered'', %L::text, l.asked_at, NULL::bigint, to_jsonb(l) - ''request_id'' - ''asked_at'' - ''source'' - ''features'', NULL::text
             FROM ponte_data.%I l WHERE l.asked_at = $2 AND l.request_id = $1', live.model, live.relname)
            USING request_state.request_id, uuid_extract_timestamp(request_state.request_id);
        IF FOUND THEN
            RETURN;
        END IF;
    END LOOP;
    RETURN QUERY SELECT 'failed', u.model, u.asked_at, NULL::bigint, NULL::jsonb, u.why
    FROM ponte.live_unscored u WHERE u.request_id = request_state.request_id LIMIT 1;
END $$;
COMMENT ON FUNCTION ponte.request_state(uuid) IS 'What became of a request: waiting, with how many are ahead of it; answered, with the answer; failed, with the reason. No row when there is none of that id, or it was dropped by retention.';

CREATE FUNCTION ponte.give_up_requests(model text, why text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given_up bigint;
BEGIN
    WITH gone AS (
        DELETE FROM ponte.request r WHERE r.model = give_up_requests.model RETURNING *
    )
    INSERT INTO ponte.live_unscored (request_id, model, key, source, why, kind, asked_at, features)
    SELECT g.request_id, g.model, g.key, 'queue', give_up_requests.why, 'given up', g.arrived_at, g.features FROM gone g;
    GET DIAGNOSTICS given_up = ROW_COUNT;
    RETURN given_up;
END $$;
COMMENT ON FUNCTION ponte.give_up_requests(text, text) IS 'Set aside all that waits for a model, with a reason; returns how many. For the owner, when a model will not be served again.';

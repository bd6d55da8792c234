-- Ponte, revision 0028: a statement is held to the limits of the models that it put rows in, and a queue closes when no
-- worker has vouched for it for minutes.

ALTER TABLE ponte.queue ADD COLUMN seen_at timestamptz NOT NULL DEFAULT clock_timestamp();
COMMENT ON COLUMN ponte.queue.seen_at IS 'When a worker that answers for the model said last that its folder has [serving] api = true; every half a minute.';
COMMENT ON COLUMN ponte.queue.open IS 'Whether requests are taken in: a worker answers for the model, as its folder says. What waits in a closed queue goes on waiting.';

CREATE OR REPLACE FUNCTION ponte.require_room(model text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Rows of all models together, by the statistics: late by a second, but at no cost. Far below the limit they
    -- are enough; near it rows are counted, up to the limit.
    about bigint := pg_stat_get_live_tuples('ponte.request'::regclass) + pg_stat_get_xact_tuples_inserted('ponte.request'::regclass);
    queue ponte.queue;
    -- The least id that this statement can have made, and the transaction, of whose subtransactions the numbers are greater.
    since uuid;
    own   bigint;
BEGIN
    FOR queue IN SELECT * FROM ponte.queue q WHERE q.open AND (require_room.model IS NULL OR q.model = require_room.model) LOOP
        CONTINUE WHEN about < queue.most_waiting / 2 - 10000;
        IF require_room.model IS NULL THEN
            since := (lpad(to_hex(floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid;
            own := pg_current_xact_id()::text::bigint;
            -- What is seen and in progress is the caller's own, of a subtransaction too: of others one sees what is committed.
            CONTINUE WHEN NOT EXISTS (
                SELECT FROM ponte.request r WHERE r.request_id >= since AND r.model = queue.model
                    AND CASE WHEN ((r.xmin::text::bigint - own) & 4294967295) < 2147483648
                        THEN pg_xact_status((own + ((r.xmin::text::bigint - own) & 4294967295))::text::xid8) = 'in progress'
                        ELSE false END);
        END IF;
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
COMMENT ON FUNCTION ponte.require_room(text) IS 'Refuses, as an error, what the caller has put into a queue that was full; NULL looks at the queues that the statement has put rows in. Used by ponte.enqueue and ponte.queue_in.';

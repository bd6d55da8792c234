CREATE OR REPLACE VIEW ponte.queue_overview WITH (security_barrier) AS
    WITH waiting AS (
        SELECT r.model, r.priority, count(*) AS waiting, min(r.arrived_at) AS oldest_at, max(r.rank) AS last_rank
        FROM ponte.request r GROUP BY r.model, r.priority
    ), progress AS (
        SELECT s.model, count(DISTINCT s.worker) FILTER (WHERE s.at > now() - interval '30 seconds') AS workers,
               sum(s.answered) AS answered, sum(s.failed) AS failed,
               -- Workers side by side: the sum of their rates.
               sum(s.answered + s.failed) / 60.0 AS per_second,
               (array_agg(s.why ORDER BY s.at DESC))[1] AS why
        FROM ponte.stream_progress s WHERE s.at > now() - interval '60 seconds' GROUP BY s.model
    )
    SELECT q.model, q.open, w.priority, coalesce(w.waiting, 0) AS waiting, w.oldest_at,
           extract(epoch FROM now() - w.oldest_at)::double precision AS oldest_seconds,
           coalesce(p.workers, 0) AS workers, coalesce(p.answered, 0)::bigint AS answered, coalesce(p.failed, 0)::bigint AS failed,
           coalesce(p.per_second, 0)::double precision AS per_second,
           -- Until the last of these has its turn.
           ((SELECT count(*) FROM ponte.request o WHERE o.model = w.model AND o.rank <= w.last_rank)
            / nullif(p.per_second, 0))::double precision AS expected_seconds,
           p.why
    FROM ponte.queue q LEFT JOIN waiting w USING (model) LEFT JOIN progress p USING (model);

COMMENT ON VIEW ponte.queue_overview IS 'The queues: per model and priority what waits; a model for which nothing waits has one row.';
COMMENT ON COLUMN ponte.queue_overview.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.queue_overview.open IS 'Whether requests are taken in.';
COMMENT ON COLUMN ponte.queue_overview.priority IS 'Priority, 0 to 9; NULL when nothing waits.';
COMMENT ON COLUMN ponte.queue_overview.waiting IS 'Requests that wait, those among them that a worker has in hand.';
COMMENT ON COLUMN ponte.queue_overview.oldest_at IS 'When the oldest of them came; NULL when nothing waits.';
COMMENT ON COLUMN ponte.queue_overview.oldest_seconds IS 'How long ago that is, in seconds.';
COMMENT ON COLUMN ponte.queue_overview.workers IS 'Workers that have said within 30 seconds that they serve the model.';
COMMENT ON COLUMN ponte.queue_overview.answered IS 'Requests of the model answered within the last minute.';
COMMENT ON COLUMN ponte.queue_overview.failed IS 'Requests of the model set aside within the last minute.';
COMMENT ON COLUMN ponte.queue_overview.per_second IS 'Requests of the model that left the queue, per second, on average of the last minute.';
COMMENT ON COLUMN ponte.queue_overview.expected_seconds IS 'Seconds until the last of these requests has its turn, at that rate, if none comes that is more urgent; NULL without a rate.';
COMMENT ON COLUMN ponte.queue_overview.why IS 'Why a worker answers no request of this model at the moment; NULL when it does.';

-- Ponte, revision 0009: guards wait for batches of earlier windows, and a run that ends without publishing says so.

ALTER TABLE ponte.batch
    ADD COLUMN stopped_in text CHECK (stopped_in IN ('freezing', 'frozen', 'checked', 'scored', 'staged')),
    ADD COLUMN waits_since timestamptz,
    ADD CONSTRAINT batch_stopped_has_failed CHECK (stopped_in IS NULL OR status = 'failed');
COMMENT ON COLUMN ponte.batch.stopped_in IS 'Status in which its own run ended without publishing it: a task of that run that is cleared goes on from there. NULL when it did not, and once a newer run has claimed the window.';
COMMENT ON COLUMN ponte.batch.waits_since IS 'When guard first had to wait for batches of earlier windows; NULL when it never had to, and when a cleared task goes on.';

-- Until now a run that died left its batch as it was, and later windows would wait for it. Younger ones may be at work.
UPDATE ponte.batch b SET status = 'failed', stopped_in = status, why = 'its run ended before it was published'
WHERE status NOT IN ('rejected', 'failed') AND created_at < now() - interval '7 days'
  AND NOT EXISTS (SELECT FROM ponte.publication_event e WHERE e.batch_id = b.batch_id)
  AND EXISTS (SELECT FROM ponte.claim c
              WHERE c.model = b.model AND c.window_start = b.window_start AND c.epoch = b.epoch);

-- Ponte, revision 0005: what rejected a batch, which could be told from the first words of the reason only.

ALTER TABLE ponte.batch
    ADD COLUMN rejected_by text CHECK (rejected_by IN ('guard', 'check', 'budget', 'empty'));

-- The words are those of the code until now. What stops in a check begins with the name of an expectation, and may go
-- on with the budget.
UPDATE ponte.batch SET rejected_by = CASE
    WHEN why LIKE 'a guard has tripped: %' THEN 'guard'
    WHEN why LIKE 'the window is empty: %' THEN 'empty'
    WHEN why LIKE 'more rows cannot be scored than [quarantine] budget %'
      OR why ~ '^\d+ of \d+ rows (would be|were) set aside, \[quarantine\] budget allows \d+$' THEN 'budget'
    ELSE 'check' END
WHERE status = 'rejected';

-- A batch that a person published all the same lost its reason. The guards are named in the order in which they judge.
-- A batch that a rollback had made was never rejected, whatever its guards said.
UPDATE ponte.batch b SET rejected_by = 'guard', why = coalesce(b.why, r.why)
FROM (
    SELECT batch_id, 'a guard has tripped: ' || string_agg(
               guard || ': ' || got || ', expected ' || expected, '; ' ORDER BY array_position(
                   ARRAY['row_count', 'unscored', 'constant_score', 'mean_score', 'class_share', 'freshness'], guard)
           ) AS why
    FROM ponte.guard_result WHERE outcome = 'tripped' GROUP BY batch_id
) r
WHERE r.batch_id = b.batch_id AND b.status = 'staged' AND b.version_reason IS DISTINCT FROM 'named by a person'
  AND EXISTS (SELECT FROM ponte.guard_override o WHERE o.batch_id = b.batch_id);

ALTER TABLE ponte.batch
    ADD CONSTRAINT batch_rejected_by_something CHECK (status <> 'rejected' OR rejected_by IS NOT NULL),
    ADD CONSTRAINT batch_rejected_for_a_reason CHECK (rejected_by IS NULL OR why IS NOT NULL);
COMMENT ON COLUMN ponte.batch.rejected_by IS 'What rejected it: guard, check, budget (too many rows to set aside) or empty (no rows). Stays when a person published it all the same; else NULL.';
COMMENT ON COLUMN ponte.batch.why IS 'Reason of rejected or failed; stays when a person published the batch all the same; else NULL.';

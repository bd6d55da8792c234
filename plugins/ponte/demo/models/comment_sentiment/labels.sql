-- 1 where people read a comment as positive, 0 as negative; one that is neither (41 of 14,805) has no label.
SELECT source AS medium,
       comment_id,
       (rating > 0)::integer AS label,
       rated_at AS labelled_at
FROM comments.comment
WHERE written_on >= CAST(:window_start AS date)
  AND written_on < CAST(:window_end AS date)
  AND rating <> 0
  AND rated_at <= CAST(:as_of AS timestamptz)

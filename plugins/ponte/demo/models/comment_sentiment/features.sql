-- One row per comment that was written in the window: its text, and nothing that anybody said of it.
SELECT source AS medium,
       comment_id,
       text
FROM comments.comment
WHERE written_on >= CAST(:window_start AS date)
  AND written_on < CAST(:window_end AS date)

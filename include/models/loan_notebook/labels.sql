-- The amount of each loan of the window, as far as it had been issued at as_of.
SELECT loan_id,
       loan_amount AS label,
       known_at AS labelled_at
FROM loans.loan
WHERE issued_on >= CAST(:window_start AS date)
  AND issued_on < CAST(:window_end AS date)
  AND known_at <= CAST(:as_of AS timestamptz)

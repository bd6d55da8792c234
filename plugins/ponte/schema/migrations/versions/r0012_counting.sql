-- Ponte, revision 0012: reference bins and counts of training windows, counts of batches.

SELECT 1;

-- Ponte, revision 0013: verdicts about drift, and what people declare normal.

SELECT 1;

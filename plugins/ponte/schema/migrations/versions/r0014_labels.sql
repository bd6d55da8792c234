-- Ponte, revision 0014: labels as they are seen.

SELECT 1;

-- Ponte, revision 0016: quality estimated before labels come.

SELECT 1;

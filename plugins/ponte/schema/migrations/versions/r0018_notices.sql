-- Ponte, revision 0018: what people are told.

SELECT 1;

-- Ponte, revision 0015: realised quality of batches.

SELECT 1;

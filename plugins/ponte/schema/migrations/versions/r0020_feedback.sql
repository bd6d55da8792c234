-- Ponte, revision 0020: what people say of predictions, and what windows cost.

SELECT 1;

-- Ponte, revision 0019: a challenger beside the champion.

SELECT 1;

-- Ponte, revision 0017: alarms.

SELECT 1;

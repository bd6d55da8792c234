-- The outcome of each departure of the window, as far as it was known at as_of.
-- A cancelled or diverted flight never arrives, so it is neither late nor on time: it has no label.
SELECT departure_id,
       (arrival_delay >= 15)::integer AS label,
       known_at AS labelled_at
FROM flights.departure
WHERE flight_date >= CAST(:window_start AS date)
  AND flight_date < CAST(:window_end AS date)
  AND status = 'arrived'
  AND known_at <= CAST(:as_of AS timestamptz)

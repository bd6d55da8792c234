-- The ten flights of the newest published week that were most likely to arrive late, and what happened to them.
SELECT airline.name AS airline,
       departure.carrier || ' ' || departure.flight AS flight,
       departure.origin,
       departure.dest,
       to_char(departure.scheduled_departure AT TIME ZONE airport.time_zone, 'Dy DD Mon HH24:MI') AS departs_local,
       round(prediction.score::numeric, 3) AS score,
       CASE
           WHEN departure.status <> 'arrived' THEN departure.status
           WHEN departure.arrival_delay > 0 THEN departure.arrival_delay || ' min late'
           WHEN departure.arrival_delay < 0 THEN -departure.arrival_delay || ' min early'
           ELSE 'on time'
       END AS happened
FROM predictions.flight_delay AS prediction
JOIN flights.departure USING (departure_id)
JOIN flights.airline USING (carrier)
JOIN flights.airport ON airport.faa = departure.origin
WHERE prediction.window_start = (SELECT max(window_start) FROM predictions.flight_delay)
ORDER BY prediction.score DESC, prediction.departure_id
LIMIT 10

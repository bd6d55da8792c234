-- Score and outcome of every published prediction whose flight arrived; ROC AUC per window_start is computed from it.
SELECT prediction.window_start,
       prediction.model_version,
       prediction.score::float8 AS score,
       (departure.arrival_delay >= 15)::integer AS label
FROM predictions.flight_delay AS prediction
JOIN flights.departure USING (departure_id)
WHERE departure.status = 'arrived'
ORDER BY prediction.window_start, prediction.departure_id

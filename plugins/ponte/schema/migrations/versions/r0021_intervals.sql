-- Ponte, revision 0021: regressions whose predictions come with an interval.

ALTER TABLE ponte.version
    ADD COLUMN interval double precision CHECK (interval >= 0.5 AND interval < 1),
    ADD COLUMN half_width double precision CHECK (half_width >= 0 AND half_width < 'Infinity'),
    ADD CONSTRAINT interval_of_a_regression CHECK (interval IS NULL OR task = 'regression'),
    ADD CONSTRAINT interval_has_a_width CHECK ((interval IS NULL) = (half_width IS NULL));
COMMENT ON COLUMN ponte.version.interval IS 'Share of outcomes that the interval of a prediction holds, on average over rows; NULL: its predictions have none.';
COMMENT ON COLUMN ponte.version.half_width IS 'How far low and high of its predictions lie from them, in units of the label; NULL: its predictions have no interval.';
COMMENT ON COLUMN ponte.version.calibration_rows IS 'Rows that calibrated the probabilities, set the threshold, or the width of the interval.';

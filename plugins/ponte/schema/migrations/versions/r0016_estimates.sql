-- Ponte, revision 0016: quality as estimated from the scores alone, before labels come.

CREATE TABLE ponte.estimate_sum (
    batch_id        bigint NOT NULL REFERENCES ponte.batch,
    shard           integer NOT NULL,
    sums            float8[] NOT NULL,
    method          text NOT NULL CHECK (method IN ('isotonic', 'error_model')),
    spread          jsonb NOT NULL,
    calibrated_on   text NOT NULL CHECK (calibrated_on IN ('calibration', 'holdout')),
    calibrated_rows bigint NOT NULL,
    PRIMARY KEY (batch_id, shard)
);
COMMENT ON TABLE ponte.estimate_sum IS 'Sums over the predictions of a shard, of which ponte.estimate is made. Committed with the shard: the sum over the shards is the batch. Append-only.';
COMMENT ON COLUMN ponte.estimate_sum.batch_id IS 'The batch.';
COMMENT ON COLUMN ponte.estimate_sum.shard IS 'Number of the shard, as in ponte.shard.';
COMMENT ON COLUMN ponte.estimate_sum.sums IS 'Rows, expected losses and their variances, and expected labels by class and score; in the order that estimation/sums.py says.';
COMMENT ON COLUMN ponte.estimate_sum.method IS 'As in ponte.estimate.';
COMMENT ON COLUMN ponte.estimate_sum.spread IS 'Metric → how far estimates of training windows were off, beyond the chance of their labels; a standard deviation.';
COMMENT ON COLUMN ponte.estimate_sum.calibrated_on IS 'As in ponte.estimate.';
COMMENT ON COLUMN ponte.estimate_sum.calibrated_rows IS 'As in ponte.estimate.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.estimate_sum
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

CREATE TABLE ponte.estimate (
    batch_id        bigint NOT NULL REFERENCES ponte.batch,
    metric          text NOT NULL,
    method          text NOT NULL CHECK (method IN ('isotonic', 'error_model')),
    value           float8 NOT NULL,
    low             float8 NOT NULL,
    high            float8 NOT NULL,
    calibrated_on   text NOT NULL CHECK (calibrated_on IN ('calibration', 'holdout')),
    calibrated_rows bigint NOT NULL,
    row_count       bigint NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (batch_id, metric, method)
);
COMMENT ON TABLE ponte.estimate IS 'What the quality of a batch probably is, estimated when it was scored, without its labels. It sees that the rows have changed, not that the same rows now end otherwise: never a substitute for realised quality. Append-only.';
COMMENT ON COLUMN ponte.estimate.batch_id IS 'The batch.';
COMMENT ON COLUMN ponte.estimate.metric IS 'Metric, as in ponte.metric.';
COMMENT ON COLUMN ponte.estimate.method IS 'isotonic: expected from scores that were calibrated by an isotonic regression; error_model: the mean error that a second model predicts from the features and the prediction.';
COMMENT ON COLUMN ponte.estimate.value IS 'The estimate, in the unit of the metric.';
COMMENT ON COLUMN ponte.estimate.low IS 'Lower end of its 95 % interval for what will be realised: chance of the labels, and how far estimates of training windows were off beyond it.';
COMMENT ON COLUMN ponte.estimate.high IS 'Upper end of that interval.';
COMMENT ON COLUMN ponte.estimate.calibrated_on IS 'Part of the training windows that it was calibrated on; never rows that were fitted on.';
COMMENT ON COLUMN ponte.estimate.calibrated_rows IS 'Rows of that part.';
COMMENT ON COLUMN ponte.estimate.row_count IS 'Predictions that it is the estimate of.';
COMMENT ON COLUMN ponte.estimate.created_at IS 'When it was made.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.estimate
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

-- Ponte, revision 0012: reference bins and counts of training windows, counts of batches.

CREATE TABLE ponte.reference_column (
    model       text NOT NULL,
    version     integer NOT NULL,
    family      text NOT NULL CHECK (family IN ('features', 'answers')),
    position    integer NOT NULL CHECK (position >= 0),
    column_name text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('number', 'boolean', 'age', 'length', 'value')),
    edges       float8[] NOT NULL,
    "values"    text[] NOT NULL,
    PRIMARY KEY (model, version, family, column_name),
    FOREIGN KEY (model, version) REFERENCES ponte.version
);
COMMENT ON TABLE ponte.reference_column IS 'The bins in which the columns of a version are counted, as found in its training rows. Written with the version. Append-only.';
COMMENT ON COLUMN ponte.reference_column.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.reference_column.version IS 'Version that the bins belong to.';
COMMENT ON COLUMN ponte.reference_column.family IS 'features: columns of features.sql; answers: prediction and scores.';
COMMENT ON COLUMN ponte.reference_column.position IS 'Place of the column in its family, from 0.';
COMMENT ON COLUMN ponte.reference_column.column_name IS 'Name of the feature; of an answer: prediction, score, or scores[1] and so on in the order of ponte.version.classes.';
COMMENT ON COLUMN ponte.reference_column.kind IS 'What is counted. number: the value itself; boolean: false is 0, true is 1; age: days from the date or timestamp to as_of; length: characters of a text; value: the text itself.';
COMMENT ON COLUMN ponte.reference_column.edges IS 'Edges between the bins, ascending: the first bin is below the first edge, the next ones begin with an edge. Empty for kind value.';
COMMENT ON COLUMN ponte.reference_column."values" IS 'Texts with a bin of their own, of kind value: at most 20, the most frequent, each of at least 20 training rows. Content of rows.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.reference_column
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

CREATE TABLE ponte.reference_count (
    model        text NOT NULL,
    version      integer NOT NULL,
    family       text NOT NULL,
    part         text NOT NULL CHECK (part IN ('fitting', 'calibration', 'holdout')),
    window_start date NOT NULL,
    column_name  text NOT NULL,
    counts       bigint[] NOT NULL CHECK (0 <= ALL (counts)),
    only_value   bigint,
    PRIMARY KEY (model, version, family, window_start, column_name),
    FOREIGN KEY (model, version, family, column_name) REFERENCES ponte.reference_column
);
COMMENT ON TABLE ponte.reference_count IS 'How many rows of a training window lie in each bin of a column. Answers have windows of calibration and holdout only. Written with the version. Append-only.';
COMMENT ON COLUMN ponte.reference_count.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.reference_count.version IS 'Version that was trained on the window.';
COMMENT ON COLUMN ponte.reference_count.family IS 'features or answers.';
COMMENT ON COLUMN ponte.reference_count.part IS 'What the window was used for: fitting, calibration or holdout.';
COMMENT ON COLUMN ponte.reference_count.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.reference_count.column_name IS 'Column, as in ponte.reference_column.';
COMMENT ON COLUMN ponte.reference_count.counts IS 'Rows per bin in the order of the bins, then of kind value those of any other text, and last those that are NULL or NaN.';
COMMENT ON COLUMN ponte.reference_count.only_value IS 'Digest of the one value that all rows have that are not NULL; NULL when they have several, or there are none.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.reference_count
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

CREATE TABLE ponte.batch_count (
    batch_id    bigint NOT NULL REFERENCES ponte.batch,
    shard       integer NOT NULL,
    family      text NOT NULL CHECK (family IN ('features', 'answers')),
    column_name text NOT NULL,
    counts      bigint[] NOT NULL CHECK (0 <= ALL (counts)),
    only_value  bigint,
    PRIMARY KEY (batch_id, shard, family, column_name)
);
COMMENT ON TABLE ponte.batch_count IS 'How many rows of a shard lie in each bin of a column of its version. Committed with the shard: the sum over the shards is the batch. Append-only.';
COMMENT ON COLUMN ponte.batch_count.batch_id IS 'The batch.';
COMMENT ON COLUMN ponte.batch_count.shard IS 'Number of the shard, as in ponte.shard.';
COMMENT ON COLUMN ponte.batch_count.family IS 'features: the rows that were read; answers: the rows that were predicted.';
COMMENT ON COLUMN ponte.batch_count.column_name IS 'Column, as in ponte.reference_column of the version.';
COMMENT ON COLUMN ponte.batch_count.counts IS 'Rows per bin, as in ponte.reference_count.';
COMMENT ON COLUMN ponte.batch_count.only_value IS 'Digest of the one value that all rows have that are not NULL; NULL when they have several, or there are none.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.batch_count
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

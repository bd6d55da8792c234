-- Ponte, revision 0011: versions that were fitted elsewhere, and the bytes that a person accepted for them.

CREATE TABLE ponte.imported_file (
    import_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model         text NOT NULL,
    sha256        text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    byte_count    bigint NOT NULL CHECK (byte_count > 0),
    format        text NOT NULL CHECK (format IN ('pickle', 'skops')),
    trained_until date NOT NULL,
    accepted_by   text NOT NULL,
    accepted_how  text NOT NULL CHECK (accepted_how IN ('digest', 'trust')),
    created_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ponte.imported_file IS 'Files of fitted estimators that a person accepted, one row per import, written before anything of the file is unpickled.';
COMMENT ON COLUMN ponte.imported_file.import_id IS 'Number of the import.';
COMMENT ON COLUMN ponte.imported_file.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.imported_file.sha256 IS 'SHA-256 of the file; only bytes with this digest are unpickled.';
COMMENT ON COLUMN ponte.imported_file.byte_count IS 'Size of the file in bytes.';
COMMENT ON COLUMN ponte.imported_file.format IS 'pickle (joblib and plain pickles), or skops.';
COMMENT ON COLUMN ponte.imported_file.trained_until IS 'Last day, UTC, of which the estimator has seen anything, as the person said.';
COMMENT ON COLUMN ponte.imported_file.accepted_by IS 'Login of the person on the machine of the import.';
COMMENT ON COLUMN ponte.imported_file.accepted_how IS 'digest: the person gave the SHA-256; trust: the person said that the file is to be trusted.';
COMMENT ON COLUMN ponte.imported_file.created_at IS 'When it was accepted.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.imported_file
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

ALTER TABLE ponte.version
    ADD COLUMN origin text NOT NULL DEFAULT 'trained' CHECK (origin IN ('trained', 'imported')),
    ADD COLUMN import_id bigint REFERENCES ponte.imported_file,
    ADD CONSTRAINT version_imported_has_import CHECK ((origin = 'imported') = (import_id IS NOT NULL));
COMMENT ON COLUMN ponte.version.origin IS 'trained: fitted by Ponte on its snapshot; imported: fitted elsewhere, and measured on the holdout of its snapshot.';
COMMENT ON COLUMN ponte.version.import_id IS 'The file it came from, of an imported version; else NULL.';

COMMENT ON COLUMN ponte.version.train_rows IS 'Rows fitted on; 0 of an imported version, of which nobody knows.';
COMMENT ON COLUMN ponte.metric.subject IS 'candidate; champion:<version>; baseline:constant; baseline:<column>; difference:<subject> (candidate minus subject, paired); feature:<column> (what it reaches alone); filled:<column> and missing:<column> (how far it is filled in, or missing, only where the outcome is the one that slice names); importance:<column> (what the candidate loses when it is shuffled); unused:<column> (no prediction depends on it).';

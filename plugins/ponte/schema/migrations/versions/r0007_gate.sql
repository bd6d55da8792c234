-- Ponte, revision 0007: what the gate says is true.

-- ---------------------------------------------------------------- the champion's own features

ALTER TABLE ponte.snapshot
    ADD COLUMN champion_event_id bigint REFERENCES ponte.alias_event,
    ADD COLUMN champion_version integer,
    ADD COLUMN champion_table text,
    ADD COLUMN champion_rows bigint CHECK (champion_rows >= 0),
    ADD COLUMN champion_why text,
    ADD COLUMN champion_path text,
    ADD COLUMN champion_sha256 text CHECK (champion_sha256 ~ '^[0-9a-f]{64}$'),
    ADD COLUMN champion_byte_count bigint,
    ADD FOREIGN KEY (model, champion_version) REFERENCES ponte.version,
    ADD CHECK ((champion_event_id IS NULL) = (champion_version IS NULL)),
    ADD CHECK ((champion_path IS NULL) = (champion_sha256 IS NULL));
COMMENT ON COLUMN ponte.snapshot.champion_event_id IS 'The alias event that had made the champion when the run began; NULL when there was none, and for training sets of before this column.';
COMMENT ON COLUMN ponte.snapshot.champion_version IS 'That champion: the holdout windows were frozen with its features.sql too, unless that is the same text.';
COMMENT ON COLUMN ponte.snapshot.champion_table IS 'Table in ponte_data that holds the features made by the champion''s own features.sql until they are written; else NULL.';
COMMENT ON COLUMN ponte.snapshot.champion_rows IS 'Labelled holdout rows that the champion''s own features.sql returns too; NULL when its text is the same, or could not be run.';
COMMENT ON COLUMN ponte.snapshot.champion_why IS 'Why the champion''s own features could not be frozen; else NULL.';
COMMENT ON COLUMN ponte.snapshot.champion_path IS 'Path below the artifact root of the Parquet file with the champion''s own features, named by its content; NULL when there is none.';
COMMENT ON COLUMN ponte.snapshot.champion_sha256 IS 'SHA-256 of that file.';
COMMENT ON COLUMN ponte.snapshot.champion_byte_count IS 'Size of that file in bytes.';

-- ---------------------------------------------------------------- a verdict has three outcomes

ALTER TABLE ponte.gate_verdict ADD COLUMN outcome text CHECK (outcome IN ('passed', 'refused', 'undecided'));
-- Nobody else can write while this transaction holds the table.
ALTER TABLE ponte.gate_verdict DISABLE TRIGGER append_only;
UPDATE ponte.gate_verdict SET outcome = CASE WHEN passed THEN 'passed' ELSE 'refused' END;
ALTER TABLE ponte.gate_verdict ENABLE TRIGGER append_only;
ALTER TABLE ponte.gate_verdict
    ALTER COLUMN outcome SET NOT NULL,
    ADD CHECK (passed = (outcome = 'passed'));
COMMENT ON COLUMN ponte.gate_verdict.passed IS 'True when the outcome is passed.';
COMMENT ON COLUMN ponte.gate_verdict.outcome IS 'passed: every rule did; refused: one did not; undecided: none refused, but the champion could not be compared. What is undecided is for a person to decide.';
COMMENT ON COLUMN ponte.gate_verdict.rules IS 'List of {rule, got, expected, passed, outcome, evidence}; without outcome in verdicts of before there was one.';

COMMENT ON COLUMN ponte.metric.subject IS 'candidate; champion:<version>; baseline:constant; baseline:<column>; difference:<subject> (candidate minus subject, paired); feature:<column> (what it reaches alone); filled:<column> and missing:<column> (how far it is filled in, or missing, only where the outcome is the one that slice names); importance:<column> (what the candidate loses when it is shuffled).';
COMMENT ON COLUMN ponte.metric.slice IS 'Part of the holdout, <column>=<value>; empty for the whole. Of filled and missing: label=<outcome>.';
COMMENT ON COLUMN ponte.metric.name IS 'roc_auc, log_loss, mae …; true_positives and its like count rows at the threshold; rows_per_second is the speed of predicting; for a champion also readable: 1 when it could predict these rows, else 0; one_outcome: 0 when the rows have the outcome as often as all rows, 1 when always.';

-- Ponte, revision 0001. People read predictions.*; the schema ponte keeps how they came about.

CREATE SCHEMA predictions;
CREATE SCHEMA ponte_data;
COMMENT ON SCHEMA ponte IS 'Registry and book-keeping of Ponte: versions, batches, publications and their evidence.';
COMMENT ON SCHEMA predictions IS 'What analysts read: one view per model, all windows, each whole or not at all.';
COMMENT ON SCHEMA ponte_data IS 'Rows of single batches: frozen inputs and the partitions behind predictions.*.';

-- ---------------------------------------------------------------- training

CREATE TABLE ponte.snapshot (
    snapshot_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model        text NOT NULL,
    run_id       text NOT NULL,
    as_of        timestamptz NOT NULL,
    status       text NOT NULL DEFAULT 'freezing'
                 CHECK (status IN ('freezing', 'frozen', 'checked', 'written', 'rejected', 'failed')),
    why          text,
    windows      jsonb NOT NULL,
    holdout_from date NOT NULL,
    frozen_table text,
    columns      jsonb,
    row_count    bigint CHECK (row_count >= 0),
    features_sql text NOT NULL,
    labels_sql   text NOT NULL,
    spec_digest  text NOT NULL,
    path         text,
    sha256       text CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    byte_count   bigint,
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (model, run_id),
    CHECK (status <> 'written' OR (path IS NOT NULL AND sha256 IS NOT NULL AND row_count IS NOT NULL))
);
COMMENT ON TABLE ponte.snapshot IS 'One row per training set: the exact rows, frozen, checked and kept as Parquet.';
COMMENT ON COLUMN ponte.snapshot.snapshot_id IS 'Number of the training set.';
COMMENT ON COLUMN ponte.snapshot.model IS 'Name of the model, that of its folder.';
COMMENT ON COLUMN ponte.snapshot.run_id IS 'Airflow run that built it; a retry of the run finds this row again.';
COMMENT ON COLUMN ponte.snapshot.as_of IS 'Moment of the training run; no label known later is in it.';
COMMENT ON COLUMN ponte.snapshot.status IS 'freezing → frozen → checked → written; or rejected or failed, with why.';
COMMENT ON COLUMN ponte.snapshot.why IS 'Reason of rejected or failed; else NULL.';
COMMENT ON COLUMN ponte.snapshot.windows IS 'List of {window_start, window_end, as_of, rows}, oldest first.';
COMMENT ON COLUMN ponte.snapshot.holdout_from IS 'First window_start of the holdout; earlier windows are for fitting.';
COMMENT ON COLUMN ponte.snapshot.frozen_table IS 'Table in ponte_data that holds the rows until they are written; then NULL.';
COMMENT ON COLUMN ponte.snapshot.columns IS 'Key, features and label with their type families.';
COMMENT ON COLUMN ponte.snapshot.row_count IS 'Labelled rows over all windows.';
COMMENT ON COLUMN ponte.snapshot.features_sql IS 'Text of features.sql that was run.';
COMMENT ON COLUMN ponte.snapshot.labels_sql IS 'Text of labels.sql that was run.';
COMMENT ON COLUMN ponte.snapshot.spec_digest IS 'SHA-256 of the model folder (without its README.md).';
COMMENT ON COLUMN ponte.snapshot.path IS 'Path of the Parquet file below the artifact root; named by its content.';
COMMENT ON COLUMN ponte.snapshot.sha256 IS 'SHA-256 of the Parquet file.';
COMMENT ON COLUMN ponte.snapshot.byte_count IS 'Size of the Parquet file in bytes.';
COMMENT ON COLUMN ponte.snapshot.created_at IS 'When the run began to build it.';

CREATE TABLE ponte.version (
    model            text NOT NULL,
    version          integer NOT NULL CHECK (version > 0),
    snapshot_id      bigint NOT NULL REFERENCES ponte.snapshot,
    train_key        text NOT NULL,
    task             text NOT NULL CHECK (task IN ('binary', 'regression')),
    path             text NOT NULL,
    manifest_sha256  text NOT NULL CHECK (manifest_sha256 ~ '^[0-9a-f]{64}$'),
    signature        jsonb NOT NULL,
    spec_digest      text NOT NULL,
    code_revision    text,
    libraries        jsonb NOT NULL,
    train_cutoff     timestamptz NOT NULL,
    train_rows       bigint NOT NULL,
    holdout_rows     bigint NOT NULL,
    byte_count       bigint NOT NULL,
    run_id           text NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, version),
    UNIQUE (model, train_key)
);
COMMENT ON TABLE ponte.version IS 'One row per immutable fitted model. Written last, after its files were read back.';
COMMENT ON COLUMN ponte.version.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.version.version IS '1, 2, 3 … per model.';
COMMENT ON COLUMN ponte.version.snapshot_id IS 'Training set it was fitted on.';
COMMENT ON COLUMN ponte.version.train_key IS 'SHA-256 over all that decides the fit (snapshot, folder, seed, libraries): training again on the same finds this version again.';
COMMENT ON COLUMN ponte.version.task IS 'binary or regression.';
COMMENT ON COLUMN ponte.version.path IS 'Artifact folder below the artifact root.';
COMMENT ON COLUMN ponte.version.manifest_sha256 IS 'SHA-256 of manifest.json, which holds the digest of every other file.';
COMMENT ON COLUMN ponte.version.signature IS 'Key, feature columns in their order, and the label, with type families.';
COMMENT ON COLUMN ponte.version.spec_digest IS 'SHA-256 of the model folder (without its README.md).';
COMMENT ON COLUMN ponte.version.code_revision IS 'Revision of the code that trained it; NULL when unknown.';
COMMENT ON COLUMN ponte.version.libraries IS 'Exact versions of Python and the libraries that fitted it.';
COMMENT ON COLUMN ponte.version.train_cutoff IS 'Latest label or feature time the fit has seen.';
COMMENT ON COLUMN ponte.version.train_rows IS 'Rows fitted on.';
COMMENT ON COLUMN ponte.version.holdout_rows IS 'Rows kept for evaluation.';
COMMENT ON COLUMN ponte.version.byte_count IS 'Size of the artifact folder in bytes.';
COMMENT ON COLUMN ponte.version.run_id IS 'Airflow run that trained it.';
COMMENT ON COLUMN ponte.version.created_at IS 'When it was registered.';

CREATE TABLE ponte.metric (
    model       text NOT NULL,
    version     integer NOT NULL,
    snapshot_id bigint NOT NULL REFERENCES ponte.snapshot,
    subject     text NOT NULL,
    name        text NOT NULL,
    value       double precision NOT NULL,
    row_count   bigint NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, version, snapshot_id, subject, name),
    FOREIGN KEY (model, version) REFERENCES ponte.version
);
COMMENT ON TABLE ponte.metric IS 'Measured on the holdout rows of a snapshot, all subjects on the same rows.';
COMMENT ON COLUMN ponte.metric.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.metric.version IS 'The candidate whose evaluation this is.';
COMMENT ON COLUMN ponte.metric.snapshot_id IS 'Whose holdout rows were used.';
COMMENT ON COLUMN ponte.metric.subject IS 'candidate; champion:<version>; baseline:constant; baseline:<column>.';
COMMENT ON COLUMN ponte.metric.name IS 'roc_auc, average_precision, brier, log_loss; mae, rmse, r2; for a champion also readable: 1 when it could predict these rows, else 0.';
COMMENT ON COLUMN ponte.metric.value IS 'The figure; its direction depends on the name.';
COMMENT ON COLUMN ponte.metric.row_count IS 'Holdout rows it was measured on.';
COMMENT ON COLUMN ponte.metric.at IS 'When it was measured.';

CREATE TABLE ponte.alias_event (
    event_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model             text NOT NULL,
    alias             text NOT NULL CHECK (alias IN ('champion', 'challenger')),
    version           integer NOT NULL,
    previous_version  integer,
    previous_event_id bigint REFERENCES ponte.alias_event,
    actor             text NOT NULL,
    reason            text NOT NULL,
    evidence          jsonb NOT NULL DEFAULT '{}',
    at                timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (model, version) REFERENCES ponte.version,
    FOREIGN KEY (model, previous_version) REFERENCES ponte.version,
    -- Each event has one successor: of two racing moves the second breaks this key. That is the compare-and-swap.
    UNIQUE NULLS NOT DISTINCT (model, alias, previous_event_id)
);
COMMENT ON TABLE ponte.alias_event IS 'Every move of an alias. Append-only; the newest event of an alias is where it points.';
COMMENT ON COLUMN ponte.alias_event.event_id IS 'Number of the event.';
COMMENT ON COLUMN ponte.alias_event.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.alias_event.alias IS 'champion or challenger.';
COMMENT ON COLUMN ponte.alias_event.version IS 'Where the alias points from now on.';
COMMENT ON COLUMN ponte.alias_event.previous_version IS 'Where it pointed before; NULL at its first event.';
COMMENT ON COLUMN ponte.alias_event.previous_event_id IS 'The event it follows; NULL at its first event.';
COMMENT ON COLUMN ponte.alias_event.actor IS 'Who moved it: an Airflow run or a person.';
COMMENT ON COLUMN ponte.alias_event.reason IS 'Why.';
COMMENT ON COLUMN ponte.alias_event.evidence IS 'Ids of the verdict and whatever else supported the move.';
COMMENT ON COLUMN ponte.alias_event.at IS 'When.';

CREATE TABLE ponte.gate_verdict (
    verdict_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model       text NOT NULL,
    version     integer NOT NULL,
    snapshot_id bigint NOT NULL REFERENCES ponte.snapshot,
    run_id      text NOT NULL,
    passed      boolean NOT NULL,
    champion_event_id bigint REFERENCES ponte.alias_event,
    rules       jsonb NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    UNIQUE (model, version, run_id),
    FOREIGN KEY (model, version) REFERENCES ponte.version
);
COMMENT ON TABLE ponte.gate_verdict IS 'What the gate said of a version, rule by rule. Append-only.';
COMMENT ON COLUMN ponte.gate_verdict.verdict_id IS 'Number of the verdict.';
COMMENT ON COLUMN ponte.gate_verdict.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.gate_verdict.version IS 'The version judged.';
COMMENT ON COLUMN ponte.gate_verdict.snapshot_id IS 'Whose holdout rows the figures come from.';
COMMENT ON COLUMN ponte.gate_verdict.run_id IS 'Airflow run that asked.';
COMMENT ON COLUMN ponte.gate_verdict.passed IS 'True when every rule passed.';
COMMENT ON COLUMN ponte.gate_verdict.champion_event_id IS 'The alias event that had made the champion it was compared with; NULL for none. Promotion requires that it is still the newest.';
COMMENT ON COLUMN ponte.gate_verdict.rules IS 'List of {rule, got, expected, passed}.';
COMMENT ON COLUMN ponte.gate_verdict.at IS 'When it was given.';

-- ---------------------------------------------------------------- scoring

CREATE TABLE ponte.claim (
    model        text NOT NULL,
    window_start date NOT NULL,
    epoch        bigint NOT NULL CHECK (epoch > 0),
    run_id       text NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, window_start)
);
COMMENT ON TABLE ponte.claim IS 'The fence: the newest run that claimed a window. Whoever holds an older epoch cannot publish.';
COMMENT ON COLUMN ponte.claim.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.claim.window_start IS 'First day of the window.';
COMMENT ON COLUMN ponte.claim.epoch IS 'Raised by one with each claim.';
COMMENT ON COLUMN ponte.claim.run_id IS 'Airflow run that holds the epoch.';
COMMENT ON COLUMN ponte.claim.at IS 'When it claimed.';

CREATE TABLE ponte.batch (
    batch_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model            text NOT NULL,
    window_start     date NOT NULL,
    window_end       date NOT NULL,
    as_of            timestamptz NOT NULL,
    run_id           text NOT NULL,
    epoch            bigint NOT NULL,
    version          integer NOT NULL,
    status           text NOT NULL DEFAULT 'freezing'
                     CHECK (status IN ('freezing', 'frozen', 'checked', 'scored', 'staged', 'rejected', 'failed')),
    why              text,
    columns          jsonb,
    frozen_table     text,
    prediction_table text,
    row_count        bigint CHECK (row_count >= 0),
    page_count       bigint CHECK (page_count >= 0),
    created_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (model, window_start, run_id),
    UNIQUE (model, window_start, epoch),
    FOREIGN KEY (model, version) REFERENCES ponte.version,
    CHECK (window_start < window_end),
    CHECK (status IN ('freezing', 'failed', 'rejected') OR row_count IS NOT NULL),
    CHECK (status NOT IN ('failed', 'rejected') OR why IS NOT NULL)
);
COMMENT ON TABLE ponte.batch IS 'One row per run and window: the entities of the window, frozen, checked, scored together.';
COMMENT ON COLUMN ponte.batch.batch_id IS 'Number of the batch; also in every prediction row.';
COMMENT ON COLUMN ponte.batch.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.batch.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.batch.window_end IS 'Day after the last day of the window, UTC.';
COMMENT ON COLUMN ponte.batch.as_of IS 'Moment of the prediction; the features use nothing recorded after it.';
COMMENT ON COLUMN ponte.batch.run_id IS 'Airflow run; a retry of the run finds this row again.';
COMMENT ON COLUMN ponte.batch.epoch IS 'Epoch this run claimed for the window.';
COMMENT ON COLUMN ponte.batch.version IS 'Version that scores it, pinned when the window was claimed.';
COMMENT ON COLUMN ponte.batch.status IS 'freezing → frozen → checked → scored → staged; or rejected or failed, with why.';
COMMENT ON COLUMN ponte.batch.why IS 'Reason of rejected or failed; else NULL.';
COMMENT ON COLUMN ponte.batch.columns IS 'Columns of features.sql with their type families.';
COMMENT ON COLUMN ponte.batch.frozen_table IS 'Table in ponte_data with the frozen rows; NULL once dropped.';
COMMENT ON COLUMN ponte.batch.prediction_table IS 'Table in ponte_data with the predictions; a partition once published.';
COMMENT ON COLUMN ponte.batch.row_count IS 'Rows frozen = rows published + rows quarantined.';
COMMENT ON COLUMN ponte.batch.page_count IS 'Pages of the frozen table; shards are ranges of them.';
COMMENT ON COLUMN ponte.batch.created_at IS 'When the run claimed the window.';

CREATE TABLE ponte.shard (
    batch_id   bigint NOT NULL REFERENCES ponte.batch,
    shard      integer NOT NULL CHECK (shard >= 0),
    first_page bigint NOT NULL,
    end_page   bigint NOT NULL,
    row_count  bigint NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (batch_id, shard),
    CHECK (first_page <= end_page)
);
COMMENT ON TABLE ponte.shard IS 'A scored page range of a frozen table; committed together with its predictions.';
COMMENT ON COLUMN ponte.shard.batch_id IS 'The batch.';
COMMENT ON COLUMN ponte.shard.shard IS '0, 1, 2 … within the batch.';
COMMENT ON COLUMN ponte.shard.first_page IS 'First page of the range.';
COMMENT ON COLUMN ponte.shard.end_page IS 'Page after the last of the range.';
COMMENT ON COLUMN ponte.shard.row_count IS 'Rows read, predicted and written.';
COMMENT ON COLUMN ponte.shard.at IS 'When it was committed.';

CREATE TABLE ponte.published (
    model        text NOT NULL,
    window_start date NOT NULL,
    batch_id     bigint NOT NULL UNIQUE REFERENCES ponte.batch,
    epoch        bigint NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, window_start)
);
COMMENT ON TABLE ponte.published IS 'The pointer: the batch that predictions.<model> shows for a window.';
COMMENT ON COLUMN ponte.published.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.published.window_start IS 'First day of the window.';
COMMENT ON COLUMN ponte.published.batch_id IS 'The batch that people see.';
COMMENT ON COLUMN ponte.published.epoch IS 'Epoch that published it.';
COMMENT ON COLUMN ponte.published.at IS 'When.';

CREATE TABLE ponte.publication_event (
    event_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model             text NOT NULL,
    window_start      date NOT NULL,
    batch_id          bigint NOT NULL REFERENCES ponte.batch,
    previous_batch_id bigint REFERENCES ponte.batch,
    row_count         bigint NOT NULL,
    actor             text NOT NULL,
    reason            text NOT NULL,
    at                timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE ponte.publication_event IS 'Every change of what people see. Append-only.';
COMMENT ON COLUMN ponte.publication_event.event_id IS 'Number of the event.';
COMMENT ON COLUMN ponte.publication_event.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.publication_event.window_start IS 'First day of the window.';
COMMENT ON COLUMN ponte.publication_event.batch_id IS 'What people see from then on.';
COMMENT ON COLUMN ponte.publication_event.previous_batch_id IS 'What they saw before; NULL for nothing.';
COMMENT ON COLUMN ponte.publication_event.row_count IS 'Predictions in the batch.';
COMMENT ON COLUMN ponte.publication_event.actor IS 'Who: an Airflow run or a person.';
COMMENT ON COLUMN ponte.publication_event.reason IS 'Why.';
COMMENT ON COLUMN ponte.publication_event.at IS 'When.';

-- ---------------------------------------------------------------- evidence

CREATE TABLE ponte.check_result (
    result_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id           bigint REFERENCES ponte.batch,
    snapshot_id        bigint REFERENCES ponte.snapshot,
    position           integer NOT NULL,
    expectation        text NOT NULL,
    arguments          jsonb NOT NULL,
    on_failure         text NOT NULL CHECK (on_failure IN ('stop', 'warn')),
    outcome            text NOT NULL CHECK (outcome IN ('passed', 'failed', 'error')),
    element_count      bigint,
    unexpected_count   bigint,
    observed           double precision,
    detail             text,
    at                 timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nonnulls(batch_id, snapshot_id) = 1),
    UNIQUE NULLS NOT DISTINCT (batch_id, snapshot_id, position)
);
COMMENT ON TABLE ponte.check_result IS 'What each expectation found in a frozen batch or training set. Counts, never values of rows.';
COMMENT ON COLUMN ponte.check_result.result_id IS 'Number of the result.';
COMMENT ON COLUMN ponte.check_result.batch_id IS 'The batch checked; NULL for a training set.';
COMMENT ON COLUMN ponte.check_result.snapshot_id IS 'The training set checked; NULL for a batch.';
COMMENT ON COLUMN ponte.check_result.position IS 'Place in model.toml, from 0; negative for the checks that every model gets.';
COMMENT ON COLUMN ponte.check_result.expectation IS 'Name of the expectation.';
COMMENT ON COLUMN ponte.check_result.arguments IS 'Its arguments.';
COMMENT ON COLUMN ponte.check_result.on_failure IS 'stop rejects, warn goes on.';
COMMENT ON COLUMN ponte.check_result.outcome IS 'passed, failed, or error when it could not be evaluated.';
COMMENT ON COLUMN ponte.check_result.element_count IS 'Rows looked at; NULL when the expectation has none.';
COMMENT ON COLUMN ponte.check_result.unexpected_count IS 'Rows that did not meet it; NULL when the expectation has none.';
COMMENT ON COLUMN ponte.check_result.observed IS 'Observed aggregate, when it is a number.';
COMMENT ON COLUMN ponte.check_result.detail IS 'For a check of the key the SQL that finds the rows; for one that could not be evaluated the error; else NULL.';
COMMENT ON COLUMN ponte.check_result.at IS 'When it was evaluated.';

CREATE TABLE ponte.quarantine (
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id      bigint NOT NULL REFERENCES ponte.batch,
    key           jsonb NOT NULL,
    reasons       jsonb NOT NULL,
    content       jsonb NOT NULL,
    at            timestamptz NOT NULL DEFAULT now(),
    closed_at     timestamptz
);
CREATE INDEX quarantine_batch ON ponte.quarantine (batch_id);
COMMENT ON TABLE ponte.quarantine IS 'Rows kept back from a batch, with their reasons. Rows frozen = published + quarantined.';
COMMENT ON COLUMN ponte.quarantine.quarantine_id IS 'Number of the entry.';
COMMENT ON COLUMN ponte.quarantine.batch_id IS 'The batch the row was kept back from.';
COMMENT ON COLUMN ponte.quarantine.key IS 'Key columns of the row.';
COMMENT ON COLUMN ponte.quarantine.reasons IS 'Why it was kept back.';
COMMENT ON COLUMN ponte.quarantine.content IS 'The row as it was frozen.';
COMMENT ON COLUMN ponte.quarantine.at IS 'When.';
COMMENT ON COLUMN ponte.quarantine.closed_at IS 'When a later batch scored the healed row; NULL while open.';

CREATE TABLE ponte.receipt (
    receipt_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model       text NOT NULL,
    step        text NOT NULL,
    batch_id    bigint REFERENCES ponte.batch,
    snapshot_id bigint REFERENCES ponte.snapshot,
    version     integer,
    row_count   bigint,
    seconds     double precision NOT NULL,
    cpu_seconds double precision NOT NULL,
    peak_bytes  bigint NOT NULL,
    byte_count  bigint,
    at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX receipt_batch ON ponte.receipt (batch_id);
COMMENT ON TABLE ponte.receipt IS 'What each finished step of a run cost. A step that ran twice has two receipts.';
COMMENT ON COLUMN ponte.receipt.receipt_id IS 'Number of the receipt.';
COMMENT ON COLUMN ponte.receipt.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.receipt.step IS 'freeze, check, snapshot, train, evaluate, score, guard or publish.';
COMMENT ON COLUMN ponte.receipt.batch_id IS 'The batch worked on; NULL in training.';
COMMENT ON COLUMN ponte.receipt.snapshot_id IS 'The training set worked on; NULL in scoring.';
COMMENT ON COLUMN ponte.receipt.version IS 'The version worked on, if any.';
COMMENT ON COLUMN ponte.receipt.row_count IS 'Rows handled.';
COMMENT ON COLUMN ponte.receipt.seconds IS 'Wall time in seconds.';
COMMENT ON COLUMN ponte.receipt.cpu_seconds IS 'CPU time of the task process in seconds, user and system.';
COMMENT ON COLUMN ponte.receipt.peak_bytes IS 'Peak resident memory of the task process in bytes.';
COMMENT ON COLUMN ponte.receipt.byte_count IS 'Bytes written, if any.';
COMMENT ON COLUMN ponte.receipt.at IS 'When the step ended.';

-- ---------------------------------------------------------------- append-only

CREATE FUNCTION ponte.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ponte.% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING HINT = 'History is corrected by appending a new event.';
END $$;
COMMENT ON FUNCTION ponte.refuse_change() IS 'Trigger of append-only tables.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.alias_event
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.publication_event
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.gate_verdict
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.version
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

-- ---------------------------------------------------------------- views for people

CREATE FUNCTION ponte.champion_at(model text, ts timestamptz) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT e.version FROM ponte.alias_event e
    WHERE e.model = champion_at.model AND e.alias = 'champion' AND e.at <= ts
    ORDER BY e.event_id DESC LIMIT 1
$$;
COMMENT ON FUNCTION ponte.champion_at(text, timestamptz) IS 'Version that was champion of the model at that moment; NULL for none.';

CREATE FUNCTION ponte.published_at(model text, ts timestamptz)
RETURNS TABLE (window_start date, batch_id bigint, version integer, published_at timestamptz) LANGUAGE sql STABLE AS $$
    SELECT DISTINCT ON (e.window_start) e.window_start, e.batch_id, b.version, e.at
    FROM ponte.publication_event e JOIN ponte.batch b USING (batch_id)
    WHERE e.model = published_at.model AND e.at <= ts
    ORDER BY e.window_start, e.event_id DESC
$$;
COMMENT ON FUNCTION ponte.published_at(text, timestamptz) IS 'What people saw at that moment: the batch of each window.';

CREATE VIEW ponte.champion AS
    SELECT DISTINCT ON (model) model, version, actor, reason, at AS since
    FROM ponte.alias_event WHERE alias = 'champion' ORDER BY model, event_id DESC;
COMMENT ON VIEW ponte.champion IS 'The version that scores now, per model.';

CREATE VIEW ponte.batch_overview AS
    SELECT b.batch_id, b.model, b.window_start, b.window_end, b.version, b.status, b.why,
           p.batch_id IS NOT NULL AS published, b.row_count AS rows_frozen,
           (SELECT sum(s.row_count) FROM ponte.shard s WHERE s.batch_id = b.batch_id) AS rows_scored,
           (SELECT count(*) FROM ponte.quarantine q WHERE q.batch_id = b.batch_id) AS rows_quarantined,
           r.seconds, r.cpu_seconds, r.peak_bytes, b.as_of, b.run_id, b.created_at, p.at AS published_at
    FROM ponte.batch b
    LEFT JOIN ponte.published p USING (batch_id)
    LEFT JOIN LATERAL (
        SELECT sum(seconds) AS seconds, sum(cpu_seconds) AS cpu_seconds, max(peak_bytes) AS peak_bytes
        FROM ponte.receipt WHERE batch_id = b.batch_id
    ) r ON true;
COMMENT ON VIEW ponte.batch_overview IS 'Every batch: state, rows, cost, and whether people see it.';

CREATE VIEW ponte.version_overview AS
    SELECT v.model, v.version, c.version IS NOT NULL AS champion, v.task,
           (SELECT jsonb_object_agg(m.name, m.value) FROM ponte.metric m
            WHERE m.model = v.model AND m.version = v.version AND m.snapshot_id = v.snapshot_id
              AND m.subject = 'candidate') AS metrics,
           g.passed AS gate_passed, v.train_rows, v.holdout_rows, v.train_cutoff, v.snapshot_id, s.as_of AS trained_as_of,
           v.code_revision, v.byte_count, v.created_at
    FROM ponte.version v
    JOIN ponte.snapshot s USING (snapshot_id)
    LEFT JOIN ponte.champion c ON c.model = v.model AND c.version = v.version
    LEFT JOIN LATERAL (
        SELECT passed FROM ponte.gate_verdict g
        WHERE g.model = v.model AND g.version = v.version ORDER BY verdict_id DESC LIMIT 1
    ) g ON true;
COMMENT ON VIEW ponte.version_overview IS 'Every version: figures on its holdout, verdict, lineage, and whether it is champion.';

COMMENT ON COLUMN ponte.champion.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.champion.version IS 'The version that scores now.';
COMMENT ON COLUMN ponte.champion.actor IS 'Who made it champion.';
COMMENT ON COLUMN ponte.champion.reason IS 'Why.';
COMMENT ON COLUMN ponte.champion.since IS 'Since when.';

COMMENT ON COLUMN ponte.batch_overview.batch_id IS 'Number of the batch.';
COMMENT ON COLUMN ponte.batch_overview.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.batch_overview.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.batch_overview.window_end IS 'Day after the last day of the window, UTC.';
COMMENT ON COLUMN ponte.batch_overview.version IS 'Version that scores it.';
COMMENT ON COLUMN ponte.batch_overview.status IS 'freezing → frozen → checked → scored → staged; or rejected or failed.';
COMMENT ON COLUMN ponte.batch_overview.why IS 'Reason of rejected or failed; else NULL.';
COMMENT ON COLUMN ponte.batch_overview.published IS 'True when people see it.';
COMMENT ON COLUMN ponte.batch_overview.rows_frozen IS 'Rows in the frozen table; NULL before it is frozen.';
COMMENT ON COLUMN ponte.batch_overview.rows_scored IS 'Rows of committed shards; NULL before the first.';
COMMENT ON COLUMN ponte.batch_overview.rows_quarantined IS 'Rows kept back.';
COMMENT ON COLUMN ponte.batch_overview.seconds IS 'Wall time of all its steps in seconds; NULL before the first has ended.';
COMMENT ON COLUMN ponte.batch_overview.cpu_seconds IS 'CPU time of all its steps in seconds.';
COMMENT ON COLUMN ponte.batch_overview.peak_bytes IS 'Largest resident memory of any of its steps in bytes.';
COMMENT ON COLUMN ponte.batch_overview.as_of IS 'Moment of the prediction.';
COMMENT ON COLUMN ponte.batch_overview.run_id IS 'Airflow run.';
COMMENT ON COLUMN ponte.batch_overview.created_at IS 'When the run claimed the window.';
COMMENT ON COLUMN ponte.batch_overview.published_at IS 'When it became what people see; NULL when they do not.';

COMMENT ON COLUMN ponte.version_overview.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.version_overview.version IS '1, 2, 3 … per model.';
COMMENT ON COLUMN ponte.version_overview.champion IS 'True when it scores now.';
COMMENT ON COLUMN ponte.version_overview.task IS 'binary or regression.';
COMMENT ON COLUMN ponte.version_overview.metrics IS 'Figures on its own holdout, by name; NULL before its evaluation.';
COMMENT ON COLUMN ponte.version_overview.gate_passed IS 'Newest verdict of the gate; NULL before the first.';
COMMENT ON COLUMN ponte.version_overview.train_rows IS 'Rows fitted on.';
COMMENT ON COLUMN ponte.version_overview.holdout_rows IS 'Rows kept for evaluation.';
COMMENT ON COLUMN ponte.version_overview.train_cutoff IS 'Latest label or feature time the fit has seen.';
COMMENT ON COLUMN ponte.version_overview.snapshot_id IS 'Training set it was fitted on.';
COMMENT ON COLUMN ponte.version_overview.trained_as_of IS 'Moment of the training run.';
COMMENT ON COLUMN ponte.version_overview.code_revision IS 'Revision of the code that trained it; NULL when unknown.';
COMMENT ON COLUMN ponte.version_overview.byte_count IS 'Size of the artifact folder in bytes.';
COMMENT ON COLUMN ponte.version_overview.created_at IS 'When it was registered.';

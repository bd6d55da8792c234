-- Ponte, revision 0019: a challenger beside the champion.

-- A challenger can be withdrawn: its alias then points to nothing. A champion is followed by a champion.
ALTER TABLE ponte.alias_event ALTER COLUMN version DROP NOT NULL,
    ADD CONSTRAINT champion_is_a_version CHECK (version IS NOT NULL OR alias = 'challenger');
COMMENT ON COLUMN ponte.alias_event.version IS 'Where the alias points from now on; NULL: there is no challenger any more.';
COMMENT ON COLUMN ponte.alias_event.previous_version IS 'Where it pointed before; NULL at its first event, and when there was no challenger.';

CREATE TABLE ponte.duel_batch (
    duel_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id         bigint NOT NULL REFERENCES ponte.batch,
    event_id         bigint NOT NULL REFERENCES ponte.alias_event,
    model            text NOT NULL,
    window_start     date NOT NULL,
    version          integer NOT NULL,
    own_rows         boolean,
    frozen_table     text,
    prediction_table text,
    status           text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'scored', 'failed')),
    why              text,
    row_count        bigint,
    unscored_rows    bigint,
    compared_rows    bigint,
    differing_rows   bigint,
    score_difference double precision,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    opened_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at      timestamptz,
    UNIQUE (batch_id, event_id),
    FOREIGN KEY (model, version) REFERENCES ponte.version,
    CHECK ((status = 'failed') = (why IS NOT NULL)),
    CHECK ((status = 'scored') = (num_nonnulls(row_count, unscored_rows, compared_rows, differing_rows) = 4)),
    CHECK (differing_rows <= compared_rows)
);
CREATE INDEX duel_batch_of_model ON ponte.duel_batch (model, window_start);
COMMENT ON TABLE ponte.duel_batch IS 'What a challenger predicts of a batch that the champion has published. It claims no window, and nobody is sent to its predictions.';
COMMENT ON COLUMN ponte.duel_batch.duel_id IS 'Number of the comparison of one window.';
COMMENT ON COLUMN ponte.duel_batch.batch_id IS 'The batch of the champion that it is held against.';
COMMENT ON COLUMN ponte.duel_batch.event_id IS 'The alias event that had made the version challenger: all windows of one event are one duel.';
COMMENT ON COLUMN ponte.duel_batch.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.duel_batch.window_start IS 'First day of the window, UTC.';
COMMENT ON COLUMN ponte.duel_batch.version IS 'The challenger.';
COMMENT ON COLUMN ponte.duel_batch.own_rows IS 'False: it read the frozen rows of the champion; true: rows of its own features.sql, for the same window and as_of. NULL before it has begun to read.';
COMMENT ON COLUMN ponte.duel_batch.frozen_table IS 'Table in ponte_data of the rows that it reads; the champion''s is kept while the duel is open, at most 24 hours. NULL once it is not needed any more.';
COMMENT ON COLUMN ponte.duel_batch.prediction_table IS 'Table in ponte_data of what it predicts; NULL before there is one, and after it was dropped with the predictions of the batch.';
COMMENT ON COLUMN ponte.duel_batch.status IS 'open; scored; or failed: clearing the task duel tries again.';
COMMENT ON COLUMN ponte.duel_batch.why IS 'Why it failed; else NULL.';
COMMENT ON COLUMN ponte.duel_batch.row_count IS 'Rows that it was asked about.';
COMMENT ON COLUMN ponte.duel_batch.unscored_rows IS 'Of these: rows that it could not predict.';
COMMENT ON COLUMN ponte.duel_batch.compared_rows IS 'Rows that both have predicted.';
COMMENT ON COLUMN ponte.duel_batch.differing_rows IS 'Of compared_rows: those with another prediction.';
COMMENT ON COLUMN ponte.duel_batch.score_difference IS 'Mean absolute difference of the scores of both, of the class probabilities half of their summed difference, in a regression of the predictions. NULL without compared rows, or where one has no score.';
COMMENT ON COLUMN ponte.duel_batch.created_at IS 'When it began.';
COMMENT ON COLUMN ponte.duel_batch.opened_at IS 'When it was last opened: at first, or again after a failure.';
COMMENT ON COLUMN ponte.duel_batch.finished_at IS 'When it was scored, or failed; NULL while it is open.';

CREATE TABLE ponte.duel_figure (
    duel_id          bigint NOT NULL REFERENCES ponte.duel_batch,
    maturity_days    integer NOT NULL CHECK (maturity_days >= 0),
    metric           text NOT NULL,
    champion_value   double precision NOT NULL,
    challenger_value double precision NOT NULL,
    difference       double precision NOT NULL,
    low              double precision,
    high             double precision,
    labelled_rows    bigint NOT NULL CHECK (labelled_rows > 0),
    label_digest     bigint NOT NULL,
    as_of            timestamptz NOT NULL,
    computed_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (duel_id, maturity_days, metric, as_of),
    CHECK (num_nonnulls(low, high) IN (0, 2))
);
COMMENT ON TABLE ponte.duel_figure IS 'Champion and challenger on the same labelled rows of one window, by the age of labels. Append-only.';
COMMENT ON COLUMN ponte.duel_figure.duel_id IS 'The window of a duel.';
COMMENT ON COLUMN ponte.duel_figure.maturity_days IS 'Only labels known before window_end plus so many days count.';
COMMENT ON COLUMN ponte.duel_figure.metric IS 'Name of the figure, as in ponte.metric.';
COMMENT ON COLUMN ponte.duel_figure.champion_value IS 'That of the champion.';
COMMENT ON COLUMN ponte.duel_figure.challenger_value IS 'That of the challenger.';
COMMENT ON COLUMN ponte.duel_figure.difference IS 'Challenger minus champion.';
COMMENT ON COLUMN ponte.duel_figure.low IS 'Lower end of its interval, from paired resamples, of confidence [evaluation] confidence; NULL for too few rows.';
COMMENT ON COLUMN ponte.duel_figure.high IS 'Upper end of its interval; NULL for too few rows.';
COMMENT ON COLUMN ponte.duel_figure.labelled_rows IS 'Rows with a label that both have predicted.';
COMMENT ON COLUMN ponte.duel_figure.label_digest IS 'Digest of the label_id that counted: the same digest, the same labels.';
COMMENT ON COLUMN ponte.duel_figure.as_of IS 'Moment of the reading of labels that it rests on.';
COMMENT ON COLUMN ponte.duel_figure.computed_at IS 'When it was computed.';

CREATE TABLE ponte.duel_look (
    event_id         bigint NOT NULL REFERENCES ponte.alias_event,
    champion_version integer NOT NULL,
    window_count     integer NOT NULL CHECK (window_count > 0),
    metric           text NOT NULL,
    maturity_days    integer NOT NULL CHECK (maturity_days >= 0),
    confidence       double precision NOT NULL,
    champion_value   double precision NOT NULL,
    challenger_value double precision NOT NULL,
    difference       double precision NOT NULL,
    low              double precision,
    high             double precision,
    labelled_rows    bigint NOT NULL CHECK (labelled_rows > 0),
    as_of            timestamptz NOT NULL,
    computed_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (event_id, champion_version, window_count, metric),
    CHECK (num_nonnulls(low, high) IN (0, 2))
);
COMMENT ON TABLE ponte.duel_look IS 'Champion and challenger on the labelled rows of all judged windows of a duel, at the moments at which it may be decided. Append-only.';
COMMENT ON COLUMN ponte.duel_look.event_id IS 'The alias event that had made the version challenger.';
COMMENT ON COLUMN ponte.duel_look.champion_version IS 'The champion that it was held against.';
COMMENT ON COLUMN ponte.duel_look.window_count IS 'How many windows, the oldest of the duel: [gate] duel_windows, or twice as many.';
COMMENT ON COLUMN ponte.duel_look.metric IS 'Name of the figure, as in ponte.metric.';
COMMENT ON COLUMN ponte.duel_look.maturity_days IS 'Age of labels at which they were compared: the first of [monitoring] maturities.';
COMMENT ON COLUMN ponte.duel_look.confidence IS 'Confidence of the interval. There are two looks, so each may err half as often as [evaluation] confidence says.';
COMMENT ON COLUMN ponte.duel_look.champion_value IS 'That of the champion.';
COMMENT ON COLUMN ponte.duel_look.challenger_value IS 'That of the challenger.';
COMMENT ON COLUMN ponte.duel_look.difference IS 'Challenger minus champion.';
COMMENT ON COLUMN ponte.duel_look.low IS 'Lower end of its interval, from paired resamples; NULL for too few rows.';
COMMENT ON COLUMN ponte.duel_look.high IS 'Upper end of its interval; NULL for too few rows.';
COMMENT ON COLUMN ponte.duel_look.labelled_rows IS 'Rows with a label that both have predicted.';
COMMENT ON COLUMN ponte.duel_look.as_of IS 'Newest moment of a reading of labels that it rests on.';
COMMENT ON COLUMN ponte.duel_look.computed_at IS 'When it was computed.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.duel_figure
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.duel_look
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

COMMENT ON COLUMN ponte.receipt.step IS 'freeze, check, snapshot, train, evaluate, plan, score, guard, publish, duel, read_labels, measure or measure_duels.';

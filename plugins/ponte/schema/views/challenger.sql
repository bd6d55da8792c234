CREATE OR REPLACE VIEW ponte.challenger WITH (security_barrier) AS
    SELECT * FROM (
        SELECT DISTINCT ON (model) model, version, actor, reason, at AS since, event_id
        FROM ponte.alias_event WHERE alias = 'challenger' ORDER BY model, alias_event.event_id DESC
    ) newest
    WHERE version IS NOT NULL;

COMMENT ON VIEW ponte.challenger IS 'The version that is held against the champion each week, per model; no row of a model without one.';
COMMENT ON COLUMN ponte.challenger.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.challenger.version IS 'The challenger.';
COMMENT ON COLUMN ponte.challenger.actor IS 'Who made it challenger.';
COMMENT ON COLUMN ponte.challenger.reason IS 'Why.';
COMMENT ON COLUMN ponte.challenger.since IS 'Since when.';
COMMENT ON COLUMN ponte.challenger.event_id IS 'The alias event: the number of the duel.';

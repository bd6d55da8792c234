CREATE OR REPLACE VIEW ponte.champion WITH (security_barrier) AS
    SELECT DISTINCT ON (model) model, version, actor, reason, at AS since
    FROM ponte.alias_event WHERE alias = 'champion' ORDER BY model, event_id DESC;

COMMENT ON VIEW ponte.champion IS 'The version that scores now, per model.';
COMMENT ON COLUMN ponte.champion.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.champion.version IS 'The version that scores now.';
COMMENT ON COLUMN ponte.champion.actor IS 'Who made it champion.';
COMMENT ON COLUMN ponte.champion.reason IS 'Why.';
COMMENT ON COLUMN ponte.champion.since IS 'Since when.';

CREATE OR REPLACE VIEW ponte.queue_in WITH (security_barrier) AS
    SELECT NULL::text AS model, NULL::jsonb AS key, NULL::jsonb AS features, NULL::integer AS priority, NULL::uuid AS request_id
    WHERE false;

CREATE OR REPLACE TRIGGER put INSTEAD OF INSERT ON ponte.queue_in FOR EACH ROW EXECUTE FUNCTION ponte.put_queue_in();
CREATE OR REPLACE TRIGGER ended AFTER INSERT ON ponte.queue_in FOR EACH STATEMENT EXECUTE FUNCTION ponte.end_queue_in();

COMMENT ON VIEW ponte.queue_in IS 'Where requests go in by the thousand: COPY ponte.queue_in (model, key, features, priority) FROM ..., or INSERT ... RETURNING request_id. Shows nothing.';
COMMENT ON COLUMN ponte.queue_in.model IS 'Name of the model.';
COMMENT ON COLUMN ponte.queue_in.key IS 'Key of the row, an object; NULL for none.';
COMMENT ON COLUMN ponte.queue_in.features IS 'Its features, an object.';
COMMENT ON COLUMN ponte.queue_in.priority IS '0 to 9, the greater the sooner; NULL is 0.';
COMMENT ON COLUMN ponte.queue_in.request_id IS 'What INSERT ... RETURNING gives; not to be given.';

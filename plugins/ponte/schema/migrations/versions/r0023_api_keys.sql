-- Ponte, revision 0023: keys of the live API; who listens hears that a champion has moved.

CREATE TABLE ponte.api_key (
    key_id     uuid PRIMARY KEY DEFAULT uuidv7(),
    name       text NOT NULL CHECK (name <> '' AND length(name) <= 100),
    models     text[] NOT NULL DEFAULT '{}',
    sha256     bytea NOT NULL UNIQUE CHECK (length(sha256) = 32),
    per_minute integer NOT NULL CHECK (per_minute > 0),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    created_by text NOT NULL
);
COMMENT ON TABLE ponte.api_key IS 'Keys by which programs and people ask the live API. A key itself is shown once and kept nowhere. Append-only.';
COMMENT ON COLUMN ponte.api_key.key_id IS 'Names the key where it is listed and revoked; says nothing of the key itself.';
COMMENT ON COLUMN ponte.api_key.name IS 'Whose key it is, or what for.';
COMMENT ON COLUMN ponte.api_key.models IS 'Names of the models that it may ask; empty for all.';
COMMENT ON COLUMN ponte.api_key.sha256 IS 'SHA-256 of the key, which has 256 random bits.';
COMMENT ON COLUMN ponte.api_key.per_minute IS 'Rows that it may ask for within a minute, of each process of the API.';
COMMENT ON COLUMN ponte.api_key.created_at IS 'When it was made.';
COMMENT ON COLUMN ponte.api_key.expires_at IS 'From this moment on it is not taken any more; NULL for never.';
COMMENT ON COLUMN ponte.api_key.created_by IS 'Who made it.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.api_key
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

CREATE TABLE ponte.api_key_revoked (
    key_id     uuid PRIMARY KEY REFERENCES ponte.api_key,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_by text NOT NULL
);
COMMENT ON TABLE ponte.api_key_revoked IS 'Keys that are not taken any more. Append-only: a key that is revoked stays so.';
COMMENT ON COLUMN ponte.api_key_revoked.key_id IS 'The key.';
COMMENT ON COLUMN ponte.api_key_revoked.at IS 'When it was revoked.';
COMMENT ON COLUMN ponte.api_key_revoked.revoked_by IS 'Who revoked it.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ponte.api_key_revoked
    FOR EACH STATEMENT EXECUTE FUNCTION ponte.refuse_change();

-- The name of the model says where to look, no more: what is behind a pooler, and hears nothing, looks every second.
CREATE FUNCTION ponte.tell_of_alias() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('ponte_alias', NEW.model);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION ponte.tell_of_alias() IS 'Trigger: tells who listens to the channel ponte_alias that an alias of the model has moved, or that the model has been marked.';
CREATE TRIGGER tell AFTER INSERT ON ponte.alias_event FOR EACH ROW EXECUTE FUNCTION ponte.tell_of_alias();
CREATE TRIGGER tell AFTER INSERT ON ponte.version_mark FOR EACH ROW EXECUTE FUNCTION ponte.tell_of_alias();

-- Who has made a key, or revoked one, means from now on.
CREATE FUNCTION ponte.tell_of_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('ponte_alias', '');
    RETURN NULL;
END $$;
COMMENT ON FUNCTION ponte.tell_of_key() IS 'Trigger: tells who listens to the channel ponte_alias that keys of the API have changed.';
CREATE TRIGGER tell AFTER INSERT ON ponte.api_key FOR EACH STATEMENT EXECUTE FUNCTION ponte.tell_of_key();
CREATE TRIGGER tell AFTER INSERT ON ponte.api_key_revoked FOR EACH STATEMENT EXECUTE FUNCTION ponte.tell_of_key();

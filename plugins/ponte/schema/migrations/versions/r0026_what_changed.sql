-- Its body reads a view, and views are made when the last revision has run.
SET LOCAL check_function_bodies = off;

CREATE FUNCTION ponte.what_changed(model text, since timestamptz DEFAULT '-infinity')
RETURNS TABLE (at timestamptz, window_start date, version integer, what text, actor text, reason text)
LANGUAGE sql STABLE AS $$
    SELECT c.at, c.window_start, c.version, c.what, c.actor, c.reason FROM ponte.change c
    WHERE c.model = what_changed.model AND c.at >= what_changed.since ORDER BY c.at
$$;
COMMENT ON FUNCTION ponte.what_changed(text, timestamptz) IS 'What has changed since a moment of what people see, or may see, of a model: in words, the oldest first.';

-- Ponte, revision 0008: what training leaves out, by reason; and what people saw of windows that retention has dropped.

ALTER TABLE ponte.snapshot
    ADD COLUMN feature_rows bigint,
    ADD COLUMN no_label_rows bigint CHECK (no_label_rows >= 0),
    ADD COLUMN null_label_rows bigint CHECK (null_label_rows >= 0),
    ADD COLUMN late_label_rows bigint CHECK (late_label_rows >= 0),
    ADD COLUMN set_aside_rows bigint CHECK (set_aside_rows >= 0),
    ADD CONSTRAINT snapshot_rows_are_counted_all_or_none
        CHECK (num_nonnulls(feature_rows, no_label_rows, null_label_rows, late_label_rows, set_aside_rows) IN (0, 5)),
    ADD CONSTRAINT snapshot_rows_add_up
        CHECK (feature_rows = row_count + no_label_rows + null_label_rows + late_label_rows + set_aside_rows);
COMMENT ON COLUMN ponte.snapshot.windows IS 'List of {window_start, window_end, as_of, rows, features, left_out}, oldest first; left_out is {no_label, null_label, late_label, set_aside}. The last two are missing before revision 0008.';
COMMENT ON COLUMN ponte.snapshot.row_count IS 'Labelled rows over all windows: feature_rows without those that are left out.';
COMMENT ON COLUMN ponte.snapshot.feature_rows IS 'Rows that features.sql returned, over all windows; NULL before they are frozen, and before revision 0008.';
COMMENT ON COLUMN ponte.snapshot.no_label_rows IS 'Of these left out: labels.sql returned no row of their key.';
COMMENT ON COLUMN ponte.snapshot.null_label_rows IS 'Of these left out: their label is NULL.';
COMMENT ON COLUMN ponte.snapshot.late_label_rows IS 'Of these left out: their label became known after as_of.';
COMMENT ON COLUMN ponte.snapshot.set_aside_rows IS 'Of these left out: a check set them aside; see ponte.quarantine.';

-- A window that retention has dropped while people saw it shows nothing from then on.
CREATE OR REPLACE FUNCTION ponte.published_at(model text, ts timestamptz)
RETURNS TABLE (window_start date, batch_id bigint, version integer, published_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT shown.window_start, shown.batch_id, b.version, shown.at
    FROM (
        SELECT DISTINCT ON (e.window_start) e.window_start, e.batch_id, e.at
        FROM ponte.publication_event e
        WHERE e.model = published_at.model AND e.at <= ts
        ORDER BY e.window_start, e.event_id DESC
    ) shown JOIN ponte.batch b USING (batch_id)
    WHERE NOT EXISTS (
        SELECT FROM ponte.retention_event r WHERE r.batch_id = shown.batch_id AND r.published AND r.at <= ts
    )
    ORDER BY shown.window_start
$$;
COMMENT ON FUNCTION ponte.published_at(text, timestamptz) IS 'What people saw at that moment: the batch of each window; none of a window that retention had dropped by then.';

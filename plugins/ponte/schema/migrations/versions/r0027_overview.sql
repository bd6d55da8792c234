-- Ponte, revision 0027: what pages over many models and years look up. The view window_overview is written otherwise, too.

CREATE INDEX publication_event_of_window ON ponte.publication_event (model, window_start, event_id);
CREATE INDEX receipt_of_version ON ponte.receipt (model, version, step) WHERE version IS NOT NULL;

"""Where things are kept: the database, files with digests, receipts."""

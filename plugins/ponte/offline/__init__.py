"""Score a file with a registered version; nothing is written to the database."""

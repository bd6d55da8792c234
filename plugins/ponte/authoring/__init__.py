"""A model folder is written from a table, and tried before anything is trained."""

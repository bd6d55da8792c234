"""Ponte: keyed, versioned, idempotent, reversible weekly predictions in PostgreSQL."""

"""Rows that are asked for one by one: read, kept, counted."""

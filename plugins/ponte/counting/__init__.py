"""Counts of columns in bins: of the windows that a version was trained on, and of batches."""

"""Versions, batches and windows of the moment, to choose from."""

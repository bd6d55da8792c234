"""From frozen rows to prediction rows."""

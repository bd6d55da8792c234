"""A backup of the database `ponte` with its artifacts, and the way back."""

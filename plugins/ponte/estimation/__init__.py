"""Quality estimated before labels come."""

"""Quality as estimated from the predictions alone, before labels come."""

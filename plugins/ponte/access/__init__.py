"""Who may ask the API, and how much."""

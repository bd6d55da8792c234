"""What the pages show, read from the database: rows → frozen dataclasses, a few queries for each page."""

"""A version is made."""

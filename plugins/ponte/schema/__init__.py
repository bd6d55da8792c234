"""Ponte's tables, and the roles that may use them."""

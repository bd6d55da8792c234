"""The live API."""

"""Versions that come from elsewhere, and versions that go there."""

"""The versions of a model, and two of them beside each other."""

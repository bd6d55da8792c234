"""A challenger beside the champion on the same windows."""

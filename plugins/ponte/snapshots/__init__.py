"""The rows of training windows: frozen with their labels, checked, kept for good."""

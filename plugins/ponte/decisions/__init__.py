"""Who says so: the gate, people, and the way back."""

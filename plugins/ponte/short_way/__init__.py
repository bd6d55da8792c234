"""A fitted pipeline as a few array operations that give the same bits, where they are known."""

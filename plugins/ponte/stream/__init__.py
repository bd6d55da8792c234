"""The priority queue and its workers."""

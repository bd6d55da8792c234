"""One window: its batches, what people saw when, checks, guards, scores, rows set aside, steps."""

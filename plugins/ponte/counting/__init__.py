"""Values counted per bin: of training windows, and of batches as they are scored."""

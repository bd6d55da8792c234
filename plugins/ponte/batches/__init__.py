"""The rows of one window: claimed, frozen, checked."""

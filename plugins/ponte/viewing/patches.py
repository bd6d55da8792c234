"""What changed between the folders of two versions."""

"""What is shown as HTML."""

"""What a decision would do, in words, before it is made."""

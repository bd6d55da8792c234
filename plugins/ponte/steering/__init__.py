"""What a person may decide: which forms there are, what one may choose from, and what a choice would do."""

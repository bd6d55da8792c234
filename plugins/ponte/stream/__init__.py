"""The queue: requests are taken by rank, answered, and gone, in one transaction."""

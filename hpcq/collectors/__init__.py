"""The environments of one rank, stepped one tick at a time."""

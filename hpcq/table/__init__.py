"""The rows of one rank."""

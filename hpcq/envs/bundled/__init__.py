"""The environments that hpcq brings, one family to a file."""

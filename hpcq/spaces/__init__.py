"""Observations and actions as numbers, and back."""

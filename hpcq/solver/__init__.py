"""Exact solutions: all states that can be reached, and the fixed point of their values."""

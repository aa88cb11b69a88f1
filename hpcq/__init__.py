"""Distributed tabular Q-learning: a hash-partitioned table over MPI ranks."""

__version__ = "0.1.0"

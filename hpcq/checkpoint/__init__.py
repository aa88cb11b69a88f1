"""Checkpoints: one HDF5 file, written by all ranks, readable on any number of them."""

"""One HDF5 file: written by every rank, read by anybody."""

"""h5py, imported so that it neither locks files nor loads plugins.

Locks fail on many shared file systems; hpcq coordinates its writers itself.
"""

import os

os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")

import h5py

HAS_MPI: bool = h5py.get_config().mpi

__all__ = ["HAS_MPI", "h5py"]

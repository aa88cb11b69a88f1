from hpcq.checkpoint.h5 import HAS_MPI

collect_ignore = ["test_serial_h5py.py"] if HAS_MPI else []

"""Write the API reference, a page for each module, from the docstrings. Starts no MPI.

    python tests/support/api_reference.py build/api

`pdoc hpcq` alone would write one page: it leaves out modules that `__all__` does not name, and
names that are loaded when they are first used.
"""

import sys
import warnings
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import mpi4py
import pdoc

import hpcq

mpi4py.rc.initialize = mpi4py.rc.finalize = False


def write(folder):
    """Write the pages; return the number of modules."""
    for name in hpcq.__all__:
        setattr(hpcq, name, getattr(hpcq, name))
    names = [found.name for found in walk_packages(hpcq.__path__, "hpcq.")]
    names.remove("hpcq.__main__")
    for name in names:
        vars(import_module(name)).pop("__all__", None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The module specification")
        pdoc.pdoc("hpcq", *names, output_directory=Path(folder))
    return len(names)


if __name__ == "__main__":
    print(f"{write(sys.argv[1])} modules: {sys.argv[1]}/hpcq.html")

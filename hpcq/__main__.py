"""``python -m hpcq`` is ``hpcq``."""

import os
import sys

# Python has put the working folder first: what lies there must not stand in for a library.
if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]

from hpcq.cli import main

main()

"""``python -m hpcq`` is ``hpcq``."""

from hpcq.cli import main

main()

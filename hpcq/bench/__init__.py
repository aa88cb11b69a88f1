"""``hpcq bench``: how fast hpcq is on this machine, and how fast it could be."""

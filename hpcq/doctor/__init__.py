"""``hpcq doctor``: check the machine, the libraries and the launcher, on the ranks themselves."""

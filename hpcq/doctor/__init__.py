"""``hpcq doctor``: what a support engineer would look at, on the ranks themselves."""

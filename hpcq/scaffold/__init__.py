"""A first job file for an environment, from a look at it: ``hpcq init``."""

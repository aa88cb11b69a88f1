"""``hpcq init``: profile an environment, suggest a first job for it, write the job file."""

"""The behaviour policies, one to a file; the file's name is the job's `exploration.policy`."""

"""The job file: its keys, checked in full before anything starts."""

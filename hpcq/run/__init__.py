"""A job from its start to its end: directory, lock, watchdog, reports, checkpoints."""

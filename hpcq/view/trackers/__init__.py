"""One file for each tracker: a class `Sender`, made once, called with each run."""

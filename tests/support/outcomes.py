"""What a run came to, as its files tell it."""

import json

from hpcq.checkpoint.verification import verify
from hpcq.mpi import on_root
from hpcq.run import metrics_files


class StopAt(list):
    """A list of stop signals: it is asked once in a tick, and one comes after so many."""

    def __init__(self, ticks):
        super().__init__()
        self._left = ticks

    def __bool__(self):
        self._left -= 1
        return self._left <= 0


def silent(text):
    """Print nothing."""


def outcome(directory):
    """Return how a run ended, and each evaluation."""
    found = json.loads((directory / "summary.json").read_text())
    keys = ("steps", "ended_by", "digest", "best_return", "best_step")
    lines = metrics_files.read(directory)
    steps = [line["step"] for line in lines]
    assert steps == sorted(set(steps))
    evaluations = [
        (line["step"], line["evaluation_return"], line["evaluation_length"])
        for line in lines
        if line["evaluation_return"] is not None
    ]
    return {key: found[key] for key in keys}, evaluations


def verified(path, comm):
    """Return the header and the digest of a file, which must be whole; collective.

    Each process that looks into a file starts a child for it.
    """
    return on_root(comm, lambda: verify(path))

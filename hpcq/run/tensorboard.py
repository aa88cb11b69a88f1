"""The metrics as TensorBoard event files in the run directory (`run.tensorboard`)."""

from pathlib import Path
from typing import Any

from hpcq.errors import DependencyError

FOLDER = "tensorboard"

# The group of a key in TensorBoard, by its prefix; the others are in "run".
_GROUPS = (
    ("mean_", "training"),
    ("info_", "training"),
    ("episodes", "training"),
    ("evaluation_", "evaluation"),
    ("best_return", "evaluation"),
    ("epsilon", "learning"),
    ("learning_rate", "learning"),
    ("rows_", "ranks"),
    ("messages_", "ranks"),
    ("busy_ns_", "ranks"),
    ("ns_", "phases"),
)
_LEFT_OUT = ("step", "tick", "time", "checkpoint_step", "best_step")


class TensorBoard:
    """Writes one event file per process of the run.

    Parameters
    ----------
    step
        at which the run resumes: TensorBoard ignores what is later in older files.

    Raises
    ------
    DependencyError
        if tensorboardX is not there.
    """

    def __init__(self, directory: Path, step: int) -> None:
        check()
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(directory / FOLDER), purge_step=step + 1)

    def add(self, line: dict[str, Any]) -> None:
        """Add a line of the metrics."""
        for key, value in line.items():
            if key not in _LEFT_OUT and value is not None:
                tag = f"{_group(key)}/{key}"
                self._writer.add_scalar(tag, value, line["step"], walltime=line["time"])
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def check() -> None:
    """Raise a DependencyError if tensorboardX is not there."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError:
        raise DependencyError(
            "run.tensorboard = true needs tensorboardX; install it (pip install tensorboardX, or "
            "hpcq[tensorboard]), or leave the key out: metrics.jsonl and metrics.csv are written "
            "in any case"
        ) from None


def _group(key: str) -> str:
    return next((group for start, group in _GROUPS if key.startswith(start)), "run")

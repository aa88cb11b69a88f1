"""What a learner saves beside its table, in the order of the file.

The declarations stand beside the arrays; here they are put together. Light to import: see
collectors/history.py.
"""

from typing import TYPE_CHECKING

from numpy.typing import NDArray

from hpcq.collectors.batch import ENVIRONMENT_FIELDS, MASK_FIELDS, REPLAYED_FIELDS, EnvBatch
from hpcq.collectors.history import PRIORITY_FIELDS, RING_FIELDS, WINDOW_FIELDS, Windows, ring_size
from hpcq.fields import Field
from hpcq.learning.intervals import SUMS

if TYPE_CHECKING:
    from hpcq.collectors.replay import Replay
    from hpcq.learning.algorithm import Algorithm

# Of periodic mode: how many states each rank holds copies of, and all their keys in rank order.
COPY_FIELDS = (
    Field("local/count", "count", "u8", needs=("copies",)),
    Field("local/key", "hash", "u8", (), "states", ("copies",)),
)
# Behind the values of a row in memory.
TABLE_FIELDS = (Field("table/intervals", "q", "f8", ("actions", "sums"), needs=("intervals",)),)
PER_ENVIRONMENT = (
    ENVIRONMENT_FIELDS
    + WINDOW_FIELDS
    + MASK_FIELDS
    + RING_FIELDS
    + REPLAYED_FIELDS
    + PRIORITY_FIELDS
)
FIELDS = {field.dataset: field for field in PER_ENVIRONMENT + COPY_FIELDS + TABLE_FIELDS}


def features(algorithm: "Algorithm") -> set[str]:
    """Return what a job has of that for which fields are saved."""
    found = {
        "masks": algorithm.masked,
        "n_step": algorithm.steps > 1,
        "replay": algorithm.replay.ratio > 0,
        "priorities": algorithm.replay.prioritised,
        "intervals": algorithm.sums > 0,
    }
    return {name for name, there in found.items() if there}


def sizes(algorithm: "Algorithm", environments: int) -> dict[str, int]:
    """Return the dimensions of fields; `environments` is the number of the whole job.

    A dimension `words` of 1 is none: see `shape`.
    """
    ratio = algorithm.replay.ratio
    return {
        "steps": algorithm.steps,
        "capacity": ring_size(algorithm.replay.capacity, environments),
        "ratio": ratio,
        "entries": 1 + ratio,
        "words": max(1, algorithm.mask_words),
        "actions": algorithm.actions,
        "sums": SUMS,
    }


def shape(field: Field, size: dict[str, int]) -> tuple[int, ...]:
    """Return the shape of what a field has of each environment, for the `sizes` of a job."""
    there = (name for name in field.shape if name != "words" or size[name] > 1)
    return tuple(size[name] for name in there)


def shapes(algorithm: "Algorithm", environments: int) -> dict[str, list[int]]:
    """Return the shapes of the datasets of this job that not every job has."""
    there, size = features(algorithm), sizes(algorithm, environments)
    return {
        field.dataset: [environments, *shape(field, size)]
        for field in PER_ENVIRONMENT
        if field.needs and there.issuperset(field.needs)
    }


def table_shapes(algorithm: "Algorithm", rows: int) -> dict[str, list[int]]:
    """Return the same of the datasets that have a row for each of the table's."""
    there, size = features(algorithm), sizes(algorithm, 1)
    return {
        field.dataset: [rows, *shape(field, size)]
        for field in TABLE_FIELDS
        if there.issuperset(field.needs)
    }


def arrays(
    algorithm: "Algorithm", batch: EnvBatch, windows: Windows, replay: "Replay | None"
) -> list[tuple[Field, NDArray]]:
    """Return one rank's arrays with their declarations: views, to be read or to be filled."""
    owners = [
        (ENVIRONMENT_FIELDS, batch),
        (WINDOW_FIELDS, windows),
        (MASK_FIELDS, batch),
        (RING_FIELDS, replay and replay.rings),
        (REPLAYED_FIELDS, replay and replay.replayed),
        (PRIORITY_FIELDS, replay and replay.priorities),
    ]
    there = features(algorithm)
    return [
        (field, getattr(owner, field.attribute))
        for fields, owner in owners
        for field in fields
        if there.issuperset(field.needs)
    ]

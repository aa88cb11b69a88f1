"""Memory and disk that a job will need, before anything runs."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from hpcq.checkpoint.header import Header, layout
from hpcq.collectors.replay import unsaved_bytes
from hpcq.envs.protocol import CompiledEnvironment
from hpcq.envs.resolve import resolve
from hpcq.job.job import Job
from hpcq.learning import saved_state
from hpcq.learning.algorithm import Algorithm
from hpcq.learning.periodic import record_types
from hpcq.run.formatting import ranks_text
from hpcq.solver import memory
from hpcq.table.shard import Shard

# Python, its libraries and the compiled kernels, measured; and the buffers of a checkpoint.
PROCESS_BYTES = 200 << 20
PIECE_BYTES = 4 * (16 << 20)
# An update or a query, sent and received: at most two queries in a tick per environment. With a
# mask of one word.
MESSAGE_BYTES = 2 * 32

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def estimate(job: Job, states: int, ranks: int, ranks_per_node: int) -> dict[str, Any]:
    """Return bytes per state, rank and node, and of a checkpoint.

    Parameters
    ----------
    states
        rows of the table in the end, over all ranks.
    """
    environment = resolve(job.environment)
    algorithm = Algorithm.of(job, environment)
    dtype = np.dtype(job.learning.dtype)
    words = algorithm.mask_words
    shard = Shard(ranks, algorithm.columns, dtype, 0.0, algorithm.visits, words, algorithm.sums)
    # Hashes spread states evenly but for chance: four standard deviations more on the fullest.
    rows = math.ceil(states / ranks + 4 * math.sqrt(states / ranks)) if ranks > 1 else states
    held, peak = shard.memory_for(rows)
    senders = job.environment.count * (1 + job.replay.ratio)
    message = MESSAGE_BYTES + 2 * 8 * max(0, words - 1)
    messages = (algorithm.steps + 2) * message * senders
    shapes = saved_state.shapes(algorithm, job.environment.count)
    rings = sum(
        np.dtype(saved_state.FIELDS[name].dtype).itemsize * math.prod(shape)
        for name, shape in shapes.items()
        if name.startswith("replay/")
    )
    rings += unsaved_bytes(job.replay, job.environment.count)
    copies = _copies(job, algorithm, states, ranks)
    rank = PROCESS_BYTES + max(peak, held + PIECE_BYTES) + messages + rings // ranks + copies
    solution = _solution(job, environment, states, rows, ranks)
    header = Header(
        job.text(), environment.id, environment.observation, environment.actions,
        environment.action, 0, 0, states, job.learning.dtype, algorithm.visits,
        job.environment.count, ranks, algorithm.tables, algorithm.masked,
        extra=shapes | saved_state.table_shapes(algorithm, states),
    )  # fmt: skip
    checkpoint = sum(dataset.nbytes for dataset in layout(header))
    # One, and the one that takes its place.
    in_memory = 2 * checkpoint if job.checkpoint.memory_seconds else 0
    return {
        "environment": environment.id,
        "actions": environment.actions,
        "states": states,
        "ranks": ranks,
        "ranks_per_node": ranks_per_node,
        "state_bytes": held / max(rows, 1),
        "rank_states": rows,
        "table_bytes": held,
        "growing_bytes": peak,
        "message_bytes": messages,
        "copies_bytes": copies,
        "rank_bytes": rank,
        "node_bytes": rank * min(ranks, ranks_per_node) + in_memory,
        "in_memory_bytes": in_memory,
        "checkpoint_bytes": checkpoint,
        "checkpoints": job.checkpoint.keep + 1 + len(job.checkpoint.milestones),
        "solution": solution,
    }


def _solution(
    job: Job, environment: Any, states: int, rows: int, ranks: int
) -> dict[str, Any] | None:
    """Return what a rank with so many rows takes to find all states, and to solve them; at most.

    None for an environment that does not say what can happen.
    """
    if not isinstance(environment, CompiledEnvironment) or environment.rules is None:
        return None
    actions, outcomes = environment.actions, environment.rules.outcomes
    others = memory.most_others(rows, states, actions, outcomes)
    starts = min(environment.rules.starts, states)
    shape = memory.Shape(
        rows, others, actions, outcomes, job.solve.keep_outcomes,
        math.ceil(starts * rows / states) if ranks > 1 else starts, starts,
    )  # fmt: skip
    rewards = memory.rewards(shape)
    kept = memory.kept(shape) + rewards
    finding, solving = memory.finding(shape) + kept, memory.solving(shape) + kept
    peak = memory.peak(shape, kept)
    return {
        "state_bytes": max(finding, solving) / max(rows, 1),
        "outcome_bytes": kept,
        "reward_bytes": rewards,
        "finding_bytes": finding,
        "solving_bytes": solving,
        "rank_bytes": PROCESS_BYTES + peak,
        "table_gib": max(finding, solving) / 2**30,
        "checkpoint_bytes": states * (8 + 8 * actions + 8 * environment.masked),
    }


def _copies(job: Job, algorithm: Algorithm, states: int, ranks: int) -> int:
    """Return the bytes that the agents of a rank need for all states, and to merge them."""
    if job.mode.kind != "periodic":
        return 0
    words = algorithm.mask_words
    shard = Shard(1, algorithm.columns, np.dtype(job.learning.dtype), 0.0, True, words)
    record, reply = record_types(algorithm.columns, algorithm.visits, words)
    agents = -(-(job.mode.agents or ranks) // ranks)
    return agents * (shard.memory_for(states)[1] + states * 2 * (record.itemsize + reply.itemsize))


def estimate_text(found: dict[str, Any]) -> str:
    """Return the estimate as text."""
    disk = found["checkpoint_bytes"] * found["checkpoints"]
    copies, in_memory = "", ""
    if found["in_memory_bytes"]:
        in_memory = f"; {size(found['in_memory_bytes'])} of it for checkpoints in /dev/shm"
    if found["copies_bytes"]:
        copies = f"; at most {size(found['copies_bytes'])} for copies, once every state was visited"
    return "\n".join(
        [
            f"{found['environment']}, {found['actions']} actions, {found['states']:,} states on "
            f"{ranks_text(found['ranks'])}",
            f"a state        {found['state_bytes']:.0f} bytes, with free places of the hash table",
            f"a rank         {size(found['rank_bytes'])}: table {size(found['table_bytes'])} for "
            f"at most {found['rank_states']:,} states, {size(found['growing_bytes'])} while it "
            f"grows; messages {size(found['message_bytes'])}{copies}",
            f"a node         {size(found['node_bytes'])} with "
            f"{ranks_text(found['ranks_per_node'])}{in_memory}",
            f"a checkpoint   {size(found['checkpoint_bytes'])}; the run directory up to "
            f"{size(disk)} with {found['checkpoints']} of them",
            *_solution_text(found["solution"]),
        ]
    )


def _solution_text(found: dict[str, Any] | None) -> Iterator[str]:
    """Yield what `hpcq explore` and `hpcq solve` take, as lines of text."""
    if found is None:
        return
    yield (
        f"hpcq solve     a rank at most {size(found['rank_bytes'])}, {found['state_bytes']:.0f} "
        f"bytes a state: {size(found['finding_bytes'])} while states are found, "
        f"{size(found['solving_bytes'])} while they are solved and saved; "
        f"{size(found['outcome_bytes'])} of it are outcomes, "
        f"{size(found['reward_bytes'])} less if all rewards are equal"
    )
    yield (
        f"               run.table_gib = {found['table_gib']:.3g} is enough; its checkpoint "
        f"{size(found['checkpoint_bytes'])}"
    )


def size(nbytes: float) -> str:
    """Return a number of bytes as text with a suitable unit."""
    step = min(len(_UNITS) - 1, max(0, int(math.log2(max(nbytes, 1)) // 10)))
    return f"{nbytes / 1024**step:.3g} {_UNITS[step]}"

"""What a solution says of start states, and of a learned policy; and rows of checkpoints for it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.checkpoint.files import locate
from hpcq.checkpoint.reader import find_row, opened, table_pieces
from hpcq.errors import CheckpointError
from hpcq.hashing import first_hash
from hpcq.job.job import Job
from hpcq.mpi import agree, on_root, wait_all
from hpcq.run.loop import Log
from hpcq.solver.ends import Endless
from hpcq.solver.iteration import SeveralRates, Solution
from hpcq.solver.space import StateSpace


def judge(job: Job, optimum: Solution, path: Path, log: Log, beat: Callable[[], object]) -> None:
    """Log what the greedy policy of a checkpoint is worth. Collective.

    Parameters
    ----------
    optimum
        of a single player.
    beat
        called after every sweep.
    """
    space, comm, gamma = optimum.space, optimum.space.comm, job.learning.gamma
    source, _ = on_root(comm, lambda: locate(path))
    actions, missing = agree(comm, lambda: _greedy(space, source))
    best = optimum.value.copy()
    missing = comm.allreduce(missing)
    log(f"policy of {job.shown(source)}, greedy, the first of equal actions:")
    if missing:
        log(f"  {missing:,} states are not in its table: the first legal action there")
    try:
        worth = Solution(space, gamma, False, "value", job.solve.tolerance, actions)
        for _ in worth.steps(beat):
            pass
    except Endless as error:
        log(f"  it is worth nothing: {error}")
        return
    except SeveralRates as error:
        log(f"  {error}")
        return
    if optimum.problem.average:
        rate, largest = worth.step, optimum.step
        log(
            f"  average reward of a step {rate.reward_rate:.10g}, of the best policy "
            f"{largest.reward_rate:.10g}"
        )
        log(f"  all to within {rate.rate_bound + largest.rate_bound:.2g} (proven)")
        return
    start, most = expected_return(worth), expected_return(optimum)
    loss = best - worth.value
    largest = comm.allreduce(float(loss.max(initial=0.0)), MPI.MAX)
    worst = np.flatnonzero(loss == largest)
    keys = comm.allgather(space.key(int(worst[0])) if worst.size else None)
    key = min(key for key in keys if key is not None)
    log(f"  expected return {start:.10g}, of the optimal policy {most:.10g}")
    log(f"  largest loss {largest:.6g}, in {space.text(key)}")
    within = optimum.step.bound + worth.step.bound
    if np.isfinite(within):
        log(f"  all to within {within:.2g} (proven)")


def expected_return(solution: Solution) -> float:
    """Return the expected value of the start states. Collective; the same on any number of ranks.

    Sums are in the order of the hashes: rank after rank.
    """
    space, value = solution.space, solution.value
    starts, chance = _starts(space)
    by_hash = np.argsort(starts, kind="stable")
    starts, chance = starts[by_hash], chance[by_hash]
    at = np.searchsorted(space.hashes, starts, sorter=space.order)
    terms = _on_root(space.comm, chance * value[space.order[at]])
    chance = _on_root(space.comm, chance)
    total = float(terms.sum()) / float(chance.sum()) if space.comm.rank == 0 else 0.0
    return space.comm.bcast(total)


def _starts(space: StateSpace) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
    """Return the hashes and probabilities of this rank's start states."""
    parts = [(hashes.copy(), chance.copy()) for hashes, chance in space.starts()]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _on_root(comm: MPI.Intracomm, mine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the numbers of all ranks, rank after rank, on rank 0; on others none. Collective."""
    counts = comm.gather(mine.size) or []
    found = np.empty(sum(counts))
    wait_all([comm.Igatherv(mine, [found, counts] if comm.rank == 0 else None)])
    return found


def left_by_a_sweep(
    space: StateSpace, path: Path
) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
    """Return values and actions of this rank's states from a checkpoint, by number."""
    values, actions = np.empty(space.states), np.empty(space.states, np.uint16)
    at = 0
    for places, there, q in _rows(space, path):
        if not there.all():
            raise CheckpointError(f"{path} has other states than the rules reach")
        values[places], actions[places] = q.max(axis=1), q.argmax(axis=1)
        at += places.size
    if at != space.states:
        raise CheckpointError(f"{path} has {at:,} states where the rules reach {space.states:,}")
    return values, actions


def _greedy(space: StateSpace, path: Path) -> tuple[NDArray[np.uint16], int]:
    """Return the greedy actions of a checkpoint in this rank's states, and how many it has not."""
    legal = _legal(space)
    actions = legal.argmax(axis=1).astype(np.uint16)
    found = np.zeros(space.states, np.bool_)
    for places, there, rows in _rows(space, path):
        if rows.shape[1] != space.actions:
            raise CheckpointError(f"{path} has {rows.shape[1]} actions, expected {space.actions}")
        here = places[there]
        found[here] = True
        actions[here] = np.where(legal[here], rows[there], -np.inf).argmax(axis=1)
    return actions, int((~found).sum())


def _legal(space: StateSpace) -> NDArray[np.bool_]:
    """Return which actions (states, A) are legal."""
    legal = np.empty((space.states, space.actions), np.bool_)
    for part in space.segments():
        reward = part.reward if part.reward.size == 1 else part.reward.reshape(-1, space.actions)
        legal[part.first : part.first + part.states] = reward > -np.inf
    return legal


def _rows(space: StateSpace, path: Path) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Yield the rows of a checkpoint that this rank owns, in bounded pieces.

    (numbers of their states, whether they are states of the space, q); illegal actions are -inf.
    """
    order = space.order
    hashes = space.hashes[order]
    with opened(path) as (file, header):
        rank, ranks = space.comm.rank, space.comm.size
        start = find_row(file, header, first_hash(rank, ranks))
        stop = find_row(file, header, first_hash(rank + 1, ranks))
        for keys, q, _ in table_pieces(file, header, start, stop):
            if not hashes.size:
                return
            at = np.minimum(np.searchsorted(hashes, keys), hashes.size - 1)
            yield order[at], hashes[at] == keys, q

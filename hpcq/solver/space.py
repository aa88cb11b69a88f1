"""The states that can be reached from the start states, found level by level, and their outcomes.

Every rank owns the states of its range of hashes. It expands those of a level block by block, and
sends the new states of other ranks to their owners, each once. States have numbers in the order in
which they were found, so the values of a level's successors are near each other in memory.
"""

import functools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from hpcq.envs.protocol import CompiledEnvironment
from hpcq.errors import HpcqError, TableFull
from hpcq.hashing import hashes_of, owner
from hpcq.mpi import agree
from hpcq.solver import expand
from hpcq.solver.halo import Halo, by_owner, exchange
from hpcq.solver.numbering import END
from hpcq.solver.outcomes import Outcomes
from hpcq.solver.states import States
from hpcq.solver.sweep import Segment


class Level(NamedTuple):
    """What one step further from the start has found, over all ranks."""

    depth: int
    states: int


class Stopped(Exception):
    """Somebody has asked for a stop; raised on all ranks."""


def _fail(error: HpcqError | None) -> None:
    if error is not None:
        raise error


class StateSpace:
    """All states that can be reached, divided among the ranks. All methods are collective.

    Parameters
    ----------
    table_gib
        the memory of a rank, in GiB, at which to stop; None: no limit.
    stopped
        whether this rank is asked to stop.
    keep_outcomes
        whether to keep all outcomes in memory, or to ask the rules again.

    Attributes
    ----------
    states : int
        of this rank
    halo : Halo
        the states of other ranks that those of this rank lead to
    leaves : bool
        whether an episode can end
    kept_bytes : int
        memory of the outcomes that are kept
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        environment: CompiledEnvironment,
        table_gib: float | None = None,
        stopped: Callable[[], bool] = lambda: False,
        keep_outcomes: bool = True,
    ) -> None:
        self.comm, self.environment = comm, environment
        self._found = Outcomes(environment)
        self._known = States(comm.rank, comm.size)
        self.rules, self.single = self._found.rules, self._found.single
        self.actions, self._stopped, self._keeps = environment.actions, stopped, keep_outcomes
        self._limit = math.inf if table_gib is None else table_gib * 2**30
        self._sent = 0
        self._rank, self._ranks = np.uint64(comm.rank), np.uint64(comm.size)
        self._segments: list[Segment] = []
        self.kept_bytes = 0
        self._pairs = self._outcomes = 0
        self._places = np.zeros(0, np.uint32)
        self.halo = Halo(comm)

    @property
    def states(self) -> int:
        """States of this rank."""
        return self._known.count

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """Hashes of this rank's states, by number."""
        return self._known.hashes

    @functools.cached_property
    def order(self) -> NDArray[np.uint32]:
        """Numbers of this rank's states in the order of their hashes, once all are found."""
        return np.argsort(self.hashes).astype(np.uint32)

    @property
    def leaves(self) -> bool:
        """Whether an episode can end in a state of this rank."""
        return self._found.leaves

    def segments(self) -> Iterator[Segment]:
        """Yield the outcomes of this rank's states, by number; valid until the next is asked for.

        Not collective.
        """
        if self._keeps:
            yield from self._segments
            return
        for first in range(0, self.states, self._found.states_in_block):
            last = min(first + self._found.states_in_block, self.states)
            segment = self._found.segment(first, last, self._look_up(first, last))
            self._renumber(segment)
            yield segment

    @property
    def nbytes(self) -> int:
        """Memory held by this rank, in bytes."""
        return self._known.nbytes + self.halo.nbytes + self._places.nbytes + self.kept_bytes

    def _next_nbytes(self, done: int) -> int:
        """Return the memory that this rank may come to hold until the limit is looked at again.

        All that the next block of states, after `done` of them, leads to may be new.
        """
        room = min(self._found.states_in_block, self.states - done) * self._found.places
        return self.nbytes + self._known.more_bytes(room) + (4 * room if self._keeps else 0)

    def compile(self) -> None:
        """Compile, or load from the cache, the kernels that find states."""
        self._look_up(0, 0)

    def begin(self, root: int | None = None) -> Level:
        """Find the start states; or only the state with the key `root`."""
        if root is not None:
            found = np.array([root], np.uint64)
            self._known.add(self._found.block, self._hashes_of_mine(found))
        else:
            for hashes, _ in self.starts():
                self._known.add(self._found.block, hashes)
        return Level(0, self.comm.allreduce(self.states))

    def starts(self) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.float64]]]:
        """Yield this rank's start states, their hashes and probabilities, in bounded pieces."""
        kernel = expand.make_starts(self.rules)
        piece = 1 << 18
        hashes, probability = np.empty(piece, np.uint64), np.empty(piece)
        for first in range(0, self.rules.starts, piece):
            last = min(first + piece, self.rules.starts)
            model = self.environment.model
            n = kernel(model, first, last, self._rank, self._ranks, hashes, probability)
            yield hashes[:n], probability[:n]

    def _hashes_of_mine(self, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
        hashes = hashes_of(keys)
        mine = [owner(hash_, self._ranks) == self._rank for hash_ in hashes]
        return hashes[mine]

    def levels(self, first: Level, beat: Callable[[], object]) -> Iterator[Level]:
        """Expand level after level until nothing new is found; yield what each has found."""
        done, level = 0, first
        while level.states:
            stop = self.states
            self._expand(done, stop, beat)
            done = stop
            level = Level(level.depth + 1, self.comm.allreduce(self.states - stop))
            if level.states:
                yield level
        self._close()

    def totals(self) -> tuple[int, int]:
        """Return how many legal actions all states have, and how many of their outcomes go on."""
        mine = np.array([self._pairs, self._outcomes], np.int64)
        total = np.empty_like(mine)
        self.comm.Allreduce(mine, total)
        return int(total[0]), int(total[1])

    def _expand(self, done: int, stop: int, beat: Callable[[], object]) -> None:
        """Expand the states `done` ... `stop` - 1 of this rank, and what others send meanwhile."""
        more = True
        while more:
            last, error = min(done + self._found.states_in_block, stop), None
            try:
                self._expand_block(done, last)
            except HpcqError as found:
                error = found
            done = last
            short = self._limit < math.inf and self._next_nbytes(done) > self._limit
            mine = (done < stop, short, self._stopped(), error is not None)
            more, full, stopped, failed = map(bool, self._exchange_new(np.array(mine, np.int64)))
            beat()
            if failed:
                agree(self.comm, partial(_fail, error))
            if full:
                raise self._full()
            if stopped:
                raise Stopped

    def _expand_block(self, first: int, last: int) -> None:
        """Expand states, and keep their outcomes as a segment."""
        if first == last:
            return
        n = self._look_up(first, last)
        block, rows = self._found.block, (last - first) * self.actions
        self._pairs += int(np.count_nonzero(block.reward[:rows] > -np.inf))
        self._outcomes += int(np.count_nonzero(block.numbers[:n] != END)) if self.single else n
        if self._keeps:
            self._segments.append(self._found.segment(first, last, n))
            self.kept_bytes += self._segments[-1].nbytes

    def _look_up(self, first: int, last: int) -> int:
        """Write the outcomes of states to the block, with numbers; return how many."""
        n = self._found.generate(self._known.hashes, first, last)
        self._known.resolve(self._found.block, n)
        return n

    def _exchange_new(self, flags: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tell the owners of states that this rank has met which those are; return all flags."""
        if self.comm.size == 1:
            return flags
        new = self._known.other_hashes[self._sent :]
        self._sent += new.size
        place, sent = by_owner(new, self.comm.size)
        grouped = np.empty_like(new)
        grouped[place] = new
        found, received, flags = exchange(self.comm, grouped, sent, flags)
        numbers = self._known.add(self._found.block, found)
        for source, part in enumerate(np.split(numbers, np.cumsum(received)[:-1])):
            if part.size:
                self.halo.note(source, part)
        return flags

    def _close(self) -> None:
        """Turn numbers into places of the vector of values; give back what is not needed."""
        if self._keeps:
            self._known.forget_tables()
        self._places = self.halo.close(self._known.other_hashes)
        for segment in self._segments:
            self._renumber(segment)
        if self._keeps:
            self._known.forget_others()
            self._places = np.zeros(0, np.uint32)

    def _renumber(self, segment: Segment) -> None:
        end = self.states + self.halo.size
        expand.renumber(segment.places, self.states, self._places, end)

    def check_room(self, nbytes: int) -> None:
        """Refuse to go on with all states found, if a rank needs more memory than it may have."""
        most = self.comm.allreduce(nbytes, MPI.MAX)
        if most > self._limit:
            raise TableFull(
                f"all {self.comm.allreduce(self.states):,} states are found; to solve them a rank "
                f"needs {most / 2**30:.3g} GiB, more than run.table_gib = "
                f"{self._limit / 2**30:g}; give more, or take more ranks"
            ).on_all_ranks()

    def _full(self) -> TableFull:
        most = self.comm.allreduce(self.nbytes, MPI.MAX)
        return TableFull(
            f"{self.comm.allreduce(self.states):,} states found, and not all: a rank needs more "
            f"than run.table_gib = {self._limit / 2**30:g} ({most / 2**30:.3g} GiB so far); give "
            "more, or take more ranks"
        ).on_all_ranks()

    def text(self, key: int) -> str:
        """Return a state as users know it."""
        return self._found.text(key)

    def key(self, number: int) -> int:
        """Return the key of a state of this rank."""
        return self._known.key(number)

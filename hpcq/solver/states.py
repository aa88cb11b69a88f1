"""The states that a rank has found, its own and those of others that these lead to, by number."""

import numpy as np
from numpy.typing import NDArray

from hpcq.errors import JobError
from hpcq.hashing import unmix64
from hpcq.solver import expand
from hpcq.solver.expand import FULL, OTHERS, OWN, Block, Known
from hpcq.solver.growing import Growing
from hpcq.solver.numbering import HALO, Numbering, nbytes_for


class States:
    """Numbers of states, in the order in which they were found. Nothing is collective."""

    def __init__(self, rank: int, ranks: int) -> None:
        self._rank, self._ranks = np.uint64(rank), np.uint64(ranks)
        self._own, self._others = Numbering(ranks), Numbering(ranks)
        self._own_hashes, self._other_hashes = Growing(), Growing()
        self._counts = np.zeros(3, np.int64)

    @property
    def count(self) -> int:
        """States of this rank."""
        return int(self._counts[OWN])

    @property
    def others(self) -> int:
        """States of other ranks."""
        return int(self._counts[OTHERS])

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """Hashes of this rank's states, by number."""
        return self._own_hashes.all[: self.count]

    @property
    def other_hashes(self) -> NDArray[np.uint64]:
        """Hashes of the states of other ranks, by number."""
        return self._other_hashes.all[: self.others]

    def key(self, number: int) -> int:
        """Return the key of a state of this rank."""
        return int(unmix64.py_func(self.hashes[number : number + 1])[0])

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self._own.nbytes + self._others.nbytes + 8 * (self.count + self.others)

    def more_bytes(self, room: int) -> int:
        """Return the memory that so many more states of each kind may take at most."""
        more = 16 * room
        for known, count in ((self._own, self.count), (self._others, self.others)):
            more += max(0, nbytes_for(count + room) - known.nbytes)
        return more

    def resolve(self, block: Block, n: int) -> None:
        """Give the states of the first `n` outcomes in a block numbers, and write these there.

        Raises
        ------
        JobError
            if there are more states than numbers.
        """
        done, counts = 0, self._counts
        self._own_hashes.reserve(self.count + n)
        self._other_hashes.reserve(self.others + n)
        rank, ranks = self._rank, self._ranks
        while True:
            own = Known(self._own.slots, self._own_hashes.all, ranks, self._own.most)
            others = Known(self._others.slots, self._other_hashes.all, ranks, self._others.most)
            done = expand.resolve(block, done, n, rank, ranks, own, others, counts)
            if done == n:
                return
            # A table that grows gives its memory back first.
            del own, others
            self._grow(int(counts[FULL]))

    def _grow(self, which: int) -> None:
        if int(self._counts[which]) >= HALO:
            raise JobError(f"a rank can hold {HALO:,} states at most; take more ranks")
        if which == OWN:
            self._own.grow(self.hashes)
        else:
            self._others.grow(self.other_hashes)

    def add(self, block: Block, hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """Give states of this rank numbers, if they have none; return them.

        Parameters
        ----------
        block
            is overwritten.
        """
        numbers = np.empty(hashes.size, np.uint32)
        room = block.hashes.size
        for start in range(0, hashes.size, room):
            part = hashes[start : start + room]
            block.hashes[: part.size] = part
            block.numbers[: part.size] = 0
            self.resolve(block, part.size)
            numbers[start : start + part.size] = block.numbers[: part.size]
        return numbers

    def forget_tables(self) -> None:
        """Give back what finds numbers: all are found."""
        self._own, self._others = Numbering(int(self._ranks)), Numbering(int(self._ranks))

    def forget_others(self) -> None:
        """Give back the hashes of the states of other ranks."""
        self._other_hashes = Growing()
        self._counts[OTHERS] = 0

"""How the ranks of a node wait for each other: epoch counters in shared memory.

Each rank counts the epochs of its work in a word of its own cache line. Who needs what it wrote
looks at that word for a while, then sleeps at it in the kernel (a futex) until it changes: a rank
that waits leaves the processor to whoever has work, and no tick waits for a scheduler's time slice.

A word is twice the epoch, plus 1 where somebody sleeps at it. So the writer learns with the store
of a new epoch whether it has to wake anybody, and no other line is touched.
"""

import os

import numpy as np
from numpy.typing import NDArray

from hpcq.errors import JobError
from hpcq.jit.atomics import LINE, clock_ns, exchange, load, pause, replace, sleep_while, wake
from hpcq.jit.compiler import inlined, kernel

# To be woken takes 20 to 50 us on an idle virtual processor: looking for longer is wasted.
MOST_US = 50.0
LEAST_NS = 1000
_ASLEEP = np.int32(1)
# No wake-up is lost, but a sleeper looks once a second all the same.
_SECOND = 1_000_000_000


def look_limits() -> NDArray[np.int64]:
    """Return for how many ns a rank looks before it sleeps, now and at most: int64 (2,).

    Raises
    ------
    JobError
        if ``$HPCQ_SPIN_US``, which replaces the most (for experiments), is no number of us.
    """
    given = os.environ.get("HPCQ_SPIN_US", str(MOST_US))
    try:
        most = int(1000 * float(given))
    except (ValueError, OverflowError):
        most = -1
    if most < 0:
        raise JobError(f"HPCQ_SPIN_US={given}: expected microseconds, 0 or more; unset it")
    return np.array([most, most])


def words_shape(members: int) -> tuple[int, int]:
    """Return the shape of the epoch counters (int32) of so many ranks."""
    return members, LINE


@inlined
def _word(epoch: int) -> np.int32:
    return np.int32(epoch << 1)


@inlined
def _reached(word: np.int32, target: np.int32) -> bool:
    # The difference is right although counters wrap around.
    return bool(np.int32((word & ~_ASLEEP) - target) >= 0)


@kernel
def arrive(words: NDArray[np.int32], member: int, epoch: int) -> None:
    """Let the others know that this rank's writes up to an epoch are done."""
    if exchange(words, member, _word(epoch)) & _ASLEEP:
        wake(words, member)


@kernel
def await_epoch(
    words: NDArray[np.int32], member: int, epoch: int, look_ns: NDArray[np.int64]
) -> None:
    """Return once a rank of the node has come to an epoch.

    look_ns   int64 (2,), of `look_limits`, in and out. Halved where looking was in vain, since more
              ranks than processors then share them, and raised where it was not.
    """
    target = _word(epoch)
    if _reached(load(words, member), target):
        return
    began = clock_ns()
    while clock_ns() - began < look_ns[0]:
        for _ in range(4):
            pause()
            if _reached(load(words, member), target):
                look_ns[0] = min(look_ns[1], 2 * look_ns[0])
                return
    look_ns[0] = min(look_ns[1], max(LEAST_NS, look_ns[0] // 2))
    while True:
        word = load(words, member)
        if _reached(word, target):
            return
        asleep = word | _ASLEEP
        if word == asleep or replace(words, member, word, asleep):
            sleep_while(words, member, asleep, _SECOND)

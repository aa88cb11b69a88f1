"""Parallel experience replay: past transitions are learned from again, as live ones are.

Every environment has a ring of its latest transitions. In every tick each samples `ratio` of them,
uniformly or by priority (see priorities.py); the draws follow from (seed, environment, tick) alone.
In the arrays that messages are made from, the samples of an environment follow its live transition.
So owners apply environment i's live update, then its replayed ones, then environment i + 1's, for
any number of ranks.

Lin, "Self-improving reactive agents based on reinforcement learning, planning and teaching",
Machine Learning 8, 1992.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.collectors import priorities as by_priority
from hpcq.collectors.base import Collector
from hpcq.collectors.batch import EnvBatch, Outcome, make_batch, view_of
from hpcq.collectors.history import make_priorities, make_rings, ring_size, tree_size
from hpcq.hashing import hi64, mix64
from hpcq.jit.compiler import kernel
from hpcq.job.sections import ReplaySection
from hpcq.rng import Purpose, second_draw, tick_word
from hpcq.spaces.mask_kernels import mask_writers

_CONTINUES, _TERMINATED, _TRUNCATED, _RESET = (int(outcome) for outcome in Outcome)


@kernel
def _spread(stream_ids: NDArray[np.uint64], ratio: int, out: NDArray[np.uint64]) -> None:
    """Give every replayed transition a random stream of its own."""
    for i in range(stream_ids.size):
        word = stream_ids[i]
        for k in range(ratio + 1):
            out[i * (ratio + 1) + k] = word
            word = second_draw(word)


@functools.cache
def _make_record(mask_words: int) -> Any:
    """Return the kernel that appends the step that every environment has just taken to its ring."""
    put_mask = mask_writers(mask_words).put

    @kernel
    def record(batch: Any, rings: Any, ratio: int) -> None:
        for n in range(rings.added.size):
            i = n * (ratio + 1)
            if batch.outcome[i] != _RESET:
                at = rings.added[n] % rings.hash.shape[1]
                rings.hash[n, at] = batch.hash[i]
                rings.action[n, at] = batch.action[i]
                rings.reward[n, at] = batch.reward[i]
                truncated = batch.outcome[i] == _TRUNCATED
                rings.next_hash[n, at] = batch.final_hash[i] if truncated else batch.next_hash[i]
                rings.terminated[n, at] = batch.outcome[i] == _TERMINATED
                if mask_words:
                    after = batch.final_mask[i] if truncated else batch.next_mask[i]
                    put_mask(rings.mask, (n, at), batch.mask[i])
                    put_mask(rings.next_mask, (n, at), after)
                rings.added[n] += 1

    return record


@kernel
def _draw_uniformly(
    added: NDArray[np.int64],
    capacity: int,
    stream_ids: NDArray[np.uint64],
    word: np.uint64,
    learning_starts: int,
    slots: NDArray[np.int64],
) -> None:
    """Draw transitions, with replacement.

    Parameters
    ----------
    learning_starts
        transitions that a ring must hold before any is drawn.
    slots
        int64 (n, ratio), out: the slots of what is drawn; -1: nothing is drawn.
    """
    ratio = slots.shape[1]
    for n in range(added.size):
        filled = min(added[n], capacity)
        for j in range(ratio):
            draw = mix64(word ^ stream_ids[n * (ratio + 1) + 1 + j])
            slot = np.int64(hi64(draw, np.uint64(filled)))
            slots[n, j] = slot if filled >= learning_starts else -1


@functools.cache
def _make_replay(mask_words: int) -> Any:
    """Return the kernel that writes the drawn transitions into the batch.

    They stand there as if environments had just taken them.
    """
    put_mask = mask_writers(mask_words).put

    @kernel
    def replay(batch: Any, rings: Any, slots: NDArray[np.int64]) -> None:
        ratio = slots.shape[1]
        for n in range(rings.added.size):
            live = n * (ratio + 1)
            for i in range(live + 1, live + 1 + ratio):
                k = slots[n, i - live - 1]
                if k < 0:
                    # Ask for anything: nothing is learned from the reply.
                    batch.outcome[i] = _RESET
                    batch.next_hash[i] = batch.next_hash[live]
                    continue
                batch.hash[i] = rings.hash[n, k]
                batch.action[i] = rings.action[n, k]
                batch.reward[i] = rings.reward[n, k]
                batch.next_hash[i] = rings.next_hash[n, k]
                if mask_words:
                    put_mask(batch.mask, i, rings.mask[n, k])
                    put_mask(batch.next_mask, i, rings.next_mask[n, k])
                batch.outcome[i] = _TERMINATED if rings.terminated[n, k] else _CONTINUES

    return replay


class Replay:
    """The rings of one rank's environments, and the arrays that its messages are made from.

    Parameters
    ----------
    collector
        of the environments; from here on its arrays are slices of `batch`.
    seed
        from `rng.seed_word`.
    environments
        of the whole job: the rings share `section.capacity`.
    mask_words
        of a mask; 0 where there are none.

    Attributes
    ----------
    batch : EnvBatch
        of each environment the live transition, then the replayed ones
    stream_ids : uint64 array
        one for each entry of `batch`
    priorities : Priorities or None
        None where transitions are drawn uniformly
    """

    def __init__(
        self,
        section: ReplaySection,
        collector: Collector,
        seed: np.uint64,
        environments: int,
        mask_words: int,
    ) -> None:
        count, self._ratio, self._seed = collector.stream_ids.size, section.ratio, seed
        self._section, self._environments = section, environments
        capacity = ring_size(section.capacity, environments)
        self.rings = make_rings(count, capacity, mask_words)
        self._record, self._replay = _make_record(mask_words), _make_replay(mask_words)
        self._slots = np.empty((count, self._ratio), np.int64)
        self.batch = make_batch(count * (1 + self._ratio), mask_words)
        self.batch.outcome[:] = _RESET
        self.batch.update_weight[:] = 1.0
        self.priorities = None
        if section.prioritised:
            self.priorities = make_priorities(count, capacity, self._ratio)
            by_priority.build(self.priorities)
        self.stream_ids = np.empty(count * (1 + self._ratio), np.uint64)
        _spread(collector.stream_ids, self._ratio, self.stream_ids)
        collector.batch = view_of(self.batch, slice(None, None, 1 + self._ratio))

    def step(self, tick: int) -> None:
        """Store the live steps of this tick, and draw what is replayed in it."""
        self._record(self.batch, self.rings, self._ratio)
        word = tick_word(self._seed, tick, Purpose.REPLAY)
        starts, slots, added = self._section.learning_starts, self._slots, self.rings.added
        if self.priorities is None:
            _draw_uniformly(added, self.rings.hash.shape[1], self.stream_ids, word, starts, slots)
        else:
            beta = self._section.importance_exponent.at(tick * self._environments)
            by_priority.draw(
                self.priorities, self.batch, added, self.stream_ids, word, starts, beta, slots
            )
        self._replay(self.batch, self.rings, slots)

    def take_acks(
        self, ranks: np.uint64, sent: NDArray, replies: NDArray, cursors: NDArray[np.uint64]
    ) -> None:
        """Set priorities by the TD errors that acknowledge this tick's updates.

        Arguments as of `messages.receive`.
        """
        if self.priorities is not None:
            by_priority.take_acks(
                self.priorities,
                self.batch,
                self.rings.added,
                self._section.priority_exponent,
                self._section.priority_floor,
                ranks,
                sent,
                replies,
                cursors,
            )

    @property
    def replayed(self) -> EnvBatch:
        """Views (n, ratio) of the entries of `batch` that stand for replayed transitions."""
        count, width = self._slots.shape[0], 1 + self._ratio
        arrays: tuple[Any, ...] = self.batch
        return EnvBatch(*(array.reshape(count, width, *array.shape[1:])[:, 1:] for array in arrays))

    def restored(self) -> None:
        """Compute what is not saved, once the arrays have been read from a checkpoint."""
        if self.priorities is not None:
            by_priority.build(self.priorities)


def unsaved_bytes(section: ReplaySection, environments: int) -> int:
    """Return the memory that large rings take beside what is saved of them, over all ranks."""
    if not section.prioritised:
        return 0
    return environments * 8 * tree_size(ring_size(section.capacity, environments))

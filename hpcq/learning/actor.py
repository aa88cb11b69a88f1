"""A group of a rank's environments, and their side of a tick's messages."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from hpcq.collectors.base import Collector
from hpcq.collectors.centring import Centre, make_centre
from hpcq.collectors.history import Windows, make_windows
from hpcq.collectors.messages import CURSORS
from hpcq.collectors.replay import Replay
from hpcq.exchange.base import Exchange
from hpcq.jit.compiler import PrecompiledCall
from hpcq.learning.algorithm import Algorithm

MakeExchange = Callable[[DTypeLike, DTypeLike, int, int], Exchange]
"""make(message type, reply type, most messages, most replies)"""


class Actor:
    """Steps environments, packs their updates and queries, and takes the replies.

    Parameters
    ----------
    collector
        of the environments.
    seed
        a `rng.seed_word`.
    environments
        of the whole job.
    make_exchange
        makes the exchange for the number of messages that there can be. Collective.
    windows
        of returns of several steps; default: new ones.
    centre
        the mean reward; default: one of its own.

    Attributes
    ----------
    replay : Replay or None
    exchange : Exchange
    kernels : messages.Kernels
    """

    def __init__(
        self,
        algorithm: Algorithm,
        collector: Collector,
        seed: np.uint64,
        environments: int,
        make_exchange: MakeExchange,
        windows: Windows | None = None,
        centre: Centre | None = None,
    ) -> None:
        self.collector = collector
        count = collector.stream_ids.size
        self.replay = None
        if algorithm.replay.ratio:
            words = algorithm.mask_words
            self.replay = Replay(algorithm.replay, collector, seed, environments, words)
            # Replayed transitions send messages as further environments would.
            count *= 1 + algorithm.replay.ratio
        self.windows = windows or make_windows(count, algorithm.steps, algorithm.mask_words)
        message, reply = algorithm.record_types()
        updates, queries = algorithm.steps * count, 2 * count
        replies = queries + (updates if algorithm.weighted else 0)
        self.exchange = make_exchange(message, reply, updates + queries, replies)
        ranks = len(self.exchange.sent)
        self.kernels = algorithm.message_kernels()
        self._pack, self._receive = map(PrecompiledCall, self.kernels)
        self._discount = algorithm.sign * algorithm.gamma
        self._decay = algorithm.trace_decay
        self._cursors = np.zeros((CURSORS, ranks), np.uint64)
        self._exploration = algorithm.own_exploration
        self._centre = centre or make_centre()
        self._ranks, self._seed = np.uint64(ranks), seed

    @property
    def pack_arguments(self) -> tuple[Any, ...]:
        """What the kernel `pack` gets beside the tick."""
        senders, exchange = self.replay or self.collector, self.exchange
        return (
            senders.batch,
            self.windows,
            senders.stream_ids,
            self._seed,
            self._ranks,
            exchange.sent,
            exchange.outbox,
            self._cursors,
            self._exploration,
            self._centre.changes,
        )

    @property
    def receive_arguments(self) -> tuple[Any, ...]:
        """What the kernel `receive` gets."""
        return (
            (self.replay or self.collector).batch,
            self.windows,
            self._discount,
            self._decay,
            self._ranks,
            self.exchange.sent,
            self.exchange.replies_in,
            self._cursors,
            self._centre.numbers,
        )

    def step(self, tick: int) -> None:
        """Take one step in every environment."""
        self.collector.step(tick)
        if self.replay is not None:
            self.replay.step(tick)

    def pack(self, tick: int) -> None:
        """Write the updates of the last tick and the queries of this one into the exchange."""
        self._pack(tick, *self.pack_arguments)

    def receive(self) -> None:
        """Take the replies: the next actions, and the updates that the next tick sends."""
        exchange = self.exchange
        if self.replay is not None:
            self.replay.take_acks(self._ranks, exchange.sent, exchange.replies_in, self._cursors)
        self._receive(*self.receive_arguments)

    def drop_updates(self) -> None:
        """Forget what would become updates: nothing is learned from the ticks so far."""
        self.collector.batch.update_pending[:] = False
        self.windows.length[:] = 0
        self.windows.due[:] = 0

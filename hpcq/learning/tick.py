"""The phases of a tick: step, pack, exchange, apply and answer, exchange back, receive.

At the owner, the updates of the last tick are applied in environment order before the queries of
this one are answered, so the table after tick t is a function of the job alone, whatever the number
of ranks.
"""

from collections.abc import Callable

from hpcq.learning.actor import Actor
from hpcq.learning.owner import Owner
from hpcq.learning.stopwatch import Stopwatch

Phases = tuple[tuple[str, Callable[[], None]], ...]


class Ticks:
    """An actor and an owner that take every tick together, with those of the other ranks.

    Parameters
    ----------
    environments
        that take a step in a tick, over all ranks: schedules count their steps.

    Attributes
    ----------
    tick : int
        ticks done; -1 before `begin`
    phases : tuple
        the parts of a tick in their order, with the names under which time is reported
    stopwatch : Stopwatch
        how long the phases take on this rank
    """

    def __init__(self, actor: Actor, owner: Owner, environments: int) -> None:
        self.tick = -1
        self.stopwatch = Stopwatch()
        self._actor, self._owner, self._exchange = actor, owner, actor.exchange
        self._environments = environments
        self._flags = self._agreed = 0
        self.phases: Phases = (
            ("step", self._step),
            ("pack", self._pack),
            ("exchange", self._send),
            ("apply", self._apply),
            ("answer", self._answer),
            ("exchange", self._exchange.reply),
            ("receive", actor.receive),
        )

    @property
    def steps(self) -> int:
        """Environment steps done, over all ranks."""
        return max(0, self.tick) * self._environments

    def begin(self) -> None:
        """Reset every environment and choose the first actions: tick 0. Collective."""
        self.tick = 0
        self._actor.collector.begin()
        for _, phase in self.phases[1:]:
            phase()

    def advance(self, flags: int = 0) -> int:
        """Do one tick; return the flags of all ranks, or-ed. Collective."""
        self.tick += 1
        self._flags = flags
        self.stopwatch.run(self.tick, self.phases)
        return self._agreed

    def _step(self) -> None:
        self._actor.step(self.tick)

    def _pack(self) -> None:
        self._actor.pack(self.tick)

    def _send(self) -> None:
        self._agreed = self._exchange.send(self._flags)

    def _apply(self) -> None:
        self._owner.apply(self._exchange.inbox, self._exchange.replies, self.steps)

    def _answer(self) -> None:
        self._owner.answer(self._exchange.inbox, self._exchange.replies, self.steps)

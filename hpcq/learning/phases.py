"""The phases of a tick as calls: what an actor and an owner do, and when messages travel."""

from collections.abc import Callable

from hpcq.learning.actor import Actor
from hpcq.learning.owner import Owner

Phases = tuple[tuple[str, Callable[[], None]], ...]


class TickState:
    """Where a rank is.

    Parameters
    ----------
    environments
        that take a step in a tick, over all ranks: schedules count their steps.

    Attributes
    ----------
    tick : int
        ticks done, or the one that goes on; -1 before `begin`
    flags, agreed : int
        of this rank and of all ranks, or-ed, in this tick
    """

    def __init__(self, environments: int) -> None:
        self.tick = -1
        self.flags = self.agreed = 0
        self._environments = environments

    @property
    def steps(self) -> int:
        """Environment steps done, over all ranks."""
        return max(0, self.tick) * self._environments


class Batch:
    """The phases of a tick for the environments of an actor, and for the messages of their kind.

    Attributes
    ----------
    sending, working, taking : Phases
        up to the messages of this rank; with those of all ranks; with the replies
    """

    def __init__(self, state: TickState, actor: Actor, owner: Owner) -> None:
        self._state, self._actor, self._owner = state, actor, owner
        self._exchange = exchange = actor.exchange
        self.sending: Phases = (
            ("step", self.step),
            ("pack", self._pack),
            ("exchange", self._send),
        )
        self.working: Phases = (
            ("exchange", self._take_messages),
            ("apply", self._apply),
            ("answer", self._answer),
            ("exchange", exchange.start_reply),
        )
        self.taking: Phases = (
            ("exchange", exchange.finish_reply),
            ("receive", actor.receive),
        )

    def step(self) -> None:
        """Step the environments."""
        self._actor.step(self._state.tick)

    def _pack(self) -> None:
        self._actor.pack(self._state.tick)

    def _send(self) -> None:
        self._exchange.start_send(self._state.flags)

    def _take_messages(self) -> None:
        self._state.agreed = self._exchange.finish_send()

    def _apply(self) -> None:
        self._owner.apply(self._exchange.inbox, self._exchange.replies, self._state.steps)

    def _answer(self) -> None:
        self._owner.answer(self._exchange.inbox, self._exchange.replies, self._state.steps)

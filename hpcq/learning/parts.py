"""Some environments of a rank in asynchronous mode, with requests of their own."""

from hpcq.exchange.base import RequestingExchange
from hpcq.learning.actor import Actor


class Part:
    """An actor that asks and waits for replies."""

    def __init__(self, actor: Actor, exchange: RequestingExchange) -> None:
        self.actor, self.exchange = actor, exchange
        self.tick = 0
        self.budget = 0
        """ticks that it may still take in this round"""
        self.ahead = 0
        """ticks that it took since its rank last added its steps to the sum of all"""
        self.waiting = False

    @property
    def size(self) -> int:
        """Its environments."""
        return self.actor.collector.stream_ids.size

    def ask(self) -> None:
        """Send updates and queries to their owners."""
        self.actor.pack(self.tick)
        self.exchange.isend()
        self.waiting = True

    def ready(self) -> bool:
        """Return whether all replies have come; take them."""
        if self.waiting and self.exchange.test():
            self.waiting = False
            self.actor.receive()
        return not self.waiting

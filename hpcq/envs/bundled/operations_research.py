"""Classics of operations research, as tables: an inventory and two queues.

Costs are negative rewards. Nothing terminates: the jobs discount, and cut episodes.
"""

import itertools
import math

import numpy as np

from hpcq.envs import tabular
from hpcq.envs.protocol import CompiledEnvironment, integer, number
from hpcq.errors import JobError

# Demands that together are rarer than this do not occur.
_RARE = 1e-9
_MOST_OUTCOMES = 20_000_000


def _poisson(mean: float) -> list[float]:
    """Return the probabilities of 0, 1, 2, ..., the rare ones cut off; they add up to 1."""
    found = [math.exp(-mean)]
    while sum(found) < 1 - _RARE:
        found.append(found[-1] * mean / len(found))
    return [p / sum(found) for p in found]


def _discrete(sizes: list[int]) -> dict:
    return {
        "kind": "Tuple",
        "spaces": [{"kind": "Discrete", "n": size, "start": 0} for size in sizes],
    }


def inventory(
    max_episode_steps: int | None,
    *,
    lead_time: int = 2,
    demand: float = 5.0,
    holding: float = 1.0,
    lost_sale: float = 4.0,
    capacity: int = 30,
    largest_order: int = 10,
) -> CompiledEnvironment:
    """Return an inventory with lost sales and a lead time: job id ``hpcq/Inventory-v0``.

    The observation is (stock, orders under way, the next to arrive first), the action the number
    ordered, which arrives after `lead_time` periods. Demand is Poisson with mean `demand`. Each
    period costs `holding` for every piece left over and `lost_sale` for every piece asked for in
    vain; what does not fit into `capacity` is sent back.

    Zipkin, "Old and new methods for lost-sales inventory systems", Operations Research 56, 2008.
    """
    id_ = "hpcq/Inventory-v0"
    integer(id_, "lead_time", lead_time, 1, 6)
    number(id_, "demand", demand, 1e-3, 100)
    number(id_, "holding", holding, 0, 1e9)
    number(id_, "lost_sale", lost_sale, 0, 1e9)
    integer(id_, "capacity", capacity, 1, 1000)
    integer(id_, "largest_order", largest_order, 1, capacity)
    chances = np.array(_poisson(demand))
    demands = np.arange(chances.size)
    sizes = [capacity + 1] + [largest_order + 1] * (lead_time - 1)
    shape = (math.prod(sizes), largest_order + 1, demands.size)
    if math.prod(shape) > _MOST_OUTCOMES:
        raise JobError(
            f"{id_}: {math.prod(shape):,} outcomes of all states and actions, expected at most "
            f"{_MOST_OUTCOMES:,}; take a smaller capacity, largest_order or lead_time"
        )
    next_, reward = np.zeros(shape, np.int64), np.zeros(shape)
    for state, (stock, *coming) in enumerate(itertools.product(*map(range, sizes))):
        left = np.maximum(stock - demands, 0)
        reward[state] = -holding * left - lost_sale * np.maximum(demands - stock, 0)
        for ordered in range(largest_order + 1):
            arriving, *rest = (*coming, ordered)
            next_[state, ordered] = np.ravel_multi_index(
                (np.minimum(left + arriving, capacity), *rest), sizes
            )
    model = tabular.table_model(
        np.broadcast_to(chances, shape),
        next_,
        reward,
        np.zeros(shape, np.bool_),
        np.full(shape[0], 1.0 / shape[0]),
    )
    return tabular.table_environment(id_, model, max_episode_steps, _discrete(sizes))


def admission(
    max_episode_steps: int | None,
    *,
    capacity: int = 20,
    arrival: float = 0.4,
    service: float = 0.5,
    reward: float = 12.0,
    holding: float = 1.0,
) -> CompiledEnvironment:
    """Return admission control to a queue with one server: job id ``hpcq/Admission-v0``.

    The observation is (customers in the queue, 1 if one stands at the door), action 1 admits the
    one at the door. Admitting pays `reward`; every customer in the queue costs `holding` per step.
    With probability `arrival` a step brings a customer to the door, with probability `service`
    it ends a service. A full queue admits nobody.

    Naor, "The regulation of queue size by levying tolls", Econometrica 37, 1969, the chain
    uniformised.
    """
    id_ = "hpcq/Admission-v0"
    integer(id_, "capacity", capacity, 1, 100_000)
    number(id_, "arrival", arrival, 0, 1)
    number(id_, "service", service, 0, 1 - arrival)
    number(id_, "reward", reward, 0, 1e9)
    number(id_, "holding", holding, 0, 1e9)
    sizes = [capacity + 1, 2]
    shape = (math.prod(sizes), 2, 3)
    next_, paid = np.zeros(shape, np.int64), np.zeros(shape)
    for state, (queue, door) in enumerate(itertools.product(*map(range, sizes))):
        for action in range(2):
            admitted = action * door * (queue < capacity)
            now = queue + admitted
            paid[state, action] = reward * admitted - holding * now
            next_[state, action] = 2 * now + 1, 2 * max(now - 1, 0), 2 * now
    chances = np.broadcast_to([arrival, service, 1 - arrival - service], shape)
    model = tabular.table_model(
        chances, next_, paid, np.zeros(shape, np.bool_), np.full(shape[0], 1.0 / shape[0])
    )
    return tabular.table_environment(id_, model, max_episode_steps, _discrete(sizes))


def access_control(
    max_episode_steps: int | None,
    *,
    servers: int = 10,
    free: float = 0.06,
    payments: tuple[float, ...] | list[float] = (1.0, 2.0, 4.0, 8.0),
) -> CompiledEnvironment:
    """Return access control to a group of servers: job id ``hpcq/AccessControl-v0``.

    The observation is (free servers, number of the payment that the customer at the head of the
    queue offers), action 1 takes the customer: it pays, and keeps a server busy. Without a free
    server, and with action 0, the customer goes away. In a step each busy server becomes free with
    probability `free`; the next customer offers any of the `payments` with the same probability.

    Sutton and Barto, "Reinforcement Learning", 2018, example 10.2.
    """
    id_ = "hpcq/AccessControl-v0"
    integer(id_, "servers", servers, 1, 1000)
    number(id_, "free", free, 0, 1)
    if not isinstance(payments, tuple | list) or not 1 <= len(payments) <= 100:
        raise JobError(f"{id_}: payments = {payments!r}, expected a list of 1 ... 100 numbers")
    for payment in payments:
        number(id_, "payments", payment, 0, 1e9)
    kinds = len(payments)
    sizes = [servers + 1, kinds]
    shape = (math.prod(sizes), 2, (servers + 1) * kinds)
    if math.prod(shape) > _MOST_OUTCOMES:
        raise JobError(
            f"{id_}: {math.prod(shape):,} outcomes of all states and actions, expected at most "
            f"{_MOST_OUTCOMES:,}; take fewer servers or payments"
        )
    chance, next_ = np.zeros(shape), np.zeros(shape, np.int64)
    paid = np.zeros(shape)
    for state, (idle, kind) in enumerate(itertools.product(*map(range, sizes))):
        for action in range(2):
            taken = action * (idle > 0)
            paid[state, action] = taken * payments[kind]
            busy = servers - idle + taken
            outcome = 0
            for freed in range(busy + 1):
                likely = math.comb(busy, freed) * free**freed * (1 - free) ** (busy - freed)
                for following in range(kinds):
                    chance[state, action, outcome] = likely / kinds
                    next_[state, action, outcome] = (servers - busy + freed) * kinds + following
                    outcome += 1
            next_[state, action, outcome:] = next_[state, action, outcome - 1]
    model = tabular.table_model(
        chance, next_, paid, np.zeros(shape, np.bool_), np.full(shape[0], 1.0 / shape[0])
    )
    return tabular.table_environment(id_, model, max_episode_steps, _discrete(sizes))

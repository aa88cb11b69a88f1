"""The serial yardstick: one process, a dense array, no messages.

The same problem, learning rule and policy, without hashing, owners or exchange; walkers see each
other's updates at once, so results depend on their order. Written to be fast, so that the cost of
distribution is measured (McSherry, Isard, Murray, "Scalability! But at what COST?", HotOS 2015).
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcq.bench.workloads import Workload
from hpcq.hashing import hi64, mix64
from hpcq.jit.compiler import kernel
from hpcq.jit.memory import allocate, prefetch
from hpcq.rng import second_draw, unit_interval

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _make_many(step: Any, reset: Any) -> Any:
    """Return the kernel that steps all walkers `ticks` times.

    Two passes per tick, so that every row is prefetched.

    q      float32 (states, row) of which the first `flat` columns are actions
    """

    @kernel
    def many(
        q: NDArray[np.float32],
        flat: int,
        model: Any,
        keys: NDArray[np.uint64],
        actions: NDArray[np.int64],
        following: NDArray[np.uint64],
        rewards: NDArray[np.float64],
        ended: NDArray[np.bool_],
        elapsed: NDArray[np.int64],
        limit: int,
        counter: np.uint64,
        ticks: int,
    ) -> Any:
        n = keys.size
        choices = np.uint64(flat)
        for _ in range(ticks):
            for w in range(n):
                counter += _GOLDEN
                key, reward, terminated = step(model, keys[w], actions[w], mix64(counter))
                following[w] = key
                rewards[w] = reward
                ended[w] = terminated
                prefetch(q[key], 0)
            for w in range(n):
                counter += _GOLDEN
                draw = mix64(counter)
                key = following[w]
                best: Any = q[key, 0]
                chosen: Any = 0
                for a in range(1, flat):
                    value = q[key, a]
                    better = value > best
                    best = value if better else best
                    chosen = a if better else chosen
                value = 0.0 if ended[w] else 0.99 * best
                old = q[keys[w], actions[w]]
                error = np.float32(rewards[w] + value) - old
                q[keys[w], actions[w]] = old + np.float32(0.1) * error
                elapsed[w] += 1
                if ended[w] or elapsed[w] == limit:
                    elapsed[w] = 0
                    key = reset(model, draw)
                    chosen = np.int64(hi64(second_draw(draw), choices))
                elif unit_interval(draw) < 0.1:
                    chosen = np.int64(hi64(second_draw(draw), choices))
                keys[w] = key
                actions[w] = chosen
        return counter

    return many


def _make_one(step: Any, reset: Any) -> Any:
    """Return the kernel of one walker: the textbook's loop."""

    @kernel
    def one(
        q: NDArray[np.float32], flat: int, model: Any, limit: int, counter: np.uint64, steps: int
    ) -> Any:
        choices = np.uint64(flat)
        key, elapsed = reset(model, mix64(counter)), 0
        action: Any = 0
        for _ in range(steps):
            counter += _GOLDEN
            following, reward, terminated = step(model, key, action, mix64(counter))
            counter += _GOLDEN
            draw = mix64(counter)
            best: Any = q[following, 0]
            chosen: Any = 0
            for a in range(1, flat):
                value = q[following, a]
                better = value > best
                best = value if better else best
                chosen = a if better else chosen
            value = 0.0 if terminated else 0.99 * best
            old = q[key, action]
            q[key, action] = old + np.float32(0.1) * (np.float32(reward + value) - old)
            elapsed += 1
            if terminated or elapsed == limit:
                elapsed = 0
                following = reset(model, draw)
            elif unit_interval(draw) < 0.1:
                chosen = np.int64(hi64(second_draw(draw), choices))
            key, action = following, chosen
        return counter

    return one


def yardsticks(work: Workload, walkers: tuple[int, ...], seconds: float) -> dict[str, Any]:
    """Return transitions per second of one walker and of the best number of many walkers."""
    environment = work.environment
    states, actions = work.states, environment.actions
    row = 1 << (actions - 1).bit_length()
    q = allocate(states * row * 4).view(np.float32).reshape(states, row)
    q[:] = 0
    step, reset = environment.step, environment.reset
    many, one = _make_many(step, reset), _make_one(step, reset)
    limit = environment.max_episode_steps or -1
    found: dict[str, Any] = {}

    def rate(call: Any, units: int) -> list[float]:
        """Time calls of `units` transitions for a while, the first one not counted."""
        call()
        rates: list[float] = []
        end = time.perf_counter() + seconds
        while len(rates) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            call()
            rates.append(units / (time.perf_counter() - start))
        return rates

    counter = np.uint64(1)
    steps = 200_000
    rates = rate(lambda: one(q, actions, environment.model, limit, counter, steps), steps)
    found["one_walker"] = float(np.median(rates))
    for n in walkers:
        keys = mix64.py_func(np.arange(n, dtype=np.uint64)) % np.uint64(states)
        arrays = (
            keys,
            np.zeros(n, np.int64),
            np.zeros(n, np.uint64),
            np.zeros(n, np.float64),
            np.zeros(n, np.bool_),
            np.zeros(n, np.int64),
        )
        ticks = max(1, 400_000 // n)

        def call(arrays: Any = arrays, ticks: int = ticks) -> None:
            nonlocal counter
            counter = np.uint64(many(q, actions, environment.model, *arrays, limit, counter, ticks))

        found[f"walkers_{n}"] = float(np.median(rate(call, n * ticks)))
    found["many_walkers"] = max(found[f"walkers_{n}"] for n in walkers)
    return found

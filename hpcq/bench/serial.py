"""The yardstick: the best program without messages, one process, a dense array.

The same problem, learning rule and policy; no hash, no owner, no exchange, and no promise: the
walkers see each other's updates at once. Written to be fast, so that what distribution costs is
measured (McSherry, Isard, Murray, "Scalability! But at what COST?", HotOS 2015).
"""

import time
from typing import Any

import numpy as np

from hpcq.bench.workloads import Workload
from hpcq.hashing import hi64, mix64
from hpcq.jit.compiler import bind
from hpcq.jit.memory import allocate, prefetch
from hpcq.rng import second_draw, unit_interval

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _many(q, flat, model, keys, actions, following, rewards, ended, elapsed, limit, counter, ticks):
    """Step all walkers `ticks` times; two passes a tick, so that every row is fetched ahead.

    q      float32 (states, row) of which the first `flat` columns are actions
    """
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
            best, chosen = q[key, 0], 0
            for a in range(1, flat):
                value = q[key, a]
                better = value > best
                best = value if better else best
                chosen = a if better else chosen
            value = 0.0 if ended[w] else 0.99 * best
            old = q[keys[w], actions[w]]
            q[keys[w], actions[w]] = old + np.float32(0.1) * (np.float32(rewards[w] + value) - old)
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


def _one(q, flat, model, limit, counter, steps):
    """One walker, the textbook's loop."""
    choices = np.uint64(flat)
    key, action, elapsed = reset(model, mix64(counter)), 0, 0
    for _ in range(steps):
        counter += _GOLDEN
        following, reward, terminated = step(model, key, action, mix64(counter))
        counter += _GOLDEN
        draw = mix64(counter)
        best, chosen = q[following, 0], 0
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


def yardsticks(work: Workload, walkers: tuple[int, ...], seconds: float) -> dict[str, Any]:
    """Return transitions per second of one walker and of the best number of many walkers."""
    environment = work.environment
    states, actions = work.states, environment.actions
    row = 1 << (actions - 1).bit_length()
    q = allocate(states * row * 4).view(np.float32).reshape(states, row)
    q[:] = 0
    functions = {"step": environment.step, "reset": environment.reset}
    many, one = bind(_many, **functions), bind(_one, **functions)
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

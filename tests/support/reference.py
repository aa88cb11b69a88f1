"""A second implementation of the lockstep tick: one process, a dict, Python's numbers.

It shares no code with hpcq but the model's arrays; it is slow, and easy to check by eye.
"""

import bisect

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
BEHAVE, STEP, RESET = 0, 1, 2


def mix(x):
    x &= MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


class Draws:
    def __init__(self, seed):
        self.seed = mix(seed)
        self.base = mix(self.seed + GOLDEN)

    def __call__(self, environment, tick, purpose):
        word = mix(self.base + environment * GOLDEN)
        return mix(mix(mix(mix(self.seed) + tick) + purpose * GOLDEN) ^ word)


def unit(draw):
    return (draw >> 11) / 2**53


def behave(row, draw, epsilon):
    best = [a for a, value in enumerate(row) if value == max(row)]
    choices = range(len(row)) if draw >> 32 < int(epsilon * 2**32) else best
    return choices[((draw & 0xFFFFFFFF) * len(choices)) >> 32]


def learn(model, *, environments, ticks, seed, gamma, epsilon, q_init, limit, rate=None, w=None):
    """Return {state: [q, ...]} after `ticks`; learning rate `rate`, or by visits to the power w.

    model  hpcq.envs.table.TableModel
    """
    actions = model.cumulative.shape[1]
    draws = Draws(seed)
    q, visits = {}, {}

    def read(s):
        return q.get(s, [q_init] * actions)

    def start(e, tick):
        u = unit(draws(e, tick, RESET)) * model.start_cumulative[-1]
        return bisect.bisect_right(model.start_cumulative.tolist(), u)

    state = [start(e, 0) for e in range(environments)]
    action = [behave(read(s), draws(e, 0, BEHAVE), epsilon) for e, s in enumerate(state)]
    elapsed = [0] * environments
    pending = []
    for tick in range(1, ticks + 1):
        taken = []
        for e in range(environments):
            u = unit(draws(e, tick, STEP))
            outcomes = model.cumulative[state[e], action[e]]
            k = next((k for k, c in enumerate(outcomes) if c > u), len(outcomes) - 1)
            place = state[e], action[e], k
            taken.append(
                (int(model.next[place]), float(model.reward[place]), bool(model.terminated[place]))
            )
        for s, a, target in pending:
            row = q.setdefault(s, [q_init] * actions)
            n = visits.get((s, a), 0)
            visits[s, a] = n + 1
            row[a] += (rate if w is None else (1.0 + n) ** -w) * (target - row[a])
        pending = []
        for e, (following, reward, terminated) in enumerate(taken):
            elapsed[e] += 1
            value = 0.0 if terminated else max(read(following))
            pending.append((state[e], action[e], reward + gamma * value))
            if terminated or elapsed[e] == limit:
                following, elapsed[e] = start(e, tick), 0
            state[e] = following
            action[e] = behave(read(following), draws(e, tick, BEHAVE), epsilon)
    return q

"""A second implementation of the lockstep tick: one process, a dict, Python's numbers.

It shares no code with hpcq but the model's arrays; it is slow, and easy to check by eye.
"""

import bisect
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
SECOND = 0xD1B54A32D192ED03
BEHAVE, STEP, RESET, REPLAY = 0, 1, 2, 3


def mix(x):
    x &= MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


class Draws:
    def __init__(self, seed):
        self.seed = mix(seed)
        self.base = mix(self.seed + GOLDEN)

    def __call__(self, environment, tick, purpose, replayed=0):
        word = mix(self.base + environment * GOLDEN)
        for _ in range(replayed):
            word = mix(word ^ SECOND)
        return mix(mix(mix(mix(self.seed) + tick) + purpose * GOLDEN) ^ word)


def unit(draw):
    return (draw >> 11) / 2**53


class Policy:
    """A behaviour policy by its name; `parameter` is epsilon, temperature or confidence."""

    def __init__(self, name, parameter):
        self.name, self.parameter = name, parameter

    def bounds(self, values, counts):
        log = math.log(max(1, sum(counts.values())))
        return {
            a: math.inf if counts[a] == 0 else v + self.parameter * math.sqrt(log / counts[a])
            for a, v in values.items()
        }

    def candidates(self, values, counts, draw):
        """Return the actions among which chance decides evenly; `values` are of legal actions."""
        if self.name == "uniform":
            return list(values)
        if self.name == "epsilon_greedy" and draw >> 32 < int(self.parameter * 2**32):
            return list(values)
        score = self.bounds(values, counts) if self.name == "ucb" else values
        return [a for a, value in score.items() if value == max(score.values())]

    def weights(self, values):
        best = max(values.values())
        return {a: math.exp((v - best) / self.parameter) for a, v in values.items()}

    def choose(self, values, counts, draw):
        if self.name == "boltzmann":
            weights, reached = self.weights(values), 0.0
            threshold = unit(draw) * sum(weights.values())
            for a, weight in weights.items():
                if reached <= threshold and weight > 0:
                    chosen = a
                    reached += weight
            return chosen
        choices = self.candidates(values, counts, draw)
        return choices[((draw & 0xFFFFFFFF) * len(choices)) >> 32]

    def mean(self, values, counts):
        best = max(values.values())
        if self.name == "boltzmann":
            weights = self.weights(values)
            return sum(w * values[a] for a, w in weights.items()) / sum(weights.values())
        if self.name == "greedy":
            return best
        if self.name == "epsilon_greedy":
            uniform = sum(values.values()) / len(values)
            return self.parameter * uniform + (1.0 - self.parameter) * best
        choices = self.candidates(values, counts, 0)
        return sum(values[a] for a in choices) / len(choices)


class Asked(NamedTuple):
    """What a rule may bootstrap from."""

    values: dict  # of the legal actions, the tables combined
    chosen: int
    mean: Callable  # of the policy
    rows: list  # of all tables
    table: int  # that is updated
    options: dict


def largest(at):
    return max(at.values.values())


def double(at):
    return at.rows[1 - at.table][max(at.values, key=lambda a: at.rows[at.table][a])]


def weighted_double(at):
    mine, other = at.rows[at.table], at.rows[1 - at.table]
    best, worst = (which(at.values, key=lambda a: mine[a]) for which in (max, min))
    gap = abs(other[best] - other[worst])
    weight = gap / (at.options["weight_constant"] + gap) if gap else 0.0
    return weight * mine[best] + (1.0 - weight) * other[best]


# What each rule bootstraps from.
BOOTSTRAP = {
    "q_learning": largest,
    "negamax": largest,
    "maxmin": largest,
    "sarsa": lambda at: at.values[at.chosen],
    "expected_sarsa": lambda at: at.mean(),
    "double_q": double,
    "weighted_double_q": weighted_double,
}
COMBINE = {"mean": lambda values: sum(values) / len(values), "min": min}


class Table:
    """Rows that come into being at their first update; each holds a list of values per table."""

    def __init__(self, actions, tables, combine, q_init, legal, options):
        self.q, self.visits, self.changes = {}, {}, []
        self.options = options
        self.actions, self.tables, self.q_init = actions, tables, q_init
        self.combine = COMBINE[combine]
        self.legal = legal or (lambda s: range(actions))

    def update(self, s, table, a, target, rate, step, weight=1.0):
        """Return the TD error."""
        new = [[self.q_init] * self.actions for _ in range(self.tables)]
        values = self.q.setdefault(s, new)[table]
        n = self.visits.get((s, table, a), 0)
        self.visits[s, table, a] = n + 1
        error = target - values[a]
        self.changes.append(min(1.0, rate(n, step) * weight) * error)
        values[a] += self.changes[-1]
        return error

    def take_changes(self, updates):
        """Return the sum of all changes since the last call, in parts of 2 ** -bits."""
        bits = 46 - math.ceil(math.log2(updates))
        bounded = (max(-(2.0**16), min(2.0**16, change)) for change in self.changes)
        total = sum(round(change * 2.0**bits) for change in bounded)
        self.changes = []
        return total / 2.0**bits

    def ask(self, s, draw, rule, policy):
        """Return (action, value to bootstrap from, whether the action is greedy, table)."""
        drawn = (draw & 0xFFFF) % self.tables
        if s not in self.q:
            choices = list(self.legal(s))
            chosen = choices[((draw & 0xFFFFFFFF) * len(choices)) >> 32]
            return chosen, self.q_init, True, drawn
        rows = self.q[s]
        values = {a: self.combine([row[a] for row in rows]) for a in self.legal(s)}
        counts = {a: sum(self.visits.get((s, t, a), 0) for t in range(self.tables)) for a in values}
        chosen, best = policy.choose(values, counts, draw), max(values.values())
        mean = functools.partial(policy.mean, values, counts)
        value = BOOTSTRAP[rule](Asked(values, chosen, mean, rows, drawn, self.options))
        return chosen, value, values[chosen] == best, drawn


def returns(window, gamma, decay):
    """Return the lambda-return of every transition (..., reward, value) of a window."""
    found = []
    for first in range(len(window)):
        total = window[-1][2] + gamma * window[-1][3]
        for _, _, reward, value in window[first:-1][::-1]:
            total = reward + gamma * ((1.0 - decay) * value + decay * total)
        found.append(total)
    return found


class Ring:
    """An environment's latest transitions, and, if drawn by priority, what is known of them.

    priority   (alpha, floor) or None
    """

    def __init__(self, capacity, priority):
        self.capacity, self.priority = capacity, priority
        self.items, self.values, self.added = [], [], 0

    def add(self, item):
        """Add a transition; return its number."""
        self.items, self.values = [*self.items, item], [*self.values, 0]
        self.items, self.values = self.items[-self.capacity :], self.values[-self.capacity :]
        self.added += 1
        return self.added - 1

    def places(self):
        """Return the indices of the items in the order of a ring: number modulo capacity."""
        first = self.added - len(self.items)
        return sorted(range(len(self.items)), key=lambda i: (first + i) % self.capacity)

    def draw(self, draw, beta):
        """Return (transition, weight, number), or None if there is none to draw."""
        weight, chosen, places = 1.0, None, self.places()
        if self.priority is None:
            chosen = places[(draw * len(places)) >> 64]
        elif any(self.values):
            reached = (draw * sum(self.values)) >> 64
            for i in places:
                if reached < self.values[i]:
                    chosen = i
                    break
                reached -= self.values[i]
            weight = (sum(self.values) / len(self.values) / self.values[chosen]) ** beta
        if chosen is None:
            return None
        return self.items[chosen], weight, self.added - len(self.items) + chosen

    def learn(self, number, error):
        """Take note of the TD error that transition `number` had."""
        at = number - (self.added - len(self.items))
        if self.priority and at >= 0:
            alpha, floor = self.priority
            self.values[at] = 1 + int((abs(error) + floor) ** alpha * 2**16)


def learn(
    model,
    *,
    environments,
    ticks,
    seed,
    gamma,
    q_init,
    limit,
    rate,
    rule="q_learning",
    tables=1,
    combine="mean",
    off_policy=True,
    self_play=False,
    policy="epsilon_greedy",
    parameter=None,
    n_step=1,
    decay=1.0,
    legal=None,
    replay=(1, 0),
    priority=None,
    importance=0.0,
    by_episodes=None,
    batches=1,
    centring=0.0,
    options=None,
):
    """Return {state: [q, ...]} after `ticks`, the values of all tables one after the other.

    model      hpcq.envs.tabular.TableModel
    rate       rate(n, step) of an update that n others of the same value came before
    tables     values of each (state, action), combined to what the policy acts on
    off_policy whether returns end at the first action that is not greedy
    parameter  of the policy: a number, or a function of the environment step
    legal      legal(state) -> actions; default: all
    replay     transitions in the ring of an environment, and how many it replays in a tick
    priority   alpha and what is added to a |TD error|; None: replayed ones are drawn evenly
    importance beta: a number, or a function of the environment step
    by_episodes epsilon as a function of the episodes that the environment has ended
    batches    groups of environments, whose updates and queries follow each other in a tick
    centring   how fast the mean that is subtracted from rewards follows
    options    the rule's own keys
    """
    draws = Draws(seed)
    table = Table(model.cumulative.shape[1], tables, combine, q_init, legal, options)
    gamma = -gamma if self_play else gamma

    episodes = [0] * environments

    def acts(step, e):
        if by_episodes is not None:
            return Policy(policy, by_episodes(episodes[e]))
        return Policy(policy, parameter(step) if callable(parameter) else parameter)

    def start(e, tick):
        u = unit(draws(e, tick, RESET)) * model.start_cumulative[-1]
        return bisect.bisect_right(model.start_cumulative.tolist(), u)

    state = [start(e, 0) for e in range(environments)]
    action = [table.ask(s, draws(e, 0, BEHAVE), rule, acts(0, e))[0] for e, s in enumerate(state)]
    elapsed = [0] * environments
    windows = [[] for _ in range(environments)]
    capacity, ratio = replay
    rings = [Ring(capacity, priority) for _ in range(environments)]
    pending = [[] for _ in range(batches)]
    updates, mean = environments * (1 + ratio), 0.0
    for tick in range(1, ticks + 1):
        several = min(updates, len(table.q) * tables * table.actions) or 1
        mean += centring / several * table.take_changes(updates)
        taken = []
        for e in range(environments):
            u = unit(draws(e, tick, STEP))
            outcomes = model.cumulative[state[e], action[e]]
            k = next((k for k, c in enumerate(outcomes) if c > u), len(outcomes) - 1)
            place = state[e], action[e], k
            taken.append(
                (int(model.next[place]), float(model.reward[place]), bool(model.terminated[place]))
            )
        step = tick * environments
        beta = importance(step) if callable(importance) else importance
        newest = [ring.add((state[e], action[e], *taken[e])) for e, ring in enumerate(rings)]
        drawn = [
            [rings[e].draw(draws(e, tick, REPLAY, k), beta) for k in range(1, ratio + 1)]
            for e in range(environments)
        ]
        for batch in range(batches):
            for s, drawn_table, a, target, weight, e, number in pending[batch]:
                rings[e].learn(number, table.update(s, drawn_table, a, target, rate, step, weight))
            pending[batch] = []
            for e in range(batch, environments, batches):
                following, reward, terminated = taken[e]
                draw = draws(e, tick, BEHAVE)
                elapsed[e] += 1
                truncated = not terminated and elapsed[e] == limit
                episodes[e] += terminated or truncated
                if truncated:
                    final = table.ask(following, mix(draw ^ SECOND), rule, acts(step, e))
                if terminated or truncated:
                    following, elapsed[e] = start(e, tick), 0
                reply = table.ask(following, draw, rule, acts(step, e))
                _, value, greedy, drawn_table = final if truncated else reply
                window = windows[e]
                window.append((state[e], action[e], reward - mean, 0.0 if terminated else value))
                due = 0
                if terminated or truncated or (off_policy and not greedy) or n_step == 1:
                    due = len(window)
                elif len(window) == n_step:
                    due = 1
                targets = returns(window, gamma, decay)
                pending[batch] += [
                    (s, drawn_table, a, targets[j], 1.0, e, newest[e])
                    for j, (s, a, _, _) in enumerate(window[:due])
                ]
                del window[:due]
                for k, found in enumerate(drawn[e], 1):
                    if found is not None:
                        (s, a, after, r, ended), weight, number = found
                        draw = draws(e, tick, BEHAVE, k)
                        _, value, _, drawn_table = table.ask(after, draw, rule, acts(step, e))
                        target = r - mean + gamma * (0.0 if ended else value)
                        pending[batch].append((s, drawn_table, a, target, weight, e, number))
                state[e], action[e] = following, reply[0]
    return {s: [value for row in rows for value in row] for s, rows in table.q.items()}

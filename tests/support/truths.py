"""What a learned table is compared with."""

import gymnasium
import numpy as np

from hpcq.checkpoint.reader import opened, table_pieces
from hpcq.envs.bundled import control
from hpcq.hashing import unmix64
from hpcq.jit.compiler import kernel
from hpcq.spaces.codec import Codec

CONTROL = {
    "cartpole": "CartPole-v1",
    "mountaincar": "MountainCar-v0",
    "acrobot": "Acrobot-v1",
    "pendulum": "Pendulum-v1",
}


def rows(path):
    """Return {key: Q-values} of a checkpoint."""
    found = {}
    with opened(path) as (file, header):
        for hashes, q, _ in table_pieces(file, header, 0, header.rows):
            found.update(zip(unmix64.py_func(hashes).tolist(), q.copy(), strict=True))
    return found


def returns_in_gymnasium(id_, policy, episodes=100, seed=12345):
    """Return the returns of fresh episodes; policy(observation) gives the action."""
    env, found = gymnasium.make(id_), []
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed + episode)
        total, ended = 0.0, False
        while not ended:
            observation, reward, terminated, truncated, _ = env.step(policy(observation))
            total += reward
            ended = terminated or truncated
        found.append(total)
    return np.array(found)


def greedy_policy(twin, table):
    """Return the policy of a table learned on a compiled twin, for Gymnasium's observations."""

    def policy(observation):
        key = int(twin.observe(twin.model, control.state_of(twin, observation)))
        action = int(table[key].argmax()) if key in table else 0
        if twin.id == "hpcq/Pendulum-v0":
            return np.array([-2.0 + 4.0 * action / (twin.actions - 1)], np.float32)
        return action

    return policy


def deterministic_values(environment, gamma, least, sweeps=10_000):
    """Return V* (S,) of all keys of an environment whose step ignores the draw, by sweeps in place.

    Values rise from `least`, which must be below all of them; with gamma = 1 a state from which no
    end can be reached keeps it. None if the values have not settled in `sweeps`.
    """
    step = environment.step

    @kernel
    def sweep(model, value, actions):
        change = 0.0
        for s in range(value.size):
            best = least
            for a in range(actions):
                key, reward, terminated = step(model, np.uint64(s), a, np.uint64(0))
                future = 0.0 if terminated else gamma * value[np.int64(key)]
                best = max(best, reward + future)
            change = max(change, abs(best - value[s]))
            value[s] = best
        return change

    value = np.full(Codec(environment.observation).size, least)
    for _ in range(sweeps):
        if sweep(environment.model, value, environment.actions) == 0.0:
            return value
    return None


def best_average(model):
    """Return the largest average reward of a step, and Q (S, A) relative to start states.

    Howard's policy iteration (Dynamic Programming and Markov Processes, 1960, chapter 4) over
    linear systems, for a table model in which no episode ends.
    """
    states, actions = model.next.shape[:2]
    move = np.zeros((states, actions, states))
    at = np.indices(model.next.shape)
    np.add.at(move, (at[0], at[1], model.next), model.probability)
    reward = np.einsum("sak,sak->sa", model.probability, model.reward)
    policy, here = np.zeros(states, int), np.arange(states)
    for _ in range(1000):
        # One unknown is the average reward: the value of state 0 is 0 instead.
        system = np.eye(states) - move[here, policy]
        system[:, 0] = 1.0
        found = np.linalg.solve(system, reward[here, policy])
        rate, value = found[0], np.concatenate([[0.0], found[1:]])
        q = reward - rate + move @ value
        better = q.max(axis=1) > q[here, policy] + 1e-10
        if not better.any():
            return rate, q - model.start @ value / model.start.sum()
        policy = np.where(better, q.argmax(axis=1), policy)
    raise AssertionError("policy iteration has not come to an end")

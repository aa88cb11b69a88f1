"""Goals that take minutes, outside CI: ``python -m pytest tests/long``, on a quiet machine."""

from pathlib import Path

import make_job
import numpy as np
import pytest
from launch import hpcq, summary
from mpi4py import MPI
from stickers import cube_distances, keys_after
from truths import CONTROL, greedy_policy, returns_in_gymnasium, rows

from hpcq.bench.modes import gathered
from hpcq.envs.resolve import resolve
from hpcq.job.job import Job
from hpcq.job.sections import ReplaySection
from hpcq.learning import exact
from hpcq.learning.lockstep import LockstepLearner
from hpcq.run.summary import dense_table

JOBS = Path(__file__).parents[2] / "jobs"


def train(name, tmp_path):
    """Run a job on 2 ranks within 15 minutes; return (environment, checkpoint)."""
    file = JOBS / f"{name}.toml"
    hpcq(2, "run", file, f"--set=run.directory='{tmp_path}/run'", timeout=900)
    environment = resolve(Job.load(file).environment)
    return environment, Path(summary(tmp_path / "run")["checkpoint"])


@pytest.mark.timeout(1200)
def test_every_position_of_the_cube_is_solved_in_the_least_number_of_moves(tmp_path):
    environment, path = train("cube", tmp_path)
    check_every_position(environment, path)


def check_every_position(environment, path):
    distance = cube_distances(environment)
    published = [1, 9, 54, 321, 1847, 9992, 50136, 227536, 870072, 1887748, 623800, 2644]
    assert np.bincount(distance).tolist() == published
    q = dense_table(path, distance.size)
    assert (q[1:].max(axis=1) == -distance[1:]).all()
    # Every greedy action, not only the first one, leads one move nearer.
    for action in range(environment.actions):
        greedy = np.flatnonzero(q[:, action] == q.max(axis=1))
        greedy = greedy[greedy != 0]
        after = keys_after(environment, greedy.astype(np.uint64), action)
        assert (distance[after] == distance[greedy] - 1).all()


# Gymnasium's own thresholds; the pendulum has none.
@pytest.mark.parametrize(
    ("name", "least"), [("cartpole", 475), ("mountaincar", -110), ("acrobot", -100)]
)
def test_a_policy_learned_on_the_twin_solves_gymnasiums_environment(name, least, tmp_path):
    twin, path = train(name, tmp_path)
    found = returns_in_gymnasium(CONTROL[name], greedy_policy(twin, rows(path)))
    print(f"{name}: {found.mean():.1f} over 100 episodes")
    assert found.mean() >= least


def by_energy(observation):
    """Swing the pendulum up by its energy, catch it by a linear controller."""
    angle, speed = np.arctan2(observation[1], observation[0]), observation[2]
    # 1/6 speed^2 is the kinetic energy, 5 cos(angle) the potential one, 5 at the top.
    missing = 5 - (speed**2 / 6 + 5 * np.cos(angle))
    torque = -10 * angle - 2 * speed if np.cos(angle) > 0.9 else 2 * np.sign(speed * missing)
    return np.array([np.clip(torque, -2, 2)], np.float32)


def test_the_pendulum_beside_a_random_and_a_hand_made_controller(tmp_path):
    twin, path = train("pendulum", tmp_path)
    rng = np.random.default_rng(0)
    means = {
        label: returns_in_gymnasium("Pendulum-v1", policy).mean()
        for label, policy in (
            ("learned", greedy_policy(twin, rows(path))),
            ("hand-made", by_energy),
            ("random", lambda observation: rng.uniform(-2, 2, 1).astype(np.float32)),
        )
    }
    print(means)
    assert means["learned"] > means["hand-made"] - 10 > means["random"]


def test_replay_reaches_a_good_policy_on_taxi_in_half_the_steps():
    """To 95 % of the optimal return, each with its best learning rate of one grid."""
    environment = resolve(Job.load(JOBS / "taxi.toml").environment)
    model = environment.model
    best = exact.greedy(exact.value_iteration(model, 0.99), 1e-9)
    goal = 0.95 * exact.expected_return(model, best, 200)

    def steps(rate, ratio, seed):
        job = make_job.make(
            {"id": "Taxi-v4", "count": 16},
            learning={"gamma": 0.99, "learning_rate": rate},
            exploration={"epsilon": 0.1},
            run={"seed": seed},
        ).model_copy(update={"replay": ReplaySection(ratio=ratio)})
        learner = LockstepLearner(job, environment, MPI.COMM_SELF)
        learner.begin()
        value = -np.inf
        while value < goal:
            for _ in range(125):
                learner.advance()
            policy = exact.greedy(gathered(learner, 500))
            value = exact.expected_return(model, policy, 200)
        return learner.steps

    plain, replay = (
        min(
            np.mean([steps(rate, ratio, seed) for seed in (1, 2, 3)])
            for rate in (0.1, 0.2, 0.4, 0.7, 1.0)
        )
        for ratio in (0, 4)
    )
    assert replay <= 0.5 * plain

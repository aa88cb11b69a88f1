"""What environments say can happen, against what their steps draw; and the page's example."""

from collections import defaultdict

import make_job
import numpy as np
import pytest
import readme
import ruled
from mpi4py import MPI
from truths import rows

from hpcq.checkpoint.files import list_checkpoints
from hpcq.envs.protocol import compiled_environment
from hpcq.envs.resolve import resolve
from hpcq.errors import JobError
from hpcq.hashing import mix64
from hpcq.jit.compiler import kernel
from hpcq.job.environment_section import EnvironmentSection
from hpcq.run.solving import solve

DRAWS = mix64.py_func(np.arange(4000, dtype=np.uint64))
CASES = [
    {"id": "FrozenLake-v1"},
    {"id": "hpcq/Blackjack-v0"},
    {"id": "hpcq/Inventory-v0"},
    {"id": "hpcq/TicTacToe-v0", "kwargs": {"opponent": "random", "loss": -2.0}},
    {"id": "hpcq/TicTacToe-v0", "kwargs": {"opponent": "perfect"}},
    {"id": "hpcq/Nim-v0", "kwargs": {"heaps": [2, 3]}},
    {"id": "hpcq/Gridworld-v0", "kwargs": {"width": 5, "height": 4, "walls": 0.3, "seed": 2}},
    {"id": "hpcq/EightPuzzle-v0"},
    {"id": "ruled:RING"},
    {"id": "ruled:TRAP"},
]


def make_probe(rules):
    """Return kernels that can be called from here: the rules' may be inlined ones."""
    outcome, start = rules.outcome, rules.start

    @kernel
    def outcome_of(model, key, action, k):
        return outcome(model, key, action, k)

    @kernel
    def start_of(model, i):
        return start(model, i)

    return outcome_of, start_of


def close(counts, expected):
    """Hold frequencies against probabilities: five standard deviations."""
    n = sum(counts.values())
    assert counts.keys() <= {what for what, p in expected.items() if p > 0}
    for what, p in expected.items():
        assert abs(counts.get(what, 0) / n - p) <= 5 * np.sqrt(p * (1 - p) / n) + 1e-9, what


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_steps_and_resets_draw_what_the_rules_say(case):
    environment = resolve(EnvironmentSection(**case))
    model, rules = environment.model, environment.rules
    outcome, start = make_probe(rules)
    starts = defaultdict(float)
    for i in range(rules.starts):
        probability, key = start(model, i)
        starts[int(key)] += probability
    total = sum(starts.values())
    counts = defaultdict(int)
    for draw in DRAWS:
        counts[int(environment.reset(model, draw))] += 1
    if len(starts) < 100:
        close(counts, {key: p / total for key, p in starts.items()})
    assert all(starts[key] > 0 for key in counts)
    for key in list(counts)[:4]:
        for action in range(min(environment.actions, 3)):
            expected, counts_here = defaultdict(float), defaultdict(int)
            for k in range(rules.outcomes):
                probability, following, reward, terminated = outcome(
                    model, np.uint64(key), action, k
                )
                what = (0 if terminated else int(following), float(reward), bool(terminated))
                expected[what] += probability
            assert sum(expected.values()) == pytest.approx(1.0)
            for draw in DRAWS:
                following, reward, terminated = environment.step(
                    model, np.uint64(key), action, draw
                )
                what = (0 if terminated else int(following), float(reward), bool(terminated))
                counts_here[what] += 1
            close(counts_here, expected)


def test_the_pages_example_is_solved(tmp_path):
    text = next(b.text for b in readme.blocks(kind="python") if b.text.startswith("# ferry.py"))
    (tmp_path / "ferry.py").write_text(text)
    section = {"id": f"{tmp_path / 'ferry.py'}:environment", "count": 4}
    job = make_job.make(section, learning={"gamma": 0.9}, run={"directory": str(tmp_path / "run")})
    assert solve(job, MPI.COMM_SELF, lambda line: None, []) == 0
    found = rows(list_checkpoints(tmp_path / "run")[0])
    value = np.zeros(10)
    for _ in range(500):
        wait = [
            -0.1 * cars + 0.9 * np.mean([value[min(cars + k, 9)] for k in range(3)])
            for cars in range(10)
        ]
        cross = [cars - 4.0 + 0.9 * np.mean(value[:3]) for cars in range(10)]
        value = np.maximum(wait, cross)
    for cars in range(10):
        assert found[cars] == pytest.approx([wait[cars], cross[cars]], abs=1e-6)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(JobError, match="go together"):
        compiled_environment(observation=4, actions=2, outcome=ruled.ring, outcomes=3)
    with pytest.raises(JobError, match="leave `outcome` out"):
        compiled_environment(
            ruled.first,
            ruled.trap,
            observation=4,
            actions=2,
            outcome=ruled.ring,
            start=ruled.begin,
            deterministic=True,
        )
    with pytest.raises(JobError, match="needs reset and step"):
        compiled_environment(observation=4, actions=2)

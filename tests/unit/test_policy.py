"""The greedy policy of a file: by itself, in Gymnasium's loop, and over episodes."""

import json
import subprocess
import sys

import gymnasium
import h5py
import make_job
import numpy as np
import pytest
import trained
from click.testing import CliRunner

import hpcq
from hpcq.cli import hpcq as cli
from hpcq.envs.resolve import resolve
from hpcq.errors import CheckpointError, DependencyError, JobError
from hpcq.learning import exact
from hpcq.run.summary import dense_table
from hpcq.view.difference import difference
from hpcq.view.evaluate import evaluate
from hpcq.view.inspect import query
from hpcq.view.render import render

LAKE = {"id": "FrozenLake-v1", "count": 64}
CLIFF = {"id": "CliffWalking-v1", "count": 64, "max_episode_steps": 200}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    job = make_job.make(LAKE, learning={"gamma": 0.99, "learning_rate": 0.1})
    return trained.checkpoint(job, tmp_path_factory.mktemp("lake"), 3000)


@pytest.fixture(scope="module")
def cliff(tmp_path_factory):
    job = make_job.make(CLIFF, learning={"gamma": 1.0, "learning_rate": 0.5})
    return trained.checkpoint(job, tmp_path_factory.mktemp("cliff"), 5000)


def test_a_policy_takes_the_best_action(lake):
    q = dense_table(lake, 16)
    policy = hpcq.load_policy(lake)
    for state in range(16):
        assert policy(state) == policy(np.int64(state)) == q[state].argmax()
        assert policy.values(state).tolist() == q[state].tolist()
    with pytest.raises(JobError, match=r"16 is no observation of FrozenLake-v1: 16 is not in 0"):
        policy(16)
    assert policy(0, [0, 0, 1, 0]) == 2
    for mask in ([0, 0, 0, 0], [0, 1, 1], 1):
        with pytest.raises(JobError, match="expected 4 numbers 0 or 1, at least one of them 1"):
            policy(0, mask)


def test_what_a_policy_gives_away_is_not_its_own(lake):
    policy = hpcq.load_policy(lake)
    policy.values(0)[:] = 1e9
    assert policy.values(0).max() < 2


def test_an_illegal_action_is_never_taken(lake):
    q = dense_table(lake, 16)
    policy = hpcq.load_policy(lake)
    for state in range(16):
        best = q[state].argmax()
        mask = np.arange(4) != best
        assert policy(state, mask) == np.where(mask, q[state], -np.inf).argmax() != best
        assert policy(state, np.arange(4) == 3) == 3


def test_an_unseen_state_is_worth_q_init(tmp_path):
    job = make_job.make(make_job.GARNET, learning={"q_init": 0.5})
    policy = hpcq.load_policy(trained.checkpoint(job, tmp_path, 1))
    unseen = next(state for state in range(50) if state not in policy.table)
    assert policy.values(unseen).tolist() == [0.5] * 3
    assert policy(unseen) == 0


def test_a_policy_walks_the_cliff_in_gymnasiums_loop(cliff):
    policy = hpcq.load_policy(cliff)
    env = gymnasium.make("CliffWalking-v1", max_episode_steps=100)
    observation, _ = env.reset(seed=1)
    total, over = 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(policy(observation))
        total, over = total + reward, terminated or truncated
    assert total == -13


def test_actions_look_as_the_space_has_them(tmp_path):
    environment = {"id": "problems:Mirrored", "count": 4, "reset_every": 20}
    job = make_job.make(environment)
    space = gymnasium.spaces.MultiDiscrete([2, 3], start=[5, -1])
    policy = hpcq.load_policy(trained.checkpoint(job, tmp_path, 20))
    for observation in policy.table:
        best = int(policy.values(observation).argmax())
        assert policy(observation).tolist() == [5 + best // 3, best % 3 - 1]
        assert policy(observation) in space


def test_the_mean_return_is_the_exact_one(lake):
    model = resolve(make_job.make(LAKE).environment).model
    truth = exact.expected_return(model, first_best(dense_table(lake, 16)), 100)
    found = evaluate(lake, episodes=2000, seed=3)
    assert found["episodes"] == 2000
    assert abs(found["mean_return"] - truth) < 1.5 * found["half_width"]
    assert 0 < found["half_width"] < 0.03
    assert evaluate(lake, episodes=50, seed=3) == evaluate(lake, episodes=50, seed=3)


def first_best(q):
    return np.eye(q.shape[1])[q.argmax(axis=1)]


def test_every_episode_of_the_cliff_is_13_steps(cliff):
    found = evaluate(cliff, episodes=7)
    assert (found["mean_return"], found["mean_length"], found["truncated"]) == (-13, 13, 0)
    assert (found["half_width"], found["unseen"], found["episodes"]) == (0, 0, 7)
    done = CliRunner().invoke(cli, ["eval", str(cliff), "--episodes", "2"], standalone_mode=False)
    assert "mean return   -13 ± 0 (95 % confidence), 2 episodes" in done.output


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_a_vector_env_is_evaluated_in_every_mode(mode, tmp_path):
    """Episode k of environment i of a unit takes (3, 1, 4)[(i + k) % 3] steps."""
    environment = {**make_job.VECTOR, "kwargs": {"mode": mode}}
    path = trained.checkpoint(make_job.make(environment), tmp_path, 40)
    job = job_file(tmp_path, environment)
    few = evaluate(path, episodes=5, job=job)
    assert (few["episodes"], few["mean_length"]) == (5, (3 + 1 + 3 + 1 + 3) / 5)
    many = evaluate(path, episodes=130, job=job)
    steps = 32 * (3 + 1) + 32 * (1 + 4) + 4 + 3
    assert (many["episodes"], many["mean_length"]) == (130, steps / 130)
    assert many["truncated"] == 64


def job_file(directory, environment):
    return make_job.write(directory / "job.toml", make_job.make(environment))


def test_a_python_environment_is_evaluated(tmp_path):
    environment = make_job.CORRIDOR
    path = trained.checkpoint(make_job.make(environment), tmp_path, 400)
    found = evaluate(path, episodes=4, job=job_file(tmp_path, environment))
    assert found["episodes"] == 4
    assert found["mean_length"] >= 1


def test_nothing_is_imported_because_a_checkpoint_names_it(tmp_path):
    path = trained.checkpoint(make_job.make(make_job.CORRIDOR), tmp_path, 40)
    with pytest.raises(JobError, match=r"names code of its own, problems:Corridor-v0.*--job"):
        evaluate(path)


def test_another_environment_is_refused(lake, tmp_path):
    with pytest.raises(CheckpointError, match=r"observation space .*but CliffWalking-v1 has"):
        evaluate(lake, job=job_file(tmp_path, CLIFF))


def test_what_does_not_render_says_so(lake, tmp_path):
    job = make_job.make(make_job.GARNET)
    path = trained.checkpoint(job, tmp_path, 3)
    with pytest.raises(JobError, match="hpcq/Garnet-v0 does not render"):
        render(path, tmp_path / "x.gif")
    with pytest.raises(JobError, match=r"expected a name that ends in .gif"):
        render(lake, tmp_path / "x.mp4")


def test_a_library_that_is_missing_is_named(lake, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DependencyError, match=r"pip install 'hpcq\[plot\]'"):
        render(lake, tmp_path / "x.gif")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(DependencyError, match="FrozenLake-v1: pygame is not installed"):
        render(lake, tmp_path / "x.gif")


def test_an_episode_becomes_a_gif(tmp_path):
    from PIL import Image

    environment = {"id": "problems:Drawn", "count": 2, "reset_every": 20}
    path = trained.checkpoint(make_job.make(environment), tmp_path, 20)
    frames = render(path, tmp_path / "x.gif", job=job_file(tmp_path, environment))
    with Image.open(tmp_path / "x.gif") as image:
        assert image.n_frames == frames == 4
        colours = []
        for frame in range(4):
            image.seek(frame)
            colours.append(image.convert("RGB").getpixel((1, 1))[0])
    assert colours == pytest.approx([0, 60, 120, 180], abs=8)


def test_illegal_actions_have_no_value_and_are_never_taken(tmp_path):
    environment = {"id": "Taxi-v4", "count": 64, "action_mask": True, "max_episode_steps": 20}
    path = trained.checkpoint(make_job.make(environment), tmp_path, 60)
    env = gymnasium.make("Taxi-v4").unwrapped
    policy = hpcq.load_policy(path)
    for state in policy.table:
        legal = env.action_mask(state) == 1
        assert np.isfinite(policy.values(state)).tolist() == legal.tolist()
        assert legal[policy(state)]
    # A mask that is given counts, also where the table knows better.
    assert policy(state, ~legal) == np.flatnonzero(~legal)[0]
    (row,) = query(path, [state])
    assert [value is not None for value in row["q"]] == legal.tolist()
    found = difference(path, path)
    assert (found["same"], found["largest"], found["mean"]) == (True, 0, 0)
    assert evaluate(path, episodes=70)["smallest_return"] >= -20


@pytest.mark.parametrize(
    ("learning", "tables", "combine"),
    [({"rule": "double_q"}, 2, np.mean), ({"rule": "maxmin", "tables": 4}, 4, np.min)],
)
def test_of_several_tables_the_policy_takes_what_the_rule_acts_on(
    learning, tables, combine, tmp_path
):
    job = make_job.make(make_job.GARNET, learning=learning)
    path = trained.checkpoint(job, tmp_path, 60)
    with h5py.File(path) as file:
        keys, q = file["table/key"][:].tolist(), file["table/q"][:]
    assert q.shape[1:] == (tables, 3)
    policy = hpcq.load_policy(path)
    for key, row in zip(keys, q, strict=True):
        assert policy.values(key) == pytest.approx(combine(row, axis=0))
        assert policy(key) == policy.values(key).argmax()


def test_reading_needs_no_mpi(lake):
    """Neither to import hpcq nor to look at a file may start MPI."""
    program = (
        "import sys, hpcq; light = 'numpy' in sys.modules; "
        f"hpcq.load_policy({str(lake)!r})(0); hpcq.Job; "
        "print([light, 'mpi4py' in sys.modules, 'h5py' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert json.loads(done.stdout.decode().lower()) == [False, False, False]


def test_every_public_name_is_there():
    assert set(hpcq.__all__) <= set(dir(hpcq))
    for name in set(hpcq.__all__) - {"__version__"}:
        assert getattr(hpcq, name).__name__ in (name, "_compile")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(hpcq, "nonsense")  # noqa: B009

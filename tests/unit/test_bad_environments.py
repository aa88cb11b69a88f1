"""A bad environment is one message that names environment, tick, episode and action."""

import random
import re
import sys

import make_job
import problems
import pytest
from by_phase import by_phase
from mpi4py import MPI

from hpcq.collectors.factory import make_collector
from hpcq.envs.resolve import resolve
from hpcq.errors import DependencyError, EnvironmentFault, ExitCode, JobError
from hpcq.job.environment_section import EnvironmentSection
from hpcq.learning.lockstep import LockstepLearner
from hpcq.rng import seed_word
from hpcq.run import preflight

BINS = {"bins": [2]}


def bad(how, after=3):
    kwargs = {"how": how, "after": after}
    return make_job.make({"id": "problems:Bad", "kwargs": kwargs, "count": 3, "discretise": BINS})


STEPS = [
    ("shape", r"\['x'\]: expected numbers of shape \(2,\), not float64 of \(3,\)"),
    ("scalar", r"\['x'\]: expected numbers of shape \(2,\), not float64 of \(\)"),
    ("text", r"\['x'\]: expected numbers of shape"),
    ("nan", r"\['x'\]: component 1 is NaN"),
    ("outside", r"\['y'\]: 4 is not in 0 ... 3"),
    ("float", r"\['y'\]: expected an integer"),
    ("missing", "missing key 'y'"),
    ("extra", "unexpected key 'z'"),
    ("tuple", "expected a dict with 'x', 'y'"),
    ("nothing", "returned NoneType, expected"),
    ("reward", "reward None, expected a finite number"),
    ("reward nan", "reward nan, expected a finite number"),
    ("flag", "terminated is 'yes', expected a bool"),
    ("flags", r"terminated is array.*, expected a bool"),
    ("unwilling reward", "reward a Unwilling whose text cannot be made.*Odd.*finite number"),
    ("unwilling x", "observation .* is not in the space: "),
    ("unwilling y", "observation .* is not in the space: .*Odd"),
    ("unwilling flag", "terminated is a Unwilling whose text cannot be made, expected a bool"),
    ("long", "observation .* is not in the space: "),
    ("long reward", "reward a int whose text cannot be made, expected a finite number"),
    ("rewards", r"reward of shape \(2,\), expected a finite number.*each by its weight"),
    ("four", "a tuple of 4, expected .obs, .*old package gym"),
    ("raise exit", "raised.*GeneratorExit: done"),
    ("raise odd", "raised.*Odd"),
    ("action dtype", "raised.*TypeError: expected an int32, not int64"),
]


@pytest.mark.parametrize(("how", "words"), STEPS)
def test_a_step_that_breaks_the_contract(how, words):
    # In the flight before training, and in training itself.
    for after in (3, preflight.STEPS + 3):
        job = bad(how, after)
        environment = resolve(job.environment)

        def train(job=job, environment=environment, after=after):
            preflight.check(job, environment, 0, 1)
            learner = LockstepLearner(job, environment, MPI.COMM_SELF, by_phase)
            learner.begin()
            for _ in range(after + 1):
                learner.advance()

        with pytest.raises(EnvironmentFault) as pending_signals:
            train()
        message = str(pending_signals.value)
        where = (
            rf"environment 0 \(problems:Bad\), tick {after}, episode \d, action array\(.*\): step: "
        )
        assert re.match(where, message), message
        assert re.search(words, message, re.DOTALL), message


@pytest.mark.parametrize("how", ["no info", "two", "old"])
def test_a_reset_without_info(how):
    job = bad(how)
    with pytest.raises(
        EnvironmentFault, match=r"environment 1 \(.*\), tick 0, episode 0: reset: ret"
    ):
        preflight.check(job, resolve(job.environment), 1, 3)


def test_a_seed_that_decides_nothing_must_be_accepted():
    careless = {"id": "problems:Careless", "count": 3, "reset_every": 20}
    unseeded = {**careless, "kwargs": {"unseeded": True}}
    for keys, fine in (
        (careless, False),
        ({**careless, "seed_globals": True}, True),
        ({**unseeded, "seed_globals": True}, False),
        ({**unseeded, "reproducible": False}, True),
    ):
        job = make_job.make(keys)
        if fine:
            preflight.check(job, resolve(job.environment), 0, 1)
        else:
            with pytest.raises(EnvironmentFault, match=r"seed_globals.*reproducible = false"):
                preflight.check(job, resolve(job.environment), 0, 1)


def test_global_generators_are_left_as_they_were():
    job = make_job.make({"id": "problems:Careless", "seed_globals": True, "reset_every": 20})
    environment = resolve(job.environment)
    random.seed(5)
    preflight.check(job, environment, 0, 1)
    expected = random.Random(5).random()
    assert random.random() == expected


def test_the_flight_leaves_no_trace():
    job = bad("")
    preflight.check(job, resolve(job.environment), 0, 1)


def section(id_="problems:Bad", **keys):
    return EnvironmentSection.model_validate({"id": id_, "discretise": BINS, **keys})


def test_the_constructors_own_mistake_is_not_the_jobs():
    for id_ in ("problems:Bad", "problems:Bad-v0"):
        with pytest.raises(
            EnvironmentFault, match="(?s)cannot be made.*Traceback.*own mistake"
        ) as e:
            resolve(section(id_, kwargs={"how": "make"}))
        assert e.value.exit_code == ExitCode.INTERNAL


@pytest.mark.parametrize("id_", ["problems:Bad", "problems:Bad-v0"])
def test_kwargs_that_it_does_not_take_are_the_jobs_mistake(id_):
    with pytest.raises(JobError, match="unexpected keyword argument 'hwo'; it takes"):
        resolve(section(id_, kwargs={"hwo": "make"}))


def test_by_module_by_id_and_by_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "beside_later.py").write_text("ONE = 1\n")
    (tmp_path / "beside.py").write_text("from gymnasium.spaces import Discrete\n")
    (tmp_path / "mine.py").write_text(
        "import gymnasium, beside\n"
        "class Mine(gymnasium.Env):\n"
        "    observation_space = action_space = beside.Discrete(2)\n"
        "    def reset(self, seed=None, options=None): return 0, {}\n"
        "    def step(self, action):\n"
        "        from beside_later import ONE\n"
        "        return ONE, 0.0, False, False, {}\n"
    )
    mine = resolve(EnvironmentSection(id=f"{tmp_path}/mine.py:Mine", max_episode_steps=3))
    assert (mine.id, mine.actions) == ("mine.py:Mine", 2)
    env = mine.make()
    env.reset()
    assert [env.step(0)[3] for _ in range(3)] == [False, False, True]
    for id_ in ("problems:Bad", "problems:Bad-v0"):
        found = resolve(section(id_))
        assert (found.id, found.actions, found.observation["kind"]) == (id_, 4, "Dict")


def test_wrappers_go_around_in_order():
    wrappers = [
        {"entry": "gymnasium.wrappers:TimeLimit", "kwargs": {"max_episode_steps": 5}},
        {"entry": "problems:reset_on_end", "kwargs": {"note": "outer"}},
    ]
    env = resolve(section(wrappers=wrappers)).make()
    assert env.note == "outer"
    assert type(env).__name__ == "TimeLimit"
    with pytest.raises(JobError, match="missing a required argument: 'max_ep"):
        resolve(section(wrappers=[{"entry": "gymnasium.wrappers:TimeLimit"}]))
    with pytest.raises(JobError, match="has no 'Nothing'"):
        resolve(section(wrappers=[{"entry": "gymnasium.wrappers:Nothing"}]))


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        ({"id_": "problems:Nothing"}, JobError, "problems has no 'Nothing'"),
        ({"id_": "problems:np.pi"}, JobError, "id = 'problems:np.pi'"),
        ({"id_": "no.such:Thing"}, JobError, "no module named 'no'"),
        ({"id_": "none.py:Thing"}, JobError, "no file none.py"),
        ({"id_": "CartPole-v1", "discretise": None}, JobError, "CartPole-v1: observation space"),
        ({"id_": "Taxi-v4", "vector": 4, "discretise": None}, JobError, "no VectorEnv of its own"),
        ({"id_": "problems:ScriptedVector", "kwargs": {"num_envs": 2, "mode": "DISABLED"}},
         JobError, "is a VectorEnv: give the number of environments"),
        ({"id_": "problems:make_vector", "discretise": None},
         EnvironmentFault, "is a ScriptedVector, expected a gymnasium.Env; give its size"),
        ({"id_": "problems:FrozenLake-v1", "discretise": None}, JobError, "is Gymnasium's own"),
        ({"id_": "problems:NoSuch-v1"}, JobError, "was imported, but registers no such id"),
        ({"id_": "problems:OldGym", "discretise": None},
         EnvironmentFault, "is a OldGym, .*one of the old package gym: .*shimmy"),
        ({"id_": "problems:Bad", "vector": 2}, JobError, "takes no num_envs: it makes no"),
        ({"id_": "LunarLander-v3"}, DependencyError, "LunarLander-v3"),
        ({"discretise_actions": {"levels": [2]}}, JobError, "action space .*has no floats"),
        ({"discretise": None}, JobError, r"2 floats \(\['x'\]\[0\], \['x'\]\[1\]\) have no"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_explained(keys, error, words):
    with pytest.raises(error, match=words):
        resolve(section(**keys))


def test_masks_may_be_in_the_observation():
    choosy = {"id": "problems:Choosy", "count": 3}
    masked = make_job.make({**choosy, "action_mask": True, "mask_key": "action_mask"})
    environment = resolve(masked.environment)
    assert list(environment.observation["spaces"]) == ["at"]
    preflight.check(masked, environment, 0, 1)
    plain = make_job.make(choosy)
    with pytest.raises(EnvironmentFault, match=r"reward -inf.*environment.action_mask"):
        preflight.check(plain, resolve(plain.environment), 0, 1)
    for keys, words in (
        ({"mask_key": "action_mask"}, "give action_mask = true"),
        ({"mask_key": "legal", "action_mask": True}, "expected a Dict with that key"),
    ):
        with pytest.raises(JobError, match=words):
            resolve(make_job.make({**choosy, **keys}).environment)


def test_each_environment_knows_its_number():
    problems.Numbered.made.clear()
    kwargs = {"number": "{index}", "folder": "work/{index}", "more": {"ports": ["{index}"]}}
    environment = resolve(section("problems:Numbered", kwargs=kwargs, discretise=None))
    make_collector(environment, seed_word(0), 4, 2, 10).close()
    assert problems.Numbered.made[-2:] == [
        (4, "work/4", {"ports": [4]}),
        (5, "work/5", {"ports": [5]}),
    ]


def test_lists_become_arrays_where_arrays_are_declared():
    wrapper = {"entry": "problems:scaled", "kwargs": {"low": [0, 1], "high": [2, 3], "names": [1]}}
    env = resolve(section(wrappers=[wrapper])).make()
    kinds = [type(value).__name__ for value in (env.low, env.high, env.names)]
    assert kinds == ["ndarray", "ndarray", "list"]


@pytest.mark.parametrize("how", ["reset", "step"])
def test_the_interface_of_old_gym_is_named(how):
    job = make_job.make({"id": "problems:OldStyle", "kwargs": {"how": how}})
    with pytest.raises(EnvironmentFault, match=rf"{how}: .*interface of the old package gym"):
        preflight.check(job, resolve(job.environment), 0, 1)


def test_native_vector_envs_by_id():
    bins = {"bins": [4], "low": [-1], "high": [1]}
    found = resolve(section("CartPole-v1", vector=8, discretise=bins, max_episode_steps=9))
    env = found.make()
    assert (env.num_envs, env.max_episode_steps, found.actions) == (8, 9, 2)

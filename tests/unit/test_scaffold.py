"""`hpcq init`: the profile of an environment, and the job file that follows."""

import math
import time
import tomllib
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from hpcq.envs.resolve import resolve
from hpcq.errors import EnvironmentFault, JobError
from hpcq.job.environment_section import EnvironmentSection
from hpcq.job.job import Job
from hpcq.scaffold import rollout, write
from hpcq.scaffold.profile import profile_environment
from hpcq.scaffold.suggest import suggest


class Scripted(gymnasium.Env):
    """Spaces to order; where the agent is, and so all rewards, only the actions' number decides."""

    def __init__(
        self, observation, action, ends=20, chance=False, cost=False, cut=None, legal=None
    ):
        self.observation_space, self.action_space = observation, action
        self.ends, self.chance, self.cost, self.cut, self.legal = ends, chance, cost, cut, legal

    def _observation(self):
        if isinstance(self.observation_space, spaces.Box):
            return np.full(self.observation_space.shape, self.at, self.observation_space.dtype)
        if isinstance(self.observation_space, spaces.Dict):
            return {"at": self.at, "text": "abc"}
        return self.at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.time = 0, 0
        return self._observation(), self._info()

    def _info(self):
        return {} if self.legal is None else {"action_mask": np.array(self.legal)}

    def step(self, action):
        masked = self.legal is not None and len(self.legal) == self.action_space.n
        assert not masked or self.legal[action]
        self.time += 1
        there = self.np_random.integers(10) if self.chance else self.time
        self.at = int(there) % 10
        ended = self.ends is not None and self.time >= self.ends
        cut = self.cut is not None and self.time >= self.cut
        reward = -1.0 if self.cost else float(ended)
        return self._observation(), reward, ended, cut, self._info()


FLOATS = spaces.Box(np.array([-1, -np.inf]), np.array([1, np.inf]), dtype=np.float64)
TEXT = spaces.Dict({"at": spaces.Discrete(10), "text": spaces.Text(9)})
TEN, TWO = spaces.Discrete(10), spaces.Discrete(2)


def suggested(monkeypatch, tmp_path, *arguments, **kwargs):
    """The keys of the job file for a `Scripted`, which must fit the environment."""
    monkeypatch.setattr(gymnasium, "scripted", lambda: Scripted(*arguments, **kwargs), False)
    return of_id(tmp_path, "gymnasium:scripted")


def of_id(tmp_path, id_, sections=None, **kwargs):
    given = {"environment": {"id": id_, **({"kwargs": kwargs} if kwargs else {})}}
    for section, keys in (sections or {}).items():
        given[section] = {**given.get(section, {}), **keys}
    write.write(write.job_text(given, tmp_path), tmp_path / "first.toml")
    job = Job.load(tmp_path / "first.toml")
    resolve(job.environment)
    return tomllib.loads((tmp_path / "first.toml").read_text())


def test_few_states_and_no_chance(monkeypatch, tmp_path):
    job = suggested(monkeypatch, tmp_path, TEN, TWO, ends=10)
    # Far enough for ten steps: 1 / (1 - 0.9).
    assert job["learning"] == {"gamma": 0.9, "learning_rate": 0.5}
    assert {"codec", "discretise", "max_episode_steps"} & set(job["environment"]) == set()


def test_hidden_state_is_like_chance(monkeypatch, tmp_path):
    """Two rounds of ten states, then the end: which of the two, no observation tells."""
    job = suggested(monkeypatch, tmp_path, TEN, TWO, ends=20)
    assert job["learning"]["learning_rate"]["schedule"] == "visits"


def test_chance_is_averaged_over(monkeypatch, tmp_path):
    job = suggested(monkeypatch, tmp_path, TEN, TWO, chance=True)
    assert job["learning"]["learning_rate"]["schedule"] == "visits"


def test_floats_get_bins_that_hold_what_was_reached(monkeypatch, tmp_path):
    bins = suggested(monkeypatch, tmp_path, FLOATS, TWO)["environment"]["discretise"]
    # 0 ... 9 was reached; a quarter of that on either side, and round.
    assert (bins["low"], bins["high"]) == ([-1.0, -3.0], [1.0, 12.0])
    assert bins["bins"] == [48, 48]


def test_floats_with_bounds_keep_them(monkeypatch, tmp_path):
    box = spaces.Box(-5, 15, (4,), np.float32)
    job = suggested(monkeypatch, tmp_path, box, TWO)
    assert job["environment"]["discretise"] == {"bins": [17] * 4}  # 17 ** 4 is below 100,000
    assert job["learning"]["learning_rate"]["schedule"] == "exponential"


@pytest.mark.parametrize("space", [TEXT, spaces.Box(0, 255, (40,), np.uint8)], ids=["text", "many"])
def test_what_cannot_be_numbered_is_digested(monkeypatch, tmp_path, space):
    assert suggested(monkeypatch, tmp_path, space, TWO)["environment"]["codec"] == "digest"


def test_a_large_space_of_which_little_is_visited_takes_few_steps(monkeypatch, tmp_path):
    job = suggested(monkeypatch, tmp_path, spaces.Box(0, 9, (19,), np.int8), TWO, ends=10)
    assert job["run"]["steps"] <= 200_000
    assert "codec" not in job["environment"]
    assert "values can be learned" not in (tmp_path / "first.toml").read_text()


def test_floats_of_actions_get_levels(monkeypatch, tmp_path):
    space = spaces.Dict({"a": TWO, "b": spaces.Box(-np.inf, 2, (2,))})
    levels = suggested(monkeypatch, tmp_path, TEN, space)["environment"]["discretise_actions"]
    assert levels == {"levels": [3, 3], "low": [-1.0, -1.0], "high": [2.0, 2.0]}


def test_episodes_without_end_get_one(monkeypatch, tmp_path):
    job = suggested(monkeypatch, tmp_path, TEN, TWO, ends=None, cost=True)
    assert job["environment"]["max_episode_steps"] == 1000
    assert job["environment"]["reset_every"] == 4000
    assert job["learning"]["gamma"] == 0.995
    assert job["learning"]["q_init"] == 0.0


LATER = {"schedule": "visits", "exponent": 1.0, "slope": 0.1}


@pytest.mark.parametrize(
    ("id_", "kwargs"),
    [("hpcq/AccessControl-v0", {}), ("hpcq/Garnet-v0", {"states": 50, "actions": 3})],
)
def test_rewards_are_centred_where_nothing_terminates(tmp_path, id_, kwargs):
    learning = of_id(tmp_path, id_, **kwargs)["learning"]
    assert learning["gamma"] >= 0.95
    assert (learning["learning_rate"], learning["centring"]) == (LATER, 0.3)


def test_rewards_may_be_centred_where_nothing_seems_to_terminate(monkeypatch, tmp_path):
    """Nobody knows: a job that centred rewards would fail at the first end."""
    job = suggested(monkeypatch, tmp_path, TEN, TWO, ends=None, chance=True)
    assert "centring" not in job["learning"]
    assert "# centring = 0.3" in (tmp_path / "first.toml").read_text()


def test_rewards_of_episodes_are_not_centred(monkeypatch, tmp_path):
    suggested(monkeypatch, tmp_path, TEN, TWO, ends=500, chance=True)
    assert "centring" not in (tmp_path / "first.toml").read_text()


def test_a_limit_that_only_the_environment_knows(monkeypatch, tmp_path):
    job = suggested(monkeypatch, tmp_path, TEN, TWO, ends=None, cut=100)
    assert job["learning"]["gamma"] == 0.95  # 1 / (1 - 0.95) = 100 / 5
    assert "max_episode_steps" not in job["environment"]
    assert "# q_init = 1.0" in (tmp_path / "first.toml").read_text()  # there was no reward


class Slow(Scripted):
    """Takes a hundredth of a second for a step."""

    def step(self, action):
        time.sleep(0.01)
        return super().step(action)


def test_a_slow_environment_is_saved_and_done_in_minutes(monkeypatch, tmp_path):
    monkeypatch.setattr(rollout, "SECONDS", 0.5)
    monkeypatch.setattr(gymnasium, "slow", lambda: Slow(TEN, TWO, ends=15), False)
    job = of_id(tmp_path, "gymnasium:slow")
    between = job["environment"]["count"] * job["environment"]["reset_every"]
    steps = job["run"]["steps"]
    # Two ranks make about 140 steps a second.
    assert between <= 140 * 60
    assert steps <= 140 * 600
    assert job["environment"]["reset_every"] >= 30  # two episodes
    # What is asked for is what is done, nearly.
    assert math.ceil(steps / between) * between <= 1.2 * steps


def test_bounds_far_from_the_values_are_not_used(monkeypatch, tmp_path):
    class Far(gymnasium.Env):
        observation_space, action_space = spaces.Box(0, 5000, (10,), np.float64), TWO

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.np_random.uniform(0, 9, 10), {}

        def step(self, action):
            return self.np_random.uniform(0, 9, 10), 0.0, False, False, {}

    monkeypatch.setattr(gymnasium, "far", Far, False)
    discretise = of_id(tmp_path, "gymnasium:far")["environment"]["discretise"]
    assert max(discretise["high"]) < 20
    assert "fell into" in (tmp_path / "first.toml").read_text()


def test_what_never_recurs_is_said(monkeypatch, tmp_path):
    class Counting(gymnasium.Env):
        observation_space, action_space = spaces.Discrete(1 << 40), TWO

        def reset(self, *, seed=None, options=None):
            self.at = (seed or 0) % 1000 * 1_000_000
            return self.at, {}

        def step(self, action):
            self.at += 1
            return self.at, 0.0, False, False, {}

    monkeypatch.setattr(gymnasium, "counting", Counting, False)
    of_id(tmp_path, "gymnasium:counting")
    text = " ".join((tmp_path / "first.toml").read_text().replace("\n# ", " ").split())
    assert "Hardly any observation came twice" in text


def test_masks_within_the_observation_are_found(tmp_path):
    environment = of_id(tmp_path, "problems:Choosy")["environment"]
    assert (environment["action_mask"], environment["mask_key"]) == (True, "action_mask")


@pytest.mark.parametrize("id_", ["wide:Walk", "wide:OWN"])
def test_masks_of_many_actions_are_found(id_, tmp_path):
    """In infos, and by a compiled environment; an illegal action of the first would fail."""
    assert of_id(tmp_path, id_)["environment"]["action_mask"] is True


def test_a_digest_of_floats_is_taken_where_it_is_asked_for(tmp_path):
    job = of_id(tmp_path, "CartPole-v1", {"environment": {"codec": "digest"}})
    assert job["environment"]["codec"] == "digest"
    assert "discretise" not in job["environment"]


@pytest.mark.parametrize(
    ("kwargs", "key"), [({}, "seed_globals"), ({"unseeded": True}, "reproducible")]
)
def test_seeds_that_decide_nothing(tmp_path, kwargs, key):
    job = of_id(tmp_path, "problems:Careless", **kwargs)
    assert job["environment"][key] is (key == "seed_globals")


def test_what_does_not_suit_a_table(monkeypatch, tmp_path):
    with pytest.raises(JobError, match="64 floats, too much for a table; .*wrapper"):
        suggested(monkeypatch, tmp_path, spaces.Box(0, 1, (8, 8)), TWO)


def test_an_environment_that_breaks_is_named(monkeypatch, tmp_path):
    with pytest.raises(EnvironmentFault, match=r"scripted\), tick 1, .*: step: raised\n"):
        suggested(monkeypatch, tmp_path, TEN, TWO, ends="soon")


def test_legal_actions_are_asked_for_where_there_are_masks(monkeypatch, tmp_path):
    """An illegal action would end the rollout with an error."""
    job = suggested(monkeypatch, tmp_path, TEN, spaces.Discrete(3), legal=[1, 0, 1])
    assert job["environment"]["action_mask"] is True


@pytest.mark.parametrize("legal", [None, [1, 1], [1, 0, 1]], ids=["none", "all", "another size"])
def test_no_masks_where_they_say_nothing(monkeypatch, tmp_path, legal):
    job = suggested(monkeypatch, tmp_path, TEN, TWO, legal=legal)
    assert "action_mask" not in job["environment"]


def test_the_greedy_policy_is_evaluated(monkeypatch, tmp_path):
    job = suggested(monkeypatch, tmp_path, TEN, TWO, ends=10)
    every, environment = job["evaluation"]["every"], job["environment"]
    # Not more often than a job of this kind can stop.
    assert every >= environment["count"] * environment["reset_every"]
    assert 20 <= job["evaluation"]["episodes"] <= 100
    assert job["stop"] == {}
    text = (tmp_path / "first.toml").read_text()
    assert "# patience = 5" in text
    Job.check({"name": "first", **tomllib.loads(text.replace("# patience", "patience"))}, "here")


def test_what_is_given_stands_in_its_place(tmp_path):
    sections = {
        "environment": {"count": 8, "reset_every": 50},
        "learning": {"gamma": 0.5, "n_step": 3},
        "run": {"steps": 5000},
        "mode": {"kind": "lockstep"},
    }
    job = of_id(tmp_path, "Blackjack-v1", sections)
    assert job["environment"]["count"] == 8
    assert (job["learning"]["gamma"], job["learning"]["n_step"]) == (0.5, 3)
    assert job["mode"] == {"kind": "lockstep"}
    assert job["exploration"]["epsilon"]["steps"] == 2500
    assert job["evaluation"]["every"] == 500
    assert list(job) == [name for name in Job.model_fields if name in job]


def test_compiled_games_are_played_by_their_rules(tmp_path):
    job = of_id(tmp_path, "hpcq/TicTacToe-v0")
    assert job["learning"]["rule"] == "negamax"
    # Games of nine moves at most: the discount looks as far.
    assert job["learning"]["gamma"] == 0.9
    assert job["environment"]["action_mask"] is True


def test_compiled_control_is_profiled_through_its_bins(tmp_path):
    job = of_id(tmp_path, "hpcq/CartPole-v0")
    assert job["learning"]["gamma"] == 0.99  # its limit of 500, by five
    assert "action_mask" not in job["environment"]


@pytest.mark.parametrize("id_", ["CartPole-v1", "Pendulum-v1", "Blackjack-v1", "Taxi-v4"])
def test_gymnasiums_own(tmp_path, id_):
    assert of_id(tmp_path, id_)["environment"]["id"] == id_


def test_a_file_is_found_from_where_the_job_is(tmp_path):
    code = tmp_path / "code"
    code.mkdir()
    (code / "mine.py").write_text("from gymnasium.envs.toy_text import BlackjackEnv as Mine\n")
    job = of_id(tmp_path, f"{code}/mine.py:Mine", natural=True)
    assert job["environment"]["id"] == "code/mine.py:Mine"
    assert str(tmp_path) not in (tmp_path / "first.toml").read_text()
    assert job["environment"]["kwargs"] == {"natural": True}


def test_names_and_files(tmp_path):
    names = ["FrozenLake8x8-v1", "minigrid:MiniGrid-Empty-5x5-v0", "a/maze.py:make", "hpcq/Nim-v0"]
    found = [write.default_name(name) for name in names]
    assert found == ["frozenlake8x8.toml", "minigrid-empty-5x5.toml", "maze.toml", "nim.toml"]
    with pytest.raises(JobError, match="-o FILE"):
        write.write("", Path(__file__))


def test_reasons_stand_above_keys():
    keys = suggest(profile_environment(EnvironmentSection(id="Acrobot-v1")))
    assert [each.key for each in keys if not each.why] == []

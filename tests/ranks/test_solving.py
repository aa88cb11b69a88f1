"""Exact solutions: against independent ones, and the same on any number of ranks."""

import json

import make_job
import numpy as np
import pytest
from mpi4py import MPI
from outcomes import silent, verified
from truths import best_average, rows

from hpcq.checkpoint.files import list_checkpoints
from hpcq.envs.bundled import games, mnk_game
from hpcq.envs.resolve import resolve
from hpcq.errors import EnvironmentFault, ExitCode, HpcqError
from hpcq.learning import exact
from hpcq.run.beside import distance
from hpcq.run.exploring import explore
from hpcq.run.solving import solve
from hpcq.run.start_or_resume import to_end, train
from hpcq.solver import halo
from hpcq.spaces.masks import legal_actions
from hpcq.view.difference import difference
from hpcq.view.table import Table

pytestmark = pytest.mark.mpi

# OEIS A089473.
EIGHT_PUZZLE = [1, 2, 4, 8, 16, 20, 39, 62, 116, 152, 286, 396, 748, 1024, 1893, 2512, 4485, 5638]
EIGHT_PUZZLE += [9529, 10878, 16993, 17110, 23952, 20224, 24047, 15578, 14560, 6274, 3910, 760]
EIGHT_PUZZLE += [221, 2]

GARNET = {"id": "hpcq/Garnet-v0", "kwargs": {"states": 200, "actions": 4, "seed": 7}}


def solved(environment, comm, folder, name="solved", solve_keys=None, resume=False, **learning):
    """Solve a job; return its rows, the header of the file, and the digest."""
    data = {"directory": str(folder / name)}
    job = make_job.make(environment, learning=learning, run=data)
    section = job.solve.model_copy(update=solve_keys or {})
    job = job.model_copy(update={"solve": section})
    assert solve(job, comm, silent, [], resume=resume) == ExitCode.DONE
    path = list_checkpoints(folder / name)[0]
    header, digest = verified(path, comm)
    assert header.solution["done"]
    found = json.loads((folder / name / "summary.json").read_text())
    assert found["digest"] == str(digest)
    return rows(path), header, digest


def digest_alone(environment, comm, folder, **options):
    """Return the digest of the same solution by a single process."""
    found = None
    if comm.rank == 0:
        found = solved(environment, MPI.COMM_SELF, folder, "alone", **options)[2]
    return comm.bcast(found)


TABLES = [
    ({"id": "FrozenLake8x8-v1"}, 0.99, False),
    ({"id": "Taxi-v4"}, 0.95, True),
    ({"id": "CliffWalking-v1"}, 1.0, False),
    ({"id": "hpcq/Blackjack-v0"}, 0.9, False),
    ({"id": "hpcq/Inventory-v0"}, 0.97, False),
    ({"id": "hpcq/Admission-v0"}, 0.99, False),
    (GARNET, 0.9, False),
    ({"id": "wide:SHOP"}, 0.9, True),
]


@pytest.mark.parametrize(("section", "gamma", "mask"), TABLES)
def test_values_are_within_the_bound_of_dense_value_iteration(section, gamma, mask, comm, folder):
    section = {**section, "action_mask": mask}
    found, header, digest = solved(section, comm, folder, gamma=gamma)
    environment = resolve(make_job.make(section).environment)
    legal = legal_actions(environment.model.legal, environment.actions) if mask else None
    q = exact.value_iteration(environment.model, gamma, legal=legal)
    keys = list(found)
    assert len(keys) == header.rows
    bound = header.solution["bound"]
    assert bound <= 1e-6
    here, there = np.array([found[key] for key in keys]), q[keys]
    same = np.isfinite(there)
    assert (np.isfinite(here) == same).all()
    assert np.abs(here[same] - there[same]).max() <= bound + 1e-11 * np.abs(there[same]).max()
    start = environment.model.start
    expected = start @ np.where(np.isfinite(q), q, -np.inf).max(axis=1) / start.sum()
    assert header.solution["start"] == pytest.approx(expected, abs=bound + 1e-9)
    assert digest == digest_alone(section, comm, folder, gamma=gamma)


@pytest.mark.parametrize("keys", [{"keep_outcomes": False}, {"method": "value"}])
def test_other_ways_end_in_the_same_values(keys, comm, folder):
    first, header, digest = solved(GARNET, comm, folder, "a", gamma=0.9)
    second, _, again = solved(GARNET, comm, folder, "b", keys, gamma=0.9)
    if "method" in keys:
        bound = 2 * header.solution["bound"]
        assert max(np.abs(first[key] - second[key]).max() for key in first) <= bound
    else:
        assert again == digest


def test_values_are_the_same_if_they_are_exchanged_in_many_rounds(comm, folder, monkeypatch):
    whole = solved(GARNET, comm, folder, "whole", gamma=0.9)[2]
    monkeypatch.setattr(halo, "_ROUND", 7)
    assert solved(GARNET, comm, folder, "rounds", gamma=0.9)[2] == whole


def test_tictactoe_by_self_play_is_the_recursions(comm, folder):
    section = {"id": "hpcq/TicTacToe-v0", "action_mask": True}
    options = {"gamma": 1.0, "rule": "negamax"}
    found, header, digest = solved(section, comm, folder, **options)
    truth = games.solve(resolve(make_job.make(section).environment).model, *KERNELS)
    assert found.keys() == truth.keys()
    for key, q in found.items():
        value, best = truth[key]
        assert q.max() == value
        assert sum(1 << int(a) for a in np.flatnonzero(q == value)) == best
    assert header.masks
    assert digest == digest_alone(section, comm, folder, **options)


KERNELS = (mnk_game.legal, mnk_game.play)
LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]


def against_random(board, memory):
    """Return the best expected result of the player with 1 against a random one with 2."""
    if board not in memory:
        values = []
        for i in (i for i in range(9) if board[i] == 0):
            after = (*board[:i], 1, *board[i + 1 :])
            free = [k for k in range(9) if after[k] == 0]
            if wins(after, 1) or not free:
                values.append(float(wins(after, 1)))
                continue
            results = []
            for k in free:
                reply = (*after[:k], 2, *after[k + 1 :])
                if wins(reply, 2):
                    results.append(-10.0)
                elif 0 not in reply:
                    results.append(0.0)
                else:
                    results.append(against_random(reply, memory))
            values.append(sum(results) / len(results))
        memory[board] = max(values)
    return memory[board]


def wins(board, player):
    return any(all(board[i] == player for i in line) for line in LINES)


def test_tictactoe_against_a_random_player_is_expectimax(comm, folder):
    section = {
        "id": "hpcq/TicTacToe-v0",
        "kwargs": {"opponent": "random", "loss": -10.0},
        "action_mask": True,
    }
    found, header, _ = solved(section, comm, folder, gamma=1.0)
    memory = {}
    against_random((0,) * 9, memory)
    for key, q in found.items():
        board = tuple(key // 3**place % 3 for place in range(8, -1, -1))
        assert q.max() == pytest.approx(against_random(board, memory), abs=1e-12)
    assert header.solution["bound"] < 1e-9


def test_nim_is_boutons(comm, folder):
    """The player to move wins if and only if the exclusive or of the heaps is not 0."""
    section = {"id": "hpcq/Nim-v0", "kwargs": {"heaps": [3, 5, 7]}, "action_mask": True}
    found, _, _ = solved(section, comm, folder, gamma=1.0, rule="negamax")
    assert len(found) == 4 * 6 * 8 - 1
    for key, q in found.items():
        heaps = key // 48, key // 8 % 6, key % 8
        assert q.max() == (1.0 if heaps[0] ^ heaps[1] ^ heaps[2] else -1.0)


def test_the_eight_puzzle_is_the_published_one(comm, folder):
    section = {"id": "hpcq/EightPuzzle-v0"}
    found, header, digest = solved(section, comm, folder, gamma=1.0)
    values = -np.array([q.max() for q in found.values()])
    assert np.bincount(values.astype(int)).tolist() == [0, *EIGHT_PUZZLE[1:]]
    assert header.solution["bound"] < 1e-9
    lines = []
    job = make_job.make(section, learning={"gamma": 1.0})
    assert explore(job, comm, lines.append, [], [0, 0]) == ExitCode.DONE
    if comm.rank == 0:
        levels = [line.split() for line in lines[1:-1]]
        assert [int(states.replace(",", "")) for _, states in levels] == EIGHT_PUZZLE
    assert digest == digest_alone(section, comm, folder, gamma=1.0)


@pytest.mark.parametrize("name", ["RING", "CHAIN"])
def test_an_own_environments_rules_are_solved(name, comm, folder):
    section, gamma = {"id": f"ruled:{name}"}, 0.98
    found, header, digest = solved(section, comm, folder, gamma=gamma)
    if name == "RING":
        # By symmetry all states are worth the same: the better one of both actions.
        leave = (0.875 * (-4 / 3) + 0.125 * 5.0) / (1 - gamma * 0.875)
        assert all(q.max() == pytest.approx(leave, abs=1e-6) for q in found.values())
    else:
        # Geometric waits: one step on is worth x = gamma / 2 / (1 - gamma / 2) of the next state.
        x = 0.5 * gamma / (1 - 0.5 * gamma)
        last = 0.5 / (1 - 0.5 * gamma) / (1 - x**60)
        assert found[59].max() == pytest.approx(last, abs=2e-6)
        assert header.solution["start"] == pytest.approx(x**59 * last, abs=2e-6)
    assert digest == digest_alone(section, comm, folder, gamma=gamma)


AVERAGES = [{"id": "hpcq/AccessControl-v0"}, GARNET]


@pytest.mark.parametrize("section", AVERAGES)
def test_average_rewards_are_those_of_policy_iteration(section, comm, folder):
    found, header, digest = solved(section, comm, folder, gamma=1.0)
    rate, q = best_average(resolve(make_job.make(section).environment).model)
    assert abs(header.solution["rate"] - rate) <= header.solution["rate_bound"] + 1e-12
    assert header.solution["rate_bound"] <= 1e-6
    assert header.solution["bound"] is header.solution["start"] is None
    assert max(np.abs(values - q[key]).max() for key, values in found.items()) < 1e-6
    assert digest == digest_alone(section, comm, folder, gamma=1.0)


def test_value_iteration_finds_the_same_average_reward(comm, folder):
    found, header, _ = solved(GARNET, comm, folder, "plain", {"method": "value"}, gamma=1.0)
    assert header.solution["evaluations"] == 0
    rate, q = best_average(resolve(make_job.make(GARNET).environment).model)
    assert header.solution["rate"] == pytest.approx(rate, abs=1e-6)
    assert max(np.abs(values - q[key]).max() for key, values in found.items()) < 1e-3


def test_an_average_reward_of_what_comes_back_after_a_number_of_steps(comm, folder):
    found, header, digest = solved({"id": "ruled:CIRCLE"}, comm, folder, gamma=1.0)
    assert header.solution["rate"] == pytest.approx(1 / 12, abs=1e-9)
    assert all(q.argmax() == 0 for q in found.values())
    values = [found[key].max() for key in range(12)]
    assert np.diff(values) == pytest.approx(1 / 12, abs=1e-4)
    assert digest == digest_alone({"id": "ruled:CIRCLE"}, comm, folder, gamma=1.0)


def test_values_are_relative_also_where_the_average_reward_is_0(comm, folder):
    found, header, _ = solved({"id": "ruled:BALANCED"}, comm, folder, gamma=1.0)
    assert header.solution["rate"] == 0
    assert [found[key].max() for key in (0, 1)] == pytest.approx([0.5, -0.5], abs=1e-6)
    with Table(folder / "solved") as table:
        assert table.relative


def test_the_average_reward_of_a_learned_policy(comm, folder):
    """Differential Q-learning beside the solution: its policy, its values, its average reward."""
    section, lines = {"id": "hpcq/AccessControl-v0", "count": 64}, []
    learned = make_job.make(
        {**section, "max_episode_steps": 100},
        learning={"gamma": 1.0, "centring": True},
        exploration={"epsilon": 1.0},
        run={"steps": 20_000, "directory": str(folder / "learned")},
    )
    assert to_end(train(learned, comm, silent, [])) == ExitCode.DONE
    job = make_job.make(
        section, learning={"gamma": 1.0}, run={"directory": str(folder / "learned-solved")}
    )
    assert solve(job, comm, lines.append, [], policy=folder / "learned") == ExitCode.DONE
    model = resolve(job.environment).model
    table = rows(list_checkpoints(folder / "learned")[0])
    q = np.array([table.get(key, np.zeros(2)) for key in range(44)])
    move = np.zeros((44, 44))
    chosen = np.arange(44), q.argmax(axis=1)
    at = np.broadcast_to(np.arange(44)[:, None], model.next[chosen].shape)
    np.add.at(move, (at, model.next[chosen]), model.probability[chosen])
    system = np.vstack([np.eye(44) - move.T, np.ones(44)])
    share = np.linalg.lstsq(system, np.eye(45)[44], rcond=None)[0]
    rate = share @ (model.probability * model.reward).sum(axis=2)[chosen]
    said = next(line for line in lines if line.startswith("  average reward"))
    assert float(said.split()[5].rstrip(",")) == pytest.approx(rate, abs=1e-6)
    if comm.rank == 0:
        optimum = rows(list_checkpoints(folder / "learned-solved")[0])
        gaps = np.array([table[key] - optimum[key] for key in table])
        found = difference(folder / "learned", folder / "learned-solved")
        assert found["largest"] == pytest.approx(np.ptp(gaps) / 2)
        near = distance(learned, folder / "learned", list_checkpoints(folder / "learned")[0])
        assert near["largest_error"] == pytest.approx(np.ptp(gaps) / 2)
        rates = [found[name]["reward_rate"] for name in "ab"]
        assert near["rate_error"] == pytest.approx(abs(rates[0] - rates[1]))
        assert rates[1] == pytest.approx(best_average(model)[0], abs=1e-6)


def test_a_tolerance_that_double_precision_cannot_prove_is_refused(comm, folder):
    for i, gamma in enumerate((0.9, 1.0)):
        with pytest.raises(HpcqError, match="rounding") as error:
            solved(GARNET, comm, folder, str(i), {"tolerance": 1e-17}, gamma=gamma)
        assert error.value.exit_code == ExitCode.USAGE


STOPS = [
    ({"id": "ruled:CHAIN"}, 0.98, (63, 62, 65)),
    (GARNET, 0.99, (3, 3)),
    (GARNET, 1.0, (3, 3)),
    ({"id": "ruled:CIRCLE"}, 1.0, (40, 41, 42)),
]


@pytest.mark.parametrize(("section", "gamma", "looks"), STOPS)
def test_a_stopped_solution_goes_on_to_the_same_digest(section, gamma, looks, comm, folder):
    whole = solved(section, comm, folder, "whole", gamma=gamma)[2]
    run = {"directory": str(folder / "stopped")}
    job = make_job.make(section, learning={"gamma": gamma}, run=run)
    stops = [10] if comm.rank == comm.size - 1 else []

    # Between two looks is a level of states, or a sweep.
    assert solve(job, comm, silent, _after(0, stops)) == ExitCode.STOPPED
    assert not list((folder / "stopped").glob("ckpt-*"))
    done = []
    for look in looks:
        code = solve(job, comm, silent, _after(look, stops), resume=True)
        assert code == ExitCode.STOPPED
        header, _ = verified(list_checkpoints(folder / "stopped")[0], comm)
        assert not header.solution["done"]
        done.append(header.step)
    assert done == sorted(set(done))
    half = comm.Split(comm.rank % 2, comm.rank)
    if comm.rank % 2 == 0:
        assert solve(job, half, silent, [], resume=True) == ExitCode.DONE
        assert verified(list_checkpoints(folder / "stopped")[0], half)[1] == whole
    half.Free()
    comm.Barrier()


class _after(list):
    """A list of signals that is empty until it has been looked at so many times."""

    def __init__(self, looks, signals):
        super().__init__(signals)
        self._looks, self._some = looks, bool(signals)

    def __bool__(self):
        self._looks -= 1
        return self._some and self._looks < 0


def test_a_learned_policy_is_worth_what_its_linear_system_says(comm, folder):
    gamma, lines = 0.9, []
    learned = make_job.make(
        {**GARNET, "count": 16},
        learning={"gamma": gamma},
        run={"steps": 3000, "directory": str(folder / "learned")},
    )
    assert to_end(train(learned, comm, silent, [])) == ExitCode.DONE
    job = make_job.make(GARNET, learning={"gamma": gamma}, run={"directory": str(folder / "a")})
    assert solve(job, comm, lines.append, [], policy=folder / "learned") == ExitCode.DONE
    model = resolve(job.environment).model
    table = rows(list_checkpoints(folder / "learned")[0])
    q = np.array([table.get(key, np.zeros(4)) for key in range(200)])
    worth = exact.policy_values(model, np.eye(4)[q.argmax(axis=1)], gamma)
    value = worth[np.arange(200), q.argmax(axis=1)]
    best = exact.value_iteration(model, gamma).max(axis=1)
    said = next(line for line in lines if "largest loss" in line)
    assert float(said.split()[2].rstrip(",")) == pytest.approx((best - value).max(), rel=1e-4)
    said = next(line for line in lines if line.startswith("  expected return"))
    assert float(said.split()[2].rstrip(",")) == pytest.approx(value.mean(), abs=1e-5)


WRONG = [
    ("SUM", {}, "state 7 (key 7), action 1: its probabilities add up to"),
    ("NEGATIVE", {}, "state 7 (key 7), action 1, outcome 1: the probability is -"),
    ("OUTSIDE", {}, "state 7 (key 7), action 1, outcome 1: it leads to key 12"),
    ("INFINITE", {}, "state 7 (key 7), action 1, outcome 1: the reward is inf"),
    ("TRAP", {"gamma": 1.0}, "from state 5 (key 5) no episode can come to an end (1 such"),
    ("ENDLESS", {"gamma": 1.0}, "values still grow by 1 in each"),
    ("APART", {"gamma": 1.0}, "average reward of a step is between 1 and 2"),
    ("STUCK", {}, "state 3 (key 3): no action is legal there"),
]


@pytest.mark.parametrize(("name", "learning", "text"), WRONG)
def test_wrong_rules_get_one_message(name, learning, text, comm, folder):
    section = {"id": f"ruled:{name}", "action_mask": name == "STUCK"}
    job = make_job.make(section, learning=learning, run={"directory": str(folder / "run")})
    with pytest.raises(EnvironmentFault) as error:
        solve(job, comm, silent, [])
    assert text in str(error.value)


def test_environments_without_rules_are_refused(comm, folder):
    for section in ({"id": "problems:Corridor-v0"}, {"id": "hpcq/CartPole-v0"}):
        job = make_job.make(section, run={"directory": str(folder / "run")})
        with pytest.raises(HpcqError, match="does not say what can happen") as error:
            solve(job, comm, silent, [])
        assert error.value.exit_code == ExitCode.USAGE


def test_too_little_memory_is_said_and_leaves_nothing_in_the_way(comm, folder):
    run = {"directory": str(folder / "run")}
    job = make_job.make({"id": "hpcq/EightPuzzle-v0"}, run={**run, "table_gib": 1e-4})
    with pytest.raises(HpcqError, match="table_gib") as error:
        solve(job, comm, silent, [])
    assert error.value.exit_code == ExitCode.STOPPED
    assert solve(make_job.make(GARNET, run=run), comm, silent, []) == ExitCode.DONE

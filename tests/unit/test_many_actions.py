"""Masks of several words, against the second implementation, plain NumPy and exact solutions.

Costs 300 s of processor time with an empty cache of kernels: 16 jobs with kernels of their own.
"""

import make_job
import numpy as np
import pytest
import reference
import rules
import wide
from by_phase import by_phase
from hypothesis import given
from hypothesis import strategies as st
from mpi4py import MPI
from outcomes import silent
from truths import rows

from hpcq.checkpoint import restore, saving
from hpcq.checkpoint.files import list_checkpoints
from hpcq.checkpoint.header import Header, layout
from hpcq.checkpoint.layout_check import describe
from hpcq.checkpoint.reader import read_header
from hpcq.checkpoint.verification import verify
from hpcq.collectors.batch import Outcome
from hpcq.envs.protocol import compiled_environment
from hpcq.envs.resolve import resolve
from hpcq.errors import EnvironmentFault, JobError
from hpcq.exchange import make_exchange
from hpcq.hashing import keys_of, mix64, unmix64
from hpcq.jit.compiler import kernel
from hpcq.job.sections import ReplaySection
from hpcq.learning import exact, modes
from hpcq.learning.action_selection import Query, Words, make_row_kernels
from hpcq.learning.lockstep import LockstepLearner
from hpcq.run import compiling, preflight
from hpcq.run.estimate import estimate
from hpcq.run.solving import solve
from hpcq.spaces.masks import MOST_ACTIONS, bitsets, legal_actions, words_of
from hpcq.table.combine import combine_tables
from hpcq.view.difference import difference
from hpcq.view.evaluate import evaluate
from hpcq.view.policy import load_policy

SHOP = {"id": "wide:SHOP", "count": 6, "action_mask": True}
WIDE = {**SHOP, "id": "wide:WIDE"}
WALK = {**SHOP, "id": "wide:Walk", "reset_every": 25}
WALKS = {**SHOP, "id": "wide:walks", "vector": 2, "reset_every": 25}
ACTIONS = {"wide:SHOP": 101, "wide:WIDE": 200, "wide:Walk": 101, "wide:walks": 101}
TICKS = 150


def bits_of(hashes, actions=101):
    masks = np.zeros((hashes.size, actions), bool)
    for mask, key in zip(masks, unmix64.py_func(hashes).tolist(), strict=True):
        mask[wide.legal_of(key, actions)] = True
    return bitsets(masks)


def begun(job, route=by_phase):
    learner = LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF, route)
    learner.begin()
    return learner


def advanced(job, ticks, route=by_phase):
    learner = begun(job, route)
    while learner.tick < ticks:
        learner.advance()
    return learner


@given(st.data())
def test_bitsets_and_back(data):
    actions, n = data.draw(st.integers(1, 260)), data.draw(st.integers(0, 4))
    masks = np.random.default_rng(data.draw(st.integers(0, 99))).integers(-1, 2, (n, actions))
    masks[:, data.draw(st.integers(0, actions - 1))] = 1
    found = bitsets(masks)
    for row, words in zip(masks.tolist(), found.reshape(n, words_of(actions)), strict=True):
        number = sum(int(word) << 64 * place for place, word in enumerate(words.tolist()))
        assert number == sum(1 << a for a, legal in enumerate(row) if legal)
    assert found.shape == ((n,) if actions <= 64 else (n, -(-actions // 64)))
    assert legal_actions(found, actions).tolist() == (masks != 0).tolist()
    assert legal_actions(np.zeros_like(found), actions).all()


# Across the boundaries of words, and whole ones.
SIZES = [65, 100, 127, 128, 129, 192, 193, 256]


@pytest.mark.parametrize(("tables", "combine"), [(1, "mean"), (2, "mean"), (3, "min")])
@pytest.mark.parametrize("actions", SIZES)
@pytest.mark.parametrize("masked", [True, False])
def test_choices_are_those_of_numpy(masked, actions, tables, combine):
    row, rng = make_row_kernels(actions, tables, combine, masked), np.random.default_rng(actions)
    visits = np.zeros((1, 0), np.uint32)
    for _ in range(150):
        q = rng.integers(3, size=(1, tables * actions)).astype(np.float32)
        values = combine_tables(q.reshape(1, tables, actions), combine)[0]
        # Where none is legal, and where there are no masks, all are.
        allowed = rng.random(actions) < rng.choice([0.0, 0.02, 0.5, 0.98]) * masked
        fill = np.uint64(0 if allowed.any() else 2**64 - 1)
        mask = Words(bitsets(allowed[None])[0], fill) if masked else np.uint64(0)
        allowed |= not allowed.any()
        legal = np.flatnonzero(allowed)
        draw = np.uint64(rng.integers(2**64, dtype=np.uint64))
        low = int(draw) & 0xFFFFFFFF
        best = values[legal].max()
        assert row.largest(q, np.uint64(0), mask) == best
        assert row.sample_legal(mask, draw) == legal[low * legal.size >> 32]
        assert [row.is_legal(mask, a) for a in range(actions)] == allowed.tolist()
        greedy = legal[values[legal] == best]
        for explore, among in ((False, greedy), (True, legal)):
            at = Query(q, visits, np.uint64(0), mask, np.float32(best), draw, 0.0)
            assert row.sample_best(at, explore) == among[low * among.size >> 32]


def test_legal_actions_are_drawn_evenly():
    row = make_row_kernels(130, masked=True)
    legal = [0, 63, 64, 65, 127, 128, 129]
    mask = Words(bitsets(np.isin(np.arange(130), legal)[None])[0], np.uint64(0))
    draws = mix64.py_func(np.arange(14_000, dtype=np.uint64))
    found = np.bincount([row.sample_legal(mask, draw) for draw in draws], minlength=130)
    assert np.flatnonzero(found).tolist() == legal
    # Chi-squared with 6 degrees of freedom: 22.5 is exceeded once in a thousand.
    assert ((found[legal] - 2000) ** 2 / 2000).sum() < 22.5


VISITS = {"schedule": "visits", "exponent": 0.7, "start": 0.9, "end": 0.2}
METHODS = {
    "epsilon_greedy": ({}, {"epsilon": 0.3}, {}),
    "expected_sarsa, wide": ({"rule": "expected_sarsa"}, {"epsilon": 0.3}, {}),
    "double_q, ucb, several steps": (
        {"rule": "double_q", "n_step": 3, "learning_rate": VISITS},
        {"policy": "ucb", "confidence": 1.5},
        {},
    ),
    "sarsa, boltzmann, wide": (
        {"rule": "sarsa", "n_step": 3, "trace_decay": 0.6},
        {"policy": "boltzmann", "temperature": 0.5},
        {},
    ),
    "maxmin, greedy, wide": (
        rules.learning("maxmin", q_init=3.0, learning_rate=VISITS),
        {"policy": "greedy"},
        {},
    ),
    "uniform": ({"rule": "expected_sarsa"}, {"policy": "uniform"}, {}),
    "replay": ({}, {"epsilon": 0.3}, {"ratio": 2, "capacity": 60}),
    "replay by priority, wide": (
        {},
        {"epsilon": 0.3},
        {
            "ratio": 2,
            "capacity": 60,
            "sampling": "prioritised",
            "priority_exponent": 1.0,
            "priority_floor": 0.5,
            "importance_exponent": 0.0,
        },
    ),
}
# The kernel of whole ticks is the same for all of them but for the phases that it calls.
WHOLE = ["epsilon_greedy", "double_q, ucb, several steps"]
ROUTES = [
    *(pytest.param(by_phase, case, 1) for case in METHODS),
    *(
        pytest.param(make_exchange, case, 1, marks=[] if case in WHOLE else [pytest.mark.soak])
        for case in METHODS
    ),
    pytest.param(by_phase, "epsilon_greedy", 3),
    pytest.param(make_exchange, "epsilon_greedy", 3),
]


def job_of(case, batches=1):
    learning, exploration, replay = METHODS[case]
    environment = WIDE if case.endswith("wide") else SHOP
    job = make_job.make(
        environment, learning=learning, exploration=exploration, mode={"batches": batches}
    )
    return job.model_copy(update={"replay": ReplaySection(**replay)})


@pytest.mark.parametrize(("route", "case", "batches"), ROUTES)
def test_the_table_is_the_references_table_bit_for_bit(route, case, batches):
    job = job_of(case, batches)
    environment = resolve(job.environment)
    exploration, replay = METHODS[case][1], job.replay
    expected = reference.learn(
        environment.model,
        environments=job.environment.count,
        ticks=TICKS,
        seed=3,
        gamma=job.learning.gamma,
        q_init=job.learning.q_init,
        limit=wide.LIMIT,
        rate=(lambda n, step: max(0.2, 0.9 * (1.0 + n) ** -0.7))
        if "learning_rate" in METHODS[case][0]
        else (lambda n, step: 0.5),
        **rules.traits(job),
        policy=job.exploration.policy,
        parameter=next((v for k, v in exploration.items() if k != "policy"), None),
        n_step=job.learning.n_step,
        decay=job.learning.trace_decay,
        legal=lambda s: wide.legal_of(s, ACTIONS[job.environment.id]),
        replay=(-(-replay.capacity // job.environment.count), replay.ratio),
        priority=(replay.priority_exponent, replay.priority_floor) if replay.prioritised else None,
        batches=batches,
    )
    learner = advanced(job, TICKS, route)
    found = {
        key: learner.shard.row(int(hash_)).tolist()
        for key, hash_ in zip(
            expected, mix64.py_func(np.array(list(expected), np.uint64)), strict=True
        )
    }
    assert len(learner.shard) == len(expected)
    assert wide.WRONG not in expected
    assert found == expected
    learner.close()


@pytest.mark.parametrize("environment", [WALK, WALKS], ids=["one by one", "vector"])
def test_masks_in_python_are_those_of_the_states(environment):
    """The environment itself refuses an illegal action."""
    learner = begun(make_job.make(environment, exploration={"epsilon": 0.9}))
    batch, truncated = learner.collector.batch, 0
    for _ in range(60):
        learner.advance()
        assert batch.next_mask.tolist() == bits_of(batch.next_hash).tolist()
        cut = batch.outcome == Outcome.TRUNCATED
        assert batch.final_mask[cut].tolist() == bits_of(batch.final_hash[cut]).tolist()
        truncated += cut.sum()
    assert truncated > 10
    for hashes, _, _, masks in learner.shard.pieces_with_masks(1000):
        assert masks.tolist() == bits_of(hashes).tolist()
    learner.close()


def test_one_word_in_several_learns_nothing_else():
    """The same walk, with and without actions that are never legal."""
    tables = []
    for actions in (10, 64, 65, 130):
        narrow = {**WALK, "id": "wide:Narrow", "kwargs": {"actions": actions}}
        learner = advanced(make_job.make(narrow, exploration={"epsilon": 0.5}), TICKS)
        table = {}
        for hashes, q, _ in learner.shard.pieces(1000):
            table |= dict(zip(hashes.tolist(), q[:, :10].tolist(), strict=True))
        tables.append(table)
        learner.close()
    assert len(tables[0]) > 20
    assert tables[0] == tables[1] == tables[2] == tables[3]


@pytest.mark.parametrize("case", ["double_q, ucb, several steps", "replay by priority, wide"])
def test_saved_resumed_verified_and_shown(case, tmp_path):
    job = job_of(case)
    actions, words = ACTIONS[job.environment.id], words_of(ACTIONS[job.environment.id])
    learner = advanced(job, 60)
    path, digest = saving.save(learner, tmp_path, "direct", keep=3)
    header, found = verify(path)
    assert (found, header.format) == (digest, 5)
    shapes = {dataset.name: dataset.shape for dataset in layout(header)}
    masks = {name: shape for name, shape in shapes.items() if "mask" in name}
    assert masks["table/mask"] == (len(learner.shard), words)
    assert all(shape[-1] == words for shape in masks.values())
    # The estimate counts every byte of the file but for its structure.
    assert estimate(job, len(learner.shard), 1, 1)["checkpoint_bytes"] == sum(
        dataset.nbytes for dataset in layout(header)
    )
    resumed = LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF, by_phase)
    restore.load_run(resumed, path)
    for one in (learner, resumed):
        while one.tick < 120:
            one.advance()
    assert resumed.digest() == learner.digest() != digest
    again, _ = saving.save(resumed, tmp_path, "gather", keep=3)
    policy = load_policy(path)
    for state, values in rows(path).items():
        legal = wide.legal_of(state, actions)
        assert np.flatnonzero(np.isfinite(values)).tolist() == legal
        assert policy(state) in legal
    found = difference(path, again)
    assert not found["same"]
    assert np.isfinite(found["largest"])
    assert difference(path, path)["same"]
    for one in (learner, resumed):
        one.close()


def test_a_policy_is_evaluated_where_illegal_actions_fail(tmp_path):
    job = make_job.make(WALK, run={"directory": str(tmp_path)})
    learner = advanced(job, 100)
    path, _ = saving.save(learner, tmp_path, "direct", keep=1)
    learner.close()
    (tmp_path / "job.toml").write_text(job.toml())
    found = evaluate(path, episodes=20, job=tmp_path / "job.toml")
    assert found["episodes"] == 20


def test_periodic_mode_on_one_rank_is_lockstep():
    job = make_job.make(WIDE, learning={"n_step": 3}, exploration={"epsilon": 0.4})
    mode = type(job.mode)(kind="periodic", merge_every=8)
    periodic = job.model_copy(update={"mode": mode})
    learners = [
        advanced(job, 160),
        modes.make_learner(periodic, resolve(job.environment), MPI.COMM_SELF),
    ]
    learners[1].begin()
    while learners[1].tick < 160:
        learners[1].advance()
    pieces = [
        [array.tolist() for piece in one.shard.pieces_with_masks(10_000) for array in piece]
        for one in learners
    ]
    assert pieces[0] == pieces[1]
    for one in learners:
        one.close()


def test_a_kernel_of_three_arguments_gives_the_same_masks_and_table():
    compiling.check_compiled(wide.OWN)
    hashes = mix64.py_func(np.arange(wide.STATES, dtype=np.uint64))
    for key, bits in zip(range(wide.STATES), bits_of(hashes), strict=True):
        assert wide.OWN.mask(key).tolist() == wide.SHOP.mask(key).tolist() == [bits.tolist()]
    job = make_job.make({**SHOP, "id": "wide:OWN"})
    learner = advanced(job, TICKS)
    assert all(key < wide.STATES for key in keys_of(next(learner.shard.pieces(1000))[0]).tolist())
    learner.close()


@pytest.mark.parametrize("id_", ["wide:SHOP", "wide:OWN"])
def test_solved_exactly_and_by_value_iteration(id_, tmp_path):
    job = make_job.make(
        {**SHOP, "id": id_}, learning={"gamma": 0.9}, run={"directory": str(tmp_path)}
    )
    assert solve(job, MPI.COMM_SELF, silent, []) == 0
    path = list_checkpoints(tmp_path)[0]
    assert verify(path)[0].format == 5
    model = wide.SHOP.model
    truth = exact.value_iteration(model, 0.9, legal=legal_actions(model.legal, 101))
    found = rows(path)
    assert len(found) > 10
    for state, values in found.items():
        legal = wide.legal_of(state, 101)
        assert np.flatnonzero(np.isfinite(values)).tolist() == legal
        assert values[legal] == pytest.approx(truth[state][legal], abs=2e-6)


@kernel
def _two(model, key):
    return np.uint64(1)


@kernel
def _three(model, key, mask):
    mask[0] = np.uint64(1)


@pytest.mark.parametrize(
    ("legal", "actions", "words"),
    [
        (_two, 65, r"65 actions: expected _two\(model, key, mask\)"),
        (_three, 64, r"64 actions: expected _three\(model, key\)"),
    ],
)
def test_a_kernel_for_other_numbers_of_actions_is_refused(legal, actions, words):
    with pytest.raises(JobError, match=words):
        compiled_environment(
            observation=9, actions=actions, outcome=wide._outcome, start=wide._start, legal=legal
        )


def test_a_mask_that_permits_nothing_is_named():
    @kernel
    def nothing(model, key, mask):
        # Bits behind the last action permit nothing.
        mask[1] = np.uint64(1) << np.uint64(40)

    environment = compiled_environment(
        observation=wide.STATES + 1,
        actions=101,
        outcome=wide._outcome,
        outcomes=2,
        start=wide._start,
        starts=4,
        legal=nothing,
    )
    with pytest.raises(
        EnvironmentFault, match=r"legal\(.*, mask\) gives .* permits none of the 101"
    ):
        compiling.check_compiled(environment)


def test_more_actions_than_masks_are_for():
    environment = {"id": "problems:Masked", "action_mask": True}
    job = make_job.make({**environment, "kwargs": {"actions": MOST_ACTIONS + 1}})
    with pytest.raises(JobError, match="1,025 actions; masks are for at most 1,024"):
        resolve(job.environment)


def test_as_many_actions_as_masks_are_for():
    job = make_job.make({**WALK, "kwargs": {"actions": MOST_ACTIONS}, "count": 2})
    preflight.check(job, resolve(job.environment), 0, 1)
    learner = advanced(job, 40)
    assert learner.collector.batch.mask.shape == (2, 16)
    learner.close()


def test_the_format_is_new_where_masks_have_several_words_alone(tmp_path):
    made = {}
    for actions in (64, 65):
        job = make_job.make({**WALK, "id": "wide:Narrow", "kwargs": {"actions": actions}})
        learner = advanced(job, 25)
        folder = tmp_path / str(actions)
        folder.mkdir()
        made[actions], _ = saving.save(learner, folder, "direct", keep=1)
        learner.close()
    assert [read_header(made[actions]).format for actions in (64, 65)] == [2, 5]
    attributes = describe(str(made[65]))["attributes"]
    for format_ in (2, 4):
        with pytest.raises(ValueError, match=f"format {format_}, but it holds what is of 5"):
            Header.from_attributes({**attributes, "format": format_})

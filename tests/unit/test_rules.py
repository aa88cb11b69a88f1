import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.collectors.centring import RATE, SCALE, make_centre
from hpcq.exchange.base import CHANGE, COLUMNS, QUERIES, UPDATES, VALUES, Inbox, Replies
from hpcq.exchange.records import record_types
from hpcq.hashing import mix64
from hpcq.job.schedules import Decay
from hpcq.learning import policy, rule
from hpcq.learning.action_selection import Query, make_row_kernels
from hpcq.learning.owner_kernels import MAX_VISITS, make_owner_kernels
from hpcq.learning.prefetch import RING_SIZE, SlotHints, empty_hints, hints_valid
from hpcq.table.combine import combine_tables
from hpcq.table.hash_table import find
from hpcq.table.shard import Shard


def inbox_of(records, counts):
    """An inbox of sources that stand one behind the other; each second one stands far."""
    counts = np.array(counts, np.int64)
    table = np.zeros((len(counts), COLUMNS), np.int64)
    table[:, [UPDATES, QUERIES]] = counts
    starts = np.concatenate([[0], np.cumsum(counts.sum(axis=1))[:-1]])
    is_remote = np.arange(len(counts)) % 2 == 1
    return Inbox(records, records.copy(), is_remote, starts, table)


def updates(dtype, *rows, counts=None):
    """Messages (hash, target, action), from one source unless `counts` says more."""
    records = np.zeros(len(rows), record_types(dtype)[0])
    for message, (hash_, target, action) in zip(records, rows, strict=True):
        message["hash"], message["target"], message["column"] = hash_, target, action
    return inbox_of(records, counts or [(len(rows), 0)])


def compiled(shard, centred=False):
    q_learning, epsilon_greedy = rule.find("q_learning"), policy.find("epsilon_greedy")
    row = make_row_kernels(shard.columns)
    return make_owner_kernels(
        q_learning,
        epsilon_greedy,
        row,
        shard.table.width,
        False,
        False,
        False,
        False,
        centred,
        False,
    )


def scratch():
    return np.empty(RING_SIZE, np.uint64)


def ask(shard, hash_, draws, epsilon):
    message, reply = record_types(shard.dtype)
    records, replies = np.zeros(len(draws), message), np.zeros(len(draws), reply)
    records["hash"], records["draw"] = hash_, draws
    inbox = inbox_of(records, [(0, len(draws))])
    to = Replies(replies, replies[:0], np.zeros(1, np.int64))
    seen = empty_hints(1, len(draws))
    assert compiled(shard).answer(shard.table, inbox, epsilon, seen, to) == -1
    return replies


def apply(shard, inbox, rate, exponent, done=0, seen=None, centre=None):
    seen = seen or empty_hints(inbox.starts.size)
    return compiled(shard, centre is not None).apply(
        shard.table,
        inbox,
        seen,
        None,
        done,
        rate,
        Decay(1.0, exponent, 0.0),
        scratch(),
        np.zeros(1),
        centre or make_centre(),
        0,
    )


def test_the_mean_reward_worked_by_hand():
    """What ranks sent moves it, by half the mean over 4 values; own changes wait for the next."""
    shard, centre = Shard(1, 2, np.float64), make_centre(0.5, 1000)
    inbox = updates(np.float64, (5, 3.0, 1), (9, -1.0, 0), (5, 3.0, 1), counts=[(2, 0), (1, 0)])
    one = int(centre.numbers[SCALE])
    inbox.counts[:, CHANGE], inbox.counts[:, VALUES] = (6 * one, -2 * one), (3, 1)
    apply(shard, inbox, 0.5, 0.0, centre=centre)
    # (6 - 2) / 4 / 2; then 3 / 2, - 1 / 2, and (3 - 3 / 2) / 2.
    assert centre.numbers[RATE] == 0.5
    assert centre.changes[0] / one == 1.5 - 0.5 + 0.75
    assert centre.changes[1] == 4
    # The same sums again, as after a shard has grown: they have been taken.
    apply(shard, inbox, 0.0, 0.0, done=3, centre=centre)
    assert centre.numbers[RATE] == 0.5


@pytest.mark.parametrize(
    ("target", "change"), [(1e300, 2.0**16), (-1e300, -(2.0**16)), (np.nan, 0)]
)
def test_no_change_breaks_the_sum(target, change):
    shard, centre = Shard(1, 1, np.float64), make_centre(1.0, 1 << 20)
    apply(shard, updates(np.float64, *[(5, target, 0)] * 2), 1.0, 0.0, centre=centre)
    # The second one finds the value there.
    assert centre.changes[0] == change * centre.numbers[SCALE]


DRAWS = mix64.py_func(np.arange(20_000, dtype=np.uint64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_rate_worked_by_hand(dtype):
    shard = Shard(1, 2, dtype, q_init=1.0)
    inbox = updates(dtype, (5, 3.0, 1), (9, -1.0, 0), (5, 3.0, 1))
    assert apply(shard, inbox, 0.5, 0.0) == -1
    # 1 + (3 - 1) / 2 = 2, then 2 + (3 - 2) / 2 = 2.5; repeats in one batch compound in order.
    assert shard.row(5).tolist() == [1.0, 2.5]
    assert shard.row(9).tolist() == [0.0, 1.0]


def test_visit_counts_worked_by_hand():
    shard = Shard(1, 1, np.float64, q_init=0.0, visits=True)
    inbox = updates(np.float64, *[(5, target, 0) for target in (4.0, 0.0, 8.0)])
    apply(shard, inbox, 1.0, 1.0)
    # Exponent 1 is the plain mean: 4, then 4 + (0 - 4) / 2 = 2, then 2 + (8 - 2) / 3 = 4.
    assert shard.row(5)[0] == pytest.approx(4.0, abs=1e-15)
    assert shard.table.visits[find(shard.table, np.uint64(5)), 0] == 3


def test_visit_counts_saturate():
    shard = Shard(1, 1, np.float64, visits=True)
    shard.load(np.array([5], np.uint64), np.zeros((1, 1)), np.array([[MAX_VISITS]], np.uint32))
    inbox = updates(np.float64, (5, 1.0, 0))
    apply(shard, inbox, 1.0, 1.0)
    assert shard.table.visits[find(shard.table, np.uint64(5)), 0] == MAX_VISITS
    assert shard.row(5)[0] == pytest.approx(2.0**-32)


def test_a_full_shard_interrupts_and_the_rest_follows():
    shard = Shard(1, 1, np.float64)
    hashes = np.random.default_rng(0).integers(0, 2**64, 200, dtype=np.uint64).tolist()
    inbox = updates(np.float64, *[(h, float(n), 0) for n, h in enumerate(hashes)])
    done, growths = 0, 0
    while (done := apply(shard, inbox, 1.0, 0.0, done)) >= 0:
        shard.grow()
        growths += 1
    assert growths > 0
    assert [shard.row(h)[0] for h in hashes] == list(range(200))


def test_updates_of_all_sources_are_applied_in_rank_order():
    shard = Shard(1, 1, np.float64)
    rows = (5, 1.0, 0), (7, 0.0, 0), (5, 2.0, 0), (5, 3.0, 0)
    # Source 0: one update and one query; source 1: one update; 2: none; 3: one update.
    inbox = updates(np.float64, *rows, counts=[(1, 1), (1, 0), (0, 0), (1, 0)])
    assert apply(shard, inbox, 0.5, 0.0) == -1
    assert shard.row(5)[0] == ((0.5 + 2) / 2 + 3) / 2
    assert len(shard) == 1


def test_greedy_answers_the_largest_value():
    shard = Shard(1, 3, np.float64)
    shard.load(np.array([5], np.uint64), np.array([[1.0, 4.0, 2.0]]), np.zeros((1, 0), np.uint32))
    replies = ask(shard, 5, DRAWS[:100], 0.0)
    assert set(replies["action"]) == {1}
    assert set(replies["value"]) == {4.0}


@pytest.mark.parametrize("epsilon", [0.0, 0.25, 1.0])
def test_epsilon_greedy_frequencies(epsilon):
    shard = Shard(1, 4, np.float32)
    row = np.array([[2.0, 7.0, 7.0, 1.0]], np.float32)
    shard.load(np.array([5], np.uint64), row, np.zeros((1, 0), np.uint32))
    replies = ask(shard, 5, DRAWS, epsilon)
    expected = epsilon / 4 + (1 - epsilon) * np.array([0, 0.5, 0.5, 0])
    found = np.bincount(replies["action"], minlength=4) / DRAWS.size
    assert np.abs(found - expected).max() < 5 * np.sqrt(0.25 / DRAWS.size)
    assert set(replies["value"]) == {7.0}


def test_an_absent_state_reads_as_q_init_and_acts_at_random():
    shard = Shard(1, 4, np.float64, q_init=3.5)
    replies = ask(shard, 99, DRAWS, 0.0)
    found = np.bincount(replies["action"], minlength=4) / DRAWS.size
    assert np.abs(found - 0.25).max() < 5 * np.sqrt(0.25 / DRAWS.size)
    assert set(replies["value"]) == {3.5}
    assert len(shard) == 0


def test_a_row_of_equal_values_acts_like_an_absent_one():
    shard = Shard(1, 4, np.float64, q_init=3.5)
    shard.load(np.array([5], np.uint64), np.full((1, 4), 3.5), np.zeros((1, 0), np.uint32))
    absent = ask(shard, 99, DRAWS[:500], 0.0)
    present = ask(shard, 5, DRAWS[:500], 0.0)
    assert absent.tolist() == present.tolist()


def test_where_queries_found_their_rows_is_noted():
    shard = Shard(1, 2, np.float64)
    hashes = np.sort(DRAWS[:500])
    shard.load(hashes, np.zeros((500, 2)), np.zeros((500, 0), np.uint32))
    message, reply = record_types(shard.dtype)
    records = np.zeros(300, message)
    # All are there, but for the largest hash and the one below it; two sources.
    records["hash"] = [*hashes[100:398], 2**64 - 1, 2**64 - 2]
    inbox = inbox_of(records, [(0, 100), (0, 200)])
    replies = np.zeros(300, reply)
    to = Replies(replies, replies.copy(), inbox.starts)
    too_small, seen = empty_hints(2, 299), empty_hints(2, 300)
    assert compiled(shard).answer(shard.table, inbox, 0.0, too_small, to) == 300
    assert compiled(shard).answer(shard.table, inbox, 0.0, seen, to) == -1
    assert seen.starts.tolist() == [0, 100]
    found = [find(shard.table, np.uint64(h)) for h in hashes[100:398]]
    assert seen.slots[:298].tolist() == found
    assert seen.slots[298] == shard.table.hashes.size - 1
    # Updates of the same states are recalled; where one is left out or they are of others, not.
    table, second = shard.table.hashes, np.uint64(hashes[200])
    assert hints_valid(table, seen, 0, records, 0, 100)
    assert hints_valid(table, seen, 1, records, 100, 198)
    assert not hints_valid(table, seen, 1, records, 100, 0)
    assert not hints_valid(table, seen, 1, records, 100, 201)
    assert not hints_valid(table, seen, 0, np.delete(records, 50), 0, 99)
    assert not hints_valid(table, seen, 1, records[records["hash"] != second], 100, 197)


@given(st.data())
def test_what_is_noted_is_a_hint_and_no_more(data):
    """Updates give the same rows wherever rows are said to be, also in a table that has to grow."""
    size = data.draw(st.integers(1, 60))
    states = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40))
    states.append(2**64 - 1)
    picks = data.draw(st.lists(st.integers(0, len(states) - 1), min_size=size, max_size=size))
    rows = [(states[pick], float(n), pick % 2) for n, pick in enumerate(picks)]
    shard = Shard(1, 2, np.float64)
    for state in states[::2]:
        apply(shard, updates(np.float64, (state, 0.0, 0)), 0.5, 0.0)
    hint = st.integers(0, shard.table.hashes.size - 1)
    slots = np.array(data.draw(st.lists(hint, min_size=size, max_size=size)), np.uint64)
    # The last one is what `hints_valid` looks at.
    slots[-1] = max(0, find(shard.table, np.uint64(rows[-1][0])))
    seen = SlotHints(slots, np.zeros(1, np.int64))
    expected = {state: [0.0, 0.0] for state in states}
    for state, target, action in rows:
        expected[state][action] += 0.5 * (target - expected[state][action])
    done, inbox = 0, updates(np.float64, *rows)
    while (done := apply(shard, inbox, 0.5, 0.0, done, seen)) >= 0:
        shard.grow()
    for state, row in expected.items():
        assert shard.row(state).tolist() == row


@pytest.mark.parametrize(("tables", "combine"), [(1, "mean"), (2, "mean"), (3, "min")])
@pytest.mark.parametrize(
    ("actions", "masked"), [*itertools.product([2, 18, 63, 64], [False, True]), (65, False)]
)
def test_any_number_of_actions_is_chosen_from(actions, masked, tables, combine):
    row = make_row_kernels(actions, tables, combine, masked)
    rng = np.random.default_rng(actions)
    q = rng.integers(3, size=(1, tables * actions)).astype(np.float32)
    visits = np.zeros((1, 0), np.uint32)
    values = combine_tables(q.reshape(1, tables, actions), combine)[0]
    for draw in DRAWS[:300].tolist():
        legal = list(range(actions))
        mask = np.uint64(draw) | np.uint64(1) if masked else np.uint64(0)
        if masked:
            legal = [a for a in legal if int(mask) >> a & 1]
        best = max(values[legal])
        greedy = [a for a in legal if values[a] == best]
        for explore, candidates in ((False, greedy), (True, legal)):
            expected = candidates[(draw & 0xFFFFFFFF) * len(candidates) >> 32]
            at = Query(q, visits, np.uint64(0), mask, np.float32(best), np.uint64(draw), 0.0)
            assert row.sample_best(at, explore) == expected
        expected = legal[(draw & 0xFFFFFFFF) * len(legal) >> 32]
        assert row.sample_legal(mask, np.uint64(draw)) == expected

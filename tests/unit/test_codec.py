import itertools

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from hpcq.codec import Codec, describe
from hpcq.errors import JobError

DISCRETE = st.builds(
    lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 9), st.integers(-5, 5)
)
MULTI = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(spaces.MultiDiscrete)
SPACES = st.recursive(
    DISCRETE | MULTI,
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple),
    max_leaves=5,
)


@given(SPACES, st.integers(0, 2**32))
def test_many_at_once_are_encoded_like_one_at_a_time(space, seed):
    codec = Codec(describe(space))
    space.seed(seed)
    observations = [space.sample() for _ in range(7)]
    found = codec.encode_all(observations)
    assert found is not None
    assert found.dtype == np.uint64
    assert found.tolist() == [codec.encode(observation) for observation in observations]


@pytest.mark.parametrize("bad", [5, -1, 2.0, "3", None, (1,), 10**30, np.array([1, 2])])
def test_many_at_once_are_refused_with_one_that_is_outside(bad):
    assert Codec(describe(spaces.Discrete(5))).encode_all([1, bad, 2]) is None


def test_the_largest_keys_survive_many_at_once():
    codec = Codec(describe(spaces.MultiDiscrete([2**32, 2**32])))
    last = np.array([2**32 - 1, 2**32 - 1])
    assert codec.encode_all([last, last - 1]).tolist() == [2**64 - 1, codec.encode(last - 1)]


def plain(observation):
    if isinstance(observation, tuple):
        return tuple(plain(part) for part in observation)
    return observation.tolist() if isinstance(observation, np.ndarray) else int(observation)


@given(SPACES, st.integers(0, 2**32))
def test_samples_survive_the_round_trip(space, seed):
    codec = Codec(describe(space))
    space.seed(seed)
    observation = space.sample()
    key = codec.encode(observation)
    assert 0 <= key < codec.size
    decoded = codec.decode(key)
    assert plain(decoded) == plain(observation)
    assert space.contains(decoded) or isinstance(space, spaces.Tuple)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(7, start=-3),
        spaces.MultiDiscrete([[2, 3], [1, 2]], start=[[0, 1], [5, -1]]),
        spaces.Tuple([spaces.Discrete(3), spaces.Tuple([spaces.MultiDiscrete([2, 2])])]),
    ],
)
def test_every_key_is_one_observation(space):
    codec = Codec(describe(space))
    assert [codec.encode(codec.decode(key)) for key in range(codec.size)] == list(range(codec.size))


def test_keys_are_mixed_radix_first_digit_most_significant():
    codec = Codec(describe(spaces.Tuple([spaces.Discrete(32), spaces.Discrete(11)])))
    digits = itertools.product(range(32), range(11))
    assert [codec.encode(pair) for pair in digits] == list(range(32 * 11))


@pytest.mark.parametrize("three", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_every_flavour_of_a_number_is_one_key(three):
    assert Codec(describe(spaces.Discrete(5))).encode(three) == 3


def test_subclasses_and_arrays_are_what_they_look_like():
    class Cells(spaces.Discrete):
        pass

    codec = Codec(describe(spaces.Tuple([Cells(5), spaces.Discrete(2)])))
    assert codec.encode(np.array([4, 1])) == codec.encode((4, 1)) == 9


@pytest.mark.parametrize("one", [1, True, np.bool_(True), np.int8(1)])
def test_booleans_are_numbers(one):
    codec = Codec(describe(spaces.Tuple([spaces.Discrete(2), spaces.Discrete(2)])))
    assert codec.encode((one, 0)) == 2


@pytest.mark.parametrize("bad", [5, -1, 2.0, "3", None, (1,), np.array([1, 2])])
def test_what_is_not_in_the_space_is_refused(bad):
    with pytest.raises(ValueError, match="expected|not in"):
        Codec(describe(spaces.Discrete(5))).encode(bad)


def test_the_largest_space_fits_and_a_larger_one_says_so():
    full = Codec(describe(spaces.MultiDiscrete([2**32, 2**32])))
    assert full.size == 2**64
    last = np.array([2**32 - 1, 2**32 - 1])
    assert full.encode(last) == 2**64 - 1
    assert full.decode(2**64 - 1).tolist() == last.tolist()
    with pytest.raises(JobError, match=r"10\^19 states, more than the 2\*\*64"):
        Codec(describe(spaces.MultiDiscrete([2**32, 2**32, 2])))


def test_a_space_without_a_code_is_named():
    with pytest.raises(JobError, match="Box.*expected Discrete"):
        describe(spaces.Box(0.0, 1.0))

import bisect
import itertools
import json

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import given
from hypothesis import strategies as st

from hpcq.errors import JobError
from hpcq.job.environment_section import Discretise
from hpcq.spaces.canonical import collision_bound
from hpcq.spaces.codec import Codec, describe
from hpcq.spaces.discretise import bin_index

DISCRETE = st.builds(
    lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 9), st.integers(-5, 5)
)
SHAPES = st.lists(st.integers(1, 2), min_size=1, max_size=3)
MULTI = st.builds(
    lambda shape, n, start: spaces.MultiDiscrete(np.full(shape, n), start=np.full(shape, start)),
    SHAPES,
    st.integers(1, 5),
    st.integers(-5, 5),
)
BINARY = SHAPES.map(spaces.MultiBinary)
BOX = st.builds(
    lambda shape, low, n, dtype: spaces.Box(low, low + n, shape=shape, dtype=dtype),
    SHAPES,
    st.integers(0, 9),
    st.integers(0, 4),
    st.sampled_from([np.int8, np.uint8, np.int64, np.uint64]),
)
SPACES = st.recursive(
    DISCRETE | MULTI | BINARY | BOX,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple)
        | st.dictionaries(st.sampled_from("abc"), inner, min_size=1).map(spaces.Dict)
    ),
    max_leaves=5,
)


def batched(space, observations):
    """Return observations as a VectorEnv gives them."""
    return concatenate(space, observations, create_empty_array(space, len(observations)))


@given(SPACES, st.integers(0, 2**32))
def test_many_at_once_are_encoded_like_one_at_a_time(space, seed):
    codec = Codec(describe(space))
    space.seed(seed)
    observations = [space.sample() for _ in range(7)]
    expected = [codec.encode(observation) for observation in observations]
    for found in (
        codec.encode_all(observations),
        codec.encode_batch(batched(space, observations), 7),
    ):
        assert found is not None
        assert found.dtype == np.uint64
        assert found.tolist() == expected


@pytest.mark.parametrize("bad", [5, -1, 2.0, "3", None, (1,), 10**30, np.array([1, 2])])
def test_many_at_once_are_refused_with_one_that_is_outside(bad):
    assert Codec(describe(spaces.Discrete(5))).encode_all([1, bad, 2]) is None


def test_the_largest_keys_survive_many_at_once():
    codec = Codec(describe(spaces.MultiDiscrete([2**32, 2**32])))
    last = np.array([2**32 - 1, 2**32 - 1])
    assert codec.encode_all([last, last - 1]).tolist() == [2**64 - 1, codec.encode(last - 1)]


def plain(observation):
    """Return an observation in Python's own types."""
    if isinstance(observation, tuple):
        return tuple(plain(part) for part in observation)
    if isinstance(observation, dict):
        return {name: plain(part) for name, part in observation.items()}
    return observation.tolist() if isinstance(observation, np.ndarray) else int(observation)


def other_flavour(observation):
    """Return an observation in NumPy types of another width, dicts in another order."""
    if isinstance(observation, tuple):
        return [other_flavour(part) for part in observation]
    if isinstance(observation, dict):
        return {name: other_flavour(observation[name]) for name in reversed(observation)}
    array = np.asarray(observation)
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int16)


@given(SPACES, st.integers(0, 2**32))
def test_samples_survive_the_round_trip(space, seed):
    description = json.loads(json.dumps(describe(space), sort_keys=True))
    codec = Codec(description)
    space.seed(seed)
    observation = space.sample()
    key = codec.encode(observation)
    assert 0 <= key < codec.size
    assert plain(codec.decode(key)) == plain(observation)


@given(SPACES, st.integers(0, 2**32), st.booleans())
def test_every_flavour_of_an_observation_is_one_key(space, seed, digest):
    codec = Codec(describe(space, codec="digest" if digest else "exact"))
    space.seed(seed)
    observation = space.sample()
    flavours = [observation, plain(observation), other_flavour(observation)]
    keys = [codec.encode(flavour) for flavour in flavours]
    assert keys[0] == keys[1] == keys[2]
    found = codec.encode_all(flavours)
    assert found is None or found.tolist() == keys


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(7, start=-3),
        spaces.MultiDiscrete([[2, 3], [1, 2]], start=[[0, 1], [5, -1]]),
        spaces.Tuple([spaces.Discrete(3), spaces.Tuple([spaces.MultiDiscrete([2, 2])])]),
        spaces.Dict({"b": spaces.MultiBinary([2, 2]), "a": spaces.Discrete(3)}),
        spaces.Box(np.array([-2, 5]), np.array([1, 7]), dtype=np.int16),
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


def test_the_size_of_an_image_is_named_not_computed():
    image = spaces.Box(0, 255, (84, 84, 4), np.uint8)
    with pytest.raises(JobError, match=r"about 10\^67970 states.*codec = 'digest'"):
        describe(image)


def test_the_whole_of_int64_and_uint64_has_keys():
    for dtype in (np.int64, np.uint64):
        limits = np.iinfo(dtype)
        codec = Codec(describe(spaces.Box(limits.min, limits.max, (1,), dtype)))
        assert codec.size == 2**64
        ends = [np.array([limits.min], dtype), np.array([limits.max], dtype)]
        assert [codec.encode(end) for end in ends] == [0, 2**64 - 1]
        found = codec.encode_all(ends)
        assert found is None or found.tolist() == [0, 2**64 - 1]
        assert codec.decode(2**64 - 1).tolist() == [limits.max]


def test_dicts_go_by_sorted_keys():
    codec = Codec(describe(spaces.Dict({"y": spaces.Discrete(2), "x": spaces.Discrete(5)})))
    assert [codec.encode({"y": y, "x": x}) for x in range(5) for y in range(2)] == list(range(10))


@pytest.mark.parametrize(
    ("space", "bad", "message"),
    [
        (spaces.Dict(a=spaces.Discrete(2), b=spaces.Discrete(2)), {"a": 1}, "missing key 'b'"),
        (spaces.Dict(a=spaces.Discrete(2)), {"a": 1, "c": 2}, "unexpected key 'c'"),
        (spaces.Dict(a=spaces.Discrete(2)), 1, "expected a dict with 'a'"),
        (spaces.Dict(a=spaces.Tuple([spaces.Discrete(2)])), {"a": (5,)}, r"\['a'\]\[0\]: 5 is"),
        (spaces.MultiBinary(2), [0, 1, 1], r"shape \(2,\), not int64 of \(3,\)"),
        (spaces.MultiBinary(2), [0.0, 1.0], "expected integers"),
        (spaces.Box(0, 3, (2,), np.int64), [0, 4], "4 is not in 0 ... 3"),
    ],
)
def test_what_is_wrong_is_named(space, bad, message):
    codec = Codec(describe(space))
    with pytest.raises(ValueError, match=message):
        codec.encode(bad)
    assert codec.encode_all([bad]) is None


def discretise(**keys):
    return Discretise.model_validate(keys)


FLOATS = st.floats(-10, 10, width=32)


@given(
    st.lists(st.lists(FLOATS, unique=True, max_size=20).map(sorted), min_size=1, max_size=4),
    st.integers(0, 2**32),
)
def test_bins_are_where_the_edges_say(edges, seed):
    space = spaces.Box(-np.inf, np.inf, (len(edges),), np.float32)
    codec = Codec(describe(space, discretise(edges=edges)))
    rng = np.random.default_rng(seed)
    observations = list(rng.uniform(-12, 12, (6, len(edges))).astype(np.float32))
    # Also exactly on an edge.
    observations += [np.array([(cuts_traces or [0.0])[-1] for cuts_traces in edges], np.float32)]
    expected = []
    for observation in observations:
        key = 0
        for cuts_traces, value in zip(edges, observation, strict=True):
            key = key * (len(cuts_traces) + 1) + bisect.bisect_right(cuts_traces, float(value))
        expected.append(key)
    assert [codec.encode(observation) for observation in observations] == expected
    assert codec.encode_all(observations).tolist() == expected
    assert codec.clipped == 0
    assert all(codec.encode(codec.decode(key)) == key for key in expected)


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), unique=True, max_size=20).map(sorted)
)
def test_numbers_of_32_bits_are_compared_with_edges_of_64(edges):
    space = spaces.Box(-np.inf, np.inf, (), np.float32)
    codec = Codec(describe(space, discretise(edges=[edges])))
    with np.errstate(over="ignore"):
        near = np.array([*edges, 0.0], np.float32)
    seen = np.concatenate([near, np.nextafter(near, np.inf), np.nextafter(near, -np.inf)])
    expected = [bisect.bisect_right(edges, float(value)) for value in seen]
    assert codec.encode_batch(seen, seen.size).tolist() == expected
    assert codec.encode_batch(seen.astype(np.float64), seen.size).tolist() == expected


@given(st.floats(-1e300, 1e300), st.floats(0, 1e300))
def test_numbers_of_32_bits_are_outside_a_range_of_64(low, width):
    high = low + max(width, abs(low), 1e-300)
    space = spaces.Box(-np.inf, np.inf, (), np.float32)
    codec = Codec(describe(space, discretise(bins=[2], low=[low], high=[high])))
    with np.errstate(over="ignore"):
        near = np.array([low, high], np.float32)
    seen = np.concatenate([near, np.nextafter(near, np.inf), np.nextafter(near, -np.inf)])
    codec.encode_batch(seen, seen.size)
    assert codec.clipped == sum(not low <= float(value) <= high for value in seen)


@given(st.lists(FLOATS, unique=True, max_size=40).map(sorted), st.floats(-12, 12))
def test_the_kernel_is_a_bisection(edges, value):
    found = bin_index(np.array(edges, np.float64), value)
    assert found == bin_index.py_func(np.array(edges), value) == bisect.bisect_right(edges, value)


def test_equal_parts_and_what_lies_outside():
    space = spaces.Dict(
        position=spaces.Box(0.0, 4.0, (1,)), speed=spaces.Box(-np.inf, np.inf, (), np.float64)
    )
    section = discretise(bins=[4, 2], low=[0, -1], high=[4, 1])
    codec = Codec(describe(space, section))
    assert codec.size == 8
    seen = [({"position": [p], "speed": s}) for p in (-1, 0, 0.99, 1, 4, 9) for s in (-7, 0)]
    expected = [0, 1, 0, 1, 0, 1, 2, 3, 6, 7, 6, 7]
    assert [codec.encode(observation) for observation in seen] == expected
    assert codec.clipped == 4 + 6  # two positions, seen twice, and six speeds
    assert codec.encode_all(seen).tolist() == expected
    assert codec.clipped == 2 * (4 + 6)
    decoded = codec.decode(5)
    assert (decoded["position"].tolist(), float(decoded["speed"])) == ([2.5], 0.5)
    assert [codec.encode(codec.decode(key)) for key in range(8)] == list(range(8))
    for bad in ({"position": [np.nan], "speed": 0.0}, {"position": [1.0, 2.0], "speed": 0.0}):
        assert codec.encode_all([bad]) is None
        with pytest.raises(ValueError, match=r"\['position'\]: (component 0 is NaN|expected)"):
            codec.encode(bad)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (None, r"3 floats \(\[0\], \[1\], \[2\]\) have no finite number.*discretise"),
        ({"bins": [3]}, r"\[1\] has no bound in its space; give environment.discretise.low"),
        ({"bins": [3, 4]}, r"bins has 2 entries, expected 3 \(or 1 for all\): \[0\], \[1\]"),
        ({"bins": [3], "low": [0], "high": [0]}, r"\[0\] reaches from 0 to 0"),
        ({"edges": [[0], [1, 1], []]}, r"edges of \[1\] are not ascending"),
    ],
)
def test_a_discretiser_that_does_not_fit_is_explained(section, message):
    space = spaces.Box(np.array([0, -np.inf, 0]), np.array([1, np.inf, 1]), dtype=np.float64)
    with pytest.raises(JobError, match=message):
        describe(space, section and discretise(**section))


def test_a_discretiser_for_nothing_is_refused():
    with pytest.raises(JobError, match="no floats"):
        describe(spaces.Discrete(3), discretise(bins=[3]))
    with pytest.raises(JobError, match="but codec = 'digest'"):
        describe(spaces.Box(0, 1), discretise(bins=[3]), "digest")


BOXES = spaces.Box(-1, 1, (3,))
ANYTHING = spaces.Dict(
    image=spaces.Box(0, 255, (5, 4), np.uint8),
    text=spaces.Text(8),
    some=spaces.Sequence(BOXES),
    stacked=spaces.Sequence(spaces.Dict(x=BOXES, y=spaces.Discrete(4)), stack=True),
    pairs=spaces.Sequence(spaces.Tuple([spaces.Discrete(3), BOXES]), stack=True),
    graph=spaces.Graph(spaces.Discrete(4), spaces.Box(0, 1, (2,))),
    one=spaces.OneOf([spaces.Discrete(3), spaces.Text(3)]),
)


def test_the_digest_tells_everything_apart():
    codec = Codec(describe(ANYTHING, codec="digest"))
    ANYTHING.seed(5)
    samples = [ANYTHING.sample() for _ in range(60)]
    keys = [codec.encode(sample) for sample in samples]
    assert len(set(keys)) == 60
    assert keys == [codec.encode(sample) for sample in samples]
    assert codec.encode_all(samples).tolist() == keys
    assert codec.decode(255) == "digest 00000000000000ff"
    for name in ANYTHING.spaces:
        changed = {**samples[0], name: samples[1][name]}
        assert (codec.encode(changed) == keys[0]) == (
            str(samples[0][name]) == str(samples[1][name])
        )


def test_the_digest_of_a_number_is_that_of_its_value():
    codec = Codec(describe(spaces.Box(-1, 1, (2,)), codec="digest"))
    assert codec.encode([0.5, -0.0]) == codec.encode(np.array([0.5, 0.0], np.float64))
    with pytest.raises(ValueError, match="NaN"):
        codec.encode([np.nan, 0])
    image = Codec(describe(spaces.Box(0, 255, (2,), np.uint8), codec="digest"))
    with pytest.raises(ValueError, match="expected values of uint8"):
        image.encode([256, 0])
    with pytest.raises(ValueError, match="expected uint8 of shape"):
        image.encode([0.0, 0.0])


def test_the_collision_bound_is_the_birthday_bound():
    assert collision_bound(1) == 0
    assert collision_bound(2) == 2.0**-64
    assert collision_bound(2**20) == pytest.approx(2.0 ** (40 - 1 - 64), rel=1e-5)
    assert collision_bound(2**40) == 1


@pytest.mark.parametrize("space", [spaces.Text(3), spaces.Tuple([spaces.Sequence(BOXES)])])
def test_a_space_without_a_code_is_named(space):
    with pytest.raises(JobError, match="no finite number of values; use codec = 'digest'"):
        describe(space)


def test_a_box_of_floats_says_what_it_needs():
    with pytest.raises(JobError, match=r"Box\(0.0, 1.0.*bins or edges in .environment.discretise"):
        describe(spaces.Box(0.0, 1.0))

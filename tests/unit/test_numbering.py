"""Numbers of states against a dictionary's; two seconds."""

import numpy as np
import pytest

from hpcq.hashing import first_hash
from hpcq.jit.compiler import kernel
from hpcq.solver.numbering import Numbering, home_of, nbytes_for, number_of


@kernel
def number_all(slots, hashes, ranks, most, asked, start, count, found):
    for i in range(start, asked.size):
        home = home_of(slots, asked[i], ranks)
        number = number_of(slots, hashes, home, asked[i], count, most)
        if number < 0:
            return i, count
        if number == count:
            hashes[number] = asked[i]
            count += 1
        found[i] = number
    return asked.size, count


def numbers(asked, ranks):
    """Return the number of each hash, of how many there are, and the bytes of the table."""
    table, hashes = Numbering(ranks), np.zeros(asked.size, np.uint64)
    found, at, count = np.full(asked.size, -1), 0, 0
    while True:
        at, count = number_all(
            table.slots, hashes, np.uint64(ranks), table.most, asked, at, count, found
        )
        if at == asked.size:
            return found, hashes[:count], table.nbytes
        assert count == table.most
        table.grow(hashes[:count])


def of_rank(rank, ranks, n, rng):
    low, high = first_hash(rank, ranks), first_hash(rank + 1, ranks) - 1
    return rng.integers(low, high, n, np.uint64, endpoint=True)


@pytest.mark.parametrize("ranks", [1, 2, 3, 1000])
def test_numbers_are_those_of_a_dictionary(ranks):
    rng = np.random.default_rng(ranks)
    few = of_rank(ranks - 1, ranks, 20_000, rng)
    asked = rng.choice(few, 100_000)
    known = {}
    expected = [known.setdefault(int(hash_), len(known)) for hash_ in asked]
    found, hashes, nbytes = numbers(asked, ranks)
    assert found.tolist() == expected
    assert hashes.tolist() == list(known)
    assert nbytes == nbytes_for(len(known))
    # No more slots than the last growth has made.
    assert 1.4 * len(known) < nbytes / 8 < 2.2 * len(known)


def test_hashes_that_are_alike_have_numbers_of_their_own():
    # One home, and one half that the table keeps; and the greatest hash there is.
    alike = (np.arange(50, dtype=np.uint64) << np.uint64(32)) + np.uint64(7)
    last = np.array([(1 << 64) - 1, (1 << 64) - 2, 0], np.uint64)
    asked = np.concatenate([alike, last, alike[::-1], last])
    found, hashes, _ = numbers(asked, 1)
    assert found.tolist() == [*range(53), *range(49, -1, -1), 50, 51, 52]
    assert hashes.size == 53


def test_a_table_wraps_around_at_its_end():
    # Homes are by the upper bits: all of these begin in the last slots.
    asked = np.uint64((1 << 64) - 1) - np.arange(3000, dtype=np.uint64)
    found, hashes, _ = numbers(np.concatenate([asked, asked]), 1)
    assert found.tolist() == [*range(3000), *range(3000)]
    assert (hashes == asked).all()

"""Permutations as numbers: the rank among all orders of a few items, without gaps.

An order is packed into a uint64, four bits per item, the first item lowest. Its rank is the
mixed-radix number of its Lehmer digits: digit i counts the later items that are smaller.
"""

from typing import Any

import numpy as np

from hpcq.jit.compiler import kernel
from hpcq.jit.simd import size_of

_ONE, _FOUR, _FIFTEEN = np.uint64(1), np.uint64(4), np.uint64(15)


@kernel
def item(order: np.uint64, place: Any) -> Any:
    """Return the item at a place."""
    return (order >> (_FOUR * np.uint64(place))) & _FIFTEEN


@kernel
def replaced(order: np.uint64, place: Any, value: Any) -> Any:
    """Return the order with another item (0 ... 15) at a place."""
    shift = _FOUR * np.uint64(place)
    return (order & ~(_FIFTEEN << shift)) | (np.uint64(value) << shift)


@kernel
def _smaller_later(order: np.uint64, place: Any, seen: np.uint64) -> Any:
    """Return how many later items are smaller than that at a place; `seen`: those before it."""
    value = item(order, place)
    return value - size_of(seen & ((_ONE << value) - _ONE))


@kernel
def rank(order: np.uint64, items: int) -> Any:
    """Return the rank of an order of the items 0 ... `items` - 1: the identity has rank 0."""
    number, seen = np.uint64(0), np.uint64(0)
    for i in range(items):
        number = number * np.uint64(items - i) + _smaller_later(order, i, seen)
        seen |= _ONE << item(order, i)
    return number


@kernel
def unrank(number: np.uint64, items: int) -> Any:
    """Return the order of a rank: the inverse of `rank`."""
    digits = np.uint64(0)
    for i in range(items - 1, -1, -1):
        digits = replaced(digits, i, number % np.uint64(items - i))
        number = number // np.uint64(items - i)
    left = np.uint64(0)
    for i in range(items):
        left = replaced(left, i, i)
    order = np.uint64(0)
    for i in range(items):
        digit = item(digits, i)
        order = replaced(order, i, item(left, digit))
        # Close the gap.
        before = (_ONE << (_FOUR * digit)) - _ONE
        left = (left & before) | ((left >> _FOUR) & ~before)
    return order


@kernel
def is_odd(order: np.uint64, items: int) -> bool:
    """Return whether an order has an odd number of inversions."""
    inversions, seen = np.uint64(0), np.uint64(0)
    for i in range(items):
        inversions += _smaller_later(order, i, seen)
        seen |= _ONE << item(order, i)
    return inversions & _ONE == _ONE


@kernel
def of_parity(half: np.uint64, items: int, odd: bool) -> Any:
    """Return the odd or the even one of the orders of rank 2 `half` and 2 `half` + 1."""
    order = unrank(np.uint64(2) * half, items)
    if is_odd(order, items) == odd:
        return order
    # They differ in the order of the last two items.
    last = item(order, items - 1)
    return replaced(replaced(order, items - 1, item(order, items - 2)), items - 2, last)

"""Permutations as numbers: the rank among all orders of a few items, without gaps.

An order is packed into a uint64, four bits per item, the first item lowest. Its rank is the
mixed-radix number of its Lehmer digits: digit i counts the later items that are smaller.
"""

from typing import Any

import numpy as np

from hpcq.jit.compiler import kernel

_FOUR, _FIFTEEN = np.uint64(4), np.uint64(15)


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
def rank(order: np.uint64, items: int) -> Any:
    """Return the rank of an order of the items 0 ... `items` - 1: the identity has rank 0."""
    number = np.uint64(0)
    for i in range(items):
        smaller = np.uint64(0)
        for j in range(i + 1, items):
            smaller += np.uint64(item(order, j) < item(order, i))
        number = number * np.uint64(items - i) + smaller
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
        for j in range(np.int64(digit), items - 1):
            left = replaced(left, j, item(left, j + 1))
    return order


@kernel
def is_odd(order: np.uint64, items: int) -> bool:
    """Return whether an order has an odd number of inversions."""
    odd = False
    for i in range(items):
        for j in range(i + 1, items):
            odd ^= item(order, j) < item(order, i)
    return odd

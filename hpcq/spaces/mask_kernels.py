"""Masks of legal actions in kernels; see masks.py.

They are read as any number is: ``masks[i]`` of an array, ``message.mask`` of a record. What is read
is a uint64, or a view of several. Made for a number of words, what follows costs a single word no
more than the plain assignment.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from hpcq.jit.compiler import Kernel, inlined
from hpcq.spaces.masks import BITS, words_of

_NONE, _ONE = np.uint64(0), np.uint64(1)
_SHIFT, _PLACE = np.uint64(6), np.uint64(BITS - 1)


@inlined
def has_bit(bits: np.uint64, action: Any) -> bool:
    """Return whether a single word has the bit of an action."""
    return (bits >> np.uint64(action)) & _ONE != _NONE


@inlined
def word_of(action: Any) -> np.uint64:
    """Return the number of the word that has the bit of an action."""
    return np.uint64(action) >> _SHIFT


@inlined
def permit(mask: Any, action: Any) -> None:
    """Set the bit of a legal action in a mask of several words: for `legal` of an environment."""
    mask[word_of(action)] |= _ONE << (np.uint64(action) & _PLACE)


class MaskWriters(NamedTuple):
    """Kernels that write masks."""

    put: Kernel
    """put(masks, at, mask): into an array of masks, at an index"""
    send: Kernel
    """send(message, mask): into a message"""
    keep: Kernel
    """keep(masks, slot, mask): into an array (slots, words)"""


@functools.cache
def mask_writers(words: int) -> MaskWriters:
    """Return the kernels that write masks of so many words."""

    @inlined
    def put(masks: Any, at: Any, mask: Any) -> None:
        masks[at] = mask

    @inlined
    def send(message: Any, mask: Any) -> None:
        message.mask = mask

    @inlined
    def keep(masks: Any, slot: Any, mask: Any) -> None:
        masks[slot, 0] = mask

    @inlined
    def copy(to: Any, mask: Any) -> None:
        for word in range(words):
            to[word] = mask[word]

    @inlined
    def put_several(masks: Any, at: Any, mask: Any) -> None:
        copy(masks[at], mask)

    @inlined
    def send_several(message: Any, mask: Any) -> None:
        copy(message.mask, mask)

    several = MaskWriters(put_several, send_several, put_several)
    return several if words > 1 else MaskWriters(put, send, keep)


class MaskTests(NamedTuple):
    """Kernels that look at masks."""

    has: Kernel
    """has(mask, action): whether an action is legal"""
    has_any: Kernel
    """has_any(mask): whether one is"""


@functools.cache
def mask_tests(actions: int) -> MaskTests:
    """Return the kernels that look at masks of so many actions."""
    words = words_of(actions)
    # Computed in Python: `1 << 64` overflows in numba.
    last = np.uint64((1 << (actions - (words - 1) * BITS)) - 1)

    @inlined
    def has_any(mask: Any) -> bool:
        return mask & last != _NONE

    @inlined
    def has_of_several(mask: Any, action: Any) -> bool:
        return has_bit(mask[word_of(action)], np.uint64(action) & _PLACE)

    @inlined
    def has_any_of_several(mask: Any) -> bool:
        found = mask[words - 1] & last
        for word in range(words - 1):
            found |= mask[word]
        return found != _NONE

    several = MaskTests(has_of_several, has_any_of_several)
    return several if words > 1 else MaskTests(has_bit, has_any)

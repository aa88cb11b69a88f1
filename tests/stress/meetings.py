"""Ranks of a node that wait for each other, with random delays: no wake-up is lost.

    python tests/stress/meetings.py [--meetings 10000000] [--ranks 3] [--busy 0]

Every rank writes a number that only it knows how to make, meets the others, and looks at theirs.
With more ranks than processors, or beside busy loops, most waits end asleep. Prints how often a
number was wrong; a lost wake-up would cost a second each time.
"""

import argparse
import mmap
import os
import signal
import time

import numpy as np
from numba import njit

from hpcq.exchange.epochs import arrive, await_epoch, look_limits, words_shape
from hpcq.hashing import mix64


@njit(nogil=True)
def attend(rank, first, last, words, numbers, look_ns, longest_delay):
    """Take part in meetings `first` ... `last` - 1; return how many numbers were wrong."""
    wrong = 0
    for number in range(first, last):
        draw = mix64(np.uint64(number * 64 + rank))
        if longest_delay > 0 and draw % np.uint64(64) == np.uint64(0):
            spent = draw
            for _ in range(draw % np.uint64(longest_delay)):
                spent = mix64(spent)
            numbers[2, rank, 0] = spent
        numbers[number & 1, rank, 0] = mix64(draw)
        arrive(words, rank, number + 1)
        for other in range(words.shape[0]):
            if other != rank:
                await_epoch(words, other, number + 1, look_ns)
        for other in range(words.shape[0]):
            expected = mix64(mix64(np.uint64(number * 64 + other)))
            wrong += numbers[number & 1, other, 0] != expected
    return wrong


def shared(shape, dtype):
    """Return an array that children share."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, size), dtype)[: int(np.prod(shape))].reshape(shape)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--meetings", type=int, default=10_000_000)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--busy", type=int, default=0, help="processes that only take time")
    parser.add_argument("--delay", type=int, default=20_000, help="longest, in steps of 1 ns or so")
    asked = parser.parse_args()
    words = shared(words_shape(asked.ranks), np.int32)
    # Begin close to where the counters wrap around.
    begin = (1 << 30) - asked.meetings // 2
    words[:, 0] = begin << 1
    numbers = shared((3, asked.ranks, 8), np.uint64)
    look_ns = look_limits()
    attend(0, 0, 0, words, numbers, look_ns, asked.delay)
    children = []
    for rank in range(1, asked.ranks + asked.busy):
        child = os.fork()
        if child == 0:
            while rank >= asked.ranks:
                pass
            end = begin + asked.meetings
            os._exit(attend(rank, begin, end, words, numbers, look_ns, asked.delay) > 0)
        children.append(child)
    started = time.monotonic()
    end = begin + asked.meetings
    wrong = attend(0, begin, end, words, numbers, look_ns, asked.delay)
    for child in children[: asked.ranks - 1]:
        wrong += os.waitpid(child, 0)[1] != 0
    for child in children[asked.ranks - 1 :]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    took = time.monotonic() - started
    print(f"{1e6 * took / asked.meetings:.2f} us a meeting")
    print(f"{wrong} wrong")
    raise SystemExit(wrong > 0)


main()

"""A link between two hosts that takes its time: a process that holds every packet for a while.

Linux delays packets with netem, which is a module that many kernels lack. Here each host has a TUN
device, and this process reads the packets that go into one and writes them to the other, after a
delay. It is a process of its own, which takes a part of a processor: some microseconds a packet.

    python tests/support/delay.py HOST HOST

writes a line once the devices are there. It reads the delay in microseconds from its standard
input, a line each time that it changes, and goes on until that is closed.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

DEVICE = "delay0"
# The largest that a TUN device takes: few packets.
MTU = 65_535
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 1, 0x1000
_CLONE_NEWNET, _PR_SET_TIMERSLACK = 0x40000000, 29


def _call(name, *arguments):
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}{arguments}")


def open_device(host):
    """Make the device of a host (a network namespace), and return its file."""
    with open(f"/run/netns/{host}") as namespace:
        _call("setns", namespace.fileno(), _CLONE_NEWNET)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI)
    fcntl.ioctl(device, _TUNSETIFF, request)
    return device


def relay(one, other, control):
    """Pass packets on, in their order, after the delay that the file `control` told last."""
    peers, held, delay_ns = {one: other, other: one}, deque(), 0
    while True:
        now = time.monotonic_ns()
        while held and held[0][0] <= now:
            _, to, packet = held.popleft()
            # A device that is down takes nothing: the packet is lost, as on any network.
            with contextlib.suppress(OSError):
                os.write(to, packet)
        wait = max(0, held[0][0] - now) / 1e9 if held else None
        ready, _, _ = select.select([one, other, control], [], [], wait)
        if control in ready:
            ready.remove(control)
            told = os.read(control, 1024).split()
            if not told:
                return
            delay_ns = int(1000 * float(told[-1]))
        for device in ready:
            with contextlib.suppress(BlockingIOError):
                while True:
                    packet = os.read(device, MTU)
                    held.append((time.monotonic_ns() + delay_ns, peers[device], packet))
                    # Without a delay each is passed on at once.
                    if not delay_ns:
                        break


def main():
    # Else the kernel may wake a process 50 us late.
    _call("prctl", _PR_SET_TIMERSLACK, 1, 0, 0, 0)
    devices = [open_device(host) for host in sys.argv[1:]]
    print("ready", flush=True)
    relay(*devices, sys.stdin.fileno())


if __name__ == "__main__":
    main()

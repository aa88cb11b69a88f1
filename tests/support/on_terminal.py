"""Run a command on a terminal, as a user sees it."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time


def on_a_terminal(arguments, columns=90):
    """Run a command on a terminal of its own; return what it writes there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(arguments, stdin=theirs, stdout=theirs, stderr=theirs,
                               env=environment, start_new_session=True)  # fmt: skip
    os.close(theirs)
    output, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 1)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # nobody writes there any more
                break
            if not piece:
                break
            output += piece
    os.close(ours)
    assert process.wait(timeout=30) == 0, output.decode()
    return output.decode()

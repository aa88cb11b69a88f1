"""Environments with children, threads and habits. Job files reach them as ``guests:Guest``."""

import atexit
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium
from ranks_of_launcher import own_rank

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


class Guest(gymnasium.Env):
    """A walk on a line that at its `after`-th step does what `how` says, on the rank `only`."""

    observation_space = gymnasium.spaces.Discrete(5)
    action_space = gymnasium.spaces.Discrete(2)
    steps = 0

    def __init__(self, how="", after=50, only=None):
        self.how, self.after = how, after
        self.mine = only is None or own_rank() == str(only)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = int(self.np_random.integers(4))
        return self.at, {}

    def step(self, action):
        Guest.steps += 1
        if self.mine and Guest.steps == self.after:
            getattr(self, self.how)()
        self.at = max(self.at + 2 * int(action) - 1, 0)
        return self.at, float(self.at == 4), self.at == 4, False, {}

    def child(self):
        subprocess.Popen(SLEEP)

    def daemon(self):
        """Leave a grandchild that nobody waits for, in a session of its own."""
        program = f"import subprocess; subprocess.Popen({SLEEP}, start_new_session=True)"
        subprocess.run([sys.executable, "-c", program], check=True)

    def deaf(self):
        """Leave a child that ignores SIGTERM."""
        program = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", program])

    def thread(self):
        threading.Thread(target=time.sleep, args=(600,), name="simulator").start()

    def pool(self):
        """End a pool's workers as multiprocessing does: by SIGTERM."""
        with multiprocessing.get_context("fork").Pool(1) as pool:
            pool.apply(abs, (1,))
        pool.join()

    def leave(self):
        os._exit(0)

    def fork(self):
        os.fork()

    def fork_and_fail(self):
        if os.fork() == 0:
            raise RuntimeError("in the copy")

    def fork_and_exit(self):
        if os.fork() == 0:
            sys.exit(0)

    def at_exit(self):
        """Have something to do when the process ends, which takes a moment."""
        atexit.register(self._note_exit)
        Path(f"begun-{os.getpid()}").touch()

    @staticmethod
    def _note_exit():
        time.sleep(2.0 if own_rank() == "0" else 0.0)
        Path(f"left-{os.getpid()}").touch()

    def stop_clocks(self):
        """Do what freezegun does."""
        time.time = time.monotonic = time.perf_counter = lambda: 1.0

    def limit_files(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    def die(self):
        self.child()
        os.kill(os.getpid(), 9)

    def fail(self):
        self.child()
        raise RuntimeError("the user's bug")

"""A corridor that takes its time as long as a file exists. Jobs reach it as ``slowly:Slow-v0``.

So a test decides when a job may come to its end, and what it learns stays the same.
"""

import os
import time

import gymnasium
from problems import Corridor

MARK = os.environ.get("HPCQ_TEST_SLOWLY", "")


class Slow(Corridor):
    def step(self, action):
        if MARK and os.path.exists(MARK):
            time.sleep(0.02)
        return super().step(action)


gymnasium.register("Slow-v0", entry_point=Slow, max_episode_steps=20)

"""Older versions of Gymnasium have some problems of toy text under older ids."""

import gymnasium

_IDS = {"Taxi-v4": "Taxi-v3", "CliffWalking-v1": "CliffWalking-v0"}


def register():
    """Register the newer ids where they are missing."""
    for new, old in _IDS.items():
        if new not in gymnasium.registry:
            spec = gymnasium.registry[old]
            gymnasium.register(
                new,
                spec.entry_point,
                spec.reward_threshold,
                max_episode_steps=spec.max_episode_steps,
            )

"""Keys and values of jobs that were renamed after 0.1.0.

Job files and `--set` must use the new names; files that hpcq has written may have the old ones.
"""

from typing import Any

KEYS = {
    "environment.quiet_every": "environment.reset_every",
    "replay.least": "replay.learning_starts",
    "replay.draw": "replay.sampling",
    "mode.lead": "mode.max_staleness",
    "run.stalled_after": "run.stall_timeout",
}
VALUES = {"checkpoint.writer": {"funnel": "gather"}}


def key_message(key: str) -> str | None:
    """Return the message for a key that was renamed; None for any other key."""
    return f"{key} is now {KEYS[key]}" if key in KEYS else None


def value_message(key: str, value: Any) -> str | None:
    """Return the message for a value that was renamed; None for any other value."""
    new = VALUES.get(key, {}).get(value) if isinstance(value, str) else None
    return None if new is None else f"{key} = {value!r} is now {new!r}"


def translated(data: dict[str, Any]) -> dict[str, Any]:
    """Return a job as nested dicts, old names replaced by the new ones."""
    return {
        section: _translated(section, keys) if isinstance(keys, dict) else keys
        for section, keys in data.items()
    }


def _translated(section: str, keys: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in keys.items():
        name = KEYS.get(f"{section}.{key}", f"{section}.{key}")
        if value_message(name, value):
            value = VALUES[name][value]
        found[name.partition(".")[2]] = value
    return found

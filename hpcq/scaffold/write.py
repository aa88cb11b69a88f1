"""A first job file as text: every key with the reason for its value."""

import os
import textwrap
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcq import disk
from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.loading import is_file
from hpcq.errors import JobError, StorageError
from hpcq.job.environment_section import EnvironmentSection
from hpcq.job.job import Job
from hpcq.job.toml_io import toml
from hpcq.scaffold.profile import EnvironmentProfile, count_text, profile_environment
from hpcq.scaffold.suggest import Suggestion, suggest

WIDTH = 98
# A job must have these; their values do not matter here.
_REQUIRED: dict[str, dict[str, Any]] = {
    "learning": {"gamma": 0.9, "learning_rate": 0.1},
    "run": {"steps": 1},
}


def job_text(given: dict[str, Any], folder: Path) -> str:
    """Return a first job file for an environment, to be written into `folder`.

    Parameters
    ----------
    given
        sections and keys whose values are given: environment.id, and any others.

    Raises
    ------
    JobError, EnvironmentFault
        if the environment is unknown, does not suit a table, or is broken.
    """
    profile = profile_environment(_checked(given))
    keys = suggest(profile, given.get("run", {}).get("steps"))
    text = _comment(_summary(profile, folder)) + "".join(_sections(_merged(keys, given, folder)))
    # Check what was written here as what users write is checked.
    Job.check({"name": "first", **tomllib.loads(text)}, "hpcq init")
    return text


def _checked(given: dict[str, Any]) -> EnvironmentSection:
    """Return the environment's section, after a check of all that is given."""
    data = dict(given)
    for name, keys in _REQUIRED.items():
        own = given.get(name, {})
        data[name] = {**keys, **own} if isinstance(own, dict) else own
    return Job.check(data, "--set").environment


def default_name(id_: str) -> str:
    """Return a file name for the job of an environment."""
    path, _, name = id_.rpartition(":")
    name = Path(path).stem if path.endswith(".py") else name.rpartition("/")[2]
    head, version, number = name.rpartition("-v")
    return f"{(head if version and number.isdecimal() else name).lower()}.toml"


def write(text: str, path: Path) -> None:
    """Write a new job file.

    Raises
    ------
    JobError
        if the file exists, or must not be written there.
    StorageError
        if writing fails.
    """
    try:
        disk.create_text(path, text)
    except FileExistsError:
        raise JobError(
            f"{path} exists already; remove it, or choose another name with -o FILE"
        ) from None
    except OSError as error:
        kind = StorageError if disk.failed(error) else JobError
        raise kind(f"{path}: cannot write the job file: {error.strerror}") from None


def _merged(keys: list[Suggestion], given: dict[str, Any], folder: Path) -> list[Suggestion]:
    """Return the suggested keys with the given values, in the order of a job's sections.

    A path in environment.id becomes relative to the folder of the job file.
    """
    left = {
        (section, key): _relative(value, folder) if key == "id" else value
        for section, keys in given.items()
        if isinstance(keys, dict)
        for key, value in keys.items()
    }
    if "name" in given:
        left["", "name"] = given["name"]
    merged = []
    for each in keys:
        section, _, table = each.section.partition(".")
        if (section, each.key) in left:
            value = left.pop((section, each.key))
            merged.append(replace(each, value=value, why="as given", optional=False))
        elif (section, table) not in left:
            merged.append(each)
    order = ["", *Job.model_fields]
    merged = [Suggestion(*name, value, "") for name, value in left.items()] + merged
    return sorted(merged, key=lambda each: order.index(each.section.partition(".")[0]))


def _relative(id_: str, folder: Path) -> str:
    path, colon, name = id_.rpartition(":")
    return f"{os.path.relpath(path, folder.resolve())}{colon}{name}" if is_file(path) else id_


def _summary(profile: EnvironmentProfile, folder: Path) -> str:
    rollout = profile.rollout
    stepped = isinstance(profile.environment, PythonEnvironment)
    speed = f" ({rollout.steps / rollout.seconds:,.0f} a second)" if stepped else ""
    episodes = ""
    if rollout.lengths:
        mean = sum(rollout.lengths) / len(rollout.lengths)
        episodes = f", in {len(rollout.lengths):,} episodes of {count_text(mean)} steps on average"
    low, high = min(rollout.rewards), max(rollout.rewards)
    rewards = f"a reward of {low:g}" if low == high else f"rewards of {low:g} to {high:g}"
    return (
        f"A first job for {_relative(profile.section.id, folder)}: a start, not the best possible. "
        f"Observations: {profile.spaces[0]}; actions: {profile.spaces[1]}. {rollout.steps:,} "
        f"random steps{speed} gave {len(rollout.states):,} different observations and "
        f"{rewards}{episodes}.{_warnings(profile)} `hpcq reference` explains every key."
    )


def _warnings(profile: EnvironmentProfile) -> str:
    """Return what makes a table unfit, as far as random steps can tell."""
    rollout, text = profile.rollout, ""
    if not profile.floats and len(rollout.states) > 0.8 * rollout.steps > 80:
        text += (
            " Hardly any observation came twice: a table learns only from those that do. Leave out "
            "of the observation what the agent does not need (environment.wrappers)."
        )
    if not profile.floats and rollout.differing_repeats > max(20, 0.5 * rollout.repeats):
        text += (
            f" Of {rollout.repeats:,} repeated steps {rollout.differing_repeats:,} had another "
            "outcome: much chance, or an observation that shows a part of the state alone; a table "
            "can act on nothing else than the observation."
        )
    return text


def _sections(keys: list[Suggestion]) -> list[str]:
    """Return each section with its keys, in the order in which they are first named."""
    texts = []
    for section in dict.fromkeys(each.section for each in keys):
        lines = [f"\n[{section}]\n" if section else "\n"]
        for each in keys:
            if each.section == section:
                line = f"{each.key} = {toml(each.value, grouped=True)}\n"
                lines.append(_comment(each.why) if each.why else "")
                lines.append(f"# {line}" if each.optional else line)
        texts.append("".join(lines))
    return texts


def _comment(text: str) -> str:
    wrapped = textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "".join(f"# {line}\n" for line in wrapped)

"""A first job file as text: every key with the reason for its value."""

import os
import textwrap
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcq.envs.gymnasium_env import PythonEnvironment
from hpcq.envs.loading import is_file
from hpcq.errors import JobError
from hpcq.job.job import Job
from hpcq.job.sections import EnvironmentSection
from hpcq.job.toml_io import toml
from hpcq.scaffold.profile import Look, count_text, look
from hpcq.scaffold.suggest import choose
from hpcq.scaffold.suggestion import Choice

WIDTH = 98
# A job has these; here they do not matter.
_NEEDED: dict[str, dict[str, Any]] = {
    "learning": {"gamma": 0.9, "learning_rate": 0.1},
    "run": {"steps": 1},
}


def propose(given: dict[str, Any], folder: Path) -> str:
    """Return a first job file for an environment, to be written into `folder`.

    Parameters
    ----------
    given
        sections and their keys that are settled: environment.id, and whatever else.

    Raises
    ------
    JobError, EnvironmentFault
        if the environment is unknown, nothing for a table, or broken.
    """
    found = look(_checked(given))
    choices = _quiescent(choose(found, given.get("run", {}).get("steps")), given, folder)
    text = _comment(_head(found, folder)) + "".join(_sections(choices))
    # What has been written here is checked like what users write.
    Job.check({"name": "first", **tomllib.loads(text)}, "hpcq init")
    return text


def _checked(given: dict[str, Any]) -> EnvironmentSection:
    """Return the environment's section, once all that is given has been found right."""
    data = dict(given)
    for name, keys in _NEEDED.items():
        mine = given.get(name, {})
        data[name] = {**keys, **mine} if isinstance(mine, dict) else mine
    return Job.check(data, "--set").environment


def default_name(id_: str) -> str:
    """Return a file name for the job of an environment."""
    place, _, name = id_.rpartition(":")
    name = Path(place).stem if place.endswith(".py") else name.rpartition("/")[2]
    head, version, number = name.rpartition("-v")
    return f"{(head if version and number.isdecimal() else name).lower()}.toml"


def write(text: str, path: Path) -> None:
    """Write a job file where there is none yet.

    Raises
    ------
    JobError
        if it cannot be written, or there is one.
    """
    try:
        with open(path, "x") as file:
            file.write(text)
    except FileExistsError:
        raise JobError(f"{path} exists already; remove it, or choose another by -o FILE") from None
    except OSError as error:
        raise JobError(f"{path}: cannot write the job file: {error.strerror}") from None


def _quiescent(choices: list[Choice], given: dict[str, Any], folder: Path) -> list[Choice]:
    """Return the choices with what is given in their places; paths relative to the job file's."""
    left = {
        (section, key): _relative(value, folder) if key == "id" else value
        for section, keys in given.items()
        if isinstance(keys, dict)
        for key, value in keys.items()
    }
    if "name" in given:
        left["", "name"] = given["name"]
    found = []
    for choice in choices:
        section, _, table = choice.section.partition(".")
        if (section, choice.key) in left:
            value = left.pop((section, choice.key))
            found.append(replace(choice, value=value, why="as given", offered=False))
        elif (section, table) not in left:
            found.append(choice)
    order = ["", *Job.model_fields]
    found = [Choice(section, key, value, "") for (section, key), value in left.items()] + found
    return sorted(found, key=lambda choice: order.index(choice.section.partition(".")[0]))


def _relative(id_: str, folder: Path) -> str:
    place, colon, name = id_.rpartition(":")
    return f"{os.path.relpath(place, folder.resolve())}{colon}{name}" if is_file(place) else id_


def _head(found: Look, folder: Path) -> str:
    walk = found.walk
    stepped = isinstance(found.environment, PythonEnvironment)
    speed = f" ({walk.steps / walk.seconds:,.0f} a second)" if stepped else ""
    ended = ""
    if walk.lengths:
        mean = sum(walk.lengths) / len(walk.lengths)
        ended = f", in {len(walk.lengths):,} episodes of {count_text(mean)} steps on average"
    least, most = min(walk.rewards), max(walk.rewards)
    rewards = f"a reward of {least:g}" if least == most else f"rewards of {least:g} to {most:g}"
    name = _relative(found.section.id, folder)
    return (
        f"A first job for {name}: to begin with, not the best there is. Observations: "
        f"{found.spaces[0]}; actions: {found.spaces[1]}. In {walk.steps:,} random steps{speed} it "
        f"showed {len(walk.states):,} different observations and {rewards}{ended}. "
        "`hpcq reference` explains every key."
    )


def _sections(choices: list[Choice]) -> list[str]:
    """Return each section with its keys, in the order in which they are first named."""
    texts = []
    for section in dict.fromkeys(choice.section for choice in choices):
        lines = [f"\n[{section}]\n" if section else "\n"]
        for choice in choices:
            if choice.section == section:
                line = f"{choice.key} = {toml(choice.value, grouped=True)}\n"
                lines.append(_comment(choice.why) if choice.why else "")
                lines.append(f"# {line}" if choice.offered else line)
        texts.append("".join(lines))
    return texts


def _comment(text: str) -> str:
    wrapped = textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "".join(f"# {line}\n" for line in wrapped)

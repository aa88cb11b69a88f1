"""A first job file as text: every key with the reason for its value."""

import os
import textwrap
import tomllib
from pathlib import Path

from hpcq.envs.load import is_file
from hpcq.errors import JobError
from hpcq.job.files import toml
from hpcq.job.job import Job
from hpcq.job.sections import EnvironmentSection
from hpcq.propose.choose import Choice, choose
from hpcq.propose.look import Look, count_text, look

WIDTH = 98


def propose(section: EnvironmentSection, folder: Path) -> str:
    """Return a first job file for an environment, to be written into `folder`.

    Raises
    ------
    JobError, EnvironmentFault
        if the environment is unknown, nothing for a table, or broken.
    """
    found = look(section)
    choices = [*_given(section, folder), *choose(found)]
    text = _comment(_head(found)) + "".join(_sections(choices))
    # What has been written here is checked like what users write.
    Job.check({"name": "first", **tomllib.loads(text)}, "hpcq init")
    return text


def default_name(section: EnvironmentSection) -> str:
    """Return a file name for the job of an environment."""
    name = section.id.rpartition(":")[2].rpartition("/")[2]
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


def _given(section: EnvironmentSection, folder: Path) -> list[Choice]:
    """Return what was asked for; paths relative to where the job file will be."""
    data = section.model_dump(exclude_unset=True)
    place, colon, name = section.id.rpartition(":")
    if is_file(place):
        data["id"] = f"{os.path.relpath(place, folder.resolve())}{colon}{name}"
    return [Choice("environment", key, value, "") for key, value in data.items()]


def _head(found: Look) -> str:
    seen = ""
    if found.walk is not None:
        walk = found.walk
        seen = (
            f" In {walk.steps:,} random steps ({walk.steps / walk.seconds:,.0f} a second) it "
            f"showed {len(walk.states):,} different observations and rewards of "
            f"{min(walk.rewards):g} to {max(walk.rewards):g}"
        )
        if walk.lengths:
            mean = sum(walk.lengths) / len(walk.lengths)
            seen += f", in {len(walk.lengths):,} episodes of {count_text(mean)} steps on average"
        seen += "."
    return (
        f"A first job for {found.section.id}: to begin with, not the best there is. Observations: "
        f"{found.spaces[0]}; actions: {found.spaces[1]}.{seen} `hpcq reference` explains every key."
    )


def _sections(choices: list[Choice]) -> list[str]:
    """Return each section with its keys, in the order in which they are first named."""
    texts = []
    for section in dict.fromkeys(choice.section for choice in choices):
        lines = [f"\n[{section}]\n"]
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

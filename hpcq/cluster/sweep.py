"""Sweeps: one job file that stands for many jobs, its members.

The section [sweep] looks like a job whose values are lists, and every combination is a member:

    [sweep]
    run.seed = [1, 2, 3]
    learning.learning_rate = [0.05, 0.1]

The last list varies fastest. Member i lives in the folder `i` of the job's run directory.
"""

import copy
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcq.errors import JobError
from hpcq.job.job import Job
from hpcq.job.toml_io import override_key, read

SEED = "run.seed"
MAX_MEMBERS = 100_000


@dataclass(frozen=True)
class Member:
    """One job of a sweep."""

    index: int
    values: dict[str, Any]
    """the swept job keys, such as "run.seed", with their values for this member"""
    job: Job

    @property
    def setting(self) -> dict[str, Any]:
        """The values without the seed: members that share them are repetitions."""
        return {key: value for key, value in self.values.items() if key != SEED}


@dataclass(frozen=True)
class Sweep:
    """All members of a job file, checked."""

    source: str
    directory: Path
    """holds the members' run directories"""
    members: list[Member]

    def member(self, index: int) -> Job:
        """Return the job of one member.

        Raises
        ------
        JobError
            if there is no such member.
        """
        if not 0 <= index < len(self.members):
            raise JobError(
                f"{self.source}: no member {index}; it has 0 ... {len(self.members) - 1}"
            )
        return self.members[index].job


def load(path: str | Path, overrides: Iterable[str] = ()) -> Sweep:
    """Read a job file with a section [sweep]; overrides apply to all members.

    Raises
    ------
    JobError
        naming file, member, key, value and what was expected.
    """
    overrides = tuple(overrides)
    data = read(path, overrides)
    if "sweep" not in data:
        raise JobError(f"{path}: no section [sweep], such as: [sweep] run.seed = [1, 2, 3]")
    lists = _lists(data.pop("sweep"), str(path))
    for assignment in overrides:
        key = assignment.partition("=")[0].strip()
        if key in lists:
            raise JobError(f"--set {assignment}: {path} sweeps over {key}")
    count = math.prod(map(len, lists.values()))
    if count > MAX_MEMBERS:
        raise JobError(f"{path}: a sweep of {count:,} members; expected at most {MAX_MEMBERS:,}")
    members = []
    for index, combination in enumerate(itertools.product(*lists.values())):
        values = dict(zip(lists, combination, strict=True))
        members.append(Member(index, values, _job(data, path, values, index)))
    return Sweep(str(path), members[0].job.directory.parent, members)


def _lists(section: Any, source: str, prefix: str = "") -> dict[str, list[Any]]:
    """Flatten nested tables to job keys with lists of values."""
    if not isinstance(section, dict) or not section:
        raise JobError(f"{source}: sweep{prefix}: expected keys of a job with lists of values")
    found: dict[str, list[Any]] = {}
    for key, value in section.items():
        name = f"{prefix}.{key}"
        if isinstance(value, dict):
            found |= _lists(value, source, name)
        elif isinstance(value, list) and value:
            found[name.removeprefix(".")] = value
        else:
            raise JobError(f"{source}: sweep{name} = {value!r}: expected a list of values")
    return found


def _job(base: dict[str, Any], path: str | Path, values: dict[str, Any], index: int) -> Job:
    data = copy.deepcopy(base)
    for key, value in values.items():
        override_key(data, key, value, f"{path}: sweep.{key}")
    source = f"{path}, member {index}"
    job = Job.check(data, source)
    override_key(data, "run.directory", str(job.directory / f"{index:03d}"), str(path))
    return Job.check(data, source)

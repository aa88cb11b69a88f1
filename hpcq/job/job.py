"""The job file: one TOML, checked in full before anything starts."""

import difflib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from hpcq.errors import JobError
from hpcq.job import renamed, toml_io
from hpcq.job.environment_section import EnvironmentSection
from hpcq.job.section import Section
from hpcq.job.sections import (
    LEAST_RING,
    CheckpointSection,
    EvaluationSection,
    ExplorationSection,
    LearningSection,
    ModeSection,
    ReplaySection,
    RunSection,
    StopSection,
)
from hpcq.job.solving import SolveSection
from hpcq.printable import printable

_FREE = {
    ("run", key)
    for key in ("steps", "directory", "report_every", "stall_timeout", "table_gib", "tensorboard")
}
_FREE.add(("environment", "info"))
# Keys that name the user's Python files, which may move.
_PLACES = {("environment", "id"), ("environment", "wrappers")}
# A job that leaves it out gets it at its first start.
_SETTLED = ("mode", "agents")


class Job(Section):
    """A whole job, with the sections and keys of a job file. ``Job.load`` reads one from a file.

    Raises
    ------
    JobError
        naming every wrong key, its value, and what was expected.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")] = "job"
    """of the job; of a file without it: the name of the file"""
    environment: EnvironmentSection
    learning: LearningSection
    exploration: ExplorationSection = ExplorationSection()
    replay: ReplaySection = ReplaySection()
    mode: ModeSection = ModeSection()
    evaluation: EvaluationSection = EvaluationSection()
    stop: StopSection = StopSection()
    checkpoint: CheckpointSection = CheckpointSection()
    run: RunSection
    solve: SolveSection = SolveSection()
    _source: str = ""
    _folder: Path = Path()

    def __init__(self, /, **sections: Any) -> None:
        try:
            super().__init__(**sections)
        except ValidationError as error:
            raise JobError("\n".join(map(_explain, error.errors()))) from None

    @model_validator(mode="after")
    def _go_together(self) -> "Job":
        if self.mode.kind == "periodic" and self.learning.learning_rate.counts_visits:
            raise ValueError(
                "mode.kind = 'periodic' merges by the number of updates at one learning rate: "
                "learning.learning_rate must not depend on visits; use a number, or the schedule "
                "linear, exponential or polynomial"
            )
        if self.replay.ratio and self.learning.n_step > 1:
            raise ValueError(
                f"replay.ratio = {self.replay.ratio} and learning.n_step = {self.learning.n_step}: "
                "single transitions are replayed, not returns of several steps; leave one out"
            )
        if self.replay.ratio and self.mode.kind != "lockstep":
            raise ValueError(
                f"replay.ratio = {self.replay.ratio} and mode.kind = {self.mode.kind!r}: replay "
                "goes with lockstep; leave one out"
            )
        self._check_batches()
        if self.mode.agents and self.mode.kind != "periodic":
            raise ValueError(
                f"mode.agents = {self.mode.agents} and mode.kind = {self.mode.kind!r}: agents are "
                "those of periodic mode; leave one out"
            )
        count, capacity = self.environment.count, self.replay.capacity
        if self.replay.prioritised and capacity <= (LEAST_RING - 1) * count:
            raise ValueError(
                f"replay.capacity = {capacity} and environment.count = {count}: for sampling = "
                f"'prioritised' the ring of each environment must hold {LEAST_RING} transitions; "
                f"expected at least {LEAST_RING * count}"
            )
        for key in ("evaluation_return", "patience"):
            if getattr(self.stop, key) is not None and self.evaluation.every is None:
                raise ValueError(f"stop.{key} needs evaluations: give evaluation.every")
        return self

    def _check_batches(self) -> None:
        batches, count = self.mode.batches, self.environment.count
        if batches > 1 and self.mode.kind != "lockstep":
            raise ValueError(
                f"mode.batches = {batches} and mode.kind = {self.mode.kind!r}: batches go with "
                "lockstep; leave one out"
            )
        units = count // (self.environment.vector or 1)
        if batches > units:
            what = "VectorEnvs" if self.environment.vector else "environments"
            raise ValueError(
                f"mode.batches = {batches}, but there are {units} {what} (environment.count = "
                f"{count}); expected at most as many batches"
            )

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self.path(self.run.directory or Path("runs") / self.name)

    def placed(self, folder: Path) -> "Job":
        """Return this job with its relative paths in `folder`; an environment may leave it."""
        job = self.model_copy()
        job._folder = folder
        return job

    def path(self, path: str | Path) -> Path:
        """Return one of the job's paths as it is used."""
        return self._folder / os.path.expanduser(path)

    def shown(self, path: Path) -> Path:
        """Return a path as the user would write it, for messages."""
        return path.relative_to(self._folder) if path.is_relative_to(self._folder) else path

    @classmethod
    def load(cls, path: str | Path, overrides: Iterable[str] = ()) -> "Job":
        """Read a TOML file and apply ``section.key=value`` overrides.

        Raises
        ------
        JobError
            naming file, key, value, what was expected, and the nearest known key.
        """
        data = toml_io.read(path, overrides)
        if "sweep" in data:
            raise JobError(
                f"{path}: this is a sweep: train one of its jobs with --member I, or all with "
                "`hpcq submit`; `hpcq sweep list` shows them"
            )
        return cls.check(data, str(path))

    @classmethod
    def check(cls, data: dict[str, Any], source: str) -> "Job":
        """Validate a job given as nested dicts; `source` names it in messages."""
        for key, text in _texts(data):
            if "\0" in text:
                raise JobError(f"{source}: {key} holds a null character")
        try:
            job = cls(**data)
        except JobError as error:
            lines = str(error).split("\n")
            raise JobError("\n".join(f"{source}: {line}" for line in lines)) from None
        job._source = source
        return job

    @classmethod
    def saved(cls, data: dict[str, Any], source: str) -> "Job":
        """Return a job that hpcq has stored, in job.json or a checkpoint; keys may be old ones."""
        return cls.check(renamed.translated(data), source)

    @property
    def source(self) -> str:
        """The file that the job was read from, for messages."""
        return self._source

    def settled(self, agents: int) -> "Job":
        """Return this job with what it gets at its first start, if it lacks it: `mode.agents`."""
        if self.mode.kind != "periodic" or self.mode.agents:
            return self
        return self.model_copy(update={"mode": self.mode.model_copy(update={"agents": agents})})

    def differences(self, other: "Job") -> dict[str, str]:
        """Return the keys that shape learning and differ, each with both values as text.

        The folder of the user's Python files does not shape learning.
        """

        def placeless(section: Section, key: str) -> Any:
            return toml_io.placeless(section.model_dump(include={key}))

        lines = {}
        sections = "environment", "learning", "exploration", "replay", "mode", "evaluation", "run"
        for section in sections:
            mine, others = getattr(self, section), getattr(other, section)
            for key in type(mine).model_fields:
                a, b = getattr(mine, key), getattr(others, key)
                moved = (section, key) in _PLACES and placeless(mine, key) == placeless(others, key)
                settled = (section, key) == _SETTLED and None in (a, b)
                if a != b and (section, key) not in _FREE and not moved and not settled:
                    name = f"{section}.{key}"
                    lines[name] = f"{name} is {a} here and {b} there"
        return lines

    def text(self) -> str:
        """Return the effective job, every default filled in, as JSON."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1)

    def brief(self) -> str:
        """Return what differs from the defaults, on one line, as `--set` would take it."""
        data = self.model_dump(exclude_defaults=True, exclude={"name"})
        return " ".join(
            f"{section}.{key}={toml_io.toml(_plain(value), grouped=True)}"
            for section, keys in data.items()
            for key, value in keys.items()
        )

    def toml(self) -> str:
        """Return the effective job, every default filled in, as a job file."""
        data = self.model_dump(exclude_none=True)
        lines = [f"name = {toml_io.toml(data.pop('name'))}"]
        for section, keys in data.items():
            lines += [
                "",
                f"[{section}]",
                *(f"{key} = {toml_io.toml(v)}" for key, v in keys.items()),
            ]
        return "\n".join(lines) + "\n"


_SCHEDULES = ("learning_rate", "epsilon", "temperature", "confidence", "importance_exponent")


def _plain(value: Any) -> Any:
    """Return a value as users write it: a constant schedule is a number."""
    return value["value"] if isinstance(value, dict) and "value" in value else value


_SCHEDULE_TAGS = (
    "constant",
    "linear",
    "exponential",
    "polynomial",
    "visits",
    "horizon",
    "episodes",
)
_A_SCHEDULE = (
    "expected a number in 0 ... 1, or a schedule such as "
    "{ schedule = 'linear', start = 0.5, end = 0.01, steps = 1_000_000 }"
)


def _known(location: tuple) -> list[str]:
    """Return the keys that are allowed where an unknown key was found."""
    model: Any = Job
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return []
        model = field.annotation
    return list(getattr(model, "model_fields", {}))


def _shown(value: Any) -> str:
    """Return a value as it was written, shortened."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _explain(problem: Any) -> str:
    """Return a message for one of pydantic's errors: key, value, what was expected."""
    if not problem["loc"]:
        return str(problem["ctx"]["error"])
    location = [
        part
        for before, part in zip(("", *problem["loc"]), problem["loc"], strict=False)
        if not (before in _SCHEDULES and part in _SCHEDULE_TAGS)
    ]
    if location[-1] == "value":
        location.pop()
    key = printable(".".join(str(part) for part in location))
    kind, given = problem["type"], _shown(problem["input"])
    if moved := renamed.key_message(key) or renamed.value_message(key, problem["input"]):
        return moved
    if kind == "extra_forbidden":
        known = _known(tuple(location[:-1]))
        elsewhere = _elsewhere(str(location[-1]))
        if len(location) == 1 and elsewhere:
            return f"unknown key {key}; did you mean {elsewhere!r}?"
        near = difflib.get_close_matches(str(location[-1]), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {key}; {hint}" if known else f"unknown key {key}"
    if kind == "missing":
        shown = key if len(location) > 1 else f"section [{key}]"
        tags = [part for part in problem["loc"] if part in _SCHEDULE_TAGS]
        topic = ["schedule", *tags] if tags else location
        return f"{shown} is missing; `hpcq reference {' '.join(map(str, topic))}` explains it"
    if kind.startswith("model_") or kind == "union_tag_not_found":
        if location[-1] in _SCHEDULES:
            return f"{key} = {given}: {_A_SCHEDULE}"
        return f"{key} = {given}: expected a section, [{key}]"
    if kind == "union_tag_invalid":
        return f"{key} = {given}: expected schedule = one of {problem['ctx']['expected_tags']}"
    message = problem["msg"].replace("Input should be", "expected")
    message = message.replace("expected less", "expected a number less")
    message = message.replace("expected greater", "expected a number greater")
    message = message.replace("a valid integer", "an integer, such as 100 or 1_000_000")
    message = message.replace("a valid number", "a number").replace("a valid string", "text")
    message = message.replace("Value error, ", "")
    # What is wrong with a whole section names its keys itself.
    section = isinstance(problem["input"], dict) and len(location) == 1
    what = f"[{key}]" if section else f"{key} = {given}"
    return f"{what}: {message[0].lower()}{message[1:]}"


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield all texts in nested data, each behind its key, but those that environments get."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, one in value.items():
            if name not in ("kwargs", "reset_options"):
                yield from _texts(one, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, key)


def _elsewhere(name: str) -> str:
    """Return the key of that name which some section has, with the section's name; else ""."""
    found = (section for section in Job.model_fields if name in _known((section,)))
    return next((f"{section}.{name}" for section in found), "")

"""The job file: one TOML, checked in full before anything starts."""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hpcq.errors import JobError
from hpcq.schedules import Constant, LearningRate, Schedule


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class EnvironmentSection(_Section):
    """What is learned: an environment, and how many of it run at once."""

    id: str
    """Gymnasium id, or hpcq/Garnet-v0"""
    kwargs: dict[str, Any] = {}
    """passed to the environment"""
    count: Annotated[int, Field(ge=1, le=1 << 24)] = 256
    """environments, over all ranks together; shapes learning, so it does not follow the ranks"""
    backend: Literal["auto", "compiled", "python"] = "auto"
    """auto: compiled where hpcq can, else python"""
    max_episode_steps: Annotated[int, Field(ge=1)] | None = None
    """time limit in steps; default: the environment's own"""
    quiet_every: Annotated[int, Field(ge=1)] = 1000
    """Python environments: all episodes end (truncated) every so many ticks; only there can the
    job be saved, since a Python environment's own state cannot"""


class LearningSection(_Section):
    """The learning rule and its table."""

    gamma: Annotated[float, Field(ge=0, le=1)]
    """discount per step"""
    learning_rate: LearningRate
    q_init: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Q-value of what was never updated"""
    dtype: Literal["float32", "float64"] = "float64"
    """of the Q-values"""


class ExplorationSection(_Section):
    """The behaviour policy."""

    epsilon: Schedule = Constant(value=0.1)
    """probability of a uniformly random action; 1: uniform behaviour"""


class CheckpointSection(_Section):
    """When and how the run is saved. Nothing here changes what is learned."""

    every: Annotated[int, Field(ge=1)] = 100_000
    """ticks between checkpoints (Python environments: rounded up to quiet ticks)"""
    keep: Annotated[int, Field(ge=1)] = 3
    """newest checkpoints that stay"""
    writer: Literal["auto", "mpio", "funnel"] = "auto"
    """mpio: all ranks write through parallel HDF5; funnel: through rank 0; auto: mpio if
    h5py has MPI"""


class RunSection(_Section):
    """How long, from which seed, and where to."""

    steps: Annotated[int, Field(ge=1, lt=1 << 62)]
    """environment steps of all environments together; rounded up to whole ticks"""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    directory: str | None = None
    """run directory; default: runs/NAME, NAME from the job file"""
    start_from: str | None = None
    """checkpoint whose table (not steps, not environments) this run starts from"""
    report_every: Annotated[float, Field(gt=0)] = 2.0
    """seconds between progress lines"""


class Job(_Section):
    """A whole job. ``Job.load`` reads one from a file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    environment: EnvironmentSection
    learning: LearningSection
    exploration: ExplorationSection = ExplorationSection()
    checkpoint: CheckpointSection = CheckpointSection()
    run: RunSection
    _source: str = ""

    @property
    def directory(self) -> Path:
        """The run directory."""
        return Path(self.run.directory or Path("runs") / self.name)

    @classmethod
    def load(cls, path: str | Path, overrides: Iterable[str] = ()) -> "Job":
        """Read a TOML file and apply ``section.key=value`` overrides.

        Raises
        ------
        JobError
            naming file, key, value, what was expected, and the nearest known key.
        """
        data = read(path, overrides)
        if "sweep" in data:
            raise JobError(
                f"{path}: this is a sweep: train one of its jobs with --member I, or all with "
                "`hpcq submit`; `hpcq sweep list` shows them"
            )
        return cls.check(data, str(path))

    @classmethod
    def check(cls, data: dict[str, Any], source: str) -> "Job":
        """Validate a job given as nested dicts; `source` names it in messages."""
        try:
            job = cls.model_validate(data)
        except ValidationError as error:
            lines = [_explain(problem) for problem in error.errors()]
            raise JobError("\n".join(f"{source}: {line}" for line in lines)) from None
        job._source = source
        return job

    @property
    def source(self) -> str:
        """The file that the job was read from, for messages."""
        return self._source

    def differs_in(self, other: "Job") -> str:
        """Return the keys that shape learning and differ, with both values; "" if none do."""
        lines = []
        for section in ("environment", "learning", "exploration", "run"):
            mine, others = getattr(self, section), getattr(other, section)
            for key in type(mine).model_fields:
                a, b = getattr(mine, key), getattr(others, key)
                if a != b and (section, key) not in _FREE:
                    lines.append(f"{section}.{key} is {a} here and {b} there")
        return "; ".join(lines)

    def text(self) -> str:
        """Return the effective job, every default filled in, as JSON."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1)

    def toml(self) -> str:
        """Return the effective job, every default filled in, as a job file."""
        data = self.model_dump(exclude_none=True)
        lines = [f"name = {toml(data.pop('name'))}"]
        for section, keys in data.items():
            lines += ["", f"[{section}]", *(f"{key} = {toml(v)}" for key, v in keys.items())]
        return "\n".join(lines) + "\n"


def toml(value: Any) -> str:
    """Return plain data as a TOML value on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)


_FREE = {("run", "steps"), ("run", "directory"), ("run", "report_every")}


def read(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Read a TOML file as nested dicts, name and overrides filled in, and nothing checked."""
    path = Path(path)
    try:
        data = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise JobError(f"{path}: cannot read the job file: {error.strerror}") from None
    except UnicodeDecodeError:
        raise JobError(f"{path}: not a text file; expected TOML in UTF-8") from None
    except (ValueError, RecursionError) as error:
        # Beside syntax errors: a number of more digits than Python reads.
        raise JobError(f"{path}: not valid TOML: {error}") from None
    data.setdefault("name", re.sub(r"[^A-Za-z0-9._-]", "-", path.stem))
    override(data, overrides)
    return data


def override(data: dict[str, Any], assignments: Iterable[str]) -> None:
    """Apply assignments like ``run.steps=1000`` in place; values are TOML, or else text."""
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise JobError(f"--set {assignment}: expected SECTION.KEY=VALUE")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            value = text
        override_key(data, key.strip(), value, f"--set {assignment}")


def override_key(data: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set one ``section.key`` in place; `source` names the wish in messages."""
    parts = key.split(".")
    if not all(parts):
        raise JobError(f"{source}: expected SECTION.KEY=VALUE")
    place = data
    for part in parts[:-1]:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise JobError(f"{source}: {part} is a value, not a section")
    place[parts[-1]] = value


_SCHEDULE_TAGS = ("constant", "linear", "exponential", "visits")
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


def _explain(problem: Any) -> str:
    """Put one of pydantic's findings in words: key, value, what was expected."""
    location = [
        part
        for before, part in zip(("", *problem["loc"]), problem["loc"], strict=False)
        if not (before in ("learning_rate", "epsilon") and part in _SCHEDULE_TAGS)
    ]
    if location[-1] == "value":
        location.pop()
    key = ".".join(str(part) for part in location)
    kind, given = problem["type"], repr(problem["input"])
    if kind == "extra_forbidden":
        known = _known(tuple(location[:-1]))
        near = difflib.get_close_matches(str(location[-1]), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {key}; {hint}" if known else f"unknown key {key}"
    if kind == "missing":
        return f"{key} is missing"
    if kind.startswith("model_") or kind == "union_tag_not_found":
        if location[-1] in ("learning_rate", "epsilon"):
            return f"{key} = {given}: {_A_SCHEDULE}"
        return f"{key} = {given}: expected a section, [{key}]"
    message = problem["msg"]
    return f"{key} = {given}: {message[0].lower()}{message[1:]}"

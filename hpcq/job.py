"""The job file: one TOML, checked in full before anything starts."""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hpcq.errors import JobError
from hpcq.schedules import Constant, LearningRate, Schedule


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Finite = Annotated[float, Field(allow_inf_nan=False)]


class Discretise(_Section):
    """How floats become bins. One entry for every float, in the order of the space, or one for all.

    `bins` equal parts between `low` and `high` (default: the space's own bounds), where what lies
    outside is clipped and counted; or `edges` that cut the whole line.
    """

    bins: list[Annotated[int, Field(ge=1, le=65_536)]] | None = None
    low: list[Finite] | None = None
    high: list[Finite] | None = None
    edges: list[list[Finite]] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "Discretise":
        if (self.bins is None) == (self.edges is None):
            raise ValueError("expected either bins or edges")
        if self.edges is not None and (self.low is not None or self.high is not None):
            raise ValueError("low and high belong to bins, not to edges")
        return self


class Levels(_Section):
    """The values that a float of the action can take; entries as in `Discretise`.

    `levels` equally spaced values from `low` to `high`, both included; or the `values` themselves.
    """

    levels: list[Annotated[int, Field(ge=1, le=65_536)]] | None = None
    low: list[Finite] | None = None
    high: list[Finite] | None = None
    values: list[list[Finite]] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "Levels":
        if (self.levels is None) == (self.values is None):
            raise ValueError("expected either levels or values")
        if self.values is not None and (self.low is not None or self.high is not None):
            raise ValueError("low and high belong to levels, not to values")
        return self


class Wrapper(_Section):
    """A Gymnasium wrapper around the environment."""

    entry: str
    """"module:Name" or "path/to/file.py:Name" """
    kwargs: dict[str, Any] = {}
    """passed to it, after the environment"""


class EnvironmentSection(_Section):
    """What is learned: an environment, and how many of it run at once."""

    id: str
    """Gymnasium id, hpcq/NAME (envs/bundled.py), "module:Name", or "path/to/file.py:Name" """
    kwargs: dict[str, Any] = {}
    """passed to the environment"""
    wrappers: list[Wrapper] = []
    """around the environment, the first one innermost"""
    codec: Literal["exact", "digest"] = "exact"
    """exact: every observation its own key; digest: 64 bits of a digest, for any space"""
    discretise: Discretise | None = None
    """bins for the floats of the observation"""
    discretise_actions: Levels | None = None
    """values for the floats of the action"""
    vector: Annotated[int, Field(ge=1)] | None = None
    """environments in each native VectorEnv; it draws for all of them together, so this shapes
    learning. Default: hpcq steps the environments itself"""
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

    rule: Literal["q_learning", "negamax"] = "q_learning"
    """negamax: for two players who take turns in one table, the target is r - gamma * max"""
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
    minutes: Annotated[float, Field(gt=0)] | None = None
    """minutes between checkpoints, beside `every`"""
    keep: Annotated[int, Field(ge=1)] = 3
    """newest checkpoints that stay"""
    milestones: list[Annotated[int, Field(ge=1)]] = []
    """steps at which the run is saved in a checkpoint that stays for good"""
    writer: Literal["auto", "direct", "mpio", "funnel"] = "auto"
    """direct: all ranks write to their places in the file; mpio: all ranks write through
    parallel HDF5; funnel: through rank 0; auto: direct"""


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
    stalled_after: Annotated[float, Field(gt=0)] = 600.0
    """seconds after which a rank that comes to no exchange ends the job with code 76"""
    table_gib: Annotated[float, Field(gt=0)] | None = None
    """most memory for the table of one rank, growing included; default: no limit"""


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

    def differences(self, other: "Job") -> dict[str, str]:
        """Return the keys that shape learning and differ, each with both values in words."""
        lines = {}
        for section in ("environment", "learning", "exploration", "run"):
            mine, others = getattr(self, section), getattr(other, section)
            for key in type(mine).model_fields:
                a, b = getattr(mine, key), getattr(others, key)
                if a != b and (section, key) not in _FREE:
                    name = f"{section}.{key}"
                    lines[name] = f"{name} is {a} here and {b} there"
        return lines

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


_FREE = {
    ("run", key) for key in ("steps", "directory", "report_every", "stalled_after", "table_gib")
}


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
    beside(data, path.parent)
    data.setdefault("name", re.sub(r"[^A-Za-z0-9._-]", "-", path.stem))
    override(data, overrides)
    beside(data, Path())
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


def beside(data: dict[str, Any], folder: Path) -> None:
    """Make paths of the user's Python files absolute; they are relative to `folder`."""
    section = data.get("environment")
    if not isinstance(section, dict):
        return
    wrappers = section.get("wrappers")
    parts = [(section, "id")] + [
        (wrapper, "entry")
        for wrapper in (wrappers if isinstance(wrappers, list) else [])
        if isinstance(wrapper, dict)
    ]
    for part, key in parts:
        place, _, name = str(part.get(key)).rpartition(":")
        if place.endswith(".py"):
            part[key] = f"{(folder / place).resolve()}:{name}"


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


def _shown(value: Any) -> str:
    """Return a value as people wrote it, or the beginning of it."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:200]}..."


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
    kind, given = problem["type"], _shown(problem["input"])
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

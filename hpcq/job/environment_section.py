"""The section [environment] of a job file: its keys, with types, ranges and defaults."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from hpcq.job.section import Finite, Kwargs, Section


class Discretise(Section):
    """How floats become bins. One entry for every float, in the order of the space, or one for all.

    `bins` equal parts between `low` and `high` (default: the space's own bounds), where what lies
    outside is clipped and counted; or `edges` that cut the whole line.
    """

    bins: list[Annotated[int, Field(ge=1, le=65_536)]] | None = None
    """equal parts between `low` and `high`"""
    low: list[Finite] | None = None
    """lower end; default: the space's own bound"""
    high: list[Finite] | None = None
    """upper end; default: the space's own bound"""
    edges: list[list[Finite]] | None = None
    """instead of bins: ascending numbers that cut the whole line"""

    @model_validator(mode="after")
    def _one_way(self) -> "Discretise":
        if (self.bins is None) == (self.edges is None):
            raise ValueError("expected either bins or edges")
        if self.edges is not None and (self.low is not None or self.high is not None):
            raise ValueError("low and high belong to bins, not to edges")
        return self


class Levels(Section):
    """The values that a float of the action can take; entries as in `Discretise`.

    `levels` equally spaced values from `low` to `high`, both included; or the `values` themselves.
    """

    levels: list[Annotated[int, Field(ge=1, le=65_536)]] | None = None
    """equally spaced values, `low` and `high` among them"""
    low: list[Finite] | None = None
    """least value; default: the space's own bound"""
    high: list[Finite] | None = None
    """largest value; default: the space's own bound"""
    values: list[list[Finite]] | None = None
    """instead of levels: the values themselves"""

    @model_validator(mode="after")
    def _one_way(self) -> "Levels":
        if (self.levels is None) == (self.values is None):
            raise ValueError("expected either levels or values")
        if self.values is not None and (self.low is not None or self.high is not None):
            raise ValueError("low and high belong to levels, not to values")
        return self


class Wrapper(Section):
    """A Gymnasium wrapper around the environment."""

    entry: str
    """"module:Name" or "path/to/file.py:Name" """
    kwargs: Kwargs = Field(default={})
    """keyword arguments passed to it, after the environment"""


def _place_of(value: Any) -> Any:
    """Return "module:Name" for a class or function, which Python can give."""
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}:{value.__qualname__}"
    return value


class EnvironmentSection(Section):
    """What is learned: an environment, and how many of it run at once."""

    id: Annotated[str, BeforeValidator(_place_of)]
    """Gymnasium id, hpcq/NAME, "module:Name", "path/to/file.py:Name", or a model's "file.npz" """
    kwargs: Kwargs = Field(default={})
    """keyword arguments passed to the environment; a text "{index}" in them becomes the number of
    the environment, counted over all ranks: for ports and folders"""
    wrappers: list[Wrapper] = Field(default=[])
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
    reset_every: Annotated[int, Field(ge=1)] = 1000
    """Python environments: all episodes end (truncated) every so many ticks; there the job can be
    saved, since a Python environment's own state cannot be. See also run.cut_episodes"""
    reset_options: Kwargs = Field(default={})
    """Python environments: what every reset gets as its `options`"""
    observe: Annotated[list[int | str], Field(min_length=1)] | None = None
    """Python environments: the parts of the observation that make the state, the others are left
    out: indices of an array of one dimension or of a Tuple, or keys of a Dict"""
    reproducible: bool = True
    """false: accept an environment whose reset(seed=...) does not decide its first observation;
    then two runs of a job differ, and a resumed run goes on in other episodes"""
    seed_globals: bool = False
    """Python environments that draw from `random` or `numpy.random`: give each of them generators
    of its own, seeded at its resets"""
    action_mask: bool = False
    """take only actions that are legal: by the rules of a bundled game, or by
    info["action_mask"]; up to 1,024 actions"""
    mask_key: str | None = None
    """with action_mask: the key of a Dict observation that holds the legal actions; it is no part
    of the state then. Default: they are in info["action_mask"]"""
    info: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=64)] = Field(
        default=[]
    )
    """keys of the numbers in a Python environment's info (`success`, `cost`, or `a.b` for
    info["a"]["b"]) that metrics, evaluations and reports show, by episode: the last value and the
    sum. They change nothing that is learned"""

    @model_validator(mode="after")
    def _infos_once(self) -> "EnvironmentSection":
        if len(set(self.info)) < len(self.info):
            raise ValueError(f"info names a key twice: {self.info}")
        return self

    @model_validator(mode="after")
    def _masks_together(self) -> "EnvironmentSection":
        if self.mask_key is not None and not self.action_mask:
            raise ValueError("mask_key belongs to masks: give action_mask = true, too")
        return self

"""The section of a job on its exact solution: `hpcq solve`."""

from typing import Annotated, Literal

from pydantic import Field

from hpcq.job.section import Section


class SolveSection(Section):
    """How `hpcq solve` computes the exact values; learning does not look at it."""

    tolerance: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-6
    """it ends when every value is proven to be within this of the optimum"""
    method: Literal["auto", "value", "policy"] = "auto"
    """value: value iteration; policy: modified policy iteration; auto: policy where an action has
    several outcomes, value else"""
    keep_outcomes: bool = True
    """keep all outcomes in memory between sweeps; false: ask the rules again in every sweep, which
    takes less memory and more time"""

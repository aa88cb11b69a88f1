"""Compile the kernels of a solution before its ranks meet."""

import numpy as np
from mpi4py import MPI

from hpcq.envs.protocol import CompiledEnvironment
from hpcq.solver import expand
from hpcq.solver.ends import make_checks
from hpcq.solver.halo import by_owner, gather
from hpcq.solver.numbering import END
from hpcq.solver.space import StateSpace
from hpcq.solver.sweep import Segment, invert, make_kernels, settle


def warm_up(environment: CompiledEnvironment) -> None:
    """Compile, or load from the cache, all kernels for an environment."""
    space = StateSpace(MPI.COMM_SELF, environment)
    space.compile()
    next(space.starts())
    ends, none = np.zeros(1, np.uint32), np.zeros(1)
    segment = Segment(0, 0, np.zeros(1, np.uint32), none, none, ends)
    expand.renumber(segment.places, 0, ends, END)
    kernels = make_kernels(space.actions, space.single)
    policy, span = np.zeros(1, np.uint16), np.zeros(3)
    kernels.improve(segment, none, 1.0, none, policy, span)
    kernels.evaluate(segment, none, 1.0, none, policy, span)
    kernels.action_values(segment, ends, 0, none, 1.0, np.zeros((1, space.actions)))
    settle(none, none, 0, 0.0)
    lengthen, reach = make_checks(space.actions, space.single)
    invert(ends, ends.copy())
    lengths, ended, counts = np.zeros(1, np.int32), np.zeros(1, np.uint8), np.zeros(1, np.int64)
    lengthen(segment, lengths, lengths)
    reach(segment, ended, policy, False)
    by_owner(np.zeros(0, np.uint64), 1)
    for values in (none, lengths, ended):
        gather(values, ends, counts, counts, values)

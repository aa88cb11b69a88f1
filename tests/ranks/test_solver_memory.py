"""What a rank takes to find states and to solve them: within what is estimated; 15 s."""

import gc
import re
from pathlib import Path

import make_job
import pytest
from outcomes import silent

from hpcq.bench import solve as models
from hpcq.errors import ExitCode, HpcqError
from hpcq.mpi import first_on_each_node
from hpcq.run import judging
from hpcq.run.estimate import estimate, estimate_text
from hpcq.run.solving import solve
from hpcq.solver import memory
from hpcq.solver.iteration import Solution
from hpcq.solver.space import StateSpace
from hpcq.solver.warmup import warm_up

pytestmark = pytest.mark.mpi


def status(name):
    """Return a number of bytes that the kernel tells of this process."""
    return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def forget_the_peak():
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


@pytest.mark.parametrize(("outcomes", "keeps"), [(1, True), (3, True), (1, False)])
def test_no_rank_takes_more_than_is_estimated(outcomes, keeps, comm):
    total, actions = 400_000, 4
    environment = models.environment_of("random", total, actions, outcomes)
    with first_on_each_node(comm):
        warm_up(environment)
    before = forget_the_peak()
    space = StateSpace(comm, environment, keep_outcomes=keeps)
    for _ in space.levels(space.begin(), lambda: None):
        pass
    # Every state is a start state.
    shape = memory.Shape(
        space.states, space.halo.size, actions, outcomes, keeps, space.states, total
    )
    assert space.kept_bytes <= memory.kept(shape) + memory.rewards(shape) + (1 << 16)
    assert space.halo.size <= memory.most_others(space.states, total, actions, outcomes)
    found = status("VmHWM") - before
    assert found <= memory.finding(shape) + space.kept_bytes + memory.BUFFERS
    solution = Solution(space, 0.9, False, "value", 0.1)
    for _ in solution.steps(lambda: None):
        pass
    rows = sum(hashes.size for hashes, _ in solution.rows(True, 10_000))
    assert rows == space.states
    judging.expected_return(solution)
    taken = status("VmHWM") - before
    assert taken <= memory.peak(shape, space.kept_bytes)


def test_a_job_within_its_estimate_is_solved_and_one_beyond_is_not(comm, folder):
    section = {"id": "hpcq/EightPuzzle-v0", "kwargs": {"scramble": 1}}
    job = make_job.make(section, learning={"gamma": 1.0}, run={"directory": str(folder / "run")})
    alone = job.solve.model_copy(update={"keep_outcomes": False})
    job = job.model_copy(update={"solve": alone})
    found = estimate(job, 181_440, comm.size, comm.size)
    assert "hpcq solve" in estimate_text(found)
    found = found["solution"]

    def limited(nbytes):
        run = job.run.model_copy(update={"table_gib": nbytes / 2**30})
        return job.model_copy(update={"run": run})

    assert solve(limited(found["table_gib"] * 2**30), comm, silent, []) == ExitCode.DONE
    # All are found within half of what their values take.
    beyond = (1 << 20, "and not all"), (0.7 * found["solving_bytes"], "to solve them")
    for nbytes, text in beyond:
        with pytest.raises(HpcqError, match=text) as error:
            solve(limited(nbytes), comm, silent, [], overwrite=True)
        assert error.value.exit_code == ExitCode.STOPPED

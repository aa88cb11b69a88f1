"""A run from its start to its end, in every mode: what was asked for is saved, and stays."""

import make_job
import pytest
from outcomes import outcome, silent, verified

from hpcq.errors import ExitCode
from hpcq.run.run_directory import list_checkpoints
from hpcq.run.start_or_resume import resume_run, to_end, train

pytestmark = pytest.mark.mpi

MODES = {
    "lockstep": {},
    "periodic": {"merge_every": 10},
    "asynchronous": {"parts": 3, "max_staleness": 4},
}
ENVIRONMENTS = {"compiled": make_job.GARNET, "python": make_job.CORRIDOR}


def job_of(kind, environment, directory, **sections):
    section = ENVIRONMENTS[environment]
    run = {"directory": str(directory), **sections.pop("run")}
    run["steps"] *= section["count"]
    return make_job.make(section, mode={"kind": kind, **MODES[kind]}, run=run, **sections)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("kind", MODES)
def test_the_end_of_a_run_is_saved(kind, environment, comm, folder):
    """Evaluations let an asynchronous clock jump: over the last tick, too."""
    count = ENVIRONMENTS[environment]["count"]
    for steps, every in ((30, 20), (100, 33), (1, 1)):
        directory = folder / str(steps)
        job = job_of(
            kind,
            environment,
            directory,
            run={"steps": steps},
            evaluation={"every": every * count, "episodes": 3},
        )
        assert to_end(train(job, comm, silent, [])) == ExitCode.DONE
        done = outcome(directory)
        assert done[0]["steps"] >= steps * count
        newest = list_checkpoints(directory)[0]
        header, digest = verified(newest, comm)
        assert (header.step, str(digest)) == (done[0]["steps"], done[0]["digest"])
        # And once more from its end: nothing is left to do.
        assert to_end(resume_run(directory, (), comm, silent, [])) == ExitCode.DONE
        assert outcome(directory) == done


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("kind", MODES)
def test_milestones_stay(kind, environment, comm, folder):
    count = ENVIRONMENTS[environment]["count"]
    milestones = [100 * count, 101 * count, 230 * count]
    job = job_of(
        kind,
        environment,
        folder / "run",
        run={"steps": 400},
        checkpoint={"every": 20, "keep": 1, "milestones": milestones},
    )
    assert to_end(train(job, comm, silent, [])) == ExitCode.DONE
    kept = sorted(verified(path, comm)[0].step for path in list_checkpoints(folder / "run"))
    # The first checkpoint from each of them on, and the last one of all.
    for milestone in milestones:
        first = min(step for step in kept if step >= milestone)
        assert first < milestone + 81 * count
    assert kept[-1] >= 400 * count
    assert len(kept) <= len(milestones) + 1

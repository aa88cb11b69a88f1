"""A learning run beside its solution: what its summary and its report say of both; 10 s."""

import json

import make_job
import numpy as np
import pytest
from mpi4py import MPI
from outcomes import silent
from truths import rows

from hpcq.checkpoint.files import list_checkpoints
from hpcq.envs.resolve import resolve
from hpcq.errors import ExitCode
from hpcq.learning import exact
from hpcq.run.beside import solved_directory
from hpcq.run.solving import beside, solve
from hpcq.run.start_or_resume import to_end, train
from hpcq.view.report import page_of
from hpcq.view.rundata import load_run


def garnet(folder, gamma=0.9, states=50, **learning):
    return make_job.make(
        {**make_job.GARNET, "kwargs": {"states": states, "actions": 3, "seed": 2}},
        learning={"gamma": gamma, **learning},
        run={"steps": 3000, "directory": str(folder / "run")},
    )


def learn(job, overwrite=False):
    """Train; return the summary and the lines printed."""
    lines = []
    assert to_end(train(job, MPI.COMM_SELF, lines.append, [], overwrite)) == ExitCode.DONE
    return json.loads((job.directory / "summary.json").read_text()), lines


def solve_beside(job, folder):
    """Solve a job to where the solution of the run in `folder` is looked for."""
    there = beside(job)
    assert there.directory == solved_directory(job.directory)
    assert solve(there, MPI.COMM_SELF, silent, [], overwrite=True) == ExitCode.DONE


def test_a_summary_and_a_report_say_how_far_it_is(tmp_path):
    job = garnet(tmp_path)
    before, lines = learn(job)
    assert "solution" not in before
    solve_beside(job, tmp_path)
    model = resolve(job.environment).model
    optimal = exact.value_iteration(model, 0.9)
    table = rows(list_checkpoints(job.directory)[0])
    keys = np.array(list(table))
    q = np.array(list(table.values()))
    error = np.abs(q - optimal[keys]).max()
    chosen = optimal[keys, q.argmax(axis=1)]
    loss = (optimal[keys].max(axis=1) - chosen).max()
    assert error > 0.01
    assert loss > 0

    found, lines = learn(job, overwrite=True)
    assert found["digest"] == before["digest"]
    said = found["solution"]
    assert said["largest_error"] == pytest.approx(error, abs=2e-6)
    assert said["largest_loss"] == pytest.approx(loss, abs=2e-6)
    assert said["not_learned"] == 50 - len(table)
    assert any(f"{said['largest_error']:.6g}" in line for line in lines)
    page = page_of(load_run(job.directory))
    assert f"<td>{said['largest_error']:,.6g}</td>" in page
    assert f"<td>{said['largest_loss']:,.6g}</td>" in page


OTHERS = [
    ({"gamma": 0.8}, "learning.gamma"),
    ({"states": 60}, "environment.kwargs"),
]


@pytest.mark.parametrize(("keys", "text"), OTHERS)
def test_the_solution_of_another_job_is_not_used(keys, text, tmp_path):
    solve_beside(garnet(tmp_path, **keys), tmp_path)
    found, lines = learn(garnet(tmp_path))
    assert "solution" not in found
    assert any("was not used" in line and text in line for line in lines)
    assert "was not used" in page_of(load_run(tmp_path / "run"))


def test_what_does_not_decide_the_optimum_may_differ(tmp_path):
    solve_beside(garnet(tmp_path, rule="double_q", learning_rate=0.25), tmp_path)
    assert "solution" in learn(garnet(tmp_path))[0]


def test_a_broken_solution_is_said_and_harms_nothing(tmp_path):
    job = garnet(tmp_path)
    solve_beside(job, tmp_path)
    list_checkpoints(solved_directory(job.directory))[0].write_bytes(b"nothing")
    found, lines = learn(job)
    assert "solution" not in found
    assert any("was not used" in line for line in lines)

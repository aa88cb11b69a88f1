"""`hpcq check`: what `hpcq run` would refuse at once, and what a job will need; nothing trains."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import make_job
import pytest

from hpcq.errors import CheckpointError, EnvironmentFault, ExitCode, JobError, RunDirectoryError
from hpcq.run.checking import check

NOBODY = 65534


def job(tmp_path, environment, **sections):
    directory = str(tmp_path / "run")
    run = {"steps": 10_000, "directory": directory, **sections.pop("run", {})}
    return make_job.make(environment, run=run, **sections)


def test_a_job_that_fits(tmp_path):
    found = "\n".join(check(job(tmp_path, make_job.CORRIDOR), 2))
    for text in (
        "32 states",
        "2 actions",
        "in Python",
        "a second and rank",
        "2 ranks",
        "32 states",
    ):
        assert text in found
    assert not (tmp_path / "run").exists()


def test_a_compiled_job(tmp_path):
    found = "\n".join(
        check(job(tmp_path, {"id": "hpcq/TicTacToe-v0"}, learning={"rule": "negamax"}), 1)
    )
    assert "(compiled)" in found


def test_a_run_that_is_there_is_named(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "job.json").write_text("{}")
    with pytest.raises(RunDirectoryError, match="holds a run already") as error:
        list(check(job(tmp_path, make_job.CORRIDOR), 1))
    assert error.value.exit_code == ExitCode.RUN_DIRECTORY


@contextmanager
def nobodys_rights():
    """Root may write everywhere: be nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def read_only():
    """A folder that everybody can look into, in one that is so, too."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    yield folder
    folder.rmdir()


def test_a_folder_that_cannot_be_written_is_named(tmp_path, read_only):
    def checked(directory):
        return list(check(job(directory, make_job.CORRIDOR), 1))

    # What is compiled, or imported, is there then.
    checked(tmp_path)
    with nobodys_rights(), pytest.raises(RunDirectoryError, match="cannot write"):
        checked(read_only)


@pytest.mark.parametrize(
    ("environment", "sections", "expected"),
    [
        ({"id": "problems:Mistelling", "info": ["cost"]}, {}, EnvironmentFault),
        ({"id": "Nonsense-v0"}, {}, JobError),
        ({"id": "hpcq/TicTacToe-v0"}, {}, JobError),
        (make_job.CORRIDOR, {"run": {"start_from": "nowhere.h5"}}, CheckpointError),
    ],
)
def test_what_a_run_would_refuse_is_refused(tmp_path, environment, sections, expected):
    with pytest.raises(expected):
        list(check(job(tmp_path, environment, **sections), 1))

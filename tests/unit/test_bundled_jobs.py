import pytest

from hpcq.errors import JobError
from hpcq.job import library
from hpcq.job.job import Job


def test_every_job_file_is_listed_with_what_it_is():
    lines = library.list_text().splitlines()
    assert [line.split()[0] for line in lines] == library.names()
    assert {"taxi", "cube", "sweeps/frozenlake"} <= set(library.names())
    assert all(len(line) < 120 and len(line.split()) > 3 for line in lines)


def test_a_copy_runs_and_replaces_nothing(tmp_path):
    file = library.copy("taxi", tmp_path / "new")
    assert Job.load(file).name == "taxi"
    with pytest.raises(JobError, match="taxi.toml exists already"):
        library.copy("taxi.toml", tmp_path / "new")
    assert library.copy("sweeps/frozenlake", tmp_path).name == "frozenlake.toml"


@pytest.mark.parametrize("name", ["txi", "../setup", "/etc/passwd", ""])
def test_there_is_no_such_job(tmp_path, name):
    with pytest.raises(JobError, match="`hpcq jobs` lists them"):
        library.copy(name, tmp_path)
    with pytest.raises(JobError, match="did you mean taxi"):
        library.copy("taxy", tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JobError, match="file/sub/taxi.toml: cannot write: Not a directory"):
        library.copy("taxi", tmp_path / "file" / "sub")

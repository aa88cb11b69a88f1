"""Small files are put in place whole, and nothing is written through a link."""

import errno
import os

import make_job
import pytest
import trained
from mpi4py import MPI

from hpcq import disk
from hpcq.checkpoint import files
from hpcq.checkpoint.files import keep_best
from hpcq.checkpoint.verification import verify
from hpcq.errors import ExitCode, JobError, RunDirectoryError, StorageError
from hpcq.job import library
from hpcq.run.start_or_resume import to_end, train
from hpcq.scaffold import write as scaffold

JOB = make_job.make(make_job.GARNET)
LAST = "ckpt-000000000001008.h5"


@pytest.fixture
def precious(tmp_path):
    """Return a file that nothing may touch."""
    path = tmp_path / "precious"
    path.write_text("precious")
    yield path
    assert path.read_text() == "precious"


@pytest.mark.parametrize("how", ["symbolic link", "hard link"])
def test_a_temporary_name_that_is_a_link_is_replaced(tmp_path, precious, how):
    (os.symlink if how == "symbolic link" else os.link)(precious, tmp_path / "new.partial")
    disk.write_text(tmp_path / "new", "text")
    assert (tmp_path / "new").read_text() == "text"
    assert not (tmp_path / "new").is_symlink()
    assert not (tmp_path / "new.partial").exists()


def test_a_name_that_is_a_link_is_replaced(tmp_path, precious):
    (tmp_path / "new").symlink_to(precious)
    disk.write_text(tmp_path / "new", "text")
    assert not (tmp_path / "new").is_symlink()


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    disk.write_text(path, "old")

    def fail():
        with disk.writing(path) as file:
            file.write(b"new")
            raise OSError(errno.EIO, "gone")

    with pytest.raises(OSError, match="gone"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["run.lock", f"{LAST}.partial", "job.json.partial"])
@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
def test_a_run_writes_through_no_link_and_names_what_is_in_the_way(tmp_path, precious, name, kind):
    directory = tmp_path / "run"
    directory.mkdir()
    path = directory / name
    {"link": lambda p: p.symlink_to(precious), "directory": os.mkdir, "fifo": os.mkfifo}[kind](path)
    job = JOB.model_copy(update={"run": JOB.run.model_copy(update={"directory": str(directory)})})
    training = train(job, MPI.COMM_SELF, lambda line: None, [])
    if kind != "directory" and name.endswith("partial"):
        # A temporary: what a killed run left is removed.
        assert to_end(training) == ExitCode.DONE
        verify(directory / LAST)
        return
    with pytest.raises((RunDirectoryError, StorageError)) as error:
        to_end(training)
    assert str(path) in str(error.value)
    assert "move" in str(error.value)
    assert "are free" not in str(error.value)
    assert os.path.lexists(path)


def test_the_best_checkpoint_is_kept_through_no_link(tmp_path, precious, monkeypatch):
    """Also where the disk has no hard links, and the file is copied."""
    checkpoint = trained.checkpoint(JOB, tmp_path / "run", 5)

    def refuse(*_):
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(files.os, "link", refuse)
    for name in ("best.h5", "best.h5.partial"):
        (tmp_path / "run" / name).symlink_to(precious)
    keep_best(checkpoint)
    assert (tmp_path / "run" / "best.h5").read_bytes() == checkpoint.read_bytes()


def test_a_folder_named_as_a_temporary_is_left_alone(tmp_path):
    (tmp_path / "run" / "mine.partial").mkdir(parents=True)
    (tmp_path / "run" / "ckpt-000000000000001.h5").mkdir()
    path = trained.checkpoint(JOB, tmp_path / "run", 5)
    files.prune(tmp_path / "run", 0, path)
    assert (tmp_path / "run" / "mine.partial").is_dir()
    assert path.exists()


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_first_job_file_on_a_full_disk(tmp_path, monkeypatch):
    """The exit code is that of the disk; nothing half stays, so that the next try is no mistake."""
    monkeypatch.setattr(disk.os, "fsync", full)
    for write in (
        lambda: scaffold.write("text", tmp_path / "job.toml"),
        lambda: library.copy("taxi", tmp_path),
    ):
        with pytest.raises(StorageError, match="No space left on device") as error:
            write()
        assert error.value.exit_code == 74
    assert list(tmp_path.iterdir()) == []


def test_a_job_file_where_none_can_be_is_a_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "none"):
        with pytest.raises(JobError):
            scaffold.write("text", folder / "job.toml")


@pytest.mark.parametrize("kind", ["fifo", "directory", "/dev/zero"])
def test_reading_waits_for_nothing(tmp_path, kind):
    path = tmp_path / "file"
    if kind.startswith("/"):
        path.symlink_to(kind)
    else:
        {"fifo": os.mkfifo, "directory": os.mkdir}[kind](path)
    with pytest.raises(OSError, match=r"regular file|[dD]irectory"):
        disk.read(path, 100)


def test_reading_is_bounded(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert disk.read(path, 100) == b"x" * 100
    with pytest.raises(OSError, match="more than 99 bytes"):
        disk.read(path, 99)

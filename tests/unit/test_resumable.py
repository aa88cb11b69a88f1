"""What is resumed: the newest whole checkpoint, whatever names say; nothing is lost on the way."""

import json
import os
import re
import shutil

import forged
import make_job
import pytest
from mpi4py import MPI
from soaked import soak

from hpcq.checkpoint import files, sandbox
from hpcq.checkpoint.files import list_checkpoints
from hpcq.errors import CheckpointError, ExitCode, RunDirectoryError, UnreadableError
from hpcq.run.start_or_resume import resume_run, to_end, train
from hpcq.view.inspect import inspect

JOB = make_job.make(make_job.GARNET, run={"steps": 1200}, checkpoint={"every": 25})


def in_(job, directory):
    return job.model_copy(update={"run": job.run.model_copy(update={"directory": str(directory)})})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the directory of a run of 100 ticks, with the checkpoints of 50, 75 and 100."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    to_end(train(in_(JOB, directory), MPI.COMM_SELF, lambda line: None, []))
    assert [path.stem for path in list_checkpoints(directory)] == [
        f"ckpt-{step:015d}" for step in (1200, 900, 600)
    ]
    return directory


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def resume(directory, *overrides):
    """Resume to the end; return the lines, and the digest that the run ends with."""
    lines = []
    code = to_end(resume_run(directory, overrides, MPI.COMM_SELF, lines.append, []))
    assert code == ExitCode.DONE
    return "\n".join(lines), json.loads((directory / "summary.json").read_text())["digest"]


def names(directory):
    return {path.name for path in directory.iterdir()} - {"run.lock"}


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_nothing_is_renamed_where_a_file_cannot_be_looked_into(run, monkeypatch):
    """Be it the newest one, or the one after a damaged one."""
    before = names(run)
    damage(list_checkpoints(run)[0])
    describe = sandbox.describe_each

    def fail(paths):
        refused = UnreadableError("cannot be looked into: the machine is full")
        return [refused if "900" in str(path) else describe([path])[0] for path in paths]

    monkeypatch.setattr(sandbox, "describe_each", fail)
    with pytest.raises(UnreadableError, match="the machine is full"):
        resume(run)
    assert names(run) == before
    monkeypatch.undo()
    lines, _ = resume(run)
    assert "renamed to ckpt-000000000001200.h5.damaged" in lines
    assert "resuming" in lines


def test_where_no_checkpoint_is_whole_all_stay_and_nothing_starts_anew(run):
    for path in list_checkpoints(run):
        damage(path)
    before = names(run)
    with pytest.raises(CheckpointError, match="no checkpoint is whole"):
        resume(run)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="no checkpoint is whole"):
            to_end(train(in_(JOB, run), MPI.COMM_SELF, print, [], resume=True))
    assert names(run) == before


def test_what_was_set_aside_is_not_forgotten(run):
    for path in list_checkpoints(run):
        files.set_aside(path)
    before = names(run)
    with pytest.raises(CheckpointError, match=r"ckpt-000000000000600\.h5\.damaged.*--overwrite"):
        to_end(train(in_(JOB, run), MPI.COMM_SELF, print, [], resume=True))
    assert names(run) == before
    to_end(train(in_(JOB, run), MPI.COMM_SELF, print, [], overwrite=True))
    assert not list(run.glob("*.damaged*"))


@pytest.mark.parametrize("left", ["ckpt-000000000000600.h5.damaged", "best.h5"])
@pytest.mark.parametrize("resume", [False, True])
def test_what_is_left_of_a_run_is_not_removed_by_the_next(run, left, resume):
    newest, *others = list_checkpoints(run)
    newest.rename(run / left)
    for path in (*others, run / "job.json"):
        path.unlink()
    with pytest.raises((CheckpointError, RunDirectoryError), match="--overwrite"):
        to_end(train(in_(JOB, run), MPI.COMM_SELF, print, [], resume=resume))
    assert (run / left).exists()


def test_what_is_set_aside_replaces_nothing(run):
    newest = list_checkpoints(run)[0]
    (run / f"{newest.name}.damaged").write_text("older")
    assert files.set_aside(newest).name == f"{newest.name}.damaged.1"
    assert (run / f"{newest.name}.damaged").read_text() == "older"


def test_the_step_in_a_file_decides_and_a_name_that_lies_is_said(run, finished):
    """The oldest is named as the newest; the newest has the name of an older one."""
    new, _, old = list_checkpoints(run)
    old.rename(run / "ckpt-000000000900000.h5")
    new.rename(run / "ckpt-000000000000012.h5")
    with pytest.warns() as told:
        assert inspect(run)["steps"] == 1200
    assert {str(one.message).rpartition("/")[2] for one in told} == {
        "ckpt-000000000900000.h5 holds step 600, not that of its name",
        "ckpt-000000000000012.h5 holds step 1,200, not that of its name",
    }
    lines, digest = resume(run)
    assert "ckpt-000000000900000.h5 holds step 600, not that of its name; renamed to" in lines
    assert "resuming" in lines
    assert "at step 1,200" in lines
    assert digest == json.loads((finished / "summary.json").read_text())["digest"]
    assert [path.name for path in list_checkpoints(run)] == [
        path.name for path in list_checkpoints(finished)
    ]


def test_a_copy_under_another_name_does_not_push_out_what_is_newer(run):
    new, _, old = list_checkpoints(run)
    shutil.copy(old, run / "ckpt-000000000900000.h5")
    lines, _ = resume(run, "run.steps=1500")
    assert "at step 1,200" in lines
    assert (run / "ckpt-000000000900000.h5.misnamed").exists()
    assert list_checkpoints(run)[0].name == "ckpt-000000000001500.h5"
    assert new in list_checkpoints(run)


LOST = {
    "lost": None,
    "empty": b"",
    "zeros": bytes(1000),
    "half": b'{"environment": {"id": "hpc',
    "not UTF-8": b'{"a": "\xff"}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize(
    ("content", "by"),
    [
        ("lost", "run --resume"),
        ("empty", "resume"),
        *soak(*((content, by) for content in LOST for by in ("resume", "run --resume"))),
    ],
)
def test_a_lost_job_is_made_again_from_the_newest_checkpoint(run, finished, content, by):
    stored = run / "job.json"
    whole = stored.read_text()
    stored.unlink()
    if LOST[content] is not None:
        stored.write_bytes(LOST[content])
    lines = []
    if by == "resume":
        training = resume_run(run, (), MPI.COMM_SELF, lines.append, [])
    else:
        training = train(in_(JOB, run), MPI.COMM_SELF, lines.append, [], resume=True)
    to_end(training)
    reason = "is lost" if content == "lost" else "is not valid JSON"
    assert any(f"job.json {reason}" in line and "ckpt-" in line for line in lines)
    assert json.loads(stored.read_text()) == json.loads(whole) | {
        "run": json.loads(whole)["run"] | {"directory": str(run)}
    }
    # What somebody wrote there is not thrown away.
    assert (run / "job.json.damaged").exists() == (content != "lost")


def test_a_garbled_job_without_a_checkpoint_says_what_is_left(run):
    for path in list_checkpoints(run):
        path.unlink()
    (run / "job.json").write_text("")
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"no checkpoint to make it from.*--overwrite"):
            resume(run)


def test_code_is_not_imported_because_a_checkpoint_names_it(tmp_path):
    job = in_(make_job.make(make_job.CORRIDOR), tmp_path / "run")
    to_end(train(job, MPI.COMM_SELF, print, []))
    (tmp_path / "run" / "job.json").unlink()
    with pytest.raises(CheckpointError, match=r"--set environment\.id=\"problems:Corridor-v0\""):
        resume(tmp_path / "run")
    resume(tmp_path / "run", "environment.id=problems:Corridor-v0")
    (tmp_path / "run" / "job.json").unlink()
    to_end(train(job, MPI.COMM_SELF, print, [], resume=True))


def test_text_of_a_checkpoint_cannot_forge_a_line(run):
    """An environment's id with line breaks and escape sequences, in a file that is whole."""
    text = "\x1b[2J\x1b[HhpcQ\nhpcq: all is well"
    forged.header(list_checkpoints(run)[0], environment=text)
    with pytest.raises(CheckpointError) as error:
        resume(run)
    assert r"\x1b[2J\x1b[HhpcQ\nhpcq: all is well" in str(error.value)
    assert re.fullmatch(r"[^\x00-\x1f]*", str(error.value))


def test_a_file_put_in_place_is_flushed_before_it_has_its_name(run, monkeypatch):
    """And its folder after: a power loss leaves the old one or the new one."""
    done = []
    replace, fsync = os.replace, os.fsync

    def replaced(source, target):
        done.append(("name", os.stat(source).st_ino))
        replace(source, target)

    def flushed(descriptor):
        done.append(("flush", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(os, "fsync", flushed)
    lines, _ = resume(run, "run.steps=1500")
    assert "resuming" in lines
    named = [inode for what, inode in done if what == "name"]
    # job.json, both metrics, a checkpoint, the summary.
    assert len(named) >= 5
    folder = ("flush", run.stat().st_ino)
    for at, (what, inode) in enumerate(done):
        if what == "name":
            assert ("flush", inode) in done[:at]
            assert done[at + 1] == folder


def test_a_job_that_is_none_is_not_replaced(run):
    (run / "job.json").write_text("[]")
    with pytest.raises(CheckpointError, match="not a job"):
        resume(run)
    assert (run / "job.json").read_text() == "[]"

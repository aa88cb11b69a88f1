"""Runs that hpcq 0.1.0 wrote: the same file is written today, read, and gone on with.

The two run directories in tests/data/0.1.0 were written by that version, on one rank. Their jobs
draw by powers of 1 alone, so that they end alike on all processors.
"""

import json
import shutil
from pathlib import Path

import h5py
import pytest
from mpi4py import MPI

from hpcq.api import train
from hpcq.checkpoint.reader import read_header
from hpcq.checkpoint.verification import verify
from hpcq.errors import JobError
from hpcq.job.job import Job
from hpcq.run.resumable import read_job
from hpcq.view.difference import difference

DATA = Path(__file__).parents[1] / "data" / "0.1.0"
# The digest with which 0.1.0 ended a run of twice as many steps.
ENDS = {
    "replay": "cf-e20c6a84d57c433bbe0bb85e48ff9b6b",
    "n_step": "9-1d12dfe74ca967a21164be6417be48cb",
}
OLD_WORDS = {
    "replay": {"quiet_every", "least", "draw", "lead", "stalled_after", "funnel"},
    "n_step": {"quiet_every", "least", "draw", "lead", "stalled_after"},
}


def written(run):
    return next((DATA / run).glob("ckpt-*.h5"))


def job_of(run, directory, **changes):
    data = Job.saved(json.loads((DATA / run / "job.json").read_text()), run).model_dump()
    data["run"] |= {"directory": str(directory), **changes}
    return Job.check(data, run)


def content(path):
    """Return every dataset in the order of their places, and the attributes but for the job."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item.id.get_offset(), item.dtype, item.shape, item[()].tobytes()

    with h5py.File(path, "r") as file:
        file.visititems(visit)
        attributes = dict(file.attrs)
    for name in ("job", "versions", "crc32"):
        del attributes[name]
    progress = json.loads(attributes["progress"])
    return found, {**attributes, "progress": {**progress, "seconds": 0}}


@pytest.mark.parametrize("run", ENDS)
def test_the_same_file_is_written_today(run, tmp_path):
    path = train(job_of(run, tmp_path), MPI.COMM_SELF)
    assert path.name == written(run).name
    assert content(path) == content(written(run))


@pytest.mark.parametrize("run", ENDS)
def test_an_old_run_is_gone_on_with(run, tmp_path):
    directory = Path(shutil.copytree(DATA / run, tmp_path / "run"))
    text = (directory / "job.json").read_text()
    assert all(word in text for word in OLD_WORDS[run])
    job = job_of(run, directory)
    assert read_job(directory, (), False).model_dump() == job.model_dump()
    longer = job_of(run, directory, steps=2 * job.run.steps)
    path = train(longer, MPI.COMM_SELF, resume=True)
    assert str(verify(path)[1]) == ENDS[run]
    assert not any(f'"{word}"' in (directory / "job.json").read_text() for word in OLD_WORDS[run])


def test_an_old_file_is_compared_and_started_from(tmp_path):
    job = job_of("n_step", tmp_path, start_from=str(DATA / "n_step"))
    path = train(job, MPI.COMM_SELF)
    found = difference(written("n_step"), path)
    assert found
    assert read_header(written("n_step")).combine == "mean"


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("environment", "quiet_every", 10, "environment.quiet_every is now environment.reset_ev"),
        ("replay", "least", 2, "replay.least is now replay.learning_starts"),
        ("replay", "draw", "prioritised", "replay.draw is now replay.sampling"),
        ("mode", "lead", 2, "mode.lead is now mode.max_staleness"),
        ("run", "stalled_after", 2.0, "run.stalled_after is now run.stall_timeout"),
        ("checkpoint", "writer", "funnel", "checkpoint.writer = 'funnel' is now 'gather'"),
    ],
)
def test_who_writes_an_old_name_learns_the_new_one(section, key, value, message, tmp_path):
    job = job_of("n_step", tmp_path)
    data = job.model_dump()
    data[section][key] = value
    with pytest.raises(JobError) as caught:
        Job.check(data, "job.toml")
    assert str(caught.value).startswith(f"job.toml: {message}")
    assert "\n" not in str(caught.value)
    path = tmp_path / "job.toml"
    path.write_text(job.toml())
    with pytest.raises(JobError, match=message.split(" is now")[0]):
        Job.load(path, [f"{section}.{key}={value}"])
    if section == "run":
        with pytest.raises(JobError, match=message):
            read_job(DATA / "n_step", (f"{section}.{key}={value}",), False)

"""Promise 3 where the disk fails: an error that says what it needs, and the old file stays."""

import os
import re
import subprocess
import sys

import make_job
import pytest
from launch import HPCQ, end, hpcq, start, wait_for

from hpcq.checkpoint.h5 import HAS_MPI
from hpcq.run.run_directory import list_checkpoints

WRITERS = ["direct", "gather", *(["mpio"] if HAS_MPI else [])]

# More states than `hpcq run` solves exactly at the end; the table grows to about a megabyte.
JOB = make_job.make(
    {"id": "hpcq/Garnet-v0", "kwargs": {"states": 30_000, "actions": 8}, "count": 64},
    run={"steps": 6400},
)


def in_small_disk(tmp_path, script, size="3m"):
    """Run a bash script with `disk` mounted as a small tmpfs, which goes when the script ends."""
    disk = tmp_path / "disk"
    disk.mkdir()
    prelude = f"mount -t tmpfs -o size={size} tmpfs {disk}; cd {tmp_path}"
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-c", f"set -eu; {prelude}; {script}"],
        capture_output=True,
        text=True,
        timeout=240,
        env=dict(os.environ),
        check=False,
    )


def small_disk_works(folder):
    """Return whether this machine lets us mount a tmpfs of our own."""
    return in_small_disk(folder, "true").returncode == 0


# Run hpcq as if the disk had filled up only after it had been looked at, or laid out.
LATE = """
import os, sys, mpi4py
mpi4py.rc.initialize = mpi4py.rc.finalize = False
from hpcq.checkpoint import staging
from hpcq.cli import main
staging._free_bytes = lambda folder, found=[1 << 40]: found.pop() if found else 12_345
if sys.argv[1] == "late":
    os.posix_fallocate = lambda *_: None
main(sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("when", "writer"),
    [("early", "auto"), ("reserved", "auto"), *(("late", writer) for writer in WRITERS)],
)
def test_a_full_disk(tmp_path, when, writer):
    """Fill the disk before the second checkpoint is begun, laid out, or written."""
    job = make_job.write(tmp_path / "job.toml", JOB)
    (tmp_path / "late.py").write_text(LATE)
    program = HPCQ if when == "early" else f"{sys.executable} {tmp_path}/late.py {when}"
    done = in_small_disk(
        tmp_path,
        f"""
        mpirun -n 2 {HPCQ} run {job} --set=run.directory=disk/run --set=checkpoint.writer={writer}
        free=$(stat -f -c '%a * %S / 1024' disk)
        head -c $(((free - 60) * 1024)) /dev/zero >disk/filler
        set +e
        mpirun -n 2 {program} resume disk/run --set=run.steps=64_000
        echo "code $?"
        {HPCQ} verify disk/run/ckpt-*.h5
        echo "verified $?"
        ls -A disk/run
        """,
    )
    assert "code 74" in done.stdout, done.stdout + done.stderr
    assert "verified 0" in done.stdout
    listed = done.stdout.split("verified 0")[1].split()
    assert "ckpt-000000000006400.h5" in listed
    assert not [name for name in listed if "partial" in name or name == "run.lock"]
    assert re.search(r"the checkpoint needs [\d,]+ bytes, [\d,]+ are free", done.stderr), (
        done.stderr
    )
    assert "Traceback" not in done.stderr
    assert done.stderr.count("hpcq: ") == 1, done.stderr


def test_a_disk_without_room_for_a_lock(tmp_path):
    job = make_job.write(tmp_path / "job.toml", JOB)
    done = in_small_disk(
        tmp_path,
        f"""
        head -c 10M /dev/zero >disk/filler || true
        set +e
        {HPCQ} run {job} --set=run.directory=disk/run
        echo "code $?"
        ls -A disk/run
        """,
    )
    assert done.stdout == "code 73\n", done.stdout + done.stderr
    assert "cannot write the run directory: No space left on device" in done.stderr


def test_a_read_only_run_directory(tmp_path):
    job = make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    done = in_small_disk(
        tmp_path,
        f"""
        mpirun -n 2 {HPCQ} run {job} --set=run.directory=disk/run
        mount -o remount,ro disk
        set +e
        mpirun -n 2 {HPCQ} resume disk/run --set=run.steps=2000; echo "code $?"
        mpirun -n 2 {HPCQ} run {job} --set=run.directory=disk/other; echo "code $?"
        """,
    )
    assert done.stdout.count("code 73") == 2, done.stdout + done.stderr
    assert done.stderr.count("cannot write the run directory: Read-only file system") == 2


def test_a_run_directory_that_goes_away(tmp_path):
    """The run goes on until it wants to save; then it ends, on all ranks."""
    job = make_job.write(tmp_path / "job.toml", JOB)
    directory = tmp_path / "run"
    often = ("--set=run.steps=1_000_000_000_000", "--set=checkpoint.every=200")
    process = start(3, "run", job, f"--set=run.directory='{directory}'", *often)
    try:
        wait_for(lambda: directory.exists() and list_checkpoints(directory))
        directory.rename(tmp_path / "elsewhere")
        output, _ = process.communicate(timeout=60)
    finally:
        end(process)
    assert process.returncode == 74, output
    assert "No such file or directory; the checkpoint needs" in output
    assert "Traceback" not in output
    hpcq(None, "verify", list_checkpoints(tmp_path / "elsewhere")[0])


def test_the_machine_lets_us_make_a_small_disk(tmp_path):
    assert small_disk_works(tmp_path), "unshare --map-root-user --mount, then mount -t tmpfs"

"""A run directory has one owner, whom the lock names; the dead own nothing."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from hpcq.errors import RunDirectoryError
from hpcq.run import lock

ALIVE = {"job": "other", "host": "elsewhere", "pid": 1, "slurm_job": ""}


def write(directory, **changes):
    (directory / lock.NAME).write_text(json.dumps({**ALIVE, **changes}))


def take(directory):
    mine = lock.RunLock(directory)
    mine.acquire("mine")
    mine.release()
    assert not list(directory.iterdir())


def test_it_names_its_owner_and_goes(tmp_path):
    mine = lock.RunLock(tmp_path)
    mine.acquire("mine")
    owner = json.loads((tmp_path / lock.NAME).read_text())
    assert (owner["job"], owner["pid"]) == ("mine", os.getpid())
    mine.touch()
    mine.release()
    mine.release()
    assert not list(tmp_path.iterdir())


def test_another_process_holds_it(tmp_path):
    program = (
        "import sys, pathlib; from hpcq.run.lock import RunLock\n"
        "RunLock(pathlib.Path(sys.argv[1])).acquire('first'); print('ready', flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        first.stdout.readline()
        with pytest.raises(RunDirectoryError, match=f"job first on host .*, process {first.pid};"):
            take(tmp_path)
        first.kill()
    take(tmp_path)


@pytest.mark.parametrize("text", ["", "garbage", "[1, 2]", '{"host": 7}', "[" * 4000])
def test_a_file_that_says_nothing_does_not_block(tmp_path, text):
    (tmp_path / lock.NAME).write_text(text)
    os.utime(tmp_path / lock.NAME, (0, 0))
    take(tmp_path)


def test_a_dead_process_of_this_host_does_not_block(tmp_path):
    write(tmp_path, host=socket.gethostname(), pid=os.getpid())
    take(tmp_path)


def test_another_host_blocks_until_its_sign_of_life_is_old(tmp_path):
    write(tmp_path)
    with pytest.raises(RunDirectoryError, match="job other on host elsewhere, process 1;"):
        take(tmp_path)
    old = time.time() - lock.STALE_SECONDS - 5
    os.utime(tmp_path / lock.NAME, (old, old))
    take(tmp_path)


def test_a_requeued_batch_job_is_its_own_successor(tmp_path, monkeypatch):
    write(tmp_path, slurm_job="17")
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    with pytest.raises(RunDirectoryError, match="process 1, Slurm job 17;"):
        take(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    take(tmp_path)


def test_without_locks_of_the_file_system_the_owner_decides(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(lock.errno.ENOLCK, "no locks")

    monkeypatch.setattr(lock.fcntl, "lockf", refuse)
    write(tmp_path, host=socket.gethostname(), pid=os.getpid())
    with pytest.raises(RunDirectoryError, match="in use"):
        take(tmp_path)
    write(tmp_path, host=socket.gethostname(), pid=2**22 + 1)
    take(tmp_path)


def test_a_process_holds_a_directory_once(tmp_path):
    """The system's locks are of the process; they would be gone after the second one's refusal."""
    first, second = lock.RunLock(tmp_path), lock.RunLock(tmp_path / "." / "")
    first.acquire("mine")
    for _ in range(2):
        with pytest.raises(RunDirectoryError, match="another training of this process"):
            second.acquire("mine")
    second.release()
    program = (
        "import sys, pathlib; from hpcq.run.lock import RunLock\n"
        "RunLock(pathlib.Path(sys.argv[1])).acquire('other')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False
    )
    assert f"in use: job mine on host {socket.gethostname()}" in done.stderr
    first.release()
    take(tmp_path)


def test_a_link_to_the_directory_is_the_directory(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    first = lock.RunLock(tmp_path / "run")
    first.acquire("mine")
    with pytest.raises(RunDirectoryError, match="another training of this process"):
        lock.RunLock(tmp_path / "link").acquire("mine")
    first.release()


@pytest.mark.parametrize("number", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", 524])
def test_a_file_system_without_locks_is_one_by_any_name(tmp_path, monkeypatch, number):
    code = number if isinstance(number, int) else getattr(lock.errno, number)

    def refuse(*_):
        raise OSError(code, "no locks")

    monkeypatch.setattr(lock.fcntl, "lockf", refuse)
    take(tmp_path)


def test_another_directory_of_the_same_name_is_noticed(tmp_path):
    place = tmp_path / "run"
    place.mkdir()
    mine = lock.RunLock(place)
    mine.acquire("mine")
    mine.check()
    place.rename(tmp_path / "moved")
    mine.check()  # nobody is there: writing fails by itself
    place.mkdir()
    theirs = lock.RunLock(place)
    theirs.acquire("theirs")
    with pytest.raises(RunDirectoryError, match="no longer the directory in which this run began"):
        mine.check()
    mine.release()
    assert (place / lock.NAME).exists()
    theirs.release()


def test_a_removed_directory_is_not_taken_for_its_successor(tmp_path):
    """Which a file system may give the same inode."""
    place = tmp_path / "run"
    place.mkdir()
    mine = lock.RunLock(place)
    mine.acquire("mine")
    (place / lock.NAME).unlink()
    place.rmdir()
    place.mkdir()
    with pytest.raises(RunDirectoryError, match="no longer the directory"):
        mine.check()
    mine.release()


def test_a_lock_file_that_somebody_removed_is_made_again(tmp_path):
    mine = lock.RunLock(tmp_path)
    mine.acquire("mine")
    (tmp_path / lock.NAME).unlink()
    mine.check()
    assert json.loads((tmp_path / lock.NAME).read_text())["job"] == "mine"
    (tmp_path / lock.NAME).unlink()
    write(tmp_path)
    with pytest.raises(RunDirectoryError, match="job other on host elsewhere"):
        mine.check()
    mine.release()
    assert (tmp_path / lock.NAME).exists()
